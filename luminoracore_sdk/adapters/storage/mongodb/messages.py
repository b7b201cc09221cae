"""Reading and truncating messages.

A read brings the batches and then, in the same command, the header. If that still shows the epoch that the read
relied on, the epoch was open while the batches were read, so nothing that they show had been truncated, and
nothing was missing; see ``appends``. Otherwise the call reads again. Calls that read a few messages each and begin at
the same time share a command: ten take 1.6 instead of 3.4 ms.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.documents import (
    MOST_COUNTED,
    Extent,
    Header,
    batch_indexes,
    batch_records,
    damaged,
    live,
    memory_record,
    plain_numbers,
    readable,
)
from luminoracore_sdk.adapters.storage.mongodb.driver import Document, Order
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND
from luminoracore_sdk.adapters.storage.mongodb.memories import at_one_moment, between_equal_heads
from luminoracore_sdk.adapters.storage.mongodb.schema import BY_CREATION, IN_ORDER, NEWEST_FIRST, Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions
from luminoracore_sdk.adapters.storage.mongodb.summaries import State, counts
from luminoracore_sdk.application.ports.records import (
    IndexRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    TurnRecords,
)
from luminoracore_sdk.domain.errors import SessionNotFoundError

__all__ = ["Messages"]

_READ: Document = {
    "_id": 0,
    **dict.fromkeys(("epoch", "first", "last", "ids", "items", "role", "created", "encoding", "payload"), 1),
}
_READ_AT: Document = {**_READ, "at": 1}
_READ_INDEX: Document = {
    "_id": 0,
    **dict.fromkeys(("epoch", "first", "last", "ids", "items.role", "items.created", "role", "created", "index"), 1),
}
_LARGEST = 2**31 - 1
_FEW = 8
"""Messages of which a range is read with one command, wherever it begins."""

_MOST_TOGETHER = 32
"""Ranges of a few messages that are read with one command."""

_HEADER: Document = {"inc": 1, "epoch": 1, "ttl": 1, "expires": 1}
_NOT_OF_A_TURN: Document = {
    "$unset": ["card", "base", "briefs", "changes", "lease", "writing", "counted", "settled", "updating"]
}


R = TypeVar("R", MessageRecord, IndexRecord)


@attrs.frozen
class _Kind(Generic[R]):
    """What a read returns of batches.

    Attributes:
        fields: The fields to read.
        records: Returns the records of batches that have these.
    """

    fields: Document
    records: Callable[[str, Iterable[Document]], list[R]]


_MESSAGES = _Kind(_READ, batch_records)
_INDEXES = _Kind(_READ_INDEX, batch_indexes)


@attrs.frozen(kw_only=True)
class _Read:
    """What one command has read; memories and the whole header only for a turn."""

    batches: list[Document]
    memories: list[Document]
    header: Document


@attrs.frozen(kw_only=True, eq=False)
class _Few:
    """A range of a few messages that is to be read.

    Attributes:
        where: Matches its batches, and older ones.
        fields: The fields to read.
        limit: How many batches it has at most.
        batches: Takes them; None: the header has changed, or the command was cancelled.
    """

    session_id: str
    extent: Extent
    where: Document
    fields: Document
    limit: int
    now_us: int
    batches: asyncio.Future[list[Document] | None] = attrs.field(
        factory=lambda: asyncio.get_running_loop().create_future(), init=False
    )

    def stages(self, number: int) -> list[Document]:
        """Return what brings its batches, the newest first, with a number of their own."""
        return [
            {"$match": self.where},
            {"$sort": dict(NEWEST_FIRST)},
            {"$limit": self.limit},
            {"$project": {**self.fields, "n": {"$literal": number}}},
        ]


class Messages:
    """The messages of one store, except appending; see ``SessionStorage`` for what the calls do."""

    def __init__(self, store: Collections, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions
        self._together = list[_Few]()

    async def read(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        """Return a range, oldest first."""
        return await self._read(session_id, span, now_us, _MESSAGES)

    async def read_index(self, session_id: str, span: MessageRange, now_us: int) -> list[IndexRecord]:
        """Return the indexes of a range, oldest first."""
        return await self._read(session_id, span, now_us, _INDEXES)

    async def _read(self, session_id: str, span: MessageRange, now_us: int, kind: _Kind[R]) -> list[R]:
        if span.after <= 0 and span.before is None and (span.limit is None or (span.newest and span.limit > 0)):
            extent = self._sessions.remembered(session_id, now_us)
            if extent is not None:
                found = await self._read_end(session_id, extent, span.limit, now_us, kind)
                if found is not None:
                    return found
        return await self._read_range(session_id, span, now_us, kind)

    async def _read_end(
        self, session_id: str, extent: Extent, limit: int | None, now_us: int, kind: _Kind[R]
    ) -> list[R] | None:
        """Return the newest records, or all, with one command.

        Returns:
            None: the session has been truncated since its extent was seen, or the range has a gap.
        """
        where: Document = {"inc": extent.inc}
        order = IN_ORDER if limit is None else NEWEST_FIRST
        read = await self._batches(session_id, extent, where, kind.fields, now_us, order=order, limit=limit)
        return None if read is None else self._end(session_id, extent, read.batches, limit, kind)

    def _end(
        self, session_id: str, extent: Extent, batches: list[Document], limit: int | None, kind: _Kind[R]
    ) -> list[R] | None:
        """Return the newest records of batches, or all, and remember where they end; None: there is a gap."""
        if limit is not None:
            batches.reverse()
        found = _records(session_id, extent, batches, kind)
        last = found[-1].position if found else 0
        wanted = last if limit is None else min(limit, last)
        found = found[len(found) - wanted :] if len(found) >= wanted else []
        if last < extent.last or [message.position for message in found] != list(range(last - wanted + 1, last + 1)):
            return None
        if last != extent.last:  # an append reads the state then
            self._sessions.remember(session_id, attrs.evolve(extent, last=last, state=None))
        return found

    async def turn(self, session_id: str, newest: int, now_us: int) -> TurnRecords | None:
        """Return what a turn reads with one command.

        Returns:
            None: it takes several, see ``SessionStorage.read_turn``.
        """
        extent = self._sessions.remembered(session_id, now_us)
        if extent is None or newest < 1:
            return None
        read = await self._batches(
            session_id, extent, {"inc": extent.inc}, _READ_AT, now_us, order=NEWEST_FIRST, limit=newest, turn=True
        )
        if read is None:
            return None
        newest_batch = [batch for batch in read.batches[:1] if batch.get("epoch") == extent.epoch]
        messages = self._end(session_id, extent, read.batches, newest, _MESSAGES)
        if messages is None:
            return None
        scope, memories = MemoryScope("session", session_id), between_equal_heads(read.memories)
        if memories is None:
            return None
        return TurnRecords(
            session=Header.of({**plain_numbers(read.header), "newest": map(plain_numbers, newest_batch)}).session,
            memories=[memory_record(scope, plain_numbers(document)) for document in memories],
            messages=messages,
        )

    async def _read_range(self, session_id: str, span: MessageRange, now_us: int, kind: _Kind[R]) -> list[R]:
        """Return a range; positions have no gap, so its bounds tell which ones it holds."""
        while True:
            extent = self._sessions.remembered(session_id, now_us)
            if extent is None or not _is_within(span, extent.last):
                extent = (await self._sessions.existing(session_id, now_us)).extent
                self._sessions.remember(session_id, extent)
            start, end = _bounds(span, extent.last)
            if start > end:
                return []
            first_epoch, last_epoch = extent.epoch_at(start), extent.epoch_at(end)
            few = start > 1 and end - start < _FEW and first_epoch == last_epoch
            begin = start if start == 1 or few else await self._begin(extent, start)
            fields = _cut_to(start, end) if kind.fields is _READ and (few or begin != start) else kind.fields
            where: Document = {
                "inc": extent.inc,
                "epoch": {"$gte": first_epoch, "$lte": last_epoch},
                "first": {"$lte": end} if few else {"$gte": begin, "$lte": end},
            }
            if few:  # no more batches than positions, the newest first; where the range begins need not be known
                batches = await self._read_few(
                    _Few(
                        session_id=session_id,
                        extent=extent,
                        where=where,
                        fields=fields,
                        limit=end - start + 1,
                        now_us=now_us,
                    )
                )
            else:
                read = await self._batches(session_id, extent, where, fields, now_us)
                batches = None if read is None else read.batches
            if batches is None:
                continue
            if few:  # the first ones may end before the range
                batches = [batch for batch in reversed(batches) if not _is_below(batch.get("last"), start)]
            found = _records(session_id, extent, batches, kind)
            found = [message for message in found if start <= message.position <= end]
            if [message.position for message in found] != list(range(start, end + 1)):
                reason = f"{len(found)} messages at positions {start} to {end}"
                raise damaged(f"session {session_id!a}", reason)
            return found

    async def _batches(
        self,
        session_id: str,
        extent: Extent,
        where: Document,
        fields: Document,
        now_us: int,
        *,
        order: Order = IN_ORDER,
        limit: int | None = None,
        turn: bool = False,
    ) -> "_Read | None":
        """Return batches that were read while the epoch of an extent was open; None: it is not any more.

        Memories and the payload of the header are read for a turn only. The server runs the pipeline of
        ``$unionWith`` once it has passed on all documents before it (through MongoDB 8:
        ``document_source_union_with.cpp``), so the header is read last.

        Raises:
            SessionNotFoundError: The session was deleted or has expired.
        """
        header: list[Document] = [{"$match": {"_id": session_id}}]
        memories: list[Document] = [
            {"$match": live(now_us)},
            {"$sort": dict(BY_CREATION)},
        ]
        memories = at_one_moment(self._store.memories.name, extent.inc, memories)
        header.append(_NOT_OF_A_TURN if turn else {"$project": _HEADER})
        found = await self._store.messages.aggregate(
            {"$match": where},
            {"$sort": dict(order)},
            *([] if limit is None else [{"$limit": min(limit, _LARGEST)}]),
            {"$project": fields},
            *([{"$unionWith": {"coll": self._store.memories.name, "pipeline": memories}}] if turn else []),
            {"$unionWith": {"coll": self._store.sessions.name, "pipeline": header}},
            as_they_are=True,
            hint=dict(IN_ORDER),
        )
        last = found.pop() if found and "_id" in found[-1] else None
        if not self._is_unchanged(session_id, extent, last, now_us):
            return None
        batches = [document for document in found if "key" not in document] if turn else found
        return _Read(batches=batches, memories=found[len(batches) :], header=last or {})

    def _is_unchanged(self, session_id: str, extent: Extent, header: Document | None, now_us: int) -> bool:
        """Return whether the epoch of an extent is open by a header that was read afterwards.

        Raises:
            SessionNotFoundError: The session was deleted or has expired.
        """
        expires_at_us = header.get("expires") if header else None
        if header is None or (expires_at_us is not None and expires_at_us <= now_us):
            self._sessions.forget(session_id)
            raise SessionNotFoundError(session_id, backend=BACKEND)
        if (header.get("inc"), header.get("epoch")) != (extent.inc, extent.epoch):
            self._sessions.forget(session_id)
            return False
        return True

    async def _read_few(self, few: _Few) -> list[Document] | None:
        """Return the batches of a few messages as ``_batches`` does, with those of calls that begin at the same time.

        The first of them sends the command.
        """
        if 0 < len(self._together) < _MOST_TOGETHER:
            self._together.append(few)
            return await few.batches
        together = self._together = [few]
        try:
            try:
                await asyncio.sleep(0)  # others join
            finally:
                if self._together is together:
                    self._together = []
            await self._read_together(together)
        except Exception as exc:  # noqa: BLE001  # raised by each call
            _set_all(together, exc)
        finally:
            _set_all(together, None)  # if this call was cancelled, the others read again
        return few.batches.result()

    async def _read_together(self, together: Sequence[_Few]) -> None:
        first, *rest = (few.stages(number) for number, few in enumerate(together))
        ids: Document = {"_id": {"$in": [few.session_id for few in together]}}
        found = await self._store.messages.aggregate(
            *first,
            *({"$unionWith": {"coll": self._store.messages.name, "pipeline": stages}} for stages in rest),
            {"$unionWith": {"coll": self._store.sessions.name, "pipeline": [{"$match": ids}, {"$project": _HEADER}]}},
            as_they_are=True,
            hint=dict(IN_ORDER),
        )
        headers = {document["_id"]: document for document in found if "_id" in document}
        for number, few in enumerate(together):
            try:
                is_open = self._is_unchanged(few.session_id, few.extent, headers.get(few.session_id), few.now_us)
            except SessionNotFoundError as exc:
                _set_all([few], exc)
            else:
                _set_all([few], [batch for batch in found if batch.get("n") == number] if is_open else None)

    async def _begin(self, extent: Extent, position: int) -> int:
        """Return where the batch begins that holds a position."""
        where: Document = {"inc": extent.inc, "epoch": extent.epoch_at(position), "first": {"$lte": position}}
        batch = await self._store.messages.find_one(where, {"_id": 0, "first": 1}, order=NEWEST_FIRST)
        return batch["first"] if batch else position

    async def batches_above(self, extent: Extent, position: int) -> list[ObjectId]:
        """Return the newest batches that begin above a position and count, the newest last."""
        epochs = [extent.epoch, *(epoch for epoch, upto in extent.sealed if upto > position)]
        where: Document = {
            "inc": extent.inc,
            "epoch": {"$in": epochs},
            "first": {"$gt": position, "$lte": extent.last},
        }
        found = await self._store.messages.find(where, {"epoch": 1, "first": 1}, order=NEWEST_FIRST, limit=MOST_COUNTED)
        return [batch["_id"] for batch in reversed(found) if extent.shows(batch["epoch"], batch["first"])]

    async def roles_at(self, session_id: str, extent: Extent, position: int) -> dict[str, int]:
        """Return the numbers of messages by role up to a position; only the batch that holds it is read.

        Raises:
            CorruptRecordError: It is damaged, or was cut since the extent was seen.
        """
        if position == 0:
            return {}
        if position == extent.last:
            return extent.known.roles
        where: Document = {"inc": extent.inc, "epoch": extent.epoch_at(position), "first": {"$lte": position}}
        fields: Document = {"first": 1, "before": 1, "items.role": 1, "state.sum": 1}
        batch = await self._store.messages.find_one(where, fields, order=NEWEST_FIRST)
        with readable(f"message {position} of session {session_id!a}"):
            if batch is None:
                raise LookupError(position)
            if "items" not in batch:
                return State.of(batch["state"]).roles
            roles = counts(batch["before"])
            for item in batch["items"][: position - batch["first"] + 1]:
                roles[item["role"]] = roles.get(item["role"], 0) + 1
            return roles


def _set_all(reads: Iterable[_Few], result: list[Document] | Exception | None) -> None:
    """Set the result of those that have none, and were not cancelled."""
    for few in reads:
        if few.batches.done():
            continue
        if isinstance(result, Exception):
            few.batches.set_exception(result)
        else:
            few.batches.set_result(result)


def _records(session_id: str, extent: Extent, batches: Sequence[Document], kind: _Kind[R]) -> list[R]:
    """Return the records of batches that count."""
    if not extent.sealed and all(batch.get("epoch") == extent.epoch for batch in batches):
        return kind.records(session_id, batches)
    found = list[R]()
    for batch in batches:
        records, epoch = kind.records(session_id, [batch]), batch.get("epoch", 0)
        found += [record for record in records if extent.shows(epoch, record.position)]
    return found


def _is_below(last: object, start: int) -> bool:
    return isinstance(last, int) and last < start  # a damaged batch is read, which is noticed


def _is_within(span: MessageRange, last: int) -> bool:
    """Return whether a range holds messages, the same whatever follows a position."""
    start, end = _bounds(span, last)
    return start <= end and (start, end) == _bounds(span, last + 1)


def _cut_to(start: int, end: int) -> Document:
    """Return the fields of a read that takes only the messages between two positions out of each batch.

    A page of 100 out of a batch of 1,000 takes 0.8 ms with it, 1.4 ms without; out of messages that were appended
    one by one 1.2 and 0.9 ms.
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
"""Of a batch of several messages; a damaged one is read as it is, which is noticed here."""


def _bounds(span: MessageRange, last: int) -> tuple[int, int]:
    """Return the first and the last position of a range; the last is one less when it is empty."""
    end = last if span.before is None else min(last, span.before - 1)
    start = max(0, span.after) + 1
    if span.limit is not None and span.newest:
        start = max(start, end - span.limit + 1)
    elif span.limit is not None:
        end = min(end, start + span.limit - 1)
    return (start, end) if start <= end else (1, 0)
