"""Access to sessions: pages of headers, one lock per session, creation on demand, deferred writes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.deferred_writes import DeferredWriteStorage
from luminoracore_sdk.application.ports.records import MAX_PAGE, SessionQuery, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.errors import ConflictError, SessionBusyError, SessionExistsError
from luminoracore_sdk.domain.session import Session

__all__ = [
    "HeldSessions",
    "SessionLocks",
    "TurnLock",
    "begin_session",
    "headers",
    "locks_of",
]


async def headers(storage: SessionStorage, query: SessionQuery) -> AsyncIterator[SessionRecord]:
    """Yield every header that a query asks for, without payload, in constant memory.

    Args:
        storage: Where to look.
        query: Filters and direction; its limit and cursor are set here.
    """
    query = attrs.evolve(query, limit=MAX_PAGE, cursor=None)
    while True:
        page = await storage.query_sessions(query)
        for record in page.sessions:
            yield record
        if page.next_cursor is None:
            return
        query = attrs.evolve(query, cursor=page.next_cursor)


async def begin_session(session_id: str, storage: SessionStorage, services: Services) -> None:
    """Store a session without personality and provider, unless there is a session already."""
    now = services.clock.now()
    session = Session(session_id=session_id, personality={}, provider=None, created_at=now, last_activity=now)
    try:
        await storage.put_session(services.codec.session_record(session), expected_version=0)
    except ConflictError:
        return


GRACE_SECONDS = 5.0
"""How long a task waits for a stream of its own to end; closing one takes milliseconds."""


class TurnLock:
    """A lock that knows its holder: waiting for oneself would never end, so it is an error.

    Args:
        session_id: For the error.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[object] | None = None

    async def __aenter__(self) -> None:
        if self._lock.locked() and self._holder is asyncio.current_task():
            await self._acquire_from_oneself()
        else:
            await self._lock.acquire()
        self._holder = asyncio.current_task()

    async def _acquire_from_oneself(self) -> None:
        """Wait for a stream that was left with ``break``: the event loop closes it in a moment."""
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self._lock.acquire()
        except TimeoutError as exc:
            raise SessionBusyError(self._session_id) from exc

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._holder = None
        self._lock.release()


class SessionLocks:
    """Locks by session and event loop, each kept as long as somebody holds or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[int, str], TurnLock] = WeakValueDictionary()

    def of(self, session_id: str) -> TurnLock:
        """Return the lock of a session on the running event loop."""
        key = (id(asyncio.get_running_loop()), session_id)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = TurnLock(session_id)
        return lock


_ALL: WeakKeyDictionary[SessionStorage, SessionLocks] = WeakKeyDictionary()


def locks_of(storage: SessionStorage) -> SessionLocks:
    """Return the locks that all managers over one storage object share."""
    return _ALL.setdefault(storage, SessionLocks())


@attrs.frozen
class HeldSessions:
    """Reads sessions; one that has ``auto_save=False`` is held back from its first change on.

    Attributes:
        storage: Where they live.
        codec: Reads their records.
    """

    storage: DeferredWriteStorage
    codec: EntityCodec

    def lock(self, session_id: str) -> TurnLock:
        """Return the lock that makes turns of one session run one after the other."""
        return locks_of(self.storage.stored).of(session_id)

    async def find(self, session_id: str) -> Session | None:
        """Return a session with what is held back of it, or None."""
        return await self.read(session_id, self.storage)

    async def take(self, session_id: str) -> Session | None:
        """Return a session to change, held back if that is what it wants, or None."""
        session = await self.find(session_id)
        if session is None or session.config.auto_save or self.storage.is_held(session_id):
            return session
        await self.storage.hold(session_id)
        return await self.find(session_id)  # nobody can have changed it here in between

    async def read(self, session_id: str, storage: SessionStorage) -> Session | None:
        """Return a session as one storage has it, or None."""
        record = await storage.find_session(session_id)
        return None if record is None else self.codec.session(record, backend=storage.backend)

    async def insert(self, record: SessionRecord, *, hold: bool) -> None:
        """Store a new session, held back if told so.

        Raises:
            SessionExistsError: The id is taken.
        """
        session_id = record.session_id
        if await self.storage.session_exists(session_id):
            raise SessionExistsError(session_id)
        await self.storage.release(session_id)  # an expired one of that id may have been held
        if hold:
            await self.storage.hold(session_id)
        try:
            await self.storage.put_session(record, expected_version=0)
        except ConflictError as exc:
            await self.storage.release(session_id)
            raise SessionExistsError(session_id) from exc

    async def change(self, session_id: str, changed: Callable[[Session], Session]) -> bool:
        """Read, change and write a session until nobody else has written in between."""
        while (session := await self.take(session_id)) is not None:
            record = self.codec.session_record(changed(session))
            try:
                await self.storage.put_session(record, expected_version=session.version)
            except ConflictError:
                continue
            return True
        return False
