"""The fixtures that every part of the contract shares."""

from collections.abc import AsyncIterator, Callable
from typing import ClassVar

import pytest
import pytest_asyncio

from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing.builders import message_records, session_record
from luminoracore_sdk.testing.clock import ManualClock

__all__ = ["ContractBase", "StorageFactory"]

StorageFactory = Callable[[Clock], SessionStorage]
"""Makes a storage, not yet open, on one place; called again, on the same place."""


class ContractBase:
    """What a test class says about its storage; see ``StorageContract``."""

    pytestmark = pytest.mark.asyncio

    persistent: ClassVar[bool] = True
    """Whether a second storage on the same place, made after the first is closed, sees its records."""

    shares_between_instances: ClassVar[bool] = True
    """Whether two open storages on the same place see each other's writes."""

    max_payload_bytes: ClassVar[int] = 256 * 1024 * 1024
    """The documented limit of one record."""

    @pytest.fixture
    def storage_factory(self) -> StorageFactory:
        """Return what makes a storage on an empty place of the test's own; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture storage_factory")

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the clock that every storage of the test tells the time by."""
        return ManualClock()

    @pytest_asyncio.fixture
    async def another(
        self, storage_factory: StorageFactory, clock: ManualClock
    ) -> AsyncIterator[Callable[[], SessionStorage]]:
        """Yield what makes one more storage on the test's place; all are closed when the test ends."""
        made: list[SessionStorage] = []

        def make() -> SessionStorage:
            made.append(storage_factory(clock))
            return made[-1]

        yield make
        for storage in made:
            await storage.close()

    @pytest_asyncio.fixture
    async def storage(self, another: Callable[[], SessionStorage]) -> SessionStorage:
        """Return an open storage on an empty place."""
        storage = another()
        await storage.open()
        return storage

    def need(self, ability: str) -> None:
        """Skip the running test if the class says that its storage lacks an ability."""
        if not getattr(self, ability):
            pytest.skip(f"{type(self).__name__}.{ability} is False")

    async def begin(self, storage: SessionStorage, *, messages: int = 0, session_id: str = "s") -> None:
        """Put a session with so many messages m1, m2, m3 …."""
        await storage.put_session(session_record(session_id))
        if messages:
            await storage.append_messages(session_id, message_records(messages))
