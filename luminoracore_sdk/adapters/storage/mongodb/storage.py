"""The MongoDB backend: its options, its client and how calls reach it."""

import asyncio
import math
import re
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.storage.base import Append, BaseStorage, MemoryChange, MessageUpdate, Tail
from luminoracore_sdk.adapters.storage.group_commit import GroupCommit
from luminoracore_sdk.adapters.storage.wakeups import Listener
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    HeaderTexts,
    IndexRecord,
    IndexRewrite,
    Lease,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    RewriteMessage,
    SessionQuery,
    SessionRecord,
    TailReceipt,
    TurnRecords,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    LuminoraCoreSDKError,
    PayloadTooLargeError,
    SchemaVersionError,
    SessionNotFoundError,
    StorageTimeoutError,
)

if TYPE_CHECKING:
    from motor.motor_asyncio import AsyncIOMotorClient
    from pymongo import AsyncMongoClient

    from luminoracore_sdk.adapters.storage.mongodb.appends import Appends
    from luminoracore_sdk.adapters.storage.mongodb.driver import Connection, Document
    from luminoracore_sdk.adapters.storage.mongodb.leases import Leases
    from luminoracore_sdk.adapters.storage.mongodb.memories import Memories
    from luminoracore_sdk.adapters.storage.mongodb.messages import Messages
    from luminoracore_sdk.adapters.storage.mongodb.rewriting import Rewriting
    from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
    from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions
    from luminoracore_sdk.adapters.storage.mongodb.tails import Tails
    from luminoracore_sdk.adapters.storage.mongodb.updates import Updates

__all__ = ["MongoDBStorage"]

T = TypeVar("T")

_DRIVERS = ("pymongo", "motor")
_DEFAULT_DATABASE = "luminoracore"
_MOST_REQUESTS = 2
"""Most append requests at the same time. 1 to 4 measured 6,400, 6,100, 5,600 and 5,000 appends a second with 64
writers, 4,600, 6,000, 5,300 and 4,600 with 256 (PyMongo, a loaded computer)."""
_GRACE = 1.0
"""Seconds that a cancelled call is given to end by itself."""


class MongoDBStorage(BaseStorage):
    """Keep sessions in four collections of a MongoDB database, version 5.0 or newer.

    A standalone server gives the same guarantees as a replica set. No call needs a transaction: an append is one
    inserted document, which holds the whole batch, at a position that a unique index gives to one writer, and a
    read of the header that verifies it; put, truncate and delete are one change of the session's header, through
    which alone its messages and memories are found. What is no longer found is deleted afterwards, or by
    ``purge_expired`` if the process ended before that. Appends that wait at the same time are inserted together.
    See ``appends`` for the protocol; it does not depend on clocks. An update of a message is one change of its batch,
    noted in the header before and after. A session whose changes end in the same minute as those of thousands of
    others makes a page of a listing by activity slow: sessions of one minute are sorted by the client.

    A client that is created here writes with ``w=majority`` and ``journal=true`` and does not retry by itself
    (``retryWrites=false``, ``retryReads=false``), unless the URL says otherwise: a repeated append is recognised
    by its ids. All reads go to the primary.

    A document has at most 16 MB, and so has a batch, all its messages together (``PayloadTooLargeError``); a
    history has no limit. A rewrite that would make a batch larger raises the same error and leaves that batch as
    it was; messages of other batches may have been rewritten by then.

    When a call is cancelled, a write that was sent is given up to a second to end. Then PyMongo closes the
    connection; a thread of motor, and its connection, stay busy until ``timeout`` if the server does not answer.

    Belongs to the event loop it was opened on. Needs the ``mongodb`` extra.

    Args:
        url: ``mongodb://…`` or ``mongodb+srv://…``; its options take precedence over the ones here.
        client: Instead of a URL, PyMongo's ``AsyncMongoClient`` or an ``AsyncIOMotorClient``. It is never closed
            here, and its options apply; it should not have ``w=0``.
        database: Where to keep the collections; None: the database that the URL names, else ``luminoracore``.
        collection_prefix: Begins the names of the collections.
        driver: Which client is created for the URL.
        max_pool_size: Most connections.
        connect_timeout: Seconds to find a server (``StorageUnavailableError``) and to wait for a free connection
            (``StorageBusyError``).
        timeout: Seconds to wait for the answer to a command (``StorageTimeoutError``). A whole call takes at most
            this and ``connect_timeout`` together, also with a client that was passed in; so does each step of
            ``purge_expired``, of 200 sessions or owners.
        clock: Tells the time; the system clock when None.

    Raises:
        ConfigurationError: An option that cannot work.
        MissingDependencyError: The extra is not installed.
    """

    backend_name = "mongodb"
    loop_bound = True
    max_payload_bytes = 15 * 1024 * 1024

    def __init__(
        self,
        url: str | None = None,
        *,
        client: "AsyncMongoClient[dict[str, Any]] | AsyncIOMotorClient[dict[str, Any]] | None" = None,
        database: str | None = None,
        collection_prefix: str = "luminora_",
        driver: Literal["pymongo", "motor"] = "pymongo",
        max_pool_size: int = 50,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        if (url is None) == (client is None):
            raise ConfigurationError("MongoDBStorage takes a url or a client, one of them")
        if not isinstance(url, str | None):
            raise ConfigurationError(f"url is a string, not {type(url).__name__}; pass a client as client=…")
        _check_options(driver, max_pool_size, collection_prefix)
        for name, seconds in (("connect_timeout", connect_timeout), ("timeout", timeout)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigurationError(f"{name} is a number of seconds above 0, not {seconds!r}")
        import_extra("pymongo", needed_by="MongoDBStorage", extra="mongodb")
        if client is None and driver == "motor":
            import_extra("motor.motor_asyncio", needed_by="MongoDBStorage", extra="mongodb")
        from luminoracore_sdk.adapters.storage.mongodb import driver as drivers  # noqa: PLC0415  # optional driver

        named = drivers.check_url(url) if url is not None else None
        self._url = url or ""
        self._given = None if client is None else drivers.check_client(client)
        self._database = _checked_database(next(n for n in (database, named, _DEFAULT_DATABASE) if n is not None))
        self._prefix = collection_prefix
        self._driver: Literal["pymongo", "motor"] = driver
        self._timeout = timeout
        self._limit = connect_timeout + timeout
        self._options = _client_options(max_pool_size, connect_timeout, timeout)
        self._running: set[asyncio.Task[Any]] = set()

    # what an open storage holds
    _connection: "Connection"
    _store: "Collections"
    _sessions: "Sessions"
    _messages: "Messages"
    _memories: "Memories"
    _tails: "Tails"
    _updates: "Updates"
    _leases: "Leases"
    _rewriting: "Rewriting"
    _appends: "Appends"
    _group: GroupCommit[Append, AppendReceipt]

    # -- lifecycle -------------------------------------------------------------------------------

    async def _open(self) -> None:
        from luminoracore_sdk.adapters.storage.mongodb import (  # noqa: PLC0415  # optional driver
            appends,
            driver,
            leases,
            memories,
            messages,
            rewriting,
            schema,
            sessions,
            tails,
            updates,
        )

        connection = self._given or await driver.connect(self._url, self._driver, self._options)
        store = schema.collections(connection, self._database, self._prefix)
        try:
            await self._run(schema.prepare(store), write=True)
        except BaseException:
            await connection.close()
            raise
        self._connection, self._store = connection, store
        self._sessions = sessions.Sessions(store)
        self._messages = messages.Messages(store, self._sessions)
        self._memories = memories.Memories(store)
        self._tails = tails.Tails(store, self._sessions, self._messages)
        self._updates = updates.Updates(store, self._sessions)
        self._leases = leases.Leases(store, self._sessions)
        self._rewriting = rewriting.Rewriting(store, self._sessions, self._memories)
        self._appends = appends.Appends(store, self._sessions, self._leases, patience=self._timeout)
        self._group = GroupCommit(
            self.backend_name,
            alone=self._append_alone,
            together=self._append_together,
            most_requests=_MOST_REQUESTS,
            timeout=self._timeout,
        )

    async def _close(self) -> None:
        await self._group.drain()
        if self._running:
            await asyncio.wait(self._running, timeout=self._limit)
        await self._connection.close()

    async def _ping(self) -> None:
        await self._run(self._connection.ping(self._database), write=False)

    async def _schema_version(self) -> int:
        from luminoracore_sdk.adapters.storage.mongodb import schema  # noqa: PLC0415  # optional driver

        version = await self._run(schema.stored_version(self._store), write=False)
        if version is None:
            hint = f"the collection {self._store.meta.name} has lost it"
            raise SchemaVersionError(backend=self.backend_name, found="no version", supported=schema.VERSION, hint=hint)
        return version

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        return await self._run(self._sessions.put(record, expected_version, now_us), write=True)

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        return await self._run(self._sessions.find(session_id, now_us), write=False)

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        return await self._run(self._sessions.delete(session_id, now_us), write=True)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        return await self._run(self._sessions.query(query, now_us), write=False)

    async def _fork_session(
        self, source_id: str, record: SessionRecord, at: int, rewrite: RewriteMessage | None, now_us: int
    ) -> SessionRecord:
        from luminoracore_sdk.adapters.storage.mongodb.forks import Fork  # noqa: PLC0415  # optional driver

        fork = Fork(
            self._store, self._sessions, self._messages, source_id, record, at, rewrite, self._check_batch, now_us
        )
        steps = fork.steps()

        async def step() -> SessionRecord | None:
            return await anext(steps)

        while (made := await self._run(step(), write=True)) is None:
            continue
        return made

    # -- leases ----------------------------------------------------------------------------------

    async def _acquire_lease(self, session_id: str, holder: str, ttl_us: int, now_us: int) -> Lease:
        return await self._run(self._leases.acquire(session_id, holder, ttl_us, now_us), write=True)

    async def _release_lease(self, session_id: str, fence: int, now_us: int) -> bool:
        return await self._run(self._leases.release(session_id, fence, now_us), write=True)

    # -- messages --------------------------------------------------------------------------------

    async def _append_messages(self, append: Append) -> AppendReceipt:
        self._check_batch_size(append)
        return await self._group.write(append)

    def _check_batch_size(self, append: Append) -> None:
        if append.size_bytes > self.max_payload_bytes:
            raise PayloadTooLargeError(
                backend=self.backend_name,
                key=f"the batch of {len(append.messages)} messages",
                size_bytes=append.size_bytes,
                limit_bytes=self.max_payload_bytes,
            )

    async def _append_alone(self, append: Append) -> AppendReceipt:
        return await self._run(self._appends.alone(append), write=True)

    async def _append_together(
        self, appends: Sequence[Append]
    ) -> Sequence[AppendReceipt | LuminoraCoreSDKError | None]:
        return await self._run(self._appends.together(appends), write=True)

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        return await self._run(self._messages.read(session_id, span, now_us), write=False)

    async def _find_message(self, session_id: str, message_id: str, now_us: int) -> MessageRecord | None:
        return await self._run(self._tails.find(session_id, message_id, now_us), write=False)

    async def _replace_tail(self, tail: Tail) -> TailReceipt:
        self._check_batch_size(Append(tail.session_id, tail.messages, tail.expected_last, tail.now_us))
        return await self._run(self._tails.replace(tail), write=True)

    async def _update_message(self, update: MessageUpdate) -> bool:
        return await self._run(self._updates.update(update), write=True)

    async def _read_index(self, session_id: str, span: MessageRange, now_us: int) -> list[IndexRecord]:
        return await self._run(self._messages.read_index(session_id, span, now_us), write=False)

    async def _rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite], now_us: int) -> int:
        return await self._run(self._rewriting.indexes(session_id, changes, now_us), write=True)

    async def _read_turn(self, session_id: str, newest: int, now_us: int) -> TurnRecords | None:
        try:
            found = await self._run(self._messages.turn(session_id, newest, now_us), write=False)
        except SessionNotFoundError:
            return None
        return found or await super()._read_turn(session_id, newest, now_us)

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        return await self._run(self._tails.truncate(session_id, after, now_us), write=True)

    # -- wake-ups --------------------------------------------------------------------------------

    async def _listen(self, listener: Listener) -> None:
        """Follow one change stream, which begins anew where it was whenever other sessions are watched."""
        if not await self._connection.tells_changes():
            return
        store, known, token = self._store, set[str](), None
        while True:
            listener.changed.clear()
            watched = set(listener.sessions)
            headers = await store.sessions.find({"_id": {"$in": list(watched)}}, {"inc": 1})
            names = {header["inc"]: header["_id"] for header in headers}
            header = {"ns.coll": store.sessions.name, "documentKey._id": {"$in": list(watched)}}
            batch = {"ns.coll": store.messages.name, "fullDocument.inc": {"$in": list(names)}}
            fields = {"ns": 1, "documentKey": 1, "fullDocument.inc": 1}
            stages: tuple[Document, ...] = ({"$match": {"$or": [header, batch]}}, {"$project": fields})
            async with self._connection.changes(self._database, *stages, after=token) as stream:
                while not listener.changed.is_set():
                    change = await stream.try_next()
                    token = stream.resume_token
                    for session_id in watched - known:
                        listener.heard(session_id)  # it may have changed before the stream began
                    known = watched
                    if change is not None:
                        of_header = change["ns"]["coll"] == store.sessions.name
                        listener.heard(
                            change["documentKey"]["_id"] if of_header else names[change["fullDocument"]["inc"]]
                        )

    # -- memory ----------------------------------------------------------------------------------

    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]:
        return await self._run(self._memories.change(change), write=True)

    async def _touch_memories(
        self, scope: MemoryScope, keys: Sequence[str], expires_at_us: int | None, now_us: int
    ) -> int:
        return await self._run(self._memories.touch(scope, keys, expires_at_us, now_us), write=True)

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        return await self._run(self._memories.find(scope, key, now_us), write=False)

    async def _list_memories(self, scope: MemoryScope, query: MemoryQuery | None, now_us: int) -> list[MemoryRecord]:
        return await self._run(self._memories.list_scope(scope, query, now_us), write=False)

    async def _list_memory_owners(self, prefix: str, after: str | None, limit: int, now_us: int) -> list[str]:
        return await self._run(self._memories.owners(prefix, after, limit, now_us), write=False)

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        return await self._run(self._memories.delete(scope, key, now_us), write=True)

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        return await self._run(self._memories.clear(scope, now_us), write=True)

    async def _purge_expired(self, now_us: int) -> Purged:
        from luminoracore_sdk.adapters.storage.mongodb.purge import purge  # noqa: PLC0415  # optional driver

        steps, sessions, memories = purge(self._store, now_us), 0, 0

        async def step() -> Purged | None:
            return await anext(steps, None)

        while (removed := await self._run(step(), write=True)) is not None:
            sessions, memories = sessions + removed.sessions, memories + removed.memories
        return Purged(sessions=sessions, memories=memories)

    # -- rewriting -------------------------------------------------------------------------------

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        return await self._run(self._rewriting.session(session_id, old, new, now_us), write=True)

    async def _rewrite_texts(self, session_id: str, old: HeaderTexts, new: HeaderTexts, now_us: int) -> bool:
        return await self._run(self._rewriting.texts(session_id, old, new, now_us), write=True)

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        return await self._run(self._rewriting.messages(session_id, changes, now_us), write=True)

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        return await self._run(self._rewriting.memory(scope, key, old, new, now_us), write=True)

    # -- calls -----------------------------------------------------------------------------------

    async def _run(self, work: Coroutine[Any, Any, T], *, write: bool) -> T:
        """Run a call in a task of its own, within the time limit.

        When the caller is cancelled, the call is given a moment to end, so that nothing that was sent takes effect
        after the caller has continued. Then it is cancelled, and waited for again.

        Args:
            work: What the call does.
            write: Whether it writes, so that a missing answer leaves it in doubt.
        """
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        task = loop.create_task(_reporting(over, work))
        self._running.add(task)
        task.add_done_callback(self._ended)
        timer = loop.call_later(self._limit, _set, over)
        try:
            await over  # asyncio.wait would take 12 µs more: it resumes only after the callbacks of the task
        except asyncio.CancelledError:
            await _wait_for(task)
            if task.cancel():
                await _wait_for(task)
            raise
        finally:
            timer.cancel()
        if not task.done():
            task.cancel()
            reason = f"no answer within {self._limit:g} seconds"
            raise StorageTimeoutError(self.backend_name, reason, in_doubt=write) from TimeoutError(reason)
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # retrieved here, because the caller may have been cancelled


async def _reporting(over: "asyncio.Future[None]", work: Coroutine[Any, Any, T]) -> T:
    """Do some work and set a future; the task is done by the time that what awaits the future resumes."""
    try:
        return await work
    finally:
        _set(over)


async def _wait_for(task: "asyncio.Task[Any]") -> None:
    """Wait up to a second for a task, also while being cancelled again and again, as AnyIO does."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _GRACE
    while not task.done() and (left := end - loop.time()) > 0:
        with suppress(asyncio.CancelledError):  # the caller re-raises the one that it has caught
            await asyncio.wait([task], timeout=left)


def _set(over: "asyncio.Future[None]") -> None:
    if not over.done():
        over.set_result(None)


def _check_options(driver: str, max_pool_size: int, collection_prefix: str) -> None:
    if driver not in _DRIVERS:
        raise ConfigurationError(f"driver is one of {', '.join(_DRIVERS)}, not {driver!r}")
    if max_pool_size < 1:
        raise ConfigurationError(f"max_pool_size is a number from 1, not {max_pool_size!r}")
    reserved = collection_prefix.startswith(("system.", "."))
    if reserved or not re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", collection_prefix):
        raise ConfigurationError(
            f"collection_prefix {collection_prefix!a} is refused: "
            "up to 64 letters, digits, _, - and dots, not a dot first, not system.…"
        )


def _checked_database(name: str) -> str:
    if not re.fullmatch(r"[^/\\. \"$*<>:|?\0]+", name) or len(name.encode()) > 63:
        raise ConfigurationError(
            f'database {name!a} is refused: 1 to 63 bytes without space, NUL or any of /\\."$*<>:|?'
        )
    if name in ("admin", "config", "local"):
        raise ConfigurationError(
            f"database {name!r} belongs to the server; name another one with database=… or in the URL, "
            "and the one that the user is known in with authSource=…"
        )
    return name


def _client_options(max_pool_size: int, connect_seconds: float, seconds: float) -> dict[str, Any]:
    """Return the options of a client that is created here; retries belong to the retry wrapper."""
    connect_ms, ms = max(1, round(connect_seconds * 1000)), max(1, round(seconds * 1000))
    return {
        "appname": "luminoracore-sdk",
        "maxPoolSize": max_pool_size,
        "serverSelectionTimeoutMS": connect_ms,
        "connectTimeoutMS": connect_ms,
        "waitQueueTimeoutMS": connect_ms,
        "socketTimeoutMS": ms,
        "retryWrites": False,
        "retryReads": False,
        "w": "majority",
        "journal": True,
    }
