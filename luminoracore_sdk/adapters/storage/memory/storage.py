"""The in-memory backend: the reference for the contract."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from threading import RLock

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
    is_live,
    matches,
    replay_receipt,
)
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
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite

__all__ = ["InMemoryStorage"]


@attrs.define
class _StoredSession:
    """A session; ``positions`` maps the id of a message to its position."""

    header: SessionRecord
    messages: list[MessageRecord] = attrs.field(factory=list)
    positions: dict[str, int] = attrs.field(factory=dict)

    @property
    def fence(self) -> int:
        """The fence of the latest lease; 0: there was none."""
        return self.header.lease.fence if self.header.lease else 0


def _is_expired(entry: MemoryRecord, now_us: int) -> bool:
    """Return whether a memory has expired."""
    return entry.expires_at_us is not None and entry.expires_at_us <= now_us


def _known(stored: _StoredSession, messages: Sequence[MessageRecord]) -> dict[str, int]:
    """Return the positions of those messages whose ids are stored."""
    return {
        message.message_id: stored.positions[message.message_id]
        for message in messages
        if message.message_id in stored.positions
    }


class InMemoryStorage(BaseStorage):
    """Keep sessions in the memory of this process; they are lost when it ends.

    Records are immutable and payloads are bytes, so the caller cannot change what is stored. Any number of event
    loops and threads may share the storage: every call is one step under a lock.

    Args:
        clock: Tells the time; the system clock when None.
    """

    backend_name = "memory"

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._lock = RLock()
        self._sessions: dict[str, _StoredSession] = {}
        self._order: list[tuple[int, str]] = []
        self._memories: dict[MemoryScope, dict[str, MemoryRecord]] = {}

    def adopt(
        self,
        header: SessionRecord,
        messages: Iterable[MessageRecord],
        memories: Iterable[MemoryRecord],
    ) -> None:
        """Store a session of another storage with all it holds; its times and version stay as they are."""
        with self._lock:
            self._remove(header.session_id)
            stored = list(messages)
            positions = {message.message_id: message.position for message in stored}
            self._sessions[header.session_id] = _StoredSession(header, stored, positions)
            insort(self._order, (header.created_at_us, header.session_id))
            scope = MemoryScope("session", header.session_id)
            self._memories[scope] = {memory.key: memory for memory in memories}

    def adopt_lease(self, session_id: str, lease: Lease | None) -> None:
        """Take the lease of a session from another storage."""
        with self._lock:
            if (stored := self._sessions.get(session_id)) is not None:
                stored.header = attrs.evolve(stored.header, lease=lease)

    async def _ping(self) -> None:
        return None

    async def _schema_version(self) -> int:
        return 1

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        with self._lock:
            stored = self._live(record.session_id, now_us)
            version = stored.header.version if stored else 0
            if expected_version is not None and expected_version != version:
                raise self._version_conflict(record.session_id, expected_version, version)
            header = attrs.evolve(
                record,
                created_at_us=stored.header.created_at_us if stored else record.created_at_us or now_us,
                updated_at_us=max(stored.header.updated_at_us, now_us) if stored else now_us,
                version=version + 1,
                last_position=len(stored.messages) if stored else 0,
                summary=stored.header.summary if stored else record.summary,
                last_change=stored.header.last_change if stored else 0,
                changes=stored.header.changes if stored else (),
                lease=stored.header.lease if stored else None,
            )
            if stored:
                stored.header = header
            else:
                self._create(_StoredSession(header))
            return header

    def _create(self, stored: _StoredSession) -> None:
        session_id = stored.header.session_id
        self._remove(session_id)  # an expired one
        self._sessions[session_id] = stored
        insort(self._order, (stored.header.created_at_us, session_id))

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        with self._lock:
            stored = self._live(session_id, now_us)
            return stored.header if stored else None

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        with self._lock:
            if self._live(session_id, now_us) is None:
                return False
            self._remove(session_id)
            return True

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        with self._lock:
            found = list(islice(self._matching(query, now_us), query.limit + 1))
            page = tuple(header.listed(texts=query.texts) for header in found[: query.limit])
            return Page(sessions=page, next_cursor=query.key(page[-1]) if len(found) > query.limit else None)

    def _matching(self, query: SessionQuery, now_us: int) -> Iterator[SessionRecord]:
        for session_id in self._by_activity(query) if query.by_activity else self._by_creation(query):
            header = self._sessions[session_id].header
            if is_live(header.updated_at_us, header.ttl_us, now_us) and matches(header, query):
                yield header

    def _by_activity(self, query: SessionQuery) -> Iterator[str]:
        after, before = query.created_after_us, query.created_before_us
        keys = [
            query.key(stored.header)
            for stored in self._sessions.values()
            if query.user_id in (None, stored.header.user_id)
            and (after is None or stored.header.created_at_us >= after)
            and (before is None or stored.header.created_at_us < before)
        ]
        if query.cursor is not None:
            end = query.cursor
            keys = [key for key in keys if (key < end if query.newest_first else key > end)]
        return (session_id for _, session_id in sorted(keys, reverse=query.newest_first))

    def _by_creation(self, query: SessionQuery) -> Iterator[str]:
        start, end = 0, len(self._order)
        if query.created_after_us is not None:
            start = bisect_left(self._order, (query.created_after_us, ""))
        if query.created_before_us is not None:
            end = bisect_left(self._order, (query.created_before_us, ""))
        if query.cursor is not None and query.newest_first:
            end = min(end, bisect_left(self._order, query.cursor))
        elif query.cursor is not None:
            start = max(start, bisect_right(self._order, query.cursor))
        indexes = range(end - 1, start - 1, -1) if query.newest_first else range(start, end)
        return (self._order[index][1] for index in indexes)

    async def _fork_session(
        self, source_id: str, record: SessionRecord, at: int, rewrite: RewriteMessage | None, now_us: int
    ) -> SessionRecord:
        with self._lock:
            source = self._existing(source_id, now_us)
            check_fork(self.backend_name, source_id, at, source.header.last_position)
            if self._live(record.session_id, now_us) is not None:
                raise self._version_conflict(record.session_id, 0, 1)
            messages = [message if rewrite is None else rewrite(message) for message in source.messages[:at]]
            messages = [attrs.evolve(message, adds={}) if message.adds else message for message in messages]
            self._check_batch(messages)
            header = attrs.evolve(
                record,
                created_at_us=record.created_at_us or now_us,
                updated_at_us=now_us,
                version=1,
                last_position=at,
                last_change=0,
                summary=record.summary.copied(message.role for message in messages),
            )
            positions = {message.message_id: message.position for message in messages}
            self._create(_StoredSession(header, messages, positions))
            return header

    # -- leases ----------------------------------------------------------------------------------

    async def _acquire_lease(self, session_id: str, holder: str, ttl_us: int, now_us: int) -> Lease:
        with self._lock:
            stored = self._existing(session_id, now_us)
            lease = granted(
                self.backend_name, session_id, stored.header.lease, holder=holder, ttl_us=ttl_us, now_us=now_us
            )
            stored.header = attrs.evolve(stored.header, lease=lease)
            return lease

    async def _release_lease(self, session_id: str, fence: int, now_us: int) -> bool:
        with self._lock:
            stored = self._live(session_id, now_us)
            lease = stored.header.lease if stored else None
            if stored is None or lease is None or lease.fence != fence:
                return False
            stored.header = attrs.evolve(stored.header, lease=attrs.evolve(lease, until_us=now_us))
            return True

    # -- rewriting -------------------------------------------------------------------------------

    async def _rewrite_texts(self, session_id: str, old: HeaderTexts, new: HeaderTexts, now_us: int) -> bool:
        with self._lock:
            stored = self._live(session_id, now_us)
            if stored is None or stored.header.texts != old:
                return False
            stored.header = stored.header.with_texts(new)
            return True

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        with self._lock:
            stored = self._live(session_id, now_us)
            if stored is None or stored.header.payload != old:
                return False
            stored.header = attrs.evolve(stored.header, payload=new)
            return True

    # -- messages --------------------------------------------------------------------------------

    async def _append_messages(self, append: Append) -> AppendReceipt:
        session_id, messages = append.session_id, append.messages
        with self._lock:
            stored = self._existing(session_id, append.now_us)
            if receipt := replay_receipt(self.backend_name, messages, _known(stored, messages)):
                return receipt
            check_fence(self.backend_name, session_id, append.fence, stored.fence)
            last = len(stored.messages)
            if append.expected_last is not None and append.expected_last != last:
                raise self._position_conflict(session_id, append.expected_last, last)
            self._extend(stored, messages)
            self._touch(stored, append.now_us)
            return AppendReceipt(first_position=last + 1, last_position=last + len(messages))

    @staticmethod
    def _touch(stored: _StoredSession, now_us: int) -> None:
        stored.header = attrs.evolve(
            stored.header,
            updated_at_us=max(stored.header.updated_at_us, now_us),
            last_position=len(stored.messages),
        )

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        with self._lock:
            messages = self._existing(session_id, now_us).messages
            end = len(messages) if span.before is None else min(len(messages), span.before - 1)
            start = min(max(0, span.after), max(0, end))
            if span.limit is not None and span.newest:
                start = max(start, end - span.limit)
            elif span.limit is not None:
                end = min(end, start + span.limit)
            return messages[start : max(start, end)]

    async def _find_message(self, session_id: str, message_id: str, now_us: int) -> MessageRecord | None:
        with self._lock:
            stored = self._live(session_id, now_us)
            position = stored.positions.get(message_id) if stored else None
            return stored.messages[position - 1] if stored and position else None

    async def _replace_tail(self, tail: Tail) -> TailReceipt:
        with self._lock:
            stored = self._existing(tail.session_id, tail.now_us)
            known = _known(stored, tail.messages)
            if receipt := tail.replayed(
                self.backend_name,
                len(stored.messages),
                known,
                latest_change=stored.header.last_change,
                latest_fence=stored.fence,
            ):
                return receipt
            removed = self._cut(stored, tail.after)
            self._extend(stored, tail.messages)
            self._touch(stored, tail.now_us)
            return TailReceipt(removed=removed, last_position=len(stored.messages))

    @staticmethod
    def _cut(stored: _StoredSession, after: int) -> list[MessageRecord]:
        removed = stored.messages[after:]
        del stored.messages[after:]
        for message in removed:
            del stored.positions[message.message_id]
        if removed:
            summary = stored.header.summary.cut(after, (message.role for message in removed))
            stored.header = attrs.evolve(stored.header.with_change("cut", after), summary=summary)
        return removed

    @staticmethod
    def _extend(stored: _StoredSession, messages: Sequence[MessageRecord]) -> None:
        summary = stored.header.summary.appended(messages, len(stored.messages) + 1)
        stored.header = attrs.evolve(stored.header, summary=summary)
        for position, message in enumerate(messages, start=len(stored.messages) + 1):
            stored.messages.append(attrs.evolve(message, position=position))
            stored.positions[message.message_id] = position

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        with self._lock:
            stored = self._existing(session_id, now_us)
            removed = self._cut(stored, after)
            self._touch(stored, now_us)
            return len(removed)

    async def _update_message(self, update: MessageUpdate) -> bool:
        message = update.message
        with self._lock:
            stored = self._live(update.session_id, update.now_us)
            if stored is None or not update.fits(stored.messages[message.position - 1 : message.position]):
                return False
            stored.messages[message.position - 1] = update.updated
            summary = stored.header.summary.updated(message.position, update.brief)
            stored.header = attrs.evolve(stored.header.with_change("updated", message.position), summary=summary)
            return True

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        with self._lock:
            stored = self._live(session_id, now_us)
            if stored is None:
                return 0
            replaced = 0
            for change in changes:
                if change.position > len(stored.messages):
                    continue
                message = stored.messages[change.position - 1]
                if change.fits(message):
                    stored.messages[change.position - 1] = attrs.evolve(message, payload=change.new)
                    replaced += 1
            return replaced

    async def _read_index(self, session_id: str, span: MessageRange, now_us: int) -> list[IndexRecord]:
        return [IndexRecord.of(message) for message in await self._read_messages(session_id, span, now_us)]

    async def _rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite], now_us: int) -> int:
        with self._lock:
            stored = self._live(session_id, now_us)
            if stored is None:
                return 0
            replaced = 0
            for change in changes:
                for message in stored.messages[change.position - 1 : change.position]:
                    if change.fits(message):
                        stored.messages[change.position - 1] = attrs.evolve(message, index=change.new)
                        replaced += 1
            return replaced

    # -- memory ----------------------------------------------------------------------------------

    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]:
        with self._lock:
            if change.scope.kind == "session":
                self._existing(change.scope.owner_id, change.now_us)
            entries = self._entries(change.scope, change.now_us)
            stored = change.stored(self.backend_name, entries)
            entries.update({record.key: record for record in stored})
            for key in change.deletes:
                entries.pop(key, None)
            for key in change.surplus(list(entries.values())):
                del entries[key]
            self._memories[change.scope] = entries
            return stored

    async def _touch_memories(
        self, scope: MemoryScope, keys: Sequence[str], expires_at_us: int | None, now_us: int
    ) -> int:
        with self._lock:
            entries = self._entries(scope, now_us)
            found = [entries[key] for key in keys if key in entries]
            for entry in found:
                self._memories[scope][entry.key] = attrs.evolve(entry, expires_at_us=expires_at_us)
            return len(found)

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        with self._lock:
            return self._entries(scope, now_us).get(key)

    async def _list_memories(self, scope: MemoryScope, query: MemoryQuery | None, now_us: int) -> list[MemoryRecord]:
        with self._lock:
            entries = self._entries(scope, now_us).values()
            if query is not None:
                return query.page(entries)
            return sorted(entries, key=lambda entry: (entry.created_at_us, entry.key))

    async def _list_memory_owners(self, prefix: str, after: str | None, limit: int, now_us: int) -> list[str]:
        with self._lock:
            users = sorted(
                scope.owner_id
                for scope, entries in self._memories.items()
                if scope.kind == "user"
                and scope.owner_id.startswith(prefix)
                and any(not _is_expired(entry, now_us) for entry in entries.values())
            )
            return users[0 if after is None else bisect_right(users, after) :][:limit]

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        with self._lock:
            if key not in self._entries(scope, now_us):
                return False
            del self._memories[scope][key]
            return True

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        with self._lock:
            count = len(self._entries(scope, now_us))
            self._memories.pop(scope, None)
            return count

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        with self._lock:
            memory = self._entries(scope, now_us).get(key)
            if memory is None or memory.payload != old:
                return False
            self._memories[scope][key] = attrs.evolve(memory, payload=new)
            return True

    async def _purge_expired(self, now_us: int) -> Purged:
        with self._lock:
            expired = [name for name in self._sessions if self._live(name, now_us) is None]
            for session_id in expired:
                self._remove(session_id)
            memories = 0
            for entries in self._memories.values():
                gone = [key for key, entry in entries.items() if _is_expired(entry, now_us)]
                memories += len(gone)
                for key in gone:
                    del entries[key]
            return Purged(sessions=len(expired), memories=memories)

    # -- helpers, called under the lock --------------------------------------------------------------

    def _live(self, session_id: str, now_us: int) -> _StoredSession | None:
        stored = self._sessions.get(session_id)
        if stored is None or not is_live(stored.header.updated_at_us, stored.header.ttl_us, now_us):
            return None
        return stored

    def _existing(self, session_id: str, now_us: int) -> _StoredSession:
        stored = self._live(session_id, now_us)
        if stored is None:
            raise self._not_found(session_id)
        return stored

    def _remove(self, session_id: str) -> None:
        stored = self._sessions.pop(session_id, None)
        if stored is None:
            return
        del self._order[bisect_left(self._order, (stored.header.created_at_us, session_id))]
        self._memories.pop(MemoryScope("session", session_id), None)

    def _entries(self, scope: MemoryScope, now_us: int) -> dict[str, MemoryRecord]:
        if scope.kind == "session" and self._live(scope.owner_id, now_us) is None:
            return {}
        entries = self._memories.get(scope, {})
        return {key: entry for key, entry in entries.items() if not _is_expired(entry, now_us)}
