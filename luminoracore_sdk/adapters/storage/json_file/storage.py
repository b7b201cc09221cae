"""The JSON files backend: a folder of readable files, safe between threads and processes."""

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

import attrs

from luminoracore_sdk.adapters.storage.base import BaseStorage
from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.json_file.io import BACKEND
from luminoracore_sdk.adapters.storage.json_file.queue import AppendQueue
from luminoracore_sdk.adapters.storage.json_file.store import FileStore
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import CorruptRecordError, SessionNotFoundError, StorageClosedError

__all__ = ["JSONFileStorage"]

_THREADS = 16

P = ParamSpec("P")
T = TypeVar("T")


class JSONFileStorage(BaseStorage):
    """Keeps sessions in a folder: a header file and an append-only log of JSON lines for each.

    Any number of tasks, event loops, threads and processes of one machine may use the folder at the
    same time. Where everything lies is told in ``json_file_layout``. A write is on the disk when its
    call returns. Files are for their owner alone: mode 0600, in folders of 0700.

    Args:
        directory: The store's folder; made when missing.
        clock: Tells the time; the computer's own when None.
        lock_timeout: Longest wait in seconds for another writer of the same session; above it
            ``StorageBusyError``.
        fsync: False: writes do not wait for the disk. Faster; what was written last survives the end
            of the process, but maybe not that of the machine.

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
        self._store = FileStore(directory, lock_timeout=lock_timeout, fsync=fsync)
        self._lock_timeout = lock_timeout
        self._pool: ThreadPoolExecutor | None = None
        self._appends: AppendQueue | None = None

    # -- life ------------------------------------------------------------------------------------

    async def _open(self) -> None:
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="luminora-files")
        try:
            await asyncio.get_running_loop().run_in_executor(pool, self._store.prepare)
        except BaseException:
            pool.shutdown(wait=False)
            raise
        self._pool = pool
        self._appends = AppendQueue(pool, workers=_THREADS, timeout=self._lock_timeout, write=self._store.append)

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        appends, self._appends = self._appends, None
        if appends is not None:
            appends.close()
        if pool is not None:
            await asyncio.get_running_loop().run_in_executor(None, pool.shutdown)
        if appends is not None:
            appends.end()
        self._store.close()

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do file work on a thread; once begun it ends, whether or not the caller still waits."""
        if self._pool is None:  # closed since this call began
            raise StorageClosedError(BACKEND)
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **kwargs))

    async def _ping(self) -> None:
        await self._run(self._store.schema_version)

    async def _schema_version(self) -> int:
        return await self._run(self._store.schema_version)

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        return await self._run(self._put, record, expected_version, now_us)

    def _put(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        with self._store.session(record.session_id, "write", writing=True) as folder:
            stored = folder.current(now_us)
            version = stored.version if stored else 0
            if expected_version is not None and expected_version != version:
                raise self._version_conflict(record.session_id, expected_version, version)
            header = attrs.evolve(
                record,
                created_at_us=stored.created_at_us if stored else record.created_at_us or now_us,
                updated_at_us=max(stored.updated_at_us, now_us) if stored else now_us,
                version=version + 1,
                last_position=stored.last_position if stored else 0,
            )
            if stored:
                folder.write_header(header)
            else:
                self._store.discard(folder.path)  # an expired one
                folder.create(header, self._store.layout.root)
            return header

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        return await self._run(self._find, session_id, now_us)

    def _find(self, session_id: str, now_us: int) -> SessionRecord | None:
        try:
            with self._store.messages(session_id, "read", now_us, writing=False) as (header, _, log):
                updated_at_us = max(header.updated_at_us, log.at_us)
                return attrs.evolve(header, updated_at_us=updated_at_us, last_position=log.last)
        except SessionNotFoundError:
            return None

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        return await self._run(self._delete, session_id, now_us)

    def _delete(self, session_id: str, now_us: int) -> bool:
        with self._store.session(session_id, "delete", writing=True) as folder:
            try:
                was_there = folder.current(now_us) is not None
            except CorruptRecordError:  # deleting is the way to be rid of it
                was_there = True
            self._store.discard(folder.path)
            return was_there

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        return await self._run(self._store.query, query, now_us)

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        return await self._run(self._rewrite, session_id, old, new, now_us)

    def _rewrite(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        with self._store.session(session_id, "rewrite", writing=True) as folder:
            header = folder.current(now_us)
            if header is None or header.payload != old:
                return False
            folder.write_header(attrs.evolve(header, payload=new))
            return True

    # -- messages --------------------------------------------------------------------------------

    async def _append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        expected_last: int | None,
        now_us: int,
    ) -> AppendReceipt:
        if self._appends is None:  # closed since this call began
            raise StorageClosedError(BACKEND)
        return await self._appends.put(Append(session_id, messages, expected_last, now_us))

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        return await self._run(self._read, session_id, span, now_us)

    def _read(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        with self._store.messages(session_id, "read", now_us, writing=False) as (_, _, log):
            first = max(0, span.after) + 1
            last = log.last if span.before is None else min(log.last, span.before - 1)
            if span.limit is not None and span.newest:
                first = max(first, last - span.limit + 1)
            elif span.limit is not None:
                last = min(last, first + span.limit - 1)
            return log.read(first, last)

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        return await self._run(self._truncate, session_id, after, now_us)

    def _truncate(self, session_id: str, after: int, now_us: int) -> int:
        with self._store.messages(session_id, "truncate", now_us, writing=True) as (header, folder, log):
            updated_at_us = max(header.updated_at_us, log.at_us, now_us)
            folder.write_header(attrs.evolve(header, updated_at_us=updated_at_us))
            return log.truncate(after)

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        return await self._run(self._rewrite_log, session_id, tuple(changes), now_us)

    def _rewrite_log(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        try:
            with self._store.messages(session_id, "rewrite", now_us, writing=True) as (_, _, log):
                return log.rewrite(changes)
        except SessionNotFoundError:
            return 0

    # -- memory ----------------------------------------------------------------------------------

    async def _put_memory(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        return await self._run(self._remember, record, max_entries, now_us)

    def _remember(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        with self._store.memories(record.scope, "remember for", now_us, writing=True) as memories:
            if memories is None:
                raise self._not_found(record.scope.owner_id)
            return memories.put(record, max_entries, now_us, self._store.layout.root)

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        return await self._run(self._recall, scope, key, now_us)

    def _recall(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        with self._store.memories(scope, "recall for", now_us, writing=False) as memories:
            return memories.find(key, now_us) if memories else None

    async def _list_memories(self, scope: MemoryScope, now_us: int) -> list[MemoryRecord]:
        return await self._run(self._recall_all, scope, now_us)

    def _recall_all(self, scope: MemoryScope, now_us: int) -> list[MemoryRecord]:
        with self._store.memories(scope, "recall for", now_us, writing=False) as memories:
            return memories.entries(now_us) if memories else []

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        return await self._run(self._rewrite_one, scope, key, old, new, now_us)

    def _rewrite_one(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        with self._store.memories(scope, "rewrite for", now_us, writing=True) as memories:
            return memories.rewrite(key, old, new, now_us) if memories else False

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        return await self._run(self._forget, scope, key, now_us)

    def _forget(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        with self._store.memories(scope, "forget for", now_us, writing=True) as memories:
            return memories.delete(key, now_us) if memories else False

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        return await self._run(self._forget_all, scope, now_us)

    def _forget_all(self, scope: MemoryScope, now_us: int) -> int:
        with self._store.memories(scope, "forget for", now_us, writing=True) as memories:
            return memories.clear(now_us, self._store.layout.trash) if memories else 0

    async def _purge_expired(self, now_us: int) -> Purged:
        return await self._run(self._store.purge, now_us)
