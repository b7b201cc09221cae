"""The JSON files backend: a folder of readable files, safe between threads and processes."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import attrs

from luminoracore_sdk.adapters.storage.base import (
    Append,
    BaseStorage,
    MemoryChange,
    MessageUpdate,
    Tail,
    check_fence,
    check_fork,
    granted,
    replay_receipt,
)
from luminoracore_sdk.adapters.storage.json_file.files import BACKEND, os_errors
from luminoracore_sdk.adapters.storage.json_file.layout import Store
from luminoracore_sdk.adapters.storage.json_file.log import MessageLog
from luminoracore_sdk.adapters.storage.json_file.session_index import SessionIndex
from luminoracore_sdk.adapters.storage.json_file.sessions import (
    MemoryFolder,
    SessionFolder,
    dated,
    memory_owners,
    purge,
    whole,
)
from luminoracore_sdk.adapters.storage.json_file.summary import Base
from luminoracore_sdk.adapters.storage.wakeups import Wakeups
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
from luminoracore_sdk.domain.errors import CorruptRecordError, SessionNotFoundError, StorageClosedError

__all__ = ["JSONFileStorage"]

_THREADS = 16

T = TypeVar("T")


class JSONFileStorage(BaseStorage):
    """Keep sessions in a folder: a header file and an append-only log of JSON lines for each.

    Any number of tasks, event loops, threads and processes of one machine may use the folder at the same time,
    also a process that was forked. See ``json_file.layout`` for the files. A write is on the disk when its call
    returns. Only the owner can read the files: mode 0600, in folders of mode 0700.

    Args:
        directory: The store's folder, created when missing.
        clock: Tells the time; the system clock when None.
        lock_timeout: Longest wait in seconds for another writer of the same session; then
            ``StorageBusyError`` is raised.
        fsync: False: writes do not wait for the disk. This is faster; the last writes survive the end of the
            process, but maybe not a power failure.

    Raises:
        MissingDependencyError: The ``files`` extra is not installed.
        ConfigurationError: At open: the path is a file, or a folder that holds something else.
    """

    backend_name = BACKEND

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        lock_timeout: float = 30.0,
        fsync: bool = True,
    ) -> None:
        super().__init__(clock=clock)
        self._make_store = partial(Store, Path(directory).absolute(), lock_timeout=lock_timeout, fsync=fsync)
        self._pool: ThreadPoolExecutor | None = None
        self._renew()

    def _renew(self) -> None:
        """Create what a forked process cannot use of its parent: threads, and locks that they may have held."""
        self._pid = os.getpid()
        self._store = self._make_store()
        self._index = SessionIndex(self._store)
        self._wakeups = Wakeups()
        self._turns: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = WeakValueDictionary()
        if self._pool is not None:
            self._pool = _new_pool()

    def _renew_after_fork(self) -> None:
        if self._pid != os.getpid():
            self._renew()

    # -- lifecycle -------------------------------------------------------------------------------

    async def _ready(self) -> int:
        self._renew_after_fork()
        return await super()._ready()

    async def _open(self) -> None:
        self._renew_after_fork()
        self._pool = _new_pool()
        try:
            await self._run("open the store", self._store.prepare)
        except BaseException:
            self._pool.shutdown(wait=False)
            self._pool = None
            raise

    async def _close(self) -> None:
        self._renew_after_fork()
        loop = asyncio.get_running_loop()
        for (other, _), turn in list(self._turns.items()):
            if other is loop:
                async with turn:  # behind the calls that wait for theirs
                    pass
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)
        self._index.clear()

    async def _ping(self) -> None:
        await self._schema_version()

    async def _schema_version(self) -> int:
        return await self._run("read the store", self._store.schema_version, writing=False)

    # -- work in threads -------------------------------------------------------------------------

    async def _run(self, action: str, work: Callable[[], T], *, writing: bool = True) -> T:
        """Run a function in a thread; once it has begun, it ends even if the caller is cancelled.

        Args:
            action: What it does, for errors.
            work: The function.
            writing: Whether it writes.
        """
        return await asyncio.wrap_future(self._start(action, work, writing=writing))

    def _start(self, action: str, work: Callable[[], T], *, writing: bool) -> Future[T]:
        if self._pool is None:  # closed since the call began
            raise StorageClosedError(BACKEND)

        def run() -> T:
            with os_errors(action, writing=writing):
                return work()

        try:
            return self._pool.submit(run)
        except RuntimeError as exc:  # another thread closes it now, or the main thread has ended
            raise StorageClosedError(BACKEND) from exc

    async def _run_locked(self, folder: Path, action: str, work: Callable[[], T], *, writing: bool) -> T:
        """Run a function in a thread under the lock of a folder."""
        locks = self._store.locks
        deadline = locks.deadline()

        def run() -> T:
            with locks.hold(folder, writing=writing, deadline=deadline):
                return work()

        return await self._run_in_turn(folder, action, run, writing=writing)

    async def _run_in_turn(self, folder: Path, action: str, work: Callable[[], T], *, writing: bool) -> T:
        """Run a function, which takes the lock of a folder, in a thread.

        Calls of one event loop wait for their turn here, in the order in which they were made, so that no more
        than one thread waits for the same lock. The turn of a cancelled call ends with its thread: later calls see
        its effect or its failure.
        """
        loop = asyncio.get_running_loop()
        key = (loop, folder.name[:2])
        turn = self._turns.get(key)
        if turn is None:
            turn = self._turns[key] = asyncio.Lock()
        await turn.acquire()
        running: Future[T] | None = None
        try:
            running = self._start(action, work, writing=writing)
            return await asyncio.wrap_future(running)
        finally:
            if running is None or running.done():
                turn.release()
            else:
                running.add_done_callback(partial(_release_later, turn, loop))

    def _session(self, session_id: str) -> SessionFolder:
        return SessionFolder(self._store.session(session_id), self._store)

    async def _with_session(
        self, session_id: str, verb: str, work: Callable[[SessionFolder], T], *, writing: bool = True
    ) -> T:
        """Run a function on the folder of a session; ``verb`` is what it does, for errors."""
        session = self._session(session_id)
        action = f"{verb} session {session_id!a}"
        return await self._run_locked(session.path, action, lambda: work(session), writing=writing)

    async def _with_log(
        self,
        session_id: str,
        verb: str,
        now_us: int,
        work: Callable[[SessionRecord, MessageLog], T],
        *,
        writing: bool = True,
    ) -> T:
        """Run a function on the header and the log of a session that exists."""

        def run(session: SessionFolder) -> T:
            with session.opened(now_us, writing=writing) as opened:
                if opened is None:
                    raise self._not_found(session_id)
                return work(*opened)

        return await self._with_session(session_id, verb, run, writing=writing)

    async def _with_memories(
        self,
        scope: MemoryScope,
        verb: str,
        now_us: int,
        work: Callable[[MemoryFolder], T],
        *,
        absent: T,
        writing: bool = True,
    ) -> T:
        """Run a function on the memories of a scope; return ``absent`` if its session does not exist."""
        path = self._store.owner(scope)

        def run() -> T:
            if scope.kind == "session" and not SessionFolder(path, self._store).exists(now_us):
                return absent
            return work(MemoryFolder(path, self._store))

        return await self._run_locked(path, f"{verb} {scope.kind} {scope.owner_id!a}", run, writing=writing)

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        def put(session: SessionFolder) -> SessionRecord:
            stored = session.current(now_us)
            version = stored.version if stored else 0
            if expected_version is not None and expected_version != version:
                raise self._version_conflict(record.session_id, expected_version, version)
            header = attrs.evolve(
                record,
                created_at_us=stored.created_at_us if stored else record.created_at_us or now_us,
                updated_at_us=max(stored.updated_at_us, now_us) if stored else now_us,
                version=version + 1,
                last_position=stored.last_position if stored else 0,
                last_change=stored.last_change if stored else 0,
                summary=stored.summary if stored else record.summary,
                changes=stored.changes if stored else (),
                lease=stored.lease if stored else None,
            )
            if stored:
                session.write_header(header)
            else:
                session.discard()  # an expired one
                session.create(header)
            return header

        return await self._with_session(record.session_id, "write", put)

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        return await self._with_session(session_id, "read", lambda session: session.current(now_us), writing=False)

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        def delete(session: SessionFolder) -> bool:
            try:
                existed = session.exists(now_us)
            except CorruptRecordError:  # deleting is the way to get rid of a damaged session
                existed = True
            session.discard()
            return existed

        return await self._with_session(session_id, "delete", delete)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        return await self._run("list sessions", lambda: self._index.page(query, now_us), writing=False)

    async def _fork_session(
        self, source_id: str, record: SessionRecord, at: int, rewrite: RewriteMessage | None, now_us: int
    ) -> SessionRecord:
        source, target = self._session(source_id), self._session(record.session_id)
        locks = self._store.locks
        deadline = locks.deadline()

        def rewritten(messages: Sequence[MessageRecord]) -> Sequence[MessageRecord]:
            if rewrite is None:
                return messages
            new = [rewrite(message) for message in messages]
            self._check_batch(new)
            return new

        def fork() -> SessionRecord:
            with ExitStack() as stack:
                with locks.hold(source.path, writing=False, deadline=deadline):
                    opened = stack.enter_context(source.opened(now_us, writing=False))
                if opened is None:
                    raise self._not_found(source_id)
                _, log = opened  # what others write from now on is behind, or in another file
                check_fork(BACKEND, source_id, at, log.last)
                with locks.hold(target.path, writing=True, deadline=deadline):
                    if target.exists(now_us):
                        raise self._version_conflict(record.session_id, 0, 1)
                    target.discard()  # an expired one
                    return copy(log)

        def copy(log: MessageLog) -> SessionRecord:
            header = attrs.evolve(
                record,
                created_at_us=record.created_at_us or now_us,
                updated_at_us=now_us,
                version=1,
                last_position=at,
                last_change=0,
                changes=(),
                lease=None,
            )
            roles = Counter[str]()
            base = Base(record.summary, at_us=now_us)
            target.create(header, log.copied(at, base, roles, None if rewrite is None else rewritten))
            return attrs.evolve(header, summary=record.summary.copied(roles.elements()))

        action = f"fork session {source_id!a}"
        return await self._run_in_turn(target.path, action, fork, writing=True)

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        def rewrite(session: SessionFolder) -> bool:
            header = session.current(now_us)
            if header is None or header.payload != old:
                return False
            session.write_header(attrs.evolve(header, payload=new))
            return True

        return await self._with_session(session_id, "rewrite", rewrite)

    async def _rewrite_texts(self, session_id: str, old: HeaderTexts, new: HeaderTexts, now_us: int) -> bool:
        folder = self._session(session_id)

        def rewrite(header: SessionRecord, log: MessageLog) -> bool:
            if whole(header, log).texts != old:
                return False
            if (new.first, new.last) != (old.first, old.last):
                log.rewrite_briefs(new.first, new.last)
            if new.card != old.card:
                folder.write_header(attrs.evolve(header, card=new.card))
            return True

        try:
            return await self._with_log(session_id, "rewrite", now_us, rewrite)
        except SessionNotFoundError:
            return False

    # -- leases ----------------------------------------------------------------------------------

    async def _acquire_lease(self, session_id: str, holder: str, ttl_us: int, now_us: int) -> Lease:
        folder = self._session(session_id)

        def acquire(header: SessionRecord, _: MessageLog) -> Lease:
            lease = granted(BACKEND, session_id, header.lease, holder=holder, ttl_us=ttl_us, now_us=now_us)
            folder.write_header(attrs.evolve(header, lease=lease))
            return lease

        return await self._with_log(session_id, "lease", now_us, acquire)

    async def _release_lease(self, session_id: str, fence: int, now_us: int) -> bool:
        folder = self._session(session_id)

        def release(header: SessionRecord, _: MessageLog) -> bool:
            if _fence(header) != fence or header.lease is None:
                return False
            folder.write_header(attrs.evolve(header, lease=attrs.evolve(header.lease, until_us=now_us)))
            return True

        try:
            return await self._with_log(session_id, "lease", now_us, release)
        except SessionNotFoundError:
            return False

    # -- messages --------------------------------------------------------------------------------

    async def _append_messages(self, append: Append) -> AppendReceipt:
        session_id, messages = append.session_id, append.messages

        def write(header: SessionRecord, log: MessageLog) -> AppendReceipt:
            stored = log.find([message.message_id for message in messages])
            if receipt := replay_receipt(BACKEND, messages, stored):
                return receipt
            check_fence(BACKEND, session_id, append.fence, _fence(header))
            if append.expected_last is not None and append.expected_last != log.last:
                raise self._position_conflict(session_id, append.expected_last, log.last)
            log.append(messages, append.now_us)
            return AppendReceipt(first_position=log.last + 1, last_position=log.last + len(messages))

        return await self._with_log(session_id, "append to", append.now_us, write)

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        def read(_: SessionRecord, log: MessageLog) -> list[MessageRecord]:
            return log.read(*_bounds(span, log.last))

        return await self._with_log(session_id, "read", now_us, read, writing=False)

    async def _find_message(self, session_id: str, message_id: str, now_us: int) -> MessageRecord | None:
        def find(_: SessionRecord, log: MessageLog) -> MessageRecord | None:
            position = log.find([message_id]).get(message_id)
            return log.read(position, position)[0] if position else None

        try:
            return await self._with_log(session_id, "read", now_us, find, writing=False)
        except SessionNotFoundError:
            return None

    async def _replace_tail(self, tail: Tail) -> TailReceipt:
        folder = self._session(tail.session_id)

        def replace(header: SessionRecord, log: MessageLog) -> TailReceipt:
            stored = log.find([message.message_id for message in tail.messages])
            number = changes[-1].number if (changes := log.changes()) else 0
            if receipt := tail.replayed(BACKEND, log.last, stored, latest_change=number, latest_fence=_fence(header)):
                return receipt
            removed = log.read(tail.after + 1, log.last)
            if not removed and not tail.messages:
                self._touch(folder, header, log, tail.now_us)
            log.replace_tail(tail.after, tail.messages, tail.now_us)
            return TailReceipt(removed=removed, last_position=tail.after + len(tail.messages))

        return await self._with_log(tail.session_id, "replace messages of", tail.now_us, replace)

    async def _read_turn(self, session_id: str, newest: int, now_us: int) -> TurnRecords | None:
        path = self._store.session(session_id)

        def read(header: SessionRecord, log: MessageLog) -> TurnRecords:
            return TurnRecords(
                session=dated(header, log).of_turn(),
                memories=MemoryFolder(path, self._store).entries(now_us),
                messages=log.read(max(1, log.last - newest + 1), log.last),
            )

        try:
            return await self._with_log(session_id, "read", now_us, read, writing=False)
        except SessionNotFoundError:
            return None

    @staticmethod
    def _touch(folder: SessionFolder, header: SessionRecord, log: MessageLog, now_us: int) -> None:
        """Write the time of a call that changes no message into the header."""
        updated_at_us = max(header.updated_at_us, log.at_us, now_us)
        folder.write_header(attrs.evolve(header, updated_at_us=updated_at_us))

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        folder = self._session(session_id)

        def truncate(header: SessionRecord, log: MessageLog) -> int:
            removed = log.truncate(after, now_us)
            if not removed:
                self._touch(folder, header, log, now_us)
            return removed

        return await self._with_log(session_id, "truncate", now_us, truncate)

    async def _update_message(self, update: MessageUpdate) -> bool:
        def write(_: SessionRecord, log: MessageLog) -> bool:
            return log.update(update.rewrite, update.brief, update.index)

        try:
            return await self._with_log(update.session_id, "update a message of", update.now_us, write)
        except SessionNotFoundError:
            return False

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        return await self._rewrite(session_id, tuple(changes), now_us)  # the caller may change its list

    async def _read_index(self, session_id: str, span: MessageRange, now_us: int) -> list[IndexRecord]:
        def read(_: SessionRecord, log: MessageLog) -> list[IndexRecord]:
            return log.read_index(*_bounds(span, log.last))

        return await self._with_log(session_id, "read", now_us, read, writing=False)

    async def _rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite], now_us: int) -> int:
        return await self._rewrite(session_id, changes, now_us)

    async def _rewrite(self, session_id: str, changes: Sequence[PayloadRewrite | IndexRewrite], now_us: int) -> int:
        try:
            return await self._with_log(session_id, "rewrite", now_us, lambda _, log: log.rewrite(changes))
        except SessionNotFoundError:
            return 0

    # -- memory ----------------------------------------------------------------------------------

    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]:
        def make(memories: MemoryFolder) -> list[MemoryRecord] | None:
            return memories.change(change)

        stored = await self._with_memories(change.scope, "remember for", change.now_us, make, absent=None)
        if stored is None:
            raise self._not_found(change.scope.owner_id)
        return stored

    async def _touch_memories(
        self, scope: MemoryScope, keys: Sequence[str], expires_at_us: int | None, now_us: int
    ) -> int:
        return await self._with_memories(
            scope, "remember for", now_us, lambda memories: memories.touch(keys, expires_at_us, now_us), absent=0
        )

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        return await self._with_memories(
            scope, "recall for", now_us, lambda memories: memories.find(key, now_us), absent=None, writing=False
        )

    async def _list_memories(self, scope: MemoryScope, query: MemoryQuery | None, now_us: int) -> list[MemoryRecord]:
        def read(memories: MemoryFolder) -> list[MemoryRecord]:
            entries = memories.entries(now_us, query)
            return entries if query is None else query.page(entries)

        return await self._with_memories(scope, "recall for", now_us, read, absent=[], writing=False)

    async def _list_memory_owners(self, prefix: str, after: str | None, limit: int, now_us: int) -> list[str]:
        def owners() -> list[str]:
            return memory_owners(self._store, prefix, after, limit, now_us)

        return await self._run("list users", owners, writing=False)

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        return await self._with_memories(
            scope, "forget for", now_us, lambda memories: memories.delete(key, now_us), absent=False
        )

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        return await self._with_memories(scope, "forget for", now_us, lambda memories: memories.clear(now_us), absent=0)

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        return await self._with_memories(
            scope, "rewrite for", now_us, lambda memories: memories.rewrite(key, old, new, now_us), absent=False
        )

    async def _purge_expired(self, now_us: int) -> Purged:
        return await self._run("purge the store", lambda: purge(self._store, now_us))


def _fence(header: SessionRecord) -> int:
    """Return the fence of the latest lease; 0: there was none."""
    return 0 if header.lease is None else header.lease.fence


def _bounds(span: MessageRange, last: int) -> tuple[int, int]:
    """Return the first and the last position of a range; the first is above the last if it is empty."""
    first, last = max(0, span.after) + 1, last if span.before is None else min(last, span.before - 1)
    if span.limit is not None and span.newest:
        first = max(first, last - span.limit + 1)
    elif span.limit is not None:
        last = min(last, first + span.limit - 1)
    return first, last


def _release_later(turn: asyncio.Lock, loop: asyncio.AbstractEventLoop, _: Future[Any]) -> None:
    with suppress(RuntimeError):  # the loop is closed, and no call waits
        loop.call_soon_threadsafe(turn.release)


def _new_pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="luminora-files")
