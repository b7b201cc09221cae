"""Reading and truncating messages."""

from collections.abc import Sequence

from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb_documents import Header, Segment, batch_records, damaged
from luminoracore_sdk.adapters.storage.mongodb_driver import Document
from luminoracore_sdk.adapters.storage.mongodb_schema import Collections
from luminoracore_sdk.adapters.storage.mongodb_sessions import Sessions, moved
from luminoracore_sdk.adapters.storage.mongodb_sweep import blank
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = ["Messages", "known_positions"]


class Messages:
    """The messages of one store, but appending; see ``SessionStorage`` for what the calls do."""

    def __init__(self, store: Collections, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions

    async def read(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        """Return a range, oldest first.

        Positions have no gap, so the header tells which ones the range holds.
        """
        while True:
            header = await self._sessions.existing(session_id, now_us)
            start, end = _bounds(span, header.last)
            found: list[MessageRecord] = []
            for segment in header.segments:
                first, last = max(start, segment.first), min(end, segment.last)
                if first <= last:
                    found += await self._read(session_id, segment, first, last)
            if [message.position for message in found] == list(range(start, end + 1)):
                return found
            after = await self._sessions.existing(session_id, now_us)
            if after.segments[:-1] == header.segments[:-1] and after.open == header.open:
                raise _gap(session_id, found, start, end)

    async def _read(self, session_id: str, segment: Segment, first: int, last: int) -> list[MessageRecord]:
        """Return what lies between two positions of a history, cutting the batches at both ends."""
        begin = first
        if first > segment.first:  # not where a batch begins for certain
            where: Document = {"h": segment.history, "first": {"$lte": first}}
            straddling = await self._store.messages.find_one(
                where, {"_id": 0, "first": 1}, order=[("first", -1)]
            )
            begin = straddling["first"] if straddling else first
        batches = await self._store.messages.find(
            {"h": segment.history, "first": {"$gte": begin, "$lte": last}}, order=[("first", 1)]
        )
        messages = (message for batch in batches for message in batch_records(session_id, batch))
        return [message for message in messages if first <= message.position <= last]

    async def truncate(self, session_id: str, after: int, now_us: int) -> int:
        """Remove what is above a position: one change of the header, which seals the open history."""
        while True:
            header = await self._sessions.existing(session_id, now_us)
            where: Document = {"_id": session_id, "inc": header.inc, "open": header.open}
            change = moved(max(now_us, header.session.updated_at_us))
            if after >= header.last:
                if await self._store.sessions.update(where, change):
                    return 0
                continue
            kept = _cut(header.segments, after)
            sealed = [{"h": segment.history, "upto": segment.last} for segment in kept]
            begun: Document = {"open": ObjectId(), "sealed": {"$literal": sealed}}
            if await self._store.sessions.update(where, [{"$set": begun}, *change]):
                return await self._clear(header, kept, after, now_us)

    async def _clear(self, header: Header, kept: Sequence[Segment], after: int, now_us: int) -> int:
        """Empty what a truncation has hidden; returns how many messages that are."""
        newest = await self._store.messages.find_one(
            {"h": header.open}, {"_id": 0, "last": 1}, order=[("first", -1)]
        )
        bounds = {segment.history: segment.last for segment in kept}
        for segment in header.segments:
            if segment.history not in bounds or bounds[segment.history] < segment.last:
                await blank(self._store, segment.history, after=bounds.get(segment.history, 0), now_us=now_us)
        return (newest["last"] if newest else header.last) - after


async def known_positions(
    store: Collections, segments: Sequence[Segment], messages: Sequence[MessageRecord]
) -> dict[str, int]:
    """Return the positions of those of some ids that are stored."""
    ends = {segment.history: segment.last for segment in segments[:-1]}
    ids = [message.message_id for message in messages]
    where: Document = {"h": {"$in": [segment.history for segment in segments]}, "ids": {"$in": ids}}
    asked, known = set(ids), dict[str, int]()
    for batch in await store.messages.find(where, {"_id": 0, "h": 1, "first": 1, "ids": 1}):
        end = ends.get(batch["h"])
        known |= {
            message_id: position
            for position, message_id in enumerate(batch["ids"], start=batch["first"])
            if message_id in asked and (end is None or position <= end)
        }
    return known


def _cut(segments: Sequence[Segment], after: int) -> list[Segment]:
    """Return what is left of segments up to a position; empty ones are left out."""
    cut = (Segment(segment.history, segment.first, min(segment.last, after)) for segment in segments)
    return [segment for segment in cut if segment.first <= segment.last]


def _bounds(span: MessageRange, last: int) -> tuple[int, int]:
    """Return the first and the last position of a range; the last is one less when it is empty."""
    end = last if span.before is None else min(last, span.before - 1)
    start = max(0, span.after) + 1
    if span.limit is not None and span.newest:
        start = max(start, end - span.limit + 1)
    elif span.limit is not None:
        end = min(end, start + span.limit - 1)
    return (start, end) if start <= end else (1, 0)


def _gap(session_id: str, found: Sequence[MessageRecord], start: int, end: int) -> CorruptRecordError:
    reason = f"{len(found)} messages at positions {start} to {end}"
    return damaged(f"session {session_id!a}", reason)
