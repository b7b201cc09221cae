"""Access to sessions: pages of headers, one lock per session, creation on demand, deferred writes."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from luminoracore_sdk.application.off_loop import MANY_WORDS, is_large_message, off_loop
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.deferred_writes import DeferredWriteStorage
from luminoracore_sdk.application.ports.records import (
    MAX_PAGE,
    IndexRecord,
    MessageRange,
    MessageRecord,
    Page,
    SessionQuery,
    SessionRecord,
    TurnRecords,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.tombstones import is_erased
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
    TurnInterruptedError,
)
from luminoracore_sdk.domain.message import Message, message_text
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.values import check_id

__all__ = [
    "SessionAccess",
    "SessionLocks",
    "TurnLock",
    "ensure_session",
    "headers",
    "indexes",
    "locks_of",
    "memory_owners",
    "merged_page",
    "message_records",
]

_INDEX_CHUNK = 1000

GRACE_SECONDS = 5.0
"""How long a task waits for an abandoned stream of its own to be closed; closing one takes milliseconds."""

INTERRUPT_SECONDS = 2.0
"""How long an interrupter waits for a provider to end; what it answers later is not stored."""


# -- records of messages -------------------------------------------------------------------------


async def message_records(
    storage: SessionStorage, codec: EntityCodec, messages: Sequence[Message], *, counted: bool = True
) -> list[MessageRecord]:
    """Return the records of messages that have an id and a time.

    Args:
        storage: Will hold them; if it is searched, the codec indexes them.
        codec: Makes them.
        messages: Any number.
        counted: As for ``EntityCodec.message_record``.

    Raises:
        ValidationError: A value is not JSON.
    """
    large = any(map(is_large_message, messages))
    if storage.search is not None:
        large |= sum(len(message_text(message)) for message in messages) > MANY_WORDS
    return await off_loop(lambda: [codec.message_record(one, counted=counted) for one in messages], large=large)


# -- pages of headers ----------------------------------------------------------------------------


async def headers(storage: SessionStorage, query: SessionQuery) -> AsyncGenerator[SessionRecord, None]:
    """Yield every header that matches a query, without payload, in constant memory.

    Args:
        storage: The storage to list.
        query: Filters, direction and cursor; its limit is ignored.
    """
    query = attrs.evolve(query, limit=MAX_PAGE)
    while True:
        page = await storage.query_sessions(query)
        for record in page.sessions:
            yield record
        if page.next_cursor is None:
            return
        query = attrs.evolve(query, cursor=page.next_cursor)


async def indexes(storage: SessionStorage, session_id: str, *, before: int) -> AsyncIterator[IndexRecord]:
    """Yield the indexes of the messages below a position, oldest first, in constant memory.

    Raises:
        SessionNotFoundError: No such session.
        CorruptRecordError: A record cannot be read.
    """
    after = 0
    while found := await storage.read_index(session_id, MessageRange(after=after, before=before, limit=_INDEX_CHUNK)):
        for record in found:
            yield record
        after = found[-1].position


async def memory_owners(storage: SessionStorage) -> AsyncIterator[str]:
    """Yield the id of every user that has memories, in the storage's own order, in constant memory."""
    after = None
    while page := await storage.list_memory_owners(after=after, limit=MAX_PAGE):
        for user_id in page:
            yield user_id
        after = page[-1]


def merged_page(pages: tuple[Page, Page], query: SessionQuery) -> Page:
    """Merge the pages that two listings return for the same query; a session in both is listed once.

    Args:
        pages: One page from each listing. Where both list a session, the second one's header is used.
        query: Gives the order and the limit of the result.
    """
    found = {record.session_id: record for page in pages for record in page.sessions}
    listed = sorted(found.values(), key=query.key, reverse=query.newest_first)
    ends = [page.next_cursor for page in pages if page.next_cursor is not None]
    end = None
    if ends:  # a page that is not the last one says nothing about what follows its cursor
        end = max(ends) if query.newest_first else min(ends)
        listed = [
            record
            for record in listed
            if (query.key(record) >= end if query.newest_first else query.key(record) <= end)
        ]
    if len(listed) > query.limit:
        listed = listed[: query.limit]
        end = query.key(listed[-1])
    return Page(sessions=tuple(listed), next_cursor=end)


# -- locks ---------------------------------------------------------------------------------------


class TurnLock:
    """Serializes the turns of a session; detects a task waiting for itself; can interrupt the turn in progress.

    Args:
        session_id: The locked session, for errors.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._lock = asyncio.Lock()
        self._claims = 0
        self._holder: asyncio.Task[object] | None = None
        self._stop: Callable[[], None] | None = None
        self._is_interrupted = False
        self._is_stopped = False
        self._is_answered = False
        self._resume: Callable[[], None] | None = None
        self._stopped: asyncio.Future[bool] | None = None
        self._is_storing = False
        self._turn_ended = asyncio.Event()
        self._turn_ended.set()
        self._interrupters = 0
        self._interrupters_ended = asyncio.Event()

    @asynccontextmanager
    async def hold(
        self, *, reader: asyncio.Task[object] | None = None, refuse_busy: bool = False
    ) -> AsyncIterator[None]:
        """Hold the lock within the block.

        Args:
            reader: The task that reads the turn's stream; None: the current one.
            refuse_busy: Whether to raise instead of waiting for another turn.

        Raises:
            SessionBusyError: Another turn is in progress and ``refuse_busy``, or the reader waits for itself.
            TurnInterruptedError: The turn was interrupted.
        """
        reader = reader or asyncio.current_task()
        if self._claims and refuse_busy:
            raise SessionBusyError(self._session_id, own_stream=False)
        self._claims += 1
        try:
            await self._acquire(reader)
            try:
                async with self._turn(reader):
                    yield
            finally:
                self._lock.release()
        finally:
            self._claims -= 1

    async def _acquire(self, reader: asyncio.Task[object] | None) -> None:
        if not (self._lock.locked() and self._holder is reader):
            await self._lock.acquire()
            return
        # The task may have left a stream with ``break``; the event loop closes that one shortly.
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self._lock.acquire()
        except TimeoutError as exc:
            raise SessionBusyError(self._session_id) from exc

    @asynccontextmanager
    async def _turn(self, reader: asyncio.Task[object] | None) -> AsyncIterator[None]:
        """Be the turn in progress within the block."""
        loop = asyncio.get_running_loop()
        scope = asyncio.timeout(None)
        try:
            self._holder = reader
            while self._interrupters:
                await self._interrupters_ended.wait()
            self._turn_ended.clear()
            async with scope:
                self._stop = lambda: scope.reschedule(loop.time())
                self._resume = lambda: scope.reschedule(None)
                yield
        except Exception as exc:
            if self._is_interrupted or self._is_stopped:
                raise TurnInterruptedError(self._session_id) from exc
            raise
        finally:
            if self._stopped is not None and not self._stopped.done():
                self._stopped.set_result(self._is_stopped)
            self._holder = self._stop = self._resume = self._stopped = None
            self._is_interrupted = self._is_stopped = self._is_answered = False
            self._turn_ended.set()

    @contextmanager
    def storing(self) -> Iterator[None]:
        """Let interrupters wait while the turn in progress is stored within the block.

        Raises:
            TurnInterruptedError: The turn was interrupted.
        """
        if self._is_interrupted:
            raise TurnInterruptedError(self._session_id)
        self._is_storing = True
        try:
            yield
        finally:
            self._is_storing = False

    @property
    def is_stopped(self) -> bool:
        """Whether the turn in progress was stopped, and is to end with what has come."""
        return self._is_stopped

    def answered(self) -> None:
        """Refuse requests to stop the turn in progress from now on: its answer is complete.

        A request that has not reached its task yet is withdrawn: it would reach the task while it stores the turn.
        """
        if self._is_stopped and self._resume is not None:
            self._resume()
        self._is_stopped, self._is_answered = False, True

    def request_stop(self) -> bool:
        """Let the turn in progress end with what has come; return False if there is none, or its answer is whole."""
        if self._stop is None or self._is_answered:
            return False
        stop, self._stop = self._stop, None
        self._is_stopped = True
        stop()
        return True

    async def stop(self) -> bool:
        """Request a stop, and wait until the turn has ended; return False if its answer became whole meanwhile."""
        if not self.request_stop():
            return False
        self._stopped = asyncio.get_running_loop().create_future()
        return await self._stopped

    @asynccontextmanager
    async def interrupting(self) -> AsyncIterator[None]:
        """Interrupt the turn in progress, and let no other begin within the block; a turn that is stored is awaited."""
        self._interrupters += 1
        self._interrupters_ended.clear()
        try:
            if self._stop is not None and not self._is_storing:  # which may take several calls
                stop, self._stop = self._stop, None  # a second interrupter only waits
                self._is_interrupted = True
                stop()
            await self._end_of_turn()
            yield
        finally:
            self._interrupters -= 1
            if not self._interrupters:
                self._interrupters_ended.set()

    async def _end_of_turn(self) -> None:
        try:
            async with asyncio.timeout(INTERRUPT_SECONDS):
                await self._turn_ended.wait()
        except TimeoutError:
            if self._is_storing:
                await self._turn_ended.wait()


class SessionLocks:
    """Locks by session and event loop; a lock exists while a task holds it or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[int, str], TurnLock] = WeakValueDictionary()

    def of(self, session_id: str) -> TurnLock:
        """Return the lock of a session on the running event loop."""
        key = (id(asyncio.get_running_loop()), check_id(session_id))
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = TurnLock(session_id)
        return lock


_ALL: WeakKeyDictionary[SessionStorage, SessionLocks] = WeakKeyDictionary()


def locks_of(storage: SessionStorage) -> SessionLocks:
    """Return the locks that all managers over one storage object share."""
    return _ALL.setdefault(storage, SessionLocks())


# -- sessions ------------------------------------------------------------------------------------


async def ensure_session(session_id: str, storage: SessionStorage, services: Services) -> None:
    """Store a session of an id that was found missing, without personality and provider.

    Raises:
        SessionNotFoundError: It was erased; a writer that was under way must not bring it back.
    """
    if await is_erased(storage, session_id):
        raise SessionNotFoundError(session_id, backend=storage.backend)
    now = services.clock.now()
    session = Session(session_id=session_id, personality={}, provider=None, created_at=now, last_activity=now)
    try:
        await storage.put_session(services.codec.session_record(session), expected_version=0)
    except ConflictError:
        return


@attrs.frozen
class SessionAccess:
    """Reads and changes sessions; defers the writes of those with ``auto_save=False``.

    Attributes:
        storage: The storage that holds them.
        codec: Converts their records.
        user_id: Sessions of other users, and of none, count as absent; None: every session is visible.
    """

    storage: DeferredWriteStorage
    codec: EntityCodec
    user_id: str | None = None

    def lock(self, session_id: str) -> TurnLock:
        """Return the lock that serializes the turns of one session."""
        return locks_of(self.storage.stored).of(session_id)

    def _is_visible(self, record: SessionRecord) -> bool:
        return self.user_id is None or record.user_id == self.user_id

    async def header(self, session_id: str) -> SessionRecord | None:
        """Return the header of a session with its deferred writes applied, or None."""
        record = await self.storage.find_session(session_id)
        return None if record is None or not self._is_visible(record) else record

    async def is_visible(self, session_id: str) -> bool:
        """Return whether the user has the session; True without a read if this is not about a user."""
        return self.user_id is None or await self.header(session_id) is not None

    async def check(self, session_id: str) -> None:
        """Refuse a session that is not visible.

        Raises:
            SessionNotFoundError: The user has no such session.
        """
        if not await self.is_visible(session_id):
            raise SessionNotFoundError(session_id, backend=self.storage.stored.backend)

    async def find(self, session_id: str) -> Session | None:
        """Return a session with its deferred writes applied, or None."""
        return await self.read(session_id, self.storage)

    async def find_for_change(self, session_id: str) -> Session | None:
        """Return a session, or None; from now on its writes are deferred if it has ``auto_save=False``."""
        session = await self.find(session_id)
        if session is None or session.config.auto_save or self.storage.is_deferred(session_id):
            return session
        await self.storage.defer(session_id)
        return await self.find(session_id)  # it may have changed before its writes were deferred

    async def read_turn(self, session_id: str, newest: int) -> tuple[Session, TurnRecords] | None:
        """Return what a turn needs, or None; otherwise as ``find_for_change``."""
        records = await self.storage.read_turn(session_id, newest=newest)
        if records is None or not self._is_visible(records.session):
            return None
        session = self.codec.session(records.session, backend=self.storage.backend)
        if session.config.auto_save or self.storage.is_deferred(session_id):
            return session, records
        await self.storage.defer(session_id)
        return await self.read_turn(session_id, newest)  # it may have changed before its writes were deferred

    async def read(self, session_id: str, storage: SessionStorage) -> Session | None:
        """Return a session as the given storage has it, or None."""
        record = await storage.find_session(session_id)
        return (
            None
            if record is None or not self._is_visible(record)
            else self.codec.session(record, backend=storage.backend)
        )

    async def insert(self, record: SessionRecord, *, defer: bool) -> None:
        """Store a new session, or defer its writes.

        Raises:
            SessionExistsError: The id is taken.
        """
        session_id = record.session_id
        if await self.storage.session_exists(session_id):
            raise SessionExistsError(session_id)
        await self.storage.release(session_id)  # an expired session of this id may still be deferred
        if defer:
            await self.storage.defer(session_id)
        try:
            await self.storage.put_session(record, expected_version=0)
        except ConflictError as exc:
            await self.storage.release(session_id)
            raise SessionExistsError(session_id) from exc

    async def change(self, session_id: str, changed: Callable[[Session], Session]) -> bool:
        """Read, change and write a session, again after each conflict; return False if there is none."""
        while (session := await self.find_for_change(session_id)) is not None:
            record = self.codec.session_record(changed(session))
            try:
                await self.storage.put_session(record, expected_version=session.version)
            except ConflictError:
                continue
            return True
        return False
