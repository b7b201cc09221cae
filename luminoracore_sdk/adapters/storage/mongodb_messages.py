"""Reading and truncating messages."""

from collections.abc import Sequence
from contextlib import suppress

from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb_documents import Header, Segment, batch_records, damaged
from luminoracore_sdk.adapters.storage.mongodb_driver import Document
from luminoracore_sdk.adapters.storage.mongodb_errors import after_write
from luminoracore_sdk.adapters.storage.mongodb_schema import IN_ORDER, NEWEST_FIRST, Collections
from luminoracore_sdk.adapters.storage.mongodb_sessions import Sessions, moved
from luminoracore_sdk.adapters.storage.mongodb_sweep import release
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord
from luminoracore_sdk.domain.errors import CorruptRecordError, StorageUnavailableError

__all__ = ["Messages"]

_SEGMENTS = 100
"""Histories in one query."""


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
            found = await self._read(session_id, header, start, end) if start <= end else []
            if [message.position for message in found] == list(range(start, end + 1)):
                return found
            after = await self._sessions.existing(session_id, now_us)
            if (after.open, after.segments[:-1]) == (header.open, header.segments[:-1]):
                raise _gap(session_id, found, start, end)

    async def _read(self, session_id: str, header: Header, start: int, end: int) -> list[MessageRecord]:
        """Return what is found between two positions, cutting the batches at both ends."""
        wanted = [segment for segment in header.segments if segment.first <= end and segment.last >= start]
        begin = start
        if wanted and start > wanted[0].first:  # not where a batch begins for certain
            begin = await self._begin(header.inc, wanted[0].history, start)
        found: list[MessageRecord] = []
        for place in range(0, len(wanted), _SEGMENTS):
            ranges: list[Document] = [
                {
                    "inc": header.inc,
                    "h": segment.history,
                    "first": {"$gte": max(segment.first, begin), "$lte": min(segment.last, end)},
                }
                for segment in wanted[place : place + _SEGMENTS]
            ]
            where = ranges[0] if len(ranges) == 1 else {"$or": ranges}
            for batch in await self._store.messages.find(where, order=IN_ORDER):
                found += [
                    message
                    for message in batch_records(session_id, batch)
                    if start <= message.position <= end and header.shows(batch["h"], message.position)
                ]
        return sorted(found, key=lambda message: message.position)

    async def _begin(self, inc: ObjectId, history: ObjectId, position: int) -> int:
        """Return where the batch begins that holds a position."""
        where: Document = {"inc": inc, "h": history, "first": {"$lte": position}}
        batch = await self._store.messages.find_one(where, {"_id": 0, "first": 1}, order=NEWEST_FIRST)
        return batch["first"] if batch else position

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
        """Take out what a truncation has hidden; returns how many messages that are.

        What cannot be taken out now is, by who needs its ids, or by ``purge_expired``.
        """
        with after_write():
            newest = await self._store.messages.find_one(
                {"inc": header.inc, "h": header.open}, {"_id": 0, "last": 1}, order=NEWEST_FIRST
            )
        bounds = {segment.history: segment.last for segment in kept}
        with suppress(StorageUnavailableError):
            for segment in header.segments:
                bound = bounds.get(segment.history, 0)
                if bound < segment.last or segment.history == header.open:
                    await release(self._store, header.inc, segment.history, after=bound, now_us=now_us)
        return (newest["last"] if newest else header.last) - after


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
