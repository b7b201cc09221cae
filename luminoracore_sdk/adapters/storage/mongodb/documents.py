"""Convert records to documents and documents to records.

Times are stored as 64-bit integers of microseconds, because BSON dates keep milliseconds only.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import attrs
from bson import Int64, ObjectId

from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
    stored_record,
)
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = [
    "Extent",
    "Header",
    "batch_document",
    "batch_ids",
    "batch_records",
    "damaged",
    "live",
    "memory_record",
    "plain_numbers",
    "readable",
    "stored",
    "stored_payload",
]


_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
_NO_PAYLOAD = "a payload is a string or bytes"
_WRONG_SHAPE = "a field is missing or has the wrong type"


@attrs.frozen(kw_only=True)
class Extent:
    """Where the messages of a session lie, as its header and its newest batch say.

    Attributes:
        inc: The incarnation of the session.
        epoch: The open epoch, in which new batches are inserted.
        sealed: The epochs before it that still count, in order, each with the last position that counts.
        last: The newest position; 0: none.
        ttl_us: The session's time to live; None: it does not expire.
        expires_at_us: When it expires unless it is written before; None: never.
        frozen: The mark of a tail that is being replaced, see ``tails``; None: none.
    """

    inc: ObjectId
    epoch: int
    sealed: tuple[tuple[int, int], ...] = ()
    last: int = 0
    ttl_us: int | None = None
    expires_at_us: int | None = None
    frozen: ObjectId | None = None

    def shows(self, epoch: int, position: int) -> bool:
        """Return whether a position of an epoch of this incarnation counts."""
        return epoch == self.epoch or position <= self.bound(epoch)

    def bound(self, epoch: int) -> int:
        """Return the last position of a sealed epoch that counts; 0: none."""
        return next((upto for sealed, upto in self.sealed if sealed == epoch), 0)

    def epoch_at(self, position: int) -> int:
        """Return the epoch that a position belongs to."""
        return next((epoch for epoch, upto in self.sealed if position <= upto), self.epoch)

    def sealed_at(self, after: int) -> list[Document]:
        """Return the sealed epochs, as a header stores them, once everything above a position is removed."""
        sealed, begin = list[Document](), 0
        for epoch, upto in (*self.sealed, (self.epoch, self.last)):
            end = min(upto, after)
            if end > begin:
                sealed.append({"epoch": epoch, "upto": end})
                begin = end
        return sealed

    def is_live(self, now_us: int) -> bool:
        """Return whether the session has not expired."""
        return self.expires_at_us is None or self.expires_at_us > now_us


@attrs.frozen(kw_only=True)
class Header:
    """A session's header as it is stored, expired or not, with what its newest batch adds."""

    extent: Extent
    session: SessionRecord

    @classmethod
    def of(cls, document: Document) -> Self:
        """Read a header whose ``newest`` lists the newest batch of the open epoch, or nothing."""
        with readable(f"session {document['_id']!a}"):
            sealed = tuple((part["epoch"], part["upto"]) for part in document["sealed"])
            last, updated = sealed[-1][1] if sealed else 0, document["updated"]
            for batch in document["newest"]:
                last, updated = batch["last"], max(updated, batch["at"])
            return cls(
                extent=Extent(
                    inc=document["inc"],
                    epoch=document["epoch"],
                    sealed=sealed,
                    last=last,
                    ttl_us=document["ttl"],
                    expires_at_us=document.get("expires"),
                    frozen=document.get("frozen"),
                ),
                session=SessionRecord(
                    session_id=document["_id"],
                    user_id=document["user"],
                    tags=tuple(document["tags"]),
                    ttl_us=document["ttl"],
                    created_at_us=document["created"],
                    updated_at_us=updated,
                    version=document["version"],
                    last_position=last,
                    payload=stored_payload(document) if "payload" in document else None,
                ),
            )


def batch_document(session_id: str, extent: Extent, messages: Sequence[MessageRecord], now_us: int) -> Document:
    """Return the document of one append, or of several that are written together.

    A single message lies in the document itself: a thousand such documents are read in two thirds of the time.
    """
    first = extent.last + 1
    document: Document = {
        "_id": ObjectId(),
        "inc": extent.inc,
        "epoch": extent.epoch,
        "s": session_id,  # for people, and for the purge
        "first": first,
        "last": first + len(messages) - 1,
        "at": now_us,
    }
    if len(messages) == 1:
        return {**document, "ids": messages[0].message_id, **_item(messages[0])}
    ids = [message.message_id for message in messages]
    return {**document, "ids": ids, "items": [_item(message) for message in messages]}


def _item(message: MessageRecord) -> Document:
    return {"role": message.role, "created": message.created_at_us, **stored(message.payload)}


def batch_ids(batch: Document) -> Sequence[str]:
    """Return the ids of a batch's messages."""
    return [batch["ids"]] if isinstance(batch["ids"], str) else batch["ids"]


def batch_records(session_id: str, batches: Iterable[Document]) -> list[MessageRecord]:
    """Return the messages of batches.

    Besides the driver this loop is what a long read costs, so it calls as little as possible: a function and a
    context manager for each payload made 1,000 messages a third slower.
    """
    found = list[MessageRecord]()
    batch: Document = {}
    try:
        for batch in batches:
            ids, items, position = batch["ids"], batch.get("items"), int(batch["first"])  # or a bson.Int64
            if items is None:
                ids, items = (ids,), (batch,)
            for message_id, item in zip(ids, items, strict=True):
                data = item["payload"]
                if type(data) is str:
                    data = data.encode()
                elif type(data) is not bytes:
                    raise TypeError(_NO_PAYLOAD)
                created_at_us = int(item["created"])
                found.append(stored_record(position, message_id, item["role"], created_at_us, item["encoding"], data))
                position += 1
    except _UNREADABLE as exc:
        key = f"messages {batch.get('first')} to {batch.get('last')} of session {session_id!a}"
        raise damaged(key, _WRONG_SHAPE) from exc
    return found


def memory_record(scope: MemoryScope, document: Document) -> MemoryRecord:
    """Return the memory of a document."""
    with readable(f"memory {document.get('key')!a} of {scope.kind} {scope.owner_id!a}"):
        return MemoryRecord(
            scope=scope,
            key=document["key"],
            expires_at_us=document.get("expires"),
            retention=document["retention"],
            created_at_us=document["created"],
            updated_at_us=document["updated"],
            payload=stored_payload(document),
        )


def plain_numbers(document: Document) -> Document:
    """Return a document that was read as it is, with the integers of Python."""
    return {name: int(value) if type(value) is Int64 else value for name, value in document.items()}


def live(now_us: int) -> Document:
    """Match what has not expired; what never expires has no ``expires``."""
    return {"expires": {"$not": {"$lte": now_us}}}


def stored(payload: Payload) -> Document:
    """Return the two fields of a payload: a string where it is text, so that people can read it."""
    data: str | bytes = payload.data
    if payload.is_text:
        try:
            data = payload.data.decode()
        except UnicodeDecodeError:  # not what the encoding says; the bytes are kept all the same
            data = payload.data
    return {"encoding": payload.encoding, "payload": data}


def stored_payload(document: Document) -> Payload:
    """Return the payload of a document; call it in ``readable``."""
    data = document["payload"]
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, bytes):
        raise TypeError(_NO_PAYLOAD)
    return Payload(document["encoding"], data)


def damaged(key: str, reason: str) -> CorruptRecordError:
    """Return the error for a record that cannot be read."""
    return CorruptRecordError(backend=BACKEND, key=key, reason=reason)


@contextmanager
def readable(key: str) -> Iterator[None]:
    """Raise ``CorruptRecordError`` for whatever reading a document of the wrong shape raises."""
    try:
        yield
    except _UNREADABLE as exc:
        raise damaged(key, _WRONG_SHAPE) from exc
