"""Memory storages with one fault each, to see that the state machine finds faults."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MessageRange,
    MessageRecord,
    Page,
    SessionQuery,
    SessionRecord,
)

__all__ = ["FAULTY"]


class StoresRepeatsAgain(InMemoryStorage):
    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        if stored := self._sessions.get(session_id):
            stored.positions.clear()
        return await super()._append_messages(session_id, messages, expected_last, now_us)


class RemembersTruncatedIds(InMemoryStorage):
    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        before = dict(self._existing(session_id, now_us).positions)
        removed = await super()._truncate_messages(session_id, after, now_us)
        self._sessions[session_id].positions = before
        return removed


class LetsAppendsNotSlideTheExpiry(InMemoryStorage):
    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        before = self._existing(session_id, now_us).header.updated_at_us
        receipt = await super()._append_messages(session_id, messages, expected_last, now_us)
        stored = self._sessions[session_id]
        stored.header = attrs.evolve(stored.header, updated_at_us=before)
        return receipt


class ReadsTheBoundToo(InMemoryStorage):
    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        wider = span if span.before is None else attrs.evolve(span, before=span.before + 1)
        return await super()._read_messages(session_id, wider, now_us)


class ListsTheLastOfAPageAgain(InMemoryStorage):
    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        if query.cursor is not None and query.newest_first:
            query = attrs.evolve(query, cursor=(query.cursor[0], query.cursor[1] + "x"))
        return await super()._query_sessions(query, now_us)


class IgnoresTheExpectedVersion(InMemoryStorage):
    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        return await super()._put_session(record, None if expected_version else expected_version, now_us)


class LetsTheOneJustPutGo(InMemoryStorage):
    async def _put_memory(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        kept = await super()._put_memory(record, None, now_us)
        entries = self._memories[record.scope]
        while max_entries is not None and len(entries) > max_entries:
            del entries[min(entries.values(), key=lambda entry: (entry.retention, entry.updated_at_us)).key]
        return kept


FAULTY = (
    StoresRepeatsAgain,
    RemembersTruncatedIds,
    LetsAppendsNotSlideTheExpiry,
    ReadsTheBoundToo,
    ListsTheLastOfAPageAgain,
    IgnoresTheExpectedVersion,
    LetsTheOneJustPutGo,
)
