"""Rewriting of payloads: read a document, and replace payloads in it if it has not changed since.

The server does not compare payloads: a command holds 16 MB, and the old and the new one might not fit. It compares
``form`` instead, a number that every rewrite, and every put of a memory, raises, together with the other fields
that show that the read is out of date. If it is, the call reads again.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import TypeVar

from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.documents import (
    Header,
    batch_indexes,
    batch_records,
    changed_index,
    live,
    readable,
)
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import after_write
from luminoracore_sdk.adapters.storage.mongodb.memories import Memories
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions
from luminoracore_sdk.adapters.storage.mongodb.summaries import stored, stored_payload
from luminoracore_sdk.adapters.storage.mongodb.updates import updated, updating
from luminoracore_sdk.application.ports.records import (
    HeaderTexts,
    IndexRewrite,
    MemoryScope,
    Payload,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite

__all__ = ["Rewriting"]

C = TypeVar("C", PayloadRewrite, IndexRewrite)

_AT_A_TIME = 20
"""Batches that are in memory at the same time; each may have 16 MB."""

_BY_ID: Document = {"inc": 1, "ids": 1}
"""The index to use: in a short history the server would choose another one, and may keep that plan."""

_NEXT_FORM: Document = {"$inc": {"form": 1}}


class Rewriting:
    """Replaces payloads in one store; see ``RewritingStorage`` for what the calls do."""

    def __init__(self, store: Collections, sessions: Sessions, memories: Memories) -> None:
        self._store = store
        self._sessions = sessions
        self._memories = memories

    async def session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        """Replace the payload of a header; every put raises its version."""
        fields: Document = {"inc": 1, "version": 1, "form": 1, "encoding": 1, "payload": 1}
        while True:
            found = await self._store.sessions.find_one({"_id": session_id, **live(now_us)}, fields)
            if found is None or _payload(found, f"session {session_id!a}") != old:
                return False
            where = _as_read(found, "_id", "inc", "version", "form")
            if await self._store.sessions.update(where, {"$set": stored(new), **_NEXT_FORM}):
                return True

    async def texts(self, session_id: str, old: HeaderTexts, new: HeaderTexts, now_us: int) -> bool:
        """Replace card and briefs: those in batches first, then those in the header."""
        is_begun = False
        while True:
            header = await self._sessions.whole(session_id)
            if header is None or not header.extent.is_live(now_us):
                return False
            found = header.session.texts
            if is_begun and found == new:
                return True
            if found != old and not (is_begun and _is_between(found, old, new)):
                return False
            is_begun = True
            await self._replace_texts(session_id, header, new)

    async def _replace_texts(self, session_id: str, header: Header, new: HeaderTexts) -> None:
        """Replace what has not changed since the header was read."""
        mark = ObjectId()
        this: Document = {"_id": session_id, "inc": header.extent.inc}
        await self._store.sessions.update(this, [{"$set": updating(mark)}])
        state, found = header.extent.known, header.session.texts
        held, briefs = Document(), header.briefs
        for name, place, was, brief in (
            ("first", state.first, found.first, new.first),
            ("last", state.last, found.last, new.last),
        ):
            if place is None or was is None or was == brief:
                continue
            text = None if brief is None else {"at": place.position, **stored(brief.payload)}
            if place.batch is None:
                held[name] = text
                continue
            where: Document = {"inc": header.extent.inc, "_id": place.batch}
            before = {"at": place.position, **stored(was.payload)}
            change = {"$unset": {f"briefs.{name}": 1}} if text is None else {"$set": {f"briefs.{name}": text}}
            await self._store.messages.update({**where, f"briefs.{name}": before}, {**change, **_NEXT_FORM})
        briefs = {name: text for name, text in {**briefs, **held}.items() if text is not None}
        where = {"_id": session_id, "inc": header.extent.inc, "epoch": header.extent.epoch}
        where |= {"version": header.session.version}
        card = None if new.card is None else stored(new.card)
        await self._store.sessions.update(where, {"$set": {"card": card, "briefs": briefs}})
        await self._store.sessions.update(this, [{"$set": updated(mark)}])

    async def memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        """Replace the payload of a memory; every put raises its form, for two may have the same time."""
        fields: Document = {"owner": 1, "key": 1, "form": 1, "encoding": 1, "payload": 1}
        while True:
            owner = await self._memories.owner(scope, now_us)
            place: Document = {"owner": owner, "key": key, **live(now_us)}
            found = await self._store.memories.find_one(place, fields) if owner is not None else None
            if found is None or _payload(found, f"memory {key!a} of {scope.kind} {scope.owner_id!a}") != old:
                return False
            where = _as_read(found, "_id", "owner", "key", "form")
            if await self._store.memories.update(where, {"$set": stored(new), **_NEXT_FORM}):
                return True

    async def messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        """Replace the payloads of messages.

        Raises:
            PayloadTooLargeError: A batch would outgrow its document; nothing of it was replaced, payloads in
                other batches may have been.
        """
        return await self._all(self._updates(session_id, changes, now_us, _due_payloads, self._replace))

    async def indexes(self, session_id: str, changes: Sequence[IndexRewrite], now_us: int) -> int:
        """Replace the indexes of messages; raises what ``messages`` raises."""
        return await self._all(self._updates(session_id, changes, now_us, _due_indexes, self._replace_indexes))

    async def _all(self, updates: AsyncIterator[int]) -> int:
        replaced = 0
        while True:
            with after_write() if replaced else nullcontext():
                count = await anext(updates, None)
            if count is None:
                return replaced
            replaced += count

    async def _updates(
        self,
        session_id: str,
        changes: Sequence[C],
        now_us: int,
        find: Callable[[str, Document, Mapping[int, C]], list[C]],
        replace: Callable[[Document, Sequence[C], Header], Awaitable[bool]],
    ) -> AsyncIterator[int]:
        """Change one batch after the other; yield how many changes each update has made.

        The unique index of ids leads from a message to its batch.

        Args:
            session_id: The session.
            changes: The changes.
            now_us: The time of the call.
            find: Returns the changes that fit a batch, of those by position.
            replace: Makes the changes of a batch; False: it has changed since it was read.
        """
        waiting = {change.position: change for change in changes}
        while waiting:
            header = await self._sessions.header(session_id)
            if header is None or not header.extent.is_live(now_us):
                return
            ids = {change.message_id for change in waiting.values()}
            overtaken: list[C] = []
            holding: Document = {"$match": {"inc": header.extent.inc, "ids": {"$in": sorted(ids)}}}
            found = self._store.messages.aggregate_in_parts(_AT_A_TIME, holding, hint=_BY_ID)
            async for batches in found:
                for batch in batches:
                    due = [
                        change
                        for change in find(session_id, batch, waiting)
                        if header.extent.shows(batch["epoch"], change.position)
                    ]
                    if due and await replace(batch, due, header):
                        yield len(due)
                    else:
                        overtaken += due
            waiting = {change.position: change for change in overtaken}

    async def _replace(self, batch: Document, due: Sequence[PayloadRewrite], header: Header) -> bool:
        """Replace payloads of a batch; False: it was rewritten, cut or deleted since it was read.

        A truncation takes out ids and items together. A message that it has hidden and not yet taken out may get
        another payload here, which no call returns. Briefs of the messages to which no summary refers any more are
        deleted, because they would keep their encoding.
        """
        many = "items" in batch
        change: Document = {
            f"items.{one.position - batch['first']}.{name}" if many else name: value
            for one in due
            for name, value in stored(one.new).items()
        }
        positions = {one.position for one in due if one.position <= header.extent.last} - header.extent.known.places
        unused = {f"briefs.{name}": 1 for name, text in batch.get("briefs", {}).items() if text["at"] in positions}
        where = _as_read(batch, "inc", "_id", "ids", "form")
        changes: Document = {"$set": change, **_NEXT_FORM, **({"$unset": unused} if unused else {})}
        return await self._store.messages.update(where, changes)

    async def _replace_indexes(self, batch: Document, due: Sequence[IndexRewrite], _: Header) -> bool:
        """Replace indexes of a batch; False as for ``_replace``."""
        change = changed_index(batch, {one.position: one.new for one in due})
        return await self._store.messages.update(_as_read(batch, "inc", "_id", "ids", "form"), {**change, **_NEXT_FORM})


def _is_between(found: HeaderTexts, old: HeaderTexts, new: HeaderTexts) -> bool:
    """Return whether each text is as it was or as it shall be."""
    return (
        found.card in (old.card, new.card)
        and found.first in (old.first, new.first)
        and found.last in (old.last, new.last)
    )


def _due_payloads(session_id: str, batch: Document, waiting: Mapping[int, PayloadRewrite]) -> list[PayloadRewrite]:
    """Return the changes of payloads that fit a batch."""
    found = [(waiting.get(message.position), message) for message in batch_records(session_id, [batch])]
    return [change for change, message in found if change is not None and change.fits(message)]


def _due_indexes(session_id: str, batch: Document, waiting: Mapping[int, IndexRewrite]) -> list[IndexRewrite]:
    """Return the changes of indexes that fit a batch."""
    found = [(waiting.get(record.position), record) for record in batch_indexes(session_id, [batch])]
    return [change for change, record in found if change is not None and change.fits(record)]


def _payload(document: Document, key: str) -> Payload:
    with readable(key):
        return stored_payload(document)


def _as_read(document: Document, *fields: str) -> Document:
    """Match a document while these fields are unchanged; a missing one is None."""
    return {field: document.get(field) for field in fields}
