"""Sessions that are written on request only (``auto_save=False``)."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import attrs

from luminoracore_sdk.adapters.clock import SystemClock
from luminoracore_sdk.adapters.storage.base import check_position
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper, read_message
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.deferred_writes import DeferredWriteStorage
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    AppendReceipt,
    IndexRewrite,
    Lease,
    MemoryPut,
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
    with_indexes,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import SessionLocks, merged_page
from luminoracore_sdk.application.tombstones import is_erased, tombstone_of
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError
from luminoracore_sdk.domain.message import MessageRole
from luminoracore_sdk.domain.values import check_id, to_microseconds

__all__ = ["DeferredWriteWrapper"]


@attrs.define
class _Stored:
    """What the storage below is known to have of a deferred session.

    Attributes:
        version: The version of the stored header; 0: none is stored.
        position: The position of the newest stored message.
        floor: Messages up to this position are equal here and below; less than ``position`` after a
            truncation that is not written yet.
        memories: The stored memories by key.
        staged_version: The version of the staged header when both were last equal.
        updated: Positions up to ``floor`` whose payload was changed here since, and the payloads that may be
            below: the one before the change, and those of flushes whose answers were lost.
        adds: What messages have added to the counters here that were removed before they were written.
        sent: Those of ``adds`` that the latest call has brought, whose answer may be lost.
        put: The staged header of the latest flush, if its answer was lost.
        is_leased_here: Whether the latest lease was given here, because there was no session below.
        user_id: The user of the session.
        erasure: The tombstone of the user when the session was staged.
    """

    version: int = 0
    position: int = 0
    floor: int = 0
    memories: dict[str, MemoryRecord] = attrs.field(factory=dict)
    staged_version: int = 0
    updated: dict[int, list[Payload]] = attrs.field(factory=dict)
    adds: dict[str, int] = attrs.field(factory=dict)
    sent: dict[str, int] = attrs.field(factory=dict)
    put: SessionRecord | None = None
    is_leased_here: bool = False
    user_id: str | None = None
    erasure: Payload | None = None

    def cut(self, after: int, removed: Sequence[MessageRecord]) -> None:
        """Note that messages above a position were removed here."""
        for message in removed:
            if message.position > self.floor:
                self.adds = _sums(self.adds, message.adds)
        self.floor = min(self.floor, after)
        self.updated = {position: old for position, old in self.updated.items() if position <= self.floor}

    def with_adds(self, batch: Sequence[MessageRecord]) -> list[MessageRecord]:
        """Return a batch that brings what removed messages have added, too."""
        self.sent = self.adds if batch else {}
        return [attrs.evolve(batch[0], adds=_sums(self.adds, batch[0].adds)), *batch[1:]] if batch else []

    def put_done(self, version: int, record: SessionRecord) -> None:
        """Note that a staged header is stored below, as a version."""
        self.version, self.staged_version, self.put = version, record.version, None
        self._settle()

    def wrote(self, last: int) -> None:
        """Note that a batch is stored below, up to a position."""
        self.position = self.floor = last
        self._settle()

    def _settle(self) -> None:
        left = {name: number - self.sent.get(name, 0) for name, number in self.adds.items()}
        self.adds, self.sent = {name: number for name, number in left.items() if number}, {}


def _sums(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in (*one, *other)}


def _content(header: SessionRecord) -> tuple[object, ...]:
    return header.payload, header.card, header.user_id, header.tags, header.ttl_us


def _begins_with(batch: Sequence[MessageRecord], below: Sequence[MessageRecord]) -> bool:
    """Return whether what is stored below is the beginning of a batch, and not nothing."""
    return bool(below) and list(below) == list(batch[: len(below)])


class DeferredWriteWrapper(StorageWrapper, DeferredWriteStorage):
    """Stage the writes of deferred sessions in memory; pass on those of all others.

    Deleting a deferred session deletes it below too, at once. The memories of users are never deferred, and leases
    only until the session is stored below. The versions of deferred memories count the puts here; a flush is one put
    below. A write to the memory of a session defers that session if ``wanted`` says so.

    Args:
        base: The storage below.
        clock: Tells the time for staged records.
        wanted: Whether to defer a session when its memory is written; by default never.
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
        self._clock = clock or SystemClock()
        self._staging = InMemoryStorage(clock=clock)
        self._deferred: dict[str, _Stored] = {}
        self._locks = SessionLocks()

    @property
    def stored(self) -> SessionStorage:
        """The storage below."""
        return self.base

    def is_deferred(self, session_id: str) -> bool:
        """Return whether the writes of a session are deferred."""
        return check_id(session_id) in self._deferred

    def _target(self, session_id: str) -> SessionStorage:
        return self._staging if check_id(session_id) in self._deferred else self.base

    async def open(self) -> None:
        """Open the storage below."""
        await self._staging.open()
        await self.base.open()

    async def close(self) -> None:
        """Close the storage below; unflushed writes are dropped."""
        self._deferred.clear()
        await self._staging.close()
        await self.base.close()

    # -- deferring and flushing ------------------------------------------------------------------

    async def defer(self, session_id: str) -> None:
        """Defer the writes of a session from now on; see ``DeferredWriteStorage.defer``."""
        async with self._locks.of(session_id).hold():
            if session_id not in self._deferred:
                self._deferred[session_id] = await self._stage(session_id)

    async def release(self, session_id: str) -> None:
        """Stop deferring a session; see ``DeferredWriteStorage.release``."""
        async with self._locks.of(session_id).hold():
            if self._deferred.pop(session_id, None) is not None:
                await self._staging.delete_session(session_id)

    async def _stage(self, session_id: str) -> _Stored:
        """Copy a stored session into the staging area."""
        record = await self.base.find_session(session_id)
        if record is None:
            return _Stored()
        erasure = await self._erasure(record.user_id)
        last = record.last_position
        messages = [message async for message in self.base.stream_messages(session_id, before=last + 1)]
        messages = with_indexes(messages, await self.base.read_index(session_id, MessageRange(before=last + 1)))
        memories = await self.base.list_memories(MemoryScope("session", session_id))
        self._staging.adopt(record, messages, memories)
        return _Stored(
            version=record.version,
            position=last,
            floor=last,
            memories={memory.key: memory for memory in memories},
            staged_version=record.version,
            user_id=record.user_id,
            erasure=erasure,
        )

    async def _erasure(self, user_id: str | None) -> Payload | None:
        """Return the tombstone of a user."""
        return None if user_id is None else await tombstone_of(self.base, MemoryScope("user", user_id))

    async def unsaved(self) -> list[str]:
        """Return the ids of deferred sessions that have unflushed writes."""
        return [session_id for session_id in self._deferred if await self._is_unsaved(session_id)]

    async def _is_unsaved(self, session_id: str) -> bool:
        stored = self._deferred[session_id]
        record = await self._staging.find_session(session_id)
        if record is None:
            return False
        saved = (stored.staged_version, stored.position, stored.position)
        if (record.version, record.last_position, stored.floor) != saved or stored.updated:
            return True
        return await self._staged_memories(session_id) != stored.memories

    async def _staged_memories(self, session_id: str) -> dict[str, MemoryRecord]:
        memories = await self._staging.list_memories(MemoryScope("session", session_id))
        return {memory.key: memory for memory in memories}

    async def flush(self, session_id: str) -> None:
        """Write what was deferred of one session; see ``DeferredWriteStorage.flush``."""
        async with self._locks.of(session_id).hold():
            stored = self._deferred.get(check_id(session_id))
            record = await self._staging.find_session(session_id) if stored else None
            if stored is None or record is None:
                return
            if not await self._is_erased(stored):
                try:
                    await self._write(record, stored)
                except (ConflictError, SessionNotFoundError):
                    if not await self._is_erased(stored) and not await is_erased(self.base, session_id):
                        raise
                else:
                    if not await self._is_erased(stored):
                        return
                    await self.base.delete_session(session_id)
            del self._deferred[session_id]
            await self._staging.delete_session(session_id)

    async def _is_erased(self, stored: _Stored) -> bool:
        """Return whether the user of a session was erased since it was staged."""
        return await self._erasure(stored.user_id) not in (None, stored.erasure)

    async def _write(self, record: SessionRecord, stored: _Stored) -> None:
        session_id = record.session_id
        if record.ttl_us is not None and not await self.base.session_exists(session_id):
            if stored.version and await is_erased(self.base, session_id):
                raise SessionNotFoundError(session_id, backend=self.backend)
            # it expired below and not here
            stored = self._deferred[session_id] = _Stored(user_id=stored.user_id, erasure=stored.erasure)
        if stored.put is not None:
            found = await self.base.find_session(session_id)
            if found is not None and found.version == stored.version + 1 and _content(found) == _content(stored.put):
                stored.put_done(found.version, stored.put)  # by an earlier flush, whose answer was lost
        if record.version != stored.staged_version:
            stored.put = record
            stored.sent = {} if stored.version else stored.adds
            new = attrs.evolve(record, summary=attrs.evolve(record.summary, counters=stored.adds))
            header = await self.base.put_session(new, expected_version=stored.version)
            stored.put_done(header.version, record)
        if stored.floor < stored.position:
            await self._flush_tail(session_id, stored)
        await self._flush_updates(session_id, stored)
        await self._flush_messages(session_id, stored)
        await self._flush_memories(MemoryScope("session", session_id), stored)

    async def _flush_tail(self, session_id: str, stored: _Stored) -> None:
        """Replace what was removed here by what follows; in two steps if that has ids of what was removed."""
        batch = await self._staging.read_messages(session_id, MessageRange(after=stored.floor, limit=MAX_BATCH))
        below = await self.base.read_messages(session_id, MessageRange(after=stored.floor))
        if _begins_with(batch, below):  # by an earlier flush, whose answer was lost
            stored.wrote(below[-1].position)
            return
        if not below:  # likewise
            stored.wrote(stored.floor)
            return
        gone = {message.message_id for message in below}
        new = [] if any(message.message_id in gone for message in batch) else batch
        receipt = await self.base.replace_tail(
            session_id, after=stored.floor, messages=stored.with_adds(new), expected_last=stored.position
        )
        stored.wrote(receipt.last_position)

    async def _flush_updates(self, session_id: str, stored: _Stored) -> None:
        for position in sorted(stored.updated):
            staged = await read_message(self._staging, session_id, position)
            if staged is not None:
                below = await read_message(self.base, session_id, position)
                known = stored.updated[position]
                known.append(staged.payload)
                # the change of another writer, such as a redaction, must not be undone
                expected = below.payload if below is not None and below.payload in known else known[0]
                await self.base.update_message(
                    session_id,
                    position,
                    payload=staged.payload,
                    expected=expected,
                    brief=staged.brief,
                    index=staged.index,
                )
            del stored.updated[position]

    async def _flush_messages(self, session_id: str, stored: _Stored) -> None:
        while True:
            span = MessageRange(after=stored.position, limit=MAX_BATCH)
            batch = await self._staging.read_messages(session_id, span)
            if not batch:
                return
            try:
                receipt = await self.base.append_messages(
                    session_id, stored.with_adds(batch), expected_last=stored.position
                )
                last = receipt.last_position
            except ConflictError:
                below = await self.base.read_messages(session_id, MessageRange(after=stored.position))
                if not _begins_with(batch, below):
                    raise
                last = below[-1].position  # by an earlier flush, whose answer was lost; others have come since
            stored.wrote(last)

    async def _flush_memories(self, scope: MemoryScope, stored: _Stored) -> None:
        staged = await self._staged_memories(scope.owner_id)
        gone = sorted(stored.memories.keys() - staged.keys())
        changed = [MemoryPut(memory) for key, memory in staged.items() if stored.memories.get(key) != memory]
        while gone or changed:  # deletes first; what was changed in one step is written in one, up to MAX_BATCH keys
            deletes, gone = gone[:MAX_BATCH], gone[MAX_BATCH:]
            free = MAX_BATCH - len(deletes)
            puts, changed = changed[:free], changed[free:]
            await self.base.change_memories(scope, puts, deletes=deletes)
            for key in deletes:
                del stored.memories[key]
            stored.memories |= {put.record.key: put.record for put in puts}

    # -- sessions --------------------------------------------------------------------------------

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Put here or below; see ``SessionStorage.put_session``."""
        stored = self._deferred.get(record.session_id)
        if stored is not None and stored.user_id != record.user_id:  # it is new
            stored.user_id, stored.erasure = record.user_id, await self._erasure(record.user_id)
        return await super().put_session(record, expected_version=expected_version)

    async def delete_session(self, session_id: str) -> bool:
        """Delete here and below; see ``SessionStorage.delete_session``."""
        async with self._locks.of(session_id).hold():
            below = await self.base.delete_session(session_id)
            if self._deferred.pop(session_id, None) is None:
                return below
            return await self._staging.delete_session(session_id) or below

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        """Fork here or below; see ``SessionStorage.fork_session``. The fork of a deferred session is deferred too."""
        if not self.is_deferred(source_id):
            return await self.base.fork_session(source_id, record, at=at, rewrite=rewrite)
        session_id = record.session_id
        async with self._locks.of(session_id).hold():
            below = await self.base.find_session(session_id)
            if below is not None:
                raise ConflictError(
                    backend=self.backend,
                    key=f"session {session_id!a}",
                    expected="no such session",
                    actual=f"version {below.version}",
                )
            forked = await self._staging.fork_session(source_id, record, at=at, rewrite=rewrite)
            roles = {role.value for role in MessageRole}
            adds = {name: number for name, number in record.summary.counters.items() if name not in roles}
            erasure = await self._erasure(record.user_id)
            self._deferred[session_id] = _Stored(adds=adds, user_id=record.user_id, erasure=erasure)
            return forked

    async def query_sessions(self, query: SessionQuery) -> Page:
        """List stored and deferred sessions; see ``SessionStorage.query_sessions``."""
        below = await self.base.query_sessions(query)
        if not self._deferred:
            return below
        staged = await self._staging.query_sessions(query)
        others = tuple(record for record in below.sessions if record.session_id not in self._deferred)
        return merged_page((attrs.evolve(below, sessions=others), staged), query)

    # -- leases ----------------------------------------------------------------------------------

    async def acquire_lease(self, session_id: str, *, holder: str, ttl_us: int) -> Lease:
        """Acquire below, or here if the session is not stored yet; see ``SessionStorage.acquire_lease``."""
        stored = self._deferred.get(check_id(session_id))
        if stored is None:
            return await self.base.acquire_lease(session_id, holder=holder, ttl_us=ttl_us)
        stored.is_leased_here = not stored.version or (stored.is_leased_here and await self._is_leased(session_id))
        if stored.is_leased_here:
            return await self._staging.acquire_lease(session_id, holder=holder, ttl_us=ttl_us)
        lease = await self.base.acquire_lease(session_id, holder=holder, ttl_us=ttl_us)
        self._staging.adopt_lease(session_id, lease)
        return lease

    async def _is_leased(self, session_id: str) -> bool:
        header = await self._staging.find_session(session_id)
        lease = header.lease if header else None
        return lease is not None and lease.until_us > to_microseconds(self._clock.now())

    async def release_lease(self, session_id: str, *, fence: int) -> bool:
        """Release where it was acquired; see ``SessionStorage.release_lease``."""
        stored = self._deferred.get(check_id(session_id))
        if stored is None or stored.is_leased_here:
            return await super().release_lease(session_id, fence=fence)
        return await self.base.release_lease(session_id, fence=fence)

    async def _compare_fence(self, session_id: str, fence: int | None) -> None:
        """Bring the latest lease here, before a deferred write that depends on it."""
        stored = self._deferred.get(check_id(session_id))
        if fence is None or stored is None or stored.is_leased_here:
            return
        header = await self.base.find_session(session_id)
        if header is not None:
            self._staging.adopt_lease(session_id, header.lease)

    # -- messages and memory ---------------------------------------------------------------------

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Append here or below; see ``SessionStorage.append_messages``."""
        await self._compare_fence(session_id, fence)
        return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)

    async def read_turn(self, session_id: str, *, newest: int) -> TurnRecords | None:
        """Read here or below; see ``SessionStorage.read_turn``."""
        return await self._target(session_id).read_turn(session_id, newest=newest)

    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Truncate here or below; see ``SessionStorage.truncate_messages``."""
        if not self.is_deferred(session_id):
            return await self.base.truncate_messages(session_id, after=after)
        async with self._locks.of(session_id).hold():  # not during a flush
            if (stored := self._deferred.get(session_id)) is None:
                return await self.base.truncate_messages(session_id, after=after)
            check_position(after)
            staged = await self._staging.read_messages(session_id, MessageRange(after=max(after, stored.floor)))
            removed = await self._staging.truncate_messages(session_id, after=after)
            stored.cut(after, staged)
            return removed

    async def replace_tail(
        self,
        session_id: str,
        *,
        after: int,
        messages: Sequence[MessageRecord] = (),
        expected_last: int | None = None,
        expected_change: int | None = None,
        fence: int | None = None,
    ) -> TailReceipt:
        """Replace here or below; see ``SessionStorage.replace_tail``."""
        call = partial(
            super().replace_tail,
            after=after,
            messages=messages,
            expected_last=expected_last,
            expected_change=expected_change,
            fence=fence,
        )
        if not self.is_deferred(session_id):
            return await call(session_id)
        async with self._locks.of(session_id).hold():  # not during a flush
            await self._compare_fence(session_id, fence)
            receipt = await call(session_id)
            if (stored := self._deferred.get(session_id)) and not receipt.replayed:
                stored.cut(after, receipt.removed)
            return receipt

    async def update_message(
        self,
        session_id: str,
        position: int,
        *,
        payload: Payload,
        expected: Payload,
        brief: Payload | None = None,
        index: Payload | None = None,
    ) -> MessageRecord:
        """Update here or below; see ``SessionStorage.update_message``."""
        call = partial(super().update_message, payload=payload, expected=expected, brief=brief, index=index)
        if not self.is_deferred(session_id):
            return await call(session_id, position)
        async with self._locks.of(session_id).hold():  # not during a flush
            before = await read_message(self._staging, session_id, position)
            message = await call(session_id, position)
            stored = self._deferred.get(session_id)
            if stored and position <= stored.floor and before is not None and before.payload != message.payload:
                stored.updated.setdefault(position, [before.payload])
            return message

    async def rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite]) -> int:
        """Rewrite here, and at once below what is stored there; see ``SessionStorage.rewrite_index``."""
        changes = tuple(changes)  # the caller may change its list during the await
        if not self.is_deferred(session_id):
            return await self.base.rewrite_index(session_id, changes)
        async with self._locks.of(session_id).hold():  # not during a flush
            below = await self.base.rewrite_index(session_id, changes)
            return await self._staging.rewrite_index(session_id, changes) if session_id in self._deferred else below

    async def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        """Change here or below; see ``SessionStorage.change_memories``."""
        puts, deletes = tuple(puts), tuple(deletes)  # the caller may change its lists during the await
        await self._defer_if_wanted(scope)
        return await super().change_memories(scope, puts, deletes=deletes, max_entries=max_entries)

    async def touch_memories(self, scope: MemoryScope, keys: Sequence[str], *, expires_at_us: int | None) -> int:
        """Touch here or below; see ``SessionStorage.touch_memories``."""
        keys = tuple(keys)  # the caller may change its list during the await
        await self._defer_if_wanted(scope)
        return await super().touch_memories(scope, keys, expires_at_us=expires_at_us)

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete here or below; see ``SessionStorage.delete_memory``."""
        await self._defer_if_wanted(scope)
        return await super().delete_memory(scope, key)

    async def clear_memories(self, scope: MemoryScope) -> int:
        """Clear here or below; see ``SessionStorage.clear_memories``."""
        await self._defer_if_wanted(scope)
        return await super().clear_memories(scope)

    async def _defer_if_wanted(self, scope: MemoryScope) -> None:
        if scope.kind != "session" or self.is_deferred(scope.owner_id):
            return
        record = await self.base.find_session(scope.owner_id)
        if record is not None and self._wanted(record):
            await self.defer(scope.owner_id)

    async def purge_expired(self) -> Purged:
        """Purge here and below; an expired session that is deferred and stored counts twice."""
        below = await self.base.purge_expired()
        staged = await self._staging.purge_expired()
        return Purged(sessions=below.sessions + staged.sessions, memories=below.memories + staged.memories)
