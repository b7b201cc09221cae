"""Sessions that are written only when they are told to be (``auto_save=False``)."""

from collections.abc import Callable

import attrs

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.adapters.wrappers.pages import merged_page
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.deferred_writes import DeferredWriteStorage
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    Page,
    Purged,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import SessionLocks
from luminoracore_sdk.domain.errors import ConflictError

__all__ = ["DeferredWriteWrapper"]


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


class DeferredWriteWrapper(StorageWrapper, DeferredWriteStorage):
    """Keeps back the writes of held sessions in memory; hands on those of all others.

    Deleting a held session deletes it below too, at once. Memory of users is never held. A write to the
    memory of a session that ``wanted`` names begins to hold it.

    Args:
        base: The storage below.
        clock: For stamps of held records.
        wanted: Whether a session is one to hold; by default none is, unless ``hold`` is called.
    """

    def __init__(
        self,
        base: SessionStorage,
        *,
        clock: Clock | None = None,
        wanted: Callable[[SessionRecord], bool] = lambda _: False,
    ) -> None:
        super().__init__(base)
        self._wanted = wanted
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

    def _target(self, session_id: str) -> SessionStorage:
        return self._staging if session_id in self._held else self.base

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
        """Keep this session's writes back from now on; see ``DeferredWriteStorage.hold``."""
        async with self._locks.of(session_id):
            if session_id not in self._held:
                self._held[session_id] = await self._staged(session_id)

    async def release(self, session_id: str) -> None:
        """Hold a session no more; see ``DeferredWriteStorage.release``."""
        async with self._locks.of(session_id):
            if self._held.pop(session_id, None) is not None:
                await self._staging.delete_session(session_id)

    async def _staged(self, session_id: str) -> _Held:
        record = await self.base.find_session(session_id)
        if record is None:
            return _Held()
        last = record.last_position
        messages = [message async for message in self.base.stream_messages(session_id, before=last + 1)]
        memories = await self.base.list_memories(MemoryScope("session", session_id))
        self._staging.adopt(record, messages, memories)
        return _Held(
            version=record.version,
            position=last,
            floor=last,
            memories={memory.key: memory for memory in memories},
            staged_version=record.version,
        )

    async def unsaved(self) -> list[str]:
        """Return the ids of held sessions with something that is not written yet."""
        return [session_id for session_id in self._held if await self._is_unsaved(session_id)]

    async def _is_unsaved(self, session_id: str) -> bool:
        held = self._held[session_id]
        record = await self._staging.find_session(session_id)
        if record is None:
            return False
        saved = (held.staged_version, held.position, held.position)
        if (record.version, record.last_position, held.floor) != saved:
            return True
        return await self._staged_memories(session_id) != held.memories

    async def _staged_memories(self, session_id: str) -> dict[str, MemoryRecord]:
        memories = await self._staging.list_memories(MemoryScope("session", session_id))
        return {memory.key: memory for memory in memories}

    async def flush(self, session_id: str) -> None:
        """Write what was kept back of one session; see ``DeferredWriteStorage.flush``."""
        async with self._locks.of(session_id):
            await self._flush(session_id)

    async def _flush(self, session_id: str) -> None:
        held = self._held.get(session_id)
        record = await self._staging.find_session(session_id) if held else None
        if held is None or record is None:
            return
        if record.ttl_us is not None and not await self.base.session_exists(session_id):
            held = self._held[session_id] = _Held()  # it expired below while it lived on here
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
        while True:
            span = MessageRange(after=held.position, limit=MAX_BATCH)
            batch = await self._staging.read_messages(session_id, span)
            if not batch:
                return
            receipt = await self.base.append_messages(session_id, batch, expected_last=held.position)
            held.position = held.floor = receipt.last_position

    async def _flush_memories(self, scope: MemoryScope, held: _Held) -> None:
        staged = await self._staged_memories(scope.owner_id)
        for key in sorted(held.memories.keys() - staged.keys()):
            await self.base.delete_memory(scope, key)
            del held.memories[key]
        for key, memory in staged.items():
            if held.memories.get(key) != memory:
                await self.base.put_memory(memory)
                held.memories[key] = memory

    # -- sessions --------------------------------------------------------------------------------

    async def delete_session(self, session_id: str) -> bool:
        """Delete here and below; see ``SessionStorage.delete_session``."""
        async with self._locks.of(session_id):
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
        others = tuple(record for record in below.sessions if record.session_id not in self._held)
        return merged_page((attrs.evolve(below, sessions=others), here), query)

    # -- messages and memory ---------------------------------------------------------------------

    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Truncate here or below; see ``SessionStorage.truncate_messages``."""
        if session_id not in self._held:
            return await self.base.truncate_messages(session_id, after=after)
        async with self._locks.of(session_id):  # not in the middle of a flush
            removed = await super().truncate_messages(session_id, after=after)
            if held := self._held.get(session_id):
                held.floor = min(held.floor, after)
            return removed

    async def put_memory(self, record: MemoryRecord, *, max_entries: int | None = None) -> MemoryRecord:
        """Put here or below; see ``SessionStorage.put_memory``."""
        await self._hold_if_wanted(record.scope)
        return await super().put_memory(record, max_entries=max_entries)

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete here or below; see ``SessionStorage.delete_memory``."""
        await self._hold_if_wanted(scope)
        return await super().delete_memory(scope, key)

    async def clear_memories(self, scope: MemoryScope) -> int:
        """Clear here or below; see ``SessionStorage.clear_memories``."""
        await self._hold_if_wanted(scope)
        return await super().clear_memories(scope)

    async def _hold_if_wanted(self, scope: MemoryScope) -> None:
        if scope.kind != "session" or scope.owner_id in self._held:
            return
        record = await self.base.find_session(scope.owner_id)
        if record is not None and self._wanted(record):
            await self.hold(scope.owner_id)

    async def purge_expired(self) -> Purged:
        """Purge here and below; what is held counts where it is."""
        below = await self.base.purge_expired()
        here = await self._staging.purge_expired()
        return Purged(sessions=below.sessions + here.sessions, memories=below.memories + here.memories)
