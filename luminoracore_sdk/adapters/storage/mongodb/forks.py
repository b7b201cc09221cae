"""Forking: copy the batches of a session under a new incarnation, then insert the header that shows them.

Until then no header shows the copies. They belong to epoch 0, which the header of the fork seals, so that its summary
begins with a base of its own. The source is read again after the copying: if its epoch and its changes are the same,
nothing was cut or updated meanwhile, and the copy is of one moment. Otherwise it is made again.

``purge`` deletes batches that no header shows. So a fork is announced in ``meta``, under its incarnation, before the
first batch is copied, and that is withdrawn once the header is inserted. The purge reads the announcements before the
headers. After an hour it withdraws them itself and then looks for the header once more: a fork whose announcement is
gone when its header is inserted deletes that, and fails.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.base import check_fork
from luminoracore_sdk.adapters.storage.mongodb.documents import Extent, Header, batch_document
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND
from luminoracore_sdk.adapters.storage.mongodb.messages import Messages
from luminoracore_sdk.adapters.storage.mongodb.schema import NEWEST_FIRST, Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions, created, new_extent, version_conflict
from luminoracore_sdk.adapters.storage.mongodb.summaries import Place, State, stored
from luminoracore_sdk.application.ports.records import (
    MessageRange,
    MessageRecord,
    RewriteMessage,
    SessionRecord,
    SessionSummary,
    with_indexes,
)
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["Fork"]

_COPIED_AT_ONCE = 10_000
_READ_AT_ONCE = 500
_MOST_BYTES = 4 * 1024 * 1024


@attrs.frozen
class Fork:
    """One call of ``SessionStorage.fork_session``.

    Attributes:
        store: The collections.
        sessions: Their sessions.
        messages: Their messages.
        source_id: The session that is copied.
        record: The header of the new one.
        at: The last position that is copied.
        rewrite: Returns each message as it is to be stored; None: they stay.
        check: Raises if messages cannot be stored.
        now_us: The time of the call.
    """

    store: Collections
    sessions: Sessions
    messages: Messages
    source_id: str
    record: SessionRecord
    at: int
    rewrite: RewriteMessage | None
    check: Callable[[Sequence[MessageRecord]], None]
    now_us: int

    async def steps(self) -> AsyncIterator[SessionRecord | None]:
        """Yield None after each part, then the new header."""
        made = None
        while made is None:
            source = await self.sessions.existing(self.source_id, self.now_us)
            check_fork(BACKEND, self.source_id, self.at, source.extent.last)
            target = await self.sessions.header(self.record.session_id)
            if target is not None and target.extent.is_live(self.now_us):
                raise version_conflict(self.record.session_id, 0, target.session.version)
            inc = ObjectId()
            announcement: Document = {"s": self.record.session_id, "at": self.now_us}
            await self.store.meta.update({"_id": inc}, {"$set": announcement}, upsert=True)
            try:
                copying = self._copied(inc, source.extent) if self.rewrite is None else self._rewritten(inc)
                async for _ in copying:
                    yield None
                made = await self._made(inc, source, target)
            finally:
                if made is None:
                    with suppress(StorageUnavailableError):  # later the purge
                        await self.store.messages.delete({"inc": inc})
                        await self.store.meta.delete({"_id": inc})
        yield made

    async def _copied(self, inc: ObjectId, extent: Extent) -> AsyncIterator[None]:
        """Copy on the server, in parts."""
        bounds = list(_bounds(extent, self.at))
        clauses = [{"epoch": epoch, "first": {"$gte": begin, "$lte": end}} for epoch, begin, end in bounds]
        branches = [{"case": {"$eq": ["$epoch", epoch]}, "then": end} for epoch, _, end in bounds]
        end: Document = {"$switch": {"branches": branches, "default": self.at}}
        count: Document = {"$subtract": [{"$add": [end, 1]}, "$first"]}
        change: Document = {
            "inc": inc,
            "epoch": 0,
            "s": {"$literal": self.record.session_id},
            "last": {"$min": ["$last", end]},
        }
        for name in ("ids", "items", "index"):
            change[name] = {"$cond": [{"$isArray": f"${name}"}, {"$slice": [f"${name}", count]}, f"${name}"]}
        for begin in range(1, self.at + 1, _COPIED_AT_ONCE):
            among = {"first": {"$gte": begin, "$lt": begin + _COPIED_AT_ONCE}}
            await self.store.messages.copy(
                {"$match": {"inc": extent.inc, **among, "$or": clauses}},
                {"$set": change},
                {"$unset": ["_id", "briefs", "form", "state.first", "state.last"]},
            )
            yield

    async def _rewritten(self, inc: ObjectId) -> AsyncIterator[None]:
        """Read, rewrite and insert, in parts."""
        ends = Extent(inc=inc, epoch=0, state=State(), at_us=self.now_us)
        while ends.last < self.at:
            span = MessageRange(after=ends.last, before=self.at + 1, limit=_READ_AT_ONCE)
            read = await self.messages.read(self.source_id, span, self.now_us)
            if not read:  # it was cut meanwhile, which is found out at the end
                return
            indexes = await self.messages.read_index(self.source_id, span, self.now_us)
            messages = await asyncio.to_thread(self._all_rewritten, with_indexes(read, indexes))
            for part in _parts(messages):
                batch, state = batch_document(self.record.session_id, ends, part, self.now_us)
                await self.store.messages.insert(batch)
                ends = attrs.evolve(ends, last=batch["last"], state=state)
            yield

    def _all_rewritten(self, messages: Sequence[MessageRecord]) -> list[MessageRecord]:
        found = [message if self.rewrite is None else self.rewrite(message) for message in messages]
        self.check(found)
        return found

    async def _made(self, inc: ObjectId, source: Header, target: Header | None) -> SessionRecord | None:
        """Insert the header of the new session; None: the source was changed during the copying."""
        after = await self.sessions.existing(self.source_id, self.now_us)
        if (after.extent.inc, after.extent.epoch, after.noted) != (
            source.extent.inc,
            source.extent.epoch,
            source.noted,
        ):
            return None
        copies = Extent(inc=inc, epoch=0)
        roles = await self.messages.roles_at(self.record.session_id, copies, self.at)
        summary = attrs.evolve(self.record.summary, counters={**self.record.summary.counters, **roles})
        state = await self._state(inc, summary)
        extent = attrs.evolve(
            new_extent(self.record, state, self.now_us),
            inc=inc,
            epoch=1,
            sealed=((0, self.at),) if self.at else (),
            last=self.at,
        )
        record = created(attrs.evolve(self.record, summary=summary), extent)
        if not await self.sessions.insert(target, record, extent):
            raise version_conflict(record.session_id, 0, 1)
        if not await self.store.meta.delete({"_id": inc}):
            await self.store.sessions.delete({"_id": record.session_id, "inc": inc})
            raise StorageUnavailableError(BACKEND, "the copying took longer than an hour; nothing was created")
        return record

    async def _state(self, inc: ObjectId, summary: SessionSummary) -> State:
        """Store the briefs with the messages that they belong to, and return the state."""
        state = State.initial(summary)
        for name, brief in (("first", summary.first), ("last", summary.last)):
            if brief is None or not 1 <= brief.position <= self.at:
                continue
            where: Document = {"inc": inc, "epoch": 0, "first": {"$lte": brief.position}}
            batch = await self.store.messages.find_one(where, {"_id": 1}, order=NEWEST_FIRST)
            if batch is not None:
                text = {"at": brief.position, **stored(brief.payload)}
                await self.store.messages.update({"inc": inc, "_id": batch["_id"]}, {"$set": {f"briefs.{name}": text}})
                state = state.placed([name], Place(brief.position, batch["_id"]))
        return state


def _bounds(extent: Extent, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield the epochs up to a position, each with the first and the last position that count."""
    begin = 1
    for epoch, upto in (*extent.sealed, (extent.epoch, extent.last)):
        end = min(upto, at)
        if begin <= end:
            yield epoch, begin, end
            begin = end + 1


def _parts(messages: Sequence[MessageRecord]) -> Iterator[Sequence[MessageRecord]]:
    """Yield messages that fit into one batch."""
    part, size = list[MessageRecord](), 0
    for message in messages:
        more = len(message.payload.data) + (0 if message.index is None else len(message.index.data))
        if part and size + more > _MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(message)
        size += more
    if part:
        yield part
