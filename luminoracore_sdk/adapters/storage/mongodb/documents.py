"""Records to documents and documents to records.

Times are 64-bit whole microseconds: BSON's own dates keep milliseconds only.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import attrs
from bson import ObjectId

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
    "End",
    "Header",
    "Segment",
    "batch_document",
    "batch_ids",
    "batch_records",
    "closing_document",
    "cut",
    "damaged",
    "live",
    "memory_record",
    "readable",
    "stored",
    "stored_payload",
]


_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
_NO_PAYLOAD = "a payload is text or bytes"
_NOT_AS_IT_SHOULD = "a field is missing or does not hold what it should"


@attrs.frozen
class Segment:
    """The part of a history that counts: positions ``first`` to ``last``, empty when last < first."""

    history: ObjectId
    first: int
    last: int


@attrs.frozen
class End:
    """Where the messages of a session end: its incarnation, its open history, the newest position."""

    inc: ObjectId
    history: ObjectId
    last: int


@attrs.frozen(kw_only=True)
class Header:
    """A session's header as it is stored, with what its newest batch says.

    Attributes:
        inc: Its incarnation.
        segments: What its messages are made of, oldest first; the last one is the open history.
        session: The record. A session that has expired has one too.
        is_closed: The open history is closed, and the header not yet changed; see ``mongodb_closing``.
    """

    inc: ObjectId
    segments: tuple[Segment, ...]
    session: SessionRecord
    expires_at_us: int | None
    is_closed: bool
    _bounds: dict[ObjectId, int] = attrs.field(
        init=False,
        repr=False,
        default=attrs.Factory(lambda self: _bounds(self.segments[:-1]), takes_self=True),
    )

    @classmethod
    def of(cls, document: Document) -> Self:
        """Read a header with ``newest``: a list of the newest batch of the open history, or of none."""
        with readable(f"session {document['_id']!a}"):
            segments = list(_segments(document))
            last = segments[-1].last
            newest = document["newest"][0] if document["newest"] else {"at": document["updated"]}
            session = SessionRecord(
                session_id=document["_id"],
                user_id=document["user"],
                tags=tuple(document["tags"]),
                ttl_us=document["ttl"],
                created_at_us=document["created"],
                updated_at_us=max(document["updated"], newest.get("closed", newest["at"])),
                version=document["version"],
                last_position=last,
                payload=stored_payload(document) if "payload" in document else None,
            )
            return cls(
                inc=document["inc"],
                segments=tuple(segments),
                session=session,
                expires_at_us=document.get("expires"),
                is_closed="closed" in newest,
            )

    @property
    def open(self) -> ObjectId:
        """The history that takes appends."""
        return self.segments[-1].history

    @property
    def last(self) -> int:
        """The newest position."""
        return self.segments[-1].last

    @property
    def end(self) -> End:
        """Where the next append goes."""
        return End(self.inc, self.open, self.last)

    def shows(self, history: ObjectId, position: int) -> bool:
        """Tell whether a position of a history counts; every one of the open history does."""
        return history == self.open or position <= self.bound(history)

    def bound(self, history: ObjectId) -> int:
        """Return up to which position a history that is not open counts; 0: it does not."""
        return self._bounds.get(history, 0)

    def is_live(self, now_us: int) -> bool:
        """Tell whether the session counts as there."""
        return self.expires_at_us is None or self.expires_at_us > now_us


def _bounds(sealed: Sequence[Segment]) -> dict[ObjectId, int]:
    return {segment.history: segment.last for segment in sealed}


def _segments(document: Document) -> Iterator[Segment]:
    last = 0
    for sealed in document["sealed"]:
        yield Segment(sealed["h"], last + 1, sealed["upto"])
        last = sealed["upto"]
    newest = document["newest"]
    yield Segment(document["open"], last + 1, newest[0]["last"] if newest else last)


def cut(segments: Sequence[Segment], after: int) -> list[Segment]:
    """Return what is left of segments up to a position; empty ones are left out."""
    left = (Segment(segment.history, segment.first, min(segment.last, after)) for segment in segments)
    return [segment for segment in left if segment.first <= segment.last]


def closing_document(session_id: str, end: End, updated_at_us: int, now_us: int) -> Document:
    """Return the document that closes a history behind its end; see ``mongodb_closing``."""
    document_id = ObjectId()
    return {
        "_id": document_id,
        "inc": end.inc,
        "h": end.history,
        "s": session_id,
        "first": end.last + 1,
        "last": end.last,  # so that the history still ends there
        "at": now_us,
        "closed": updated_at_us,
        "ids": [document_id],  # nobody's message id
        "items": [],
    }


def batch_document(
    session_id: str, end: End, messages: Sequence[MessageRecord], now_us: int, writer: ObjectId
) -> Document:
    """Return the document of one append, or of several that are written together.

    One message lies in it directly: the driver reads a thousand such documents in two thirds of the time.
    """
    first = end.last + 1
    document: Document = {
        "_id": ObjectId(),
        "inc": end.inc,
        "h": end.history,
        "s": session_id,  # for people, and for the sweep
        "first": first,
        "last": first + len(messages) - 1,
        "at": now_us,
        "w": writer,
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


def batch_records(session_id: str, *batches: Document) -> list[MessageRecord]:
    """Return the messages of batches; none of one that a truncation has emptied.

    It is what a long read takes time for besides the driver, so it makes no detours: with a function and a
    context manager for each batch and payload, 1,000 messages took a third longer.
    """
    found = list[MessageRecord]()
    batch: Document = {}
    try:
        for batch in batches:
            ids, items, position = batch["ids"], batch.get("items"), int(batch["first"])  # or a bson.Int64
            if items is None:
                ids, items = (ids,), (batch,)
            elif not items:
                continue
            for message_id, item in zip(ids, items, strict=True):
                data = item["payload"]
                if type(data) is str:
                    data = data.encode()
                elif type(data) is not bytes:
                    raise TypeError(_NO_PAYLOAD)
                made_at_us = int(item["created"])
                found.append(stored_record(position, message_id, item["role"], made_at_us, item["tag"], data))
                position += 1
    except _UNREADABLE as exc:
        key = f"messages {batch.get('first')} to {batch.get('last')} of session {session_id!a}"
        raise damaged(key, _NOT_AS_IT_SHOULD) from exc
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


def live(now_us: int) -> Document:
    """Match what has not expired; what never does has no ``expires``."""
    return {"expires": {"$not": {"$lte": now_us}}}


def stored(payload: Payload) -> Document:
    """Return the two fields of a payload: text where it is text, so that people can read it."""
    data: str | bytes = payload.data
    if payload.is_text:
        try:
            data = payload.data.decode()
        except UnicodeDecodeError:  # the tag promises too much; the bytes are kept all the same
            data = payload.data
    return {"tag": payload.encoding, "payload": data}


def stored_payload(document: Document) -> Payload:
    """Return the payload of a document; call it in ``readable``."""
    data = document["payload"]
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, bytes):
        raise TypeError(_NO_PAYLOAD)
    return Payload(document["tag"], data)


def damaged(key: str, reason: str) -> CorruptRecordError:
    """Return the error for a record that cannot be read."""
    return CorruptRecordError(backend=BACKEND, key=key, reason=reason)


@contextmanager
def readable(key: str) -> Iterator[None]:
    """Raise what reading a document of another shape raises as ``CorruptRecordError``."""
    try:
        yield
    except _UNREADABLE as exc:
        raise damaged(key, _NOT_AS_IT_SHOULD) from exc
