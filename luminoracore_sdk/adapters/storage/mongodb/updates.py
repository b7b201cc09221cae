"""Updating a message.

The payload, the brief and the index of a message are changed by one command, a compare-and-set on its batch. The
change is noted in the header before and after that: a watcher that follows the first note may read the old payload,
and follows the second one then. Between
the two notes the header has a mark, ``updating``, and so has the batch once it is changed, ``marks``: by them a
replacement of the tail knows what its caller may not have seen, see ``tails``.

A brief that is removed has to be removed from the state too, so that the next one becomes the first (see
``summaries``): a new epoch begins with a base without it. From the first note until then ``frozen`` is set, so that
no append that carries the older state is acknowledged; see ``tails``.
"""

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.base import MessageUpdate
from luminoracore_sdk.adapters.storage.mongodb.documents import (
    Extent,
    Header,
    batch_records,
    changed_index,
    changes_document,
)
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import after_write
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions
from luminoracore_sdk.adapters.storage.mongodb.summaries import Place, State, stored
from luminoracore_sdk.adapters.storage.mongodb.tails import Marks
from luminoracore_sdk.application.ports.records import noted
from luminoracore_sdk.domain.errors import SessionNotFoundError

__all__ = ["Updates", "updated", "updating"]


@attrs.frozen
class Updates:
    """The updates of messages of one store; see ``SessionStorage.update_message``."""

    store: Collections
    sessions: Sessions

    async def update(self, update: MessageUpdate) -> bool:
        """Replace a payload; False: there is another payload, or no such message."""
        position, marks = update.message.position, Marks(self.store, update.session_id)
        while True:
            try:
                header = await self.sessions.summarized(update.session_id, update.now_us)
            except SessionNotFoundError:
                return False
            extent, state = header.extent, header.extent.known
            where: Document = {"inc": extent.inc, "ids": update.message.message_id}
            batch = await self.store.messages.find_one(where)
            if batch is None or not _fits(update, batch, extent):
                return False
            if position in _held(state):
                await self._move(header, batch, position)
                continue
            is_removed = update.brief is None and position in state.places
            if is_removed and extent.frozen is not None:
                await marks.wait(extent.frozen)
                continue
            mark = ObjectId()
            if not await self._note(header, position, mark, is_removed=is_removed):
                continue
            with after_write():
                is_changed = await self._change(header, batch, update, mark)
                await self._note_again(update, mark, is_removed=is_removed)
            if is_changed:
                return True

    async def _note(self, header: Header, position: int, mark: ObjectId, *, is_removed: bool) -> bool:
        """Note a change before it is made; False: the header has changed."""
        where: Document = {"_id": header.session.session_id, "inc": header.extent.inc, "noted": header.noted}
        change = changes_document(noted(header.session.changes, "updated", position)) | updating(mark)
        if is_removed:
            where |= {"epoch": header.extent.epoch, "frozen": {"$exists": False}}
            change["frozen"] = mark
        return await self.store.sessions.update(where, [{"$set": change}])

    async def _note_again(self, update: MessageUpdate, mark: ObjectId, *, is_removed: bool) -> None:
        """Note a change that was made; if it has removed a brief, begin an epoch without that."""
        while True:
            try:
                header = await self.sessions.summarized(update.session_id, update.now_us)
            except SessionNotFoundError:
                return
            where: Document = {"_id": update.session_id, "inc": header.extent.inc, "noted": header.noted}
            change = changes_document(noted(header.session.changes, "updated", update.message.position)) | updated(mark)
            if is_removed:
                where["epoch"] = header.extent.epoch
                change |= self._new_epoch(header, header.extent.known)
                change["frozen"] = {"$cond": [{"$eq": ["$frozen", mark]}, "$$REMOVE", "$frozen"]}
            if await self.store.sessions.update(where, [{"$set": change}]):
                return

    def _new_epoch(self, header: Header, state: State) -> Document:
        """Return the change of a header that begins an epoch with a state, and is no change of the session."""
        self.sessions.forget(header.session.session_id)
        return {**header.begun(header.extent.last, state), "updated": header.session.updated_at_us}

    async def _change(self, header: Header, batch: Document, update: MessageUpdate, mark: ObjectId) -> bool:
        """Replace payload, brief and index in a batch; False: it was changed or deleted since it was read."""
        position = update.message.position
        item = f"items.{position - batch['first']}." if "items" in batch else ""
        change: Document = {f"{item}{name}": value for name, value in stored(update.payload).items()}
        change["marks"] = [*(other for other in batch.get("marks", []) if other in header.updating), mark]
        gone = Document()
        for name, text in batch.get("briefs", {}).items():
            if text["at"] == position and update.brief is not None:
                change[f"briefs.{name}"] = {"at": position, **stored(update.brief)}
            elif text["at"] == position:
                gone[f"briefs.{name}"] = 1
        where = {name: batch.get(name) for name in ("inc", "_id", "ids", "form")}
        indexed = changed_index(batch, {position: update.index})
        change, gone = {**change, **indexed.get("$set", {})}, {**gone, **indexed.get("$unset", {})}
        changes: Document = {"$set": change, "$inc": {"form": 1}, **({"$unset": gone} if gone else {})}
        return await self.store.messages.update(where, changes)

    async def _move(self, header: Header, batch: Document, position: int) -> None:
        """Move the texts of a message from the header to its batch, which changes nothing for readers."""
        state, session_id = header.extent.known, header.session.session_id
        names = [name for name, place in (("first", state.first), ("last", state.last)) if place == Place(position)]
        where = {name: batch.get(name) for name in ("inc", "_id", "ids", "form")}
        change = {f"briefs.{name}": header.briefs[name] for name in names}
        if await self.store.messages.update(where, {"$set": change, "$inc": {"form": 1}}):
            state = state.placed(names, Place(position, batch["_id"]))
            at: Document = {"_id": session_id, "inc": header.extent.inc, "epoch": header.extent.epoch}
            await self.store.sessions.update(at, [{"$set": self._new_epoch(header, state)}])


def updating(mark: ObjectId) -> Document:
    """Return the fields of a header while briefs are being changed, see ``sessions``."""
    marks: Document = {"$concatArrays": [{"$ifNull": ["$updating", []]}, [mark]]}
    return {"updating": marks, "settled": "$$REMOVE"}


def updated(mark: ObjectId) -> Document:
    """Return the fields of a header once they are changed."""
    marks: Document = {"$setDifference": [{"$ifNull": ["$updating", []]}, [mark]]}
    return {"updating": marks, "form": {"$add": [{"$ifNull": ["$form", 0]}, 1]}, "settled": "$$REMOVE"}


def _fits(update: MessageUpdate, batch: Document, extent: Extent) -> bool:
    """Return whether a batch has the message as it was read, and the header shows it."""
    found = [one for one in batch_records(update.session_id, [batch]) if one.position == update.message.position]
    return update.fits(found) and extent.shows(batch["epoch"], update.message.position)


def _held(state: State) -> set[int]:
    """Return the positions of messages whose briefs are in the header."""
    return {place.position for place in (state.first, state.last) if place is not None and place.batch is None}
