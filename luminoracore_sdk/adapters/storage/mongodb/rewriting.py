"""Rewriting of payloads: read a document, and replace payloads in it if it has not changed since.

The server does not compare payloads: a command holds 16 MB, and the old and the new one might not fit. It compares
``form`` instead, a number that every rewrite, and every put of a memory, raises, together with the other fields
that show that the read is out of date. If it is, the call reads again.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import nullcontext

from luminoracore_sdk.adapters.storage.mongodb.documents import (
    Header,
    batch_records,
    live,
    readable,
    stored,
    stored_payload,
)
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import after_write
from luminoracore_sdk.adapters.storage.mongodb.memories import Memories
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions
from luminoracore_sdk.application.ports.records import MemoryScope, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite

__all__ = ["Rewriting"]

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
        updates, replaced = self._updates(session_id, changes, now_us), 0
        while True:
            with after_write() if replaced else nullcontext():
                count = await anext(updates, None)
            if count is None:
                return replaced
            replaced += count

    async def _updates(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> AsyncIterator[int]:
        """Change one batch after the other; yield how many payloads each update has replaced.

        The unique index of ids leads from a message to its batch.
        """
        waiting = {change.position: change for change in changes}
        while waiting:
            header = await self._sessions.header(session_id)
            if header is None or not header.extent.is_live(now_us):
                return
            ids = {change.message_id for change in waiting.values()}
            overtaken: list[PayloadRewrite] = []
            holding: Document = {"$match": {"inc": header.extent.inc, "ids": {"$in": sorted(ids)}}}
            found = self._store.messages.aggregate_in_parts(_AT_A_TIME, holding, hint=_BY_ID)
            async for batches in found:
                for batch in batches:
                    due = list(_due(header, batch, waiting))
                    if due and await self._replace(batch, due):
                        yield len(due)
                    else:
                        overtaken += due
            waiting = {change.position: change for change in overtaken}

    async def _replace(self, batch: Document, due: Sequence[PayloadRewrite]) -> bool:
        """Replace payloads of a batch; False: it was rewritten, cut or deleted since it was read.

        A truncation takes out ids and items together. A message that it has hidden and not yet taken out may get
        another payload here, which no call returns.
        """
        many = "items" in batch
        change: Document = {
            f"items.{one.position - batch['first']}.{name}" if many else name: value
            for one in due
            for name, value in stored(one.new).items()
        }
        where = _as_read(batch, "inc", "_id", "ids", "form")
        return await self._store.messages.update(where, {"$set": change, **_NEXT_FORM})


def _due(header: Header, batch: Document, waiting: Mapping[int, PayloadRewrite]) -> Iterator[PayloadRewrite]:
    """Yield the changes of messages of a batch that count and are as the changes expect them."""
    for message in batch_records(header.session.session_id, [batch]):
        change = waiting.get(message.position)
        if (
            change is not None
            and header.extent.shows(batch["epoch"], message.position)
            and (message.message_id, message.payload) == (change.message_id, change.old)
        ):
            yield change


def _payload(document: Document, key: str) -> Payload:
    with readable(key):
        return stored_payload(document)


def _as_read(document: Document, *fields: str) -> Document:
    """Match a document while these fields are unchanged; a missing one is None."""
    return {field: document.get(field) for field in fields}
