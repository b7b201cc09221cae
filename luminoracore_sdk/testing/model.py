"""A store as plain dictionaries, with which the state machine compares a storage.

It is written from the documentation of the port, for clarity instead of speed, so that it does not share the
mistakes of a backend.
"""

from collections.abc import Callable, Sequence

import attrs

from luminoracore_sdk.application.ports.records import (
    NEVER_EVICTED,
    AppendReceipt,
    Brief,
    IndexRecord,
    IndexRewrite,
    Lease,
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    Purged,
    SessionQuery,
    SessionRecord,
    SessionSummary,
    TailReceipt,
    TurnRecords,
)
from luminoracore_sdk.domain.errors import ConflictError, LeaseHeldError, LeaseLostError, SessionNotFoundError

__all__ = ["StorageModel", "select_range"]

_ROLES = ("user", "assistant", "system", "tool")


def _without_roles(summary: SessionSummary) -> SessionSummary:
    counters = {name: number for name, number in summary.counters.items() if number and name not in _ROLES}
    return attrs.evolve(summary, counters=counters)


def select_range(messages: Sequence[MessageRecord], span: MessageRange) -> list[MessageRecord]:
    """Return the messages of a range, as documented by its attributes."""
    found = [
        message
        for message in messages
        if message.position > span.after and (span.before is None or message.position < span.before)
    ]
    if span.limit is None:
        return found
    return found[max(0, len(found) - span.limit) :] if span.newest else found[: span.limit]


class StorageModel:
    """Sessions, messages and memories in dictionaries; its methods are those of the port, but synchronous.

    Args:
        now_us: Returns the time in microseconds.

    Attributes:
        expired: How many sessions and memories have expired; a purge may count as many.
    """

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self.headers: dict[str, SessionRecord] = {}
        self.messages: dict[str, list[MessageRecord]] = {}
        self.memories: dict[tuple[MemoryScope, str], MemoryRecord] = {}
        self.leases: dict[str, Lease] = {}
        self.expired = Purged(sessions=0, memories=0)

    def forget_expired(self) -> None:
        """Remove and count what has expired."""
        now_us = self._now_us()
        gone = [
            name
            for name, header in self.headers.items()
            if header.ttl_us is not None and header.updated_at_us + header.ttl_us <= now_us
        ]
        over = [
            place
            for place, memory in self.memories.items()
            if memory.expires_at_us is not None and memory.expires_at_us <= now_us
        ]
        for place in over:
            del self.memories[place]
        held = sum(self._drop(name) for name in gone)
        self.expired = Purged(
            sessions=self.expired.sessions + len(gone), memories=self.expired.memories + len(over) + held
        )

    def _drop(self, session_id: str) -> int:
        del self.headers[session_id], self.messages[session_id]
        self.leases.pop(session_id, None)
        return self.clear_memories(MemoryScope("session", session_id))

    def _header(self, session_id: str) -> SessionRecord:
        if session_id not in self.headers:
            raise SessionNotFoundError(session_id)
        return self.headers[session_id]

    def _conflict(self) -> ConflictError:
        return ConflictError(backend="model", key="", expected="", actual="")

    # -- sessions --------------------------------------------------------------------------------

    def put_session(self, record: SessionRecord, expected_version: int | None) -> SessionRecord:
        """Create or replace a header."""
        before = self.headers.get(record.session_id)
        version = before.version if before else 0
        if expected_version not in (None, version):
            raise self._conflict()
        self.messages.setdefault(record.session_id, [])
        self.headers[record.session_id] = attrs.evolve(
            record,
            created_at_us=before.created_at_us if before else record.created_at_us or self._now_us(),
            updated_at_us=self._now_us(),
            version=version + 1,
            last_position=len(self.messages[record.session_id]),
            summary=before.summary if before else _without_roles(record.summary),
        )
        return self.headers[record.session_id]

    def fork_session(self, source_id: str, record: SessionRecord, at: int) -> SessionRecord:
        """Create a session with a copy of messages."""
        self._header(source_id)
        messages = self.messages[source_id]
        if at > len(messages) or record.session_id in self.headers:
            raise self._conflict()
        self.messages[record.session_id] = messages[:at]
        counters = dict(_without_roles(record.summary).counters)
        for message in messages[:at]:
            counters[message.role] = counters.get(message.role, 0) + 1
        header = attrs.evolve(
            record,
            created_at_us=record.created_at_us or self._now_us(),
            updated_at_us=self._now_us(),
            version=1,
            last_position=at,
            summary=attrs.evolve(record.summary, counters=counters),
        )
        self.headers[record.session_id] = header
        return header

    # -- leases ----------------------------------------------------------------------------------

    def acquire_lease(self, session_id: str, holder: str, ttl_us: int) -> Lease:
        """Take or renew a lease."""
        self._header(session_id)
        lease, now_us = self.leases.get(session_id), self._now_us()
        if lease is not None and lease.until_us > now_us and lease.holder != holder:
            raise LeaseHeldError(backend="model", session_id=session_id, until_us=lease.until_us, now_us=now_us)
        fence = now_us if lease is None else lease.fence + (lease.until_us <= now_us)
        self.leases[session_id] = Lease(fence=fence, holder=holder, until_us=now_us + ttl_us)
        return self.leases[session_id]

    def release_lease(self, session_id: str, fence: int) -> bool:
        """End a lease."""
        lease = self.leases.get(session_id)
        if lease is None or lease.fence != fence:
            return False
        self.leases[session_id] = attrs.evolve(lease, until_us=self._now_us())
        return True

    def _check_fence(self, session_id: str, fence: int | None) -> None:
        latest = self.leases[session_id].fence if session_id in self.leases else 0
        if fence not in (None, latest):
            raise LeaseLostError(backend="model", session_id=session_id, fence=fence or 0, latest=latest)

    def delete_session(self, session_id: str) -> bool:
        """Delete a session with its messages and memories."""
        if session_id not in self.headers:
            return False
        self._drop(session_id)
        return True

    def query_sessions(self, query: SessionQuery) -> list[SessionRecord]:
        """Return all pages of a query as one list."""
        found = [
            attrs.evolve(
                header,
                payload=None,
                card=header.card if query.texts else None,
                summary=header.summary if query.texts else SessionSummary(),
            )
            for header in self.headers.values()
            if query.user_id in (None, header.user_id)
            and (query.tag is None or query.tag in header.tags)
            and query.without_tag not in header.tags
        ]
        found.sort(
            key=lambda header: (
                header.updated_at_us if query.by_activity else header.created_at_us,
                header.session_id,
            )
        )
        return found[::-1] if query.newest_first else found

    # -- messages --------------------------------------------------------------------------------

    def append_messages(
        self,
        session_id: str,
        batch: Sequence[MessageRecord],
        expected_last: int | None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Append all or none."""
        header, stored = self._header(session_id), self.messages[session_id]
        places = {message.message_id: message.position for message in stored}
        if any(message.message_id in places for message in batch):
            return self._replay([places.get(message.message_id) for message in batch])
        self._check_fence(session_id, fence)
        if expected_last not in (None, len(stored)):
            raise self._conflict()
        first = len(stored) + 1
        stored.extend(attrs.evolve(message, position=place) for place, message in enumerate(batch, first))
        self._touch(header, new=stored[first - 1 :])
        return AppendReceipt(first_position=first, last_position=len(stored))

    def _replay(self, places: list[int | None]) -> AppendReceipt:
        first = places[0]
        if first is None or places != list(range(first, first + len(places))):
            raise self._conflict()
        return AppendReceipt(first_position=first, last_position=first + len(places) - 1, replayed=True)

    def replace_tail(
        self,
        session_id: str,
        after: int,
        batch: Sequence[MessageRecord],
        expected_last: int | None,
        *,
        is_changed: bool,
    ) -> TailReceipt:
        """Replace what is above a position, unless another change than the latest one is expected."""
        header, stored = self._header(session_id), self.messages[session_id]
        places = {message.message_id: message.position for message in stored}
        if any(message.message_id in places for message in batch):
            receipt = self._replay([places.get(message.message_id) for message in batch])
            if receipt.first_position != after + 1:
                raise self._conflict()
            return TailReceipt(removed=[], last_position=len(stored), replayed=True)
        if after > len(stored) or expected_last not in (None, len(stored)) or is_changed:
            raise self._conflict()
        removed = stored[after:]
        stored[after:] = [attrs.evolve(message, position=place) for place, message in enumerate(batch, after + 1)]
        self._touch(header, removed=removed, new=stored[after:])
        return TailReceipt(removed=removed, last_position=len(stored))

    def update_message(
        self,
        session_id: str,
        position: int,
        payload: Payload,
        expected: Payload,
        brief: Payload | None = None,
        index: Payload | None = None,
    ) -> MessageRecord:
        """Replace a payload."""
        header = self._header(session_id)
        stored = self.messages[session_id]
        found = stored[position - 1] if 1 <= position <= len(stored) else None
        if found is None or found.payload not in (payload, expected):
            raise self._conflict()
        if found.payload != payload:
            stored[position - 1] = attrs.evolve(found, payload=payload, index=index)
            summary, new = header.summary, None if brief is None else Brief(position, brief)
            if summary.first is not None and summary.first.position == position:
                summary = attrs.evolve(summary, first=new)
            if summary.last is not None and summary.last.position == position:
                summary = attrs.evolve(summary, last=new)
            self.headers[session_id] = attrs.evolve(header, summary=summary)
        return stored[position - 1]

    def read_index(self, session_id: str, span: MessageRange) -> list[IndexRecord]:
        """Return the indexes of a range."""
        return [IndexRecord.of(message) for message in self.read_messages(session_id, span)]

    def rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite]) -> int:
        """Replace indexes."""
        stored, replaced = self.messages.get(session_id, []), 0
        for change in changes:
            for place, message in enumerate(stored):
                here = (message.position, message.message_id, message.index)
                if here == (change.position, change.message_id, change.old):
                    stored[place] = attrs.evolve(message, index=change.new)
                    replaced += 1
        return replaced

    def find_message(self, session_id: str, message_id: str) -> MessageRecord | None:
        """Return the message of an id, or None."""
        stored = self.messages[session_id] if session_id in self.headers else []
        return next((message for message in stored if message.message_id == message_id), None)

    def _touch(
        self, header: SessionRecord, *, removed: Sequence[MessageRecord] = (), new: Sequence[MessageRecord] = ()
    ) -> None:
        """Write what has changed into the header: what was removed first, then what is new."""
        summary, counters = header.summary, dict(header.summary.counters)
        for message in removed:
            counters[message.role] -= 1
            if summary.first is not None and summary.first.position == message.position:
                summary = attrs.evolve(summary, first=None)
            if summary.last is not None and summary.last.position == message.position:
                summary = attrs.evolve(summary, last=None)
        for message in new:
            for name, number in {message.role: 1, **message.adds}.items():
                counters[name] = counters.get(name, 0) + number
            if message.brief is not None:
                told = Brief(message.position, message.brief)
                is_first = summary.first is None and message.role == "user"
                summary = attrs.evolve(summary, last=told, first=told if is_first else summary.first)
        self.headers[header.session_id] = attrs.evolve(
            header,
            updated_at_us=self._now_us(),
            last_position=len(self.messages[header.session_id]),
            summary=attrs.evolve(summary, counters={name: number for name, number in counters.items() if number}),
        )

    def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Return the messages of a range."""
        self._header(session_id)
        return select_range(self.messages[session_id], span)

    def read_turn(self, session_id: str, newest: int) -> TurnRecords | None:
        """Return what a turn reads, or None."""
        if session_id not in self.headers:
            return None
        return TurnRecords(
            session=attrs.evolve(self.headers[session_id], card=None, summary=SessionSummary()),
            memories=self.list_memories(MemoryScope("session", session_id)),
            messages=self.read_messages(session_id, MessageRange(limit=newest, newest=True)),
        )

    def truncate_messages(self, session_id: str, after: int) -> int:
        """Remove what is above a position."""
        header, stored = self._header(session_id), self.messages[session_id]
        removed = stored[after:]
        del stored[after:]
        self._touch(header, removed=removed)
        return len(removed)

    # -- memory ----------------------------------------------------------------------------------

    def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        """Put and delete memories."""
        if scope.kind == "session":
            self._header(scope.owner_id)
        now_us, stored = self._now_us(), list[MemoryRecord]()
        for put in puts:
            before = self.memories.get((scope, put.record.key))
            version = before.version if before else 0
            if put.expected_version not in (None, version):
                raise self._conflict()
            created_at_us = before.created_at_us if before else put.record.created_at_us or now_us
            stored.append(
                attrs.evolve(put.record, created_at_us=created_at_us, updated_at_us=now_us, version=version + 1)
            )
        self.memories |= {(scope, record.key): record for record in stored}
        for key in deletes:
            self.memories.pop((scope, key), None)
        entries = self.list_memories(scope)
        counted = [entry for entry in entries if entry.retention < NEVER_EVICTED]
        others = [entry for entry in counted if entry.key not in {record.key for record in stored}]
        others.sort(key=lambda entry: (entry.retention, entry.updated_at_us))
        for entry in others[: max(0, len(counted) - (max_entries or len(counted)))]:
            del self.memories[entry.scope, entry.key]
        self.forget_expired()
        return stored

    def touch_memories(self, scope: MemoryScope, keys: Sequence[str], expires_at_us: int | None) -> int:
        """Change when memories expire."""
        found = [self.memories[scope, key] for key in keys if (scope, key) in self.memories]
        self.memories |= {(scope, one.key): attrs.evolve(one, expires_at_us=expires_at_us) for one in found}
        self.forget_expired()
        return len(found)

    def list_memories(self, scope: MemoryScope, query: MemoryQuery | None = None) -> list[MemoryRecord]:
        """Return memories of a scope."""
        found = [memory for (of, _), memory in self.memories.items() if of == scope]
        if query is not None:
            return query.page(found)
        return sorted(found, key=lambda memory: (memory.created_at_us, memory.key))

    def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Return one memory, or None."""
        return self.memories.get((scope, key))

    def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete one memory."""
        return self.memories.pop((scope, key), None) is not None

    def clear_memories(self, scope: MemoryScope) -> int:
        """Delete every memory of a scope."""
        entries = self.list_memories(scope)
        for entry in entries:
            del self.memories[scope, entry.key]
        return len(entries)
