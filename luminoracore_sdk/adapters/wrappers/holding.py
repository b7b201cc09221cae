"""Sessions that are written only when they are told to be (``auto_save=False``)."""

from collections.abc import Sequence
from heapq import merge

import attrs

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.locks import SessionLocks
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.drafts import DraftStorage
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Purged,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError

__all__ = ["HoldingStorage"]

_BATCH = 1000


@attrs.define
class _Held:
    """What the store below has of a held session, as far as we know.

    Attributes:
        version: Of the stored header; 0: there is none.
        position: Of the newest message stored.
        floor: Positions up to this one are the same here and below; less than ``position`` after a
            truncate that is not written yet.
        memories: The stored memories.
        staged_version: Version of the staged header when the two were last the same.
    """

    version: int = 0
    position: int = 0
    floor: int = 0
    memories: dict[str, MemoryRecord] = attrs.field(factory=dict)
    staged_version: int = 0


class HoldingStorage(StorageWrapper, DraftStorage):
    """Keeps back the writes of held sessions in memory; hands on those of all others.

    Deleting a held session deletes it below too, at once. Memory of users is never held.

    Args:
        base: The storage below.
        clock: For stamps of held records.
    """

    def __init__(self, base: SessionStorage, *, clock: Clock | None = None) -> None:
        super().__init__(base)
        self._staging = InMemoryStorage(clock=clock)
        self._held: dict[str, _Held] = {}
        self._locks = SessionLocks()

    @property
    def stored(self) -> SessionStorage:
        """The storage below."""
        return self.base

    def is_held(self, session_id: str) -> bool:
        """Tell whether a session's writes are kept back."""
        return session_id in self._held

    def _place(self, session_id: str) -> SessionStorage:
        return self._staging if session_id in self._held else self.base

    def _memory_place(self, scope: MemoryScope) -> SessionStorage:
        return self._place(scope.owner_id) if scope.kind == "session" else self.base

    async def close(self) -> None:
        """Close the storage below; what is held and not flushed is gone."""
        self._held.clear()
        await self._staging.close()
        await self.base.close()

    async def open(self) -> None:
        """Open the storage below."""
        await self._staging.open()
        await self.base.open()

    # -- holding ---------------------------------------------------------------------------------

    async def hold(self, session_id: str) -> None:
        """Keep this session's writes back from now on; see ``DraftStorage.hold``."""
        async with self._locks.of(session_id):
            if session_id not in self._held:
                self._held[session_id] = await self._staged(session_id)

    async def _staged(self, session_id: str) -> _Held:
        record = await self.base.find_session(session_id)
        held = _Held()
        if record is not None:
            staged = await self._staging.put_session(record)
            last = record.last_position
            held = _Held(record.version, last, last, staged_version=staged.version)
            await self._stage_messages(session_id, before=record.last_position + 1)
            for memory in await self.base.list_memories(MemoryScope("session", session_id)):
                held.memories[memory.key] = await self._staging.put_memory(memory)
        return held

    async def _stage_messages(self, session_id: str, *, before: int) -> None:
        batch: list[MessageRecord] = []
        async for message in self.base.stream_messages(session_id, before=before):
            batch.append(message)
            if len(batch) == _BATCH:
                await self._staging.append_messages(session_id, batch)
                batch = []
        if batch:
            await self._staging.append_messages(session_id, batch)

    async def unsaved(self) -> list[str]:
        """Return the ids of held sessions with something that is not written yet."""
        return [session_id for session_id in self._held if await self._is_unsaved(session_id)]

    async def _is_unsaved(self, session_id: str) -> bool:
        held = self._held[session_id]
        record = await self._staging.find_session(session_id)
        if record is None:
            return False
        saved = (held.staged_version, held.position, held.position)
        return (record.version, record.last_position, held.floor) != saved

    async def flush(self, session_id: str) -> None:
        """Write what was kept back of one session; see ``DraftStorage.flush``."""
        async with self._locks.of(session_id):
            await self._flush(session_id)

    async def _flush(self, session_id: str) -> None:
        held = self._held.get(session_id)
        record = await self._staging.find_session(session_id) if held else None
        if held is None or record is None:
            return
        if record.version != held.staged_version:
            stored = await self.base.put_session(record, expected_version=held.version)
            held.version, held.staged_version = stored.version, record.version
        if held.floor < held.position:
            await self._flush_truncation(session_id, held)
        await self._flush_messages(session_id, held)
        await self._flush_memories(MemoryScope("session", session_id), held)

    async def _flush_truncation(self, session_id: str, held: _Held) -> None:
        stored = await self.base.find_session(session_id)
        last = stored.last_position if stored else 0
        if last != held.position:
            raise ConflictError(
                backend=self.backend,
                key=f"session {session_id!a}",
                expected=f"last position {held.position}",
                actual=f"last position {last}",
            )
        await self.base.truncate_messages(session_id, after=held.floor)
        held.position = held.floor

    async def _flush_messages(self, session_id: str, held: _Held) -> None:
        unsaved = self._staging.stream_messages(session_id, after=held.position, chunk=_BATCH)
        batch: list[MessageRecord] = []
        async for message in unsaved:
            batch.append(message)
            if len(batch) == _BATCH:
                await self._flush_batch(session_id, held, batch)
                batch = []
        if batch:
            await self._flush_batch(session_id, held, batch)

    async def _flush_batch(self, session_id: str, held: _Held, batch: list[MessageRecord]) -> None:
        receipt = await self.base.append_messages(session_id, batch, expected_last=held.position)
        held.position = held.floor = receipt.last_position

    async def _flush_memories(self, scope: MemoryScope, held: _Held) -> None:
        staged = {memory.key: memory for memory in await self._staging.list_memories(scope)}
        for key in held.memories.keys() - staged.keys():
            await self.base.delete_memory(scope, key)
            del held.memories[key]
        for key, memory in staged.items():
            if held.memories.get(key) != memory:
                await self.base.put_memory(memory)
                held.memories[key] = memory

    # -- sessions --------------------------------------------------------------------------------

    async def put_session(
        self, record: SessionRecord, *, expected_version: int | None = None
    ) -> SessionRecord:
        """Put here or below; see ``SessionStorage.put_session``."""
        place = self._place(record.session_id)
        return await place.put_session(record, expected_version=expected_version)

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Find here or below; see ``SessionStorage.find_session``."""
        return await self._place(session_id).find_session(session_id)

    async def delete_session(self, session_id: str) -> bool:
        """Delete here and below; see ``SessionStorage.delete_session``."""
        below = await self.base.delete_session(session_id)
        if self._held.pop(session_id, None) is None:
            return below
        return await self._staging.delete_session(session_id) or below

    async def query_sessions(self, query: SessionQuery) -> Page:
        """List what is below together with what is held; see ``SessionStorage.query_sessions``."""
        below = await self.base.query_sessions(query)
        if not self._held:
            return below
        here = await self._staging.query_sessions(query)
        others = [record for record in below.sessions if record.session_id not in self._held]
        merged = list(merge(here.sessions, others, key=_place_in_time, reverse=query.newest_first))
        # Beyond the end of a page that has a successor there may be sessions that nobody has seen yet.
        ends = [page.next_cursor for page in (here, below) if page.next_cursor is not None]
        if ends:
            end = max(ends) if query.newest_first else min(ends)
            merged = [record for record in merged if not _is_beyond(record, end, query.newest_first)]
        else:
            end = None
        if len(merged) > query.limit:
            merged = merged[: query.limit]
            end = _place_in_time(merged[-1])
        return Page(sessions=tuple(merged), next_cursor=end)

    # -- messages and memory ---------------------------------------------------------------------

    async def append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], *, expected_last: int | None = None
    ) -> AppendReceipt:
        """Append here or below; see ``SessionStorage.append_messages``."""
        place = self._place(session_id)
        return await place.append_messages(session_id, messages, expected_last=expected_last)

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Read here or below; see ``SessionStorage.read_messages``."""
        return await self._place(session_id).read_messages(session_id, span)

    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Truncate here or below; see ``SessionStorage.truncate_messages``."""
        removed = await self._place(session_id).truncate_messages(session_id, after=after)
        if held := self._held.get(session_id):
            held.floor = min(held.floor, after)
        return removed

    async def put_memory(self, record: MemoryRecord, *, max_entries: int | None = None) -> MemoryRecord:
        """Put here or below; see ``SessionStorage.put_memory``."""
        return await self._memory_place(record.scope).put_memory(record, max_entries=max_entries)

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Find here or below; see ``SessionStorage.find_memory``."""
        return await self._memory_place(scope).find_memory(scope, key)

    async def list_memories(self, scope: MemoryScope) -> list[MemoryRecord]:
        """List here or below; see ``SessionStorage.list_memories``."""
        return await self._memory_place(scope).list_memories(scope)

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete here or below; see ``SessionStorage.delete_memory``."""
        return await self._memory_place(scope).delete_memory(scope, key)

    async def clear_memories(self, scope: MemoryScope) -> int:
        """Clear here or below; see ``SessionStorage.clear_memories``."""
        return await self._memory_place(scope).clear_memories(scope)

    async def purge_expired(self) -> Purged:
        """Purge here and below; what is held counts where it is."""
        below = await self.base.purge_expired()
        here = await self._staging.purge_expired()
        return Purged(sessions=below.sessions + here.sessions, memories=below.memories + here.memories)


def _place_in_time(record: SessionRecord) -> tuple[int, str]:
    return record.created_at_us, record.session_id


def _is_beyond(record: SessionRecord, end: tuple[int, str], newest_first: bool) -> bool:  # noqa: FBT001
    place = _place_in_time(record)
    return place < end if newest_first else place > end
