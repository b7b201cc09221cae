"""The fixtures and helpers of all parts of the contract."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import cycle
from typing import ClassVar, TypeVar

import pytest
import pytest_asyncio

from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError
from luminoracore_sdk.testing.cancellation import CancelAt
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import message_records, session_record

__all__ = ["ContractBase", "StorageFactory", "spread"]

StorageFactory = Callable[[Clock], SessionStorage]
"""Creates a storage, not yet open; called again, another one on the same store."""

T = TypeVar("T")
E = TypeVar("E", bound=LuminoraCoreSDKError)


def spread(writers: Sequence[SessionStorage], items: Iterable[T]) -> Iterator[tuple[SessionStorage, T]]:
    """Yield each item with one of the storages, in turn."""
    return zip(cycle(writers), items, strict=False)


class ContractBase:
    """Attributes and fixtures of a contract class, see ``StorageContract``."""

    pytestmark = pytest.mark.asyncio

    persistent: ClassVar[bool] = True
    """Whether a new storage on the same store, created after the first is closed, sees its records."""

    shares_between_instances: ClassVar[bool] = True
    """Whether two open storages on the same store see each other's writes."""

    rewrites: ClassVar[bool] = True
    """Whether the storage is a ``RewritingStorage``."""

    max_payload_bytes: ClassVar[int] = 256 * 1024 * 1024
    """The documented limit of one record."""

    listing_size: ClassVar[int] = 1000
    """Number of sessions in the test of long listings."""

    @pytest.fixture
    def storage_factory(self) -> StorageFactory:
        """Return the factory of storages on an empty store; must be overridden."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture storage_factory")

    @pytest.fixture
    def other_storage_factory(self) -> StorageFactory:
        """Return the factory of storages of another tenant; skips the test by default."""
        pytest.skip(f"{type(self).__name__} does not override the fixture other_storage_factory")

    @pytest.fixture
    def clock(self) -> ManualClock:
        """Return the clock of every storage in the test."""
        return ManualClock()

    @pytest_asyncio.fixture
    async def another(
        self, storage_factory: StorageFactory, clock: ManualClock
    ) -> AsyncIterator[Callable[[], SessionStorage]]:
        """Yield a function that creates a further storage on the same store, closed after the test."""
        created: list[SessionStorage] = []

        def create() -> SessionStorage:
            created.append(storage_factory(clock))
            return created[-1]

        yield create
        for storage in created:
            await storage.close()

    @pytest_asyncio.fixture
    async def storage(self, another: Callable[[], SessionStorage]) -> SessionStorage:
        """Return an open storage on an empty store."""
        storage = another()
        await storage.open()
        return storage

    @pytest_asyncio.fixture
    async def elsewhere(
        self, other_storage_factory: StorageFactory, clock: ManualClock
    ) -> AsyncIterator[SessionStorage]:
        """Yield a storage of another tenant."""
        async with other_storage_factory(clock) as storage:
            yield storage

    @pytest.fixture(params=[1, 2], ids=["one-storage", "two-storages"])
    def writers(
        self, request: pytest.FixtureRequest, storage: SessionStorage, another: Callable[[], SessionStorage]
    ) -> list[SessionStorage]:
        """Return the storages of concurrent calls: one, or two on the same store, the second not open yet."""
        if request.param == 1:
            return [storage]
        self.need("shares_between_instances")
        return [storage, another()]

    def need(self, ability: str) -> None:
        """Skip the running test if a class attribute states that the storage lacks an ability."""
        if not getattr(self, ability):
            pytest.skip(f"{type(self).__name__}.{ability} is False")

    async def begin(self, storage: SessionStorage, *, messages: int = 0, session_id: str = "s") -> None:
        """Put a session with messages m1, m2, m3 …."""
        await storage.put_session(session_record(session_id))
        if messages:
            await storage.append_messages(session_id, message_records(messages))

    async def ids(self, storage: SessionStorage, session_id: str = "s") -> list[str]:
        """Return the ids of a session's messages, and check that their positions have no gap."""
        messages = await storage.read_messages(session_id, MessageRange())
        assert [message.position for message in messages] == list(range(1, len(messages) + 1))
        return [message.message_id for message in messages]

    async def cancel(self, call: Awaitable[object], step: int, *, late: bool) -> bool:
        """Make a call and cancel it when it suspends for the nth time; return False if it ended before that."""
        task = asyncio.ensure_future(CancelAt(call, step, late=late))
        await asyncio.wait([task])
        if task.cancelled():
            return True
        task.result()
        return False

    async def race(self, calls: Iterable[Awaitable[T]], may_raise: type[E]) -> tuple[list[T], list[E]]:
        """Make all calls concurrently; return the results and the errors of one type, raise any other error."""
        results: list[T] = []
        errors: list[E] = []
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, may_raise):
                errors.append(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                results.append(outcome)
        return results, errors
