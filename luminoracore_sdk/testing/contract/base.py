"""The fixtures and helpers that every part of the contract shares."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import ClassVar, TypeVar

import pytest
import pytest_asyncio

from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import message_records, session_record

__all__ = ["ContractBase", "StorageFactory"]

StorageFactory = Callable[[Clock], SessionStorage]
"""Makes a storage, not yet open, on one place; called again, on the same place."""

T = TypeVar("T")
E = TypeVar("E", bound=LuminoraCoreSDKError)


class ContractBase:
    """What a test class says about its storage; see ``StorageContract``."""

    pytestmark = pytest.mark.asyncio

    persistent: ClassVar[bool] = True
    """Whether a second storage on the same place, made after the first is closed, sees its records."""

    shares_between_instances: ClassVar[bool] = True
    """Whether two open storages on the same place see each other's writes."""

    max_payload_bytes: ClassVar[int] = 256 * 1024 * 1024
    """The documented limit of one record."""

    listing_size: ClassVar[int] = 1000
    """How many sessions the case that lists many of them stores."""

    @pytest.fixture
    def storage_factory(self) -> StorageFactory:
        """Return what makes a storage on an empty place of the test's own; to be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture storage_factory")

    @pytest.fixture
    def other_storage_factory(self) -> StorageFactory:
        """Return what makes a storage on a second empty place, of another tenant; skips by default."""
        pytest.skip(f"{type(self).__name__} does not override the fixture other_storage_factory")

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

    @pytest_asyncio.fixture
    async def elsewhere(
        self, other_storage_factory: StorageFactory, clock: ManualClock
    ) -> AsyncIterator[SessionStorage]:
        """Yield a storage on the place of another tenant."""
        async with other_storage_factory(clock) as storage:
            yield storage

    @pytest.fixture(params=[1, 2], ids=["one-storage", "two-storages"])
    def writers(
        self,
        request: pytest.FixtureRequest,
        storage: SessionStorage,
        another: Callable[[], SessionStorage],
    ) -> list[SessionStorage]:
        """Return the storages of a race: one, or two on the same place, the second not open yet."""
        if request.param == 1:
            return [storage]
        self.need("shares_between_instances")
        return [storage, another()]

    def need(self, ability: str) -> None:
        """Skip the running test if the class says that its storage lacks an ability."""
        if not getattr(self, ability):
            pytest.skip(f"{type(self).__name__}.{ability} is False")

    async def begin(self, storage: SessionStorage, *, messages: int = 0, session_id: str = "s") -> None:
        """Put a session with so many messages m1, m2, m3 …."""
        await storage.put_session(session_record(session_id))
        if messages:
            await storage.append_messages(session_id, message_records(messages))

    async def ids(self, storage: SessionStorage, session_id: str = "s") -> list[str]:
        """Return the ids of a session's messages, after checking that their positions have no gap."""
        messages = await storage.read_messages(session_id, MessageRange())
        assert [message.position for message in messages] == list(range(1, len(messages) + 1))
        return [message.message_id for message in messages]

    async def race(self, calls: Iterable[Awaitable[T]], may_raise: type[E]) -> tuple[list[T], list[E]]:
        """Make all calls at once; returns the answers and the errors of one kind, raises any other."""
        answers: list[T] = []
        errors: list[E] = []
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, may_raise):
                errors.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                answers.append(outcome)
        return answers, errors
