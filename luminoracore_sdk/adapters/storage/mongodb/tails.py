"""Replacing or truncating the tail of a history, and finding a message by its id.

1. *Freeze*: set ``frozen`` in the header, if it has none, to a new ObjectId. From then on no append to the open
   epoch is acknowledged: its writer sees the mark when it verifies its batch, and waits. So the end of the history,
   read after this, stays the end.
2. *Prepare*: insert the new messages as a batch in an epoch that is not open, at a number drawn at random. No reader
   sees it.
3. *Open*: in one command, on the condition that the header still has this ``frozen`` and the epoch, seal the epoch
   at the last position that stays, open the prepared one, and remove the mark. Appends that waited find their
   batches hidden, and append again.

A truncation does the same without step 2, and reads no message.

An update that was noted before the header was marked may change its batch after the tail was read. Therefore the
batches of the tail are given another ``form`` before that, so that such an update begins again; one that is noted
later changes the header, so that step 3 fails. If an update has changed the tail and not noted that yet, a caller that
names the latest change may have read the tail before: the change is noted, and the call refused.

A batch in an epoch above the open one is therefore not hidden for good, unless the mark under which it was
prepared is gone. Whoever needs an id that such a batch holds removes the mark, after having seen the batch, reads
the header again, because the batch may have been opened before that, and deletes the batch if it is still hidden.
A call that has waited for the same mark for a quarter of a second removes it too: no call waits long for a
process that was killed, and a slow one begins again. What a killed process has prepared stays until its
epoch is below the open one, or the session is deleted.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.base import Tail
from luminoracore_sdk.adapters.storage.mongodb.documents import (
    Extent,
    Header,
    batch_document,
    batch_ids,
    batch_records,
    changes_document,
    live,
)
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey, after_write
from luminoracore_sdk.adapters.storage.mongodb.messages import Messages
from luminoracore_sdk.adapters.storage.mongodb.purge import delete_above, take_out
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions, prolonged
from luminoracore_sdk.adapters.storage.mongodb.summaries import State
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, TailReceipt, noted
from luminoracore_sdk.domain.errors import CorruptRecordError, StorageUnavailableError

__all__ = ["Marks", "Tails", "find_stored", "release", "sorted_out"]

_EPOCH_BITS = 40
"""So that two writers, of which one was killed, never draw the same epoch."""

_PAUSE = 0.01  # seconds, on average, for another tail that is being replaced
_PAUSES = 25  # then its writer has to begin again


@attrs.frozen
class Tails:
    """The tails of the histories of one store; see ``SessionStorage`` for what the calls do."""

    store: Collections
    sessions: Sessions
    messages: Messages

    async def find(self, session_id: str, message_id: str, now_us: int) -> MessageRecord | None:
        """Return the message of an id, or None."""
        header = await self.sessions.header(session_id)
        if header is None or not header.extent.is_live(now_us):
            return None
        extent = header.extent
        batch = await self.store.messages.find_one({"inc": extent.inc, "ids": message_id})
        if batch is None:
            return None
        found = (one for one in batch_records(session_id, [batch]) if one.message_id == message_id)
        return next((one for one in found if extent.shows(batch["epoch"], one.position)), None)

    async def replace(self, tail: Tail) -> TailReceipt:
        """Replace the messages above a position."""
        receipt = None
        while receipt is None:
            mark = ObjectId()
            header = await self._frozen(tail, mark)
            with after_write():
                try:
                    receipt = await self._replaced(tail, header, mark)
                finally:
                    if receipt is None or receipt.replayed:
                        with suppress(StorageUnavailableError):  # later an append that waits
                            await release(self.store, tail.session_id, mark)
        return receipt

    async def truncate(self, session_id: str, after: int, now_us: int) -> int:
        """Remove what is above a position, without reading it; return the number of messages."""
        tail = Tail(session_id=session_id, after=after, messages=(), expected_last=None, now_us=now_us)
        removed = None
        while removed is None:
            mark = ObjectId()
            header = await self._frozen(tail, mark)
            with after_write():
                try:
                    removed = await self._truncated(tail, header, mark)
                finally:
                    if not removed:
                        with suppress(StorageUnavailableError):  # later an append that waits
                            await release(self.store, session_id, mark)
        return removed

    async def _truncated(self, tail: Tail, header: Header, mark: ObjectId) -> int | None:
        """Return the number of removed messages; None: another writer was faster."""
        session_id, extent, after = tail.session_id, header.extent, tail.after
        if after >= extent.last:
            where: Document = {"_id": session_id, "inc": extent.inc, "frozen": mark}
            return 0 if await self.store.sessions.update(where, prolonged(max(tail.now_us, extent.at_us))) else None
        try:
            state = extent.known.cut(after, await self.messages.roles_at(session_id, extent, after))
        except CorruptRecordError:
            again = (await self.sessions.existing(session_id, tail.now_us)).extent
            if (again.inc, again.epoch) == (extent.inc, extent.epoch):
                raise
            return None  # another call has cut that batch meanwhile
        batches = await self.messages.batches_above(extent, after)
        cut = header.begun(after, state, removed=batches) | changes_document(
            noted(header.session.changes, "cut", after)
        )
        if not await self._opened(tail, header, cut, mark):
            return None
        with suppress(StorageUnavailableError):  # later an append that needs an id, or the purge
            await delete_above(self.store, extent.inc, extent.epoch, after)
        return extent.last - after

    async def _frozen(self, tail: Tail, mark: ObjectId) -> Header:
        """Mark a session, when no other replacement is in progress, and return its header."""
        where: Document = {"_id": tail.session_id, "frozen": {"$exists": False}, **live(tail.now_us)}
        marks = Marks(self.store, tail.session_id)
        while not await self.store.sessions.update(where, {"$set": {"frozen": mark}}):
            await marks.wait((await self.sessions.existing(tail.session_id, tail.now_us)).extent.frozen)
        return await self.sessions.summarized(tail.session_id, tail.now_us)

    async def _replaced(self, tail: Tail, header: Header, mark: ObjectId) -> TailReceipt | None:
        """Return the receipt; None: another writer was faster."""
        session_id, extent, count = tail.session_id, header.extent, len(tail.messages)
        ids = {message.message_id for message in tail.messages}
        where: Document = {"inc": extent.inc, "ids": {"$in": list(ids)}}
        known, hidden = sorted_out(await find_stored(self.store, where), ids, extent)
        lease = header.session.lease
        fence = lease.fence if lease else 0
        if receipt := tail.replayed(BACKEND, extent.last, known, latest_change=header.noted, latest_fence=fence):
            await self.store.messages.update(where, {"$set": {"s": session_id}})  # see Appends
            return receipt
        if hidden:
            await self._take_out(tail, extent.inc, hidden)
            return None
        if header.updating and await self._has_unnoted(tail, header):
            return None
        span = MessageRange(after=tail.after, before=extent.last + 1)
        removed = await self.messages.read(session_id, span, tail.now_us)
        state = _cut(extent.known, tail.after, removed)
        epoch = extent.epoch + 1 + random.getrandbits(_EPOCH_BITS)
        batch: Document | None = None
        if count:
            prepared = attrs.evolve(extent, epoch=epoch, last=tail.after, state=state)
            batch, _ = batch_document(session_id, prepared, tail.messages, tail.now_us)
            try:
                await self.store.messages.insert(batch)
            except DuplicateKey:
                return None
        batches = await self.messages.batches_above(extent, tail.after) if removed else []
        cut = header.begun(tail.after, state, epoch=epoch, removed=batches)
        if removed:
            cut |= changes_document(noted(header.session.changes, "cut", tail.after))
        if await self._opened(tail, header, cut, mark):
            with suppress(StorageUnavailableError):  # later an append that needs an id, or the purge
                await delete_above(self.store, extent.inc, extent.epoch, tail.after)
            return TailReceipt(removed=removed, last_position=tail.after + count)
        if batch is not None:
            with suppress(StorageUnavailableError):
                await self.store.messages.delete({"inc": extent.inc, "_id": batch["_id"]})
        return None

    async def _has_unnoted(self, tail: Tail, header: Header) -> bool:
        """Let updates of a tail begin again; return whether one has changed it, which the caller may not know."""
        store, marks = self.store, header.updating
        where: Document = {"inc": header.extent.inc, "last": {"$gt": tail.after}}
        await store.messages.update_many(where, {"$inc": {"form": 1}})
        where["marks"] = {"$in": marks}
        if tail.expected_change is None or (found := await store.messages.find_one(where, {"first": 1})) is None:
            return False
        noting = changes_document(noted(header.session.changes, "updated", max(found["first"], tail.after + 1)))
        this: Document = {"_id": tail.session_id, "inc": header.extent.inc, "noted": header.noted}
        if await store.sessions.update(this, [{"$set": noting}]):
            await store.messages.update_many(where, {"$pullAll": {"marks": marks}})
        return True

    async def _take_out(self, tail: Tail, inc: ObjectId, batches: Sequence[Document]) -> None:
        """Delete batches that are still hidden once no prepared one can be opened any more."""
        await release(self.store, tail.session_id)
        extent = (await self.sessions.existing(tail.session_id, tail.now_us)).extent
        ids = {message.message_id for message in tail.messages}
        if extent.inc == inc:
            for batch in sorted_out(batches, ids, extent)[1]:
                await take_out(self.store, inc, batch, extent.bound(batch["epoch"]))

    async def _opened(self, tail: Tail, header: Header, change: Document, mark: ObjectId) -> bool:
        """Seal the open epoch and open another one; False: the header has changed since it was marked."""
        extent = header.extent
        self.sessions.forget(tail.session_id)
        where: Document = {"_id": tail.session_id, "inc": extent.inc, "epoch": extent.epoch, "frozen": mark}
        where["noted"] = header.noted
        if tail.fence is not None:
            where["lease.fence"] = tail.fence or None
        prolong = prolonged(max(tail.now_us, extent.at_us))
        return await self.store.sessions.update(where, [{"$set": change}, {"$unset": "frozen"}, *prolong])


def _cut(state: State, after: int, removed: Sequence[MessageRecord]) -> State:
    """Return the state once messages above a position are removed."""
    roles = state.roles
    for message in removed:
        roles[message.role] = roles.get(message.role, 0) - 1
    return state.cut(after, roles)


class Marks:
    """Waits for the marks of other writers on a header; removes one that stays."""

    def __init__(self, store: Collections, session_id: str) -> None:
        self._store = store
        self._session_id = session_id
        self._mark: ObjectId | None = None
        self._pauses = 0

    async def wait(self, mark: ObjectId | None) -> None:
        """Wait a moment for a mark that was seen; after a quarter of a second with the same one, remove it."""
        if mark != self._mark:
            self._mark, self._pauses = mark, 0
        self._pauses += 1
        if mark is not None and self._pauses > _PAUSES:
            await release(self._store, self._session_id, mark)
        else:
            await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  # not a secret


async def find_stored(store: Collections, where: Document) -> list[Document]:
    """Return epoch, first position, ids and time of batches."""
    return await store.messages.find(where, {"epoch": 1, "first": 1, "ids": 1, "at": 1})


def sorted_out(batches: Sequence[Document], asked: set[str], extent: Extent) -> tuple[dict[str, int], list[Document]]:
    """Return the positions of those ids that a header shows, and the batches in which it hides some of them."""
    known, hidden = dict[str, int](), list[Document]()
    for batch in batches:
        for position, message_id in enumerate(batch_ids(batch), start=batch["first"]):
            if message_id in asked and extent.shows(batch["epoch"], position):
                known[message_id] = position
            elif message_id in asked and batch not in hidden:
                hidden.append(batch)
    return known, hidden


async def release(store: Collections, session_id: str, mark: ObjectId | None = None) -> None:
    """Remove a mark, or whatever mark the header has: what was prepared under it cannot be opened any more."""
    where: Document = {"_id": session_id, "frozen": {"$exists": True} if mark is None else mark}
    await store.sessions.update(where, {"$unset": {"frozen": 1}})
