"""Reading and truncating messages."""

import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby
from operator import itemgetter

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.closing import begun, close
from luminoracore_sdk.adapters.storage.mongodb.documents import Header, Segment, batch_records, cut, damaged
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.hints import Hint, Hints
from luminoracore_sdk.adapters.storage.mongodb.schema import IN_ORDER, NEWEST_FIRST, Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions, moved
from luminoracore_sdk.adapters.storage.mongodb.sweep import release
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord
from luminoracore_sdk.domain.errors import CorruptRecordError, StorageUnavailableError

__all__ = ["Messages"]

_SEGMENTS = 100
"""Histories in one query."""

_BACKWARDS = 500
"""Messages for which it is quicker to read from the newest on than to look at the header before: 1.5 µs more
each, which saves 0.7 ms."""

_READ: Document = {
    "_id": 0,
    **dict.fromkeys(("first", "last", "ids", "items", "role", "created", "tag", "payload"), 1),
}


class Messages:
    """The messages of one store, but appending; see ``SessionStorage`` for what the calls do."""

    def __init__(self, store: Collections, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions
        self._hints = Hints()

    async def read(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        """Return a range, oldest first."""
        all_or_newest = span.limit is None or (span.newest and span.limit > 0)
        if all_or_newest and span.after <= 0 and span.before is None:
            found = await self._read_at_hint(session_id, span.limit, now_us)
            if found is not None:
                return found
        return await self._read_by_header(session_id, span, now_us)

    async def _read_at_hint(self, session_id: str, limit: int | None, now_us: int) -> list[MessageRecord] | None:
        """Return the newest messages or all, of the history that was open at some look, without another.

        It saves one of two commands. What closes a history lies behind its batches, and stays there for
        longer than a hint is good for (see ``mongodb_closing``): a history whose newest document is a batch
        is open.

        Returns:
            None: there is no hint, the history may be closed, or others belong to the range.
        """
        hint = self._hints.take(session_id, now_us)
        if hint is None:
            return None
        if (hint.end.last if limit is None else limit) > _BACKWARDS:
            self._hints.put(session_id, hint)
            return None
        since, place = time.monotonic(), {"inc": hint.end.inc, "h": hint.end.history}
        batches = await self._store.messages.find(place, _READ, order=NEWEST_FIRST, limit=limit or 0, as_they_are=True)
        if not batches or batches[0].get("items") == [] or not hint.is_fresh:
            return None
        batches.reverse()
        found = batch_records(session_id, *batches)
        first, last = found[0].position, found[-1].position
        wanted = last if limit is None else min(limit, last)
        if last - first + 1 != len(found) or len(found) < wanted:
            return None  # truncated meanwhile, or in more than one history
        end = attrs.evolve(hint.end, last=last)
        self._hints.put(session_id, attrs.evolve(hint, end=end, since=since, since_us=now_us))
        return found[len(found) - wanted :]

    async def _read_by_header(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        """Return a range; positions have no gap, so the header tells which ones it holds."""
        while True:
            since = time.monotonic()
            header = await self._sessions.existing(session_id, now_us)
            start, end = _bounds(span, header.last)
            found = await self._read(session_id, header, start, end) if start <= end else []
            if [message.position for message in found] == list(range(start, end + 1)):
                alone = start >= header.segments[-1].first  # the open history: a hint leads to no other
                if alone and header.session.ttl_us is None and not header.is_closed:
                    self._hints.put(session_id, Hint(header.end, None, since, now_us))
                return found
            after = await self._sessions.existing(session_id, now_us)
            if (after.open, after.segments[:-1]) == (header.open, header.segments[:-1]):
                raise _gap(session_id, found, start, end)

    async def _read(self, session_id: str, header: Header, start: int, end: int) -> list[MessageRecord]:
        """Return what is found between two positions, cutting the batches at both ends."""
        wanted = [segment for segment in header.segments if segment.first <= end and segment.last >= start]
        begin, fields = start, _READ
        if wanted and start > wanted[0].first:  # not where a batch begins for certain
            begin = await self._begin(header.inc, wanted[0].history, start)
            fields = _READ if begin == start else _cut_to(start, end)
        found: list[MessageRecord] = []
        for place in range(0, len(wanted), _SEGMENTS):
            part = wanted[place : place + _SEGMENTS]
            ranges: list[Document] = [
                {
                    "inc": header.inc,
                    "h": segment.history,
                    "first": {"$gte": max(segment.first, begin), "$lte": min(segment.last, end)},
                }
                for segment in part
            ]
            where = ranges[0] if len(ranges) == 1 else {"$or": ranges}
            batches = await self._store.messages.find(where, {**fields, "h": 1}, order=IN_ORDER, as_they_are=True)
            of = {history: tuple(some) for history, some in groupby(batches, itemgetter("h"))}
            for segment in part:
                first, last = max(segment.first, start), min(segment.last, end)
                messages = batch_records(session_id, *of.get(segment.history, ()))
                found += [message for message in messages if first <= message.position <= last]
        return found

    async def _begin(self, inc: ObjectId, history: ObjectId, position: int) -> int:
        """Return where the batch begins that holds a position."""
        where: Document = {"inc": inc, "h": history, "first": {"$lte": position}}
        batch = await self._store.messages.find_one(where, {"_id": 0, "first": 1}, order=NEWEST_FIRST)
        return batch["first"] if batch else position

    async def truncate(self, session_id: str, after: int, now_us: int) -> int:
        """Remove what is above a position: one change of the header, before which its history is closed."""
        while True:
            header = await self._sessions.existing(session_id, now_us)
            where: Document = {"_id": session_id, "inc": header.inc, "open": header.open}
            change = moved(max(now_us, header.session.updated_at_us))
            if after >= header.last:
                if await self._store.sessions.update(where, change):
                    return 0
                continue
            kept = cut(header.segments, after)
            if await close(self._store, header, now_us) and await self._store.sessions.update(
                where, [begun(kept), *change]
            ):
                await self._clear(header, kept, now_us)
                return header.last - after

    async def _clear(self, header: Header, kept: Sequence[Segment], now_us: int) -> None:
        """Take out what a truncation has hidden.

        What cannot be taken out now is, by who needs its ids, or by ``purge_expired``.
        """
        bounds = {segment.history: segment.last for segment in kept}
        with suppress(StorageUnavailableError):
            for segment in header.segments:
                bound = bounds.get(segment.history, 0)
                if bound < segment.last or segment.history == header.open:
                    await release(self._store, header.inc, segment.history, after=bound, now_us=now_us)


def _cut_to(start: int, end: int) -> Document:
    """Return the fields of a read, each batch without what lies before a position, and no longer than wanted.

    A page of 100 out of a batch of 1,000 takes 0.8 ms so, whole 1.4 ms; of messages that were appended one by
    one 1.2 ms, without the cut 0.9 ms.
    """
    first: Document = {"$max": [start, "$first"]}
    skipped, count = {"$subtract": [first, "$first"]}, {"$subtract": [end + 1, first]}

    def part(name: str) -> Document:
        return {"$cond": [_IS_WHOLE, {"$slice": [name, skipped, count]}, name]}

    return {**_READ, "first": first, "ids": part("$ids"), "items": part("$items")}


_IS_WHOLE: Document = {
    "$cond": [
        {"$and": [{"$isArray": "$ids"}, {"$isArray": "$items"}]},
        {"$eq": [{"$size": "$ids"}, {"$size": "$items"}]},
        False,
    ]
}
"""Of a batch of several messages; what is damaged is left as it is, and noticed here."""


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
