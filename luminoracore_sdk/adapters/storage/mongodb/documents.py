"""Convert records to documents and documents to records.

Times are stored as 64-bit integers of microseconds, because BSON dates keep milliseconds only.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self, cast

import attrs
from bson import Int64, ObjectId

from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND
from luminoracore_sdk.adapters.storage.mongodb.summaries import (
    State,
    initial_briefs,
    pairs,
    stored,
    stored_payload,
    summary_of,
    texts_of,
)
from luminoracore_sdk.adapters.storage.packed import packed, unpacked
from luminoracore_sdk.application.ports.records import (
    NO_PAYLOAD,
    HistoryChange,
    IndexRecord,
    Lease,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
    SessionSummary,
    stored_header,
    stored_index,
    stored_record,
)
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = [
    "MINUTE_US",
    "MOST_COUNTED",
    "Extent",
    "Header",
    "batch_document",
    "batch_ids",
    "batch_indexes",
    "batch_records",
    "changed_index",
    "changes_document",
    "damaged",
    "given",
    "listed_record",
    "live",
    "memory_record",
    "minute",
    "new_header",
    "plain_numbers",
    "readable",
    "settled",
]


_UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
_WRONG_SHAPE = "a field is missing or has the wrong type"
_NO_STATE = "the state was not read"
_NO_PAYLOAD = "a payload is a string or bytes"
_NO_SUMMARY = SessionSummary()

MINUTE_US = 60_000_000

MOST_COUNTED = 64
"""Removed batches that a header names: more appends to one session than are being verified at a time."""


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
        state: What the summary is at ``last``, see ``summaries``; None: it was not read.
        texts: Texts of briefs, as they are stored, while the header has this ``form``; the state says which it has.
        form: How often texts that are stored were changed.
        is_settled: Whether the header has a copy of what the newest batch says, see ``sessions``.
        at_us: The time of the latest change.
        active_us: The minute of the latest change, as the header has it.
    """

    inc: ObjectId
    epoch: int
    sealed: tuple[tuple[int, int], ...] = ()
    last: int = 0
    ttl_us: int | None = None
    expires_at_us: int | None = None
    frozen: ObjectId | None = None
    state: State | None = None
    texts: Document = attrs.field(factory=dict)
    form: int = 0
    is_settled: bool = False
    at_us: int = 0
    active_us: int = 0

    def shows(self, epoch: int, position: int) -> bool:
        """Return whether a position of an epoch of this incarnation counts."""
        return epoch == self.epoch or position <= self.bound(epoch)

    def bound(self, epoch: int) -> int:
        """Return the last position of a sealed epoch that counts; 0: none."""
        return next((upto for sealed, upto in self.sealed if sealed == epoch), 0)

    def epoch_at(self, position: int) -> int:
        """Return the epoch that a position belongs to."""
        return next((epoch for epoch, upto in self.sealed if position <= upto), self.epoch)

    @property
    def known(self) -> State:
        """The state, of a header that was read."""
        if self.state is None:
            raise ValueError(_NO_STATE)
        return self.state

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
    """A session's header as it is stored, expired or not, with what its newest batch adds.

    Attributes:
        extent: Where its messages lie.
        session: The record.
        briefs: The texts that the header itself holds, see ``summaries``.
        writing: The marks of appends with a fence, see ``leases``.
        updating: The marks of updates in progress, see ``updates``.
        counted: The newest batches that the latest cuts have removed, the newest last.
    """

    extent: Extent
    session: SessionRecord
    briefs: Document
    writing: list[ObjectId]
    updating: list[ObjectId]
    counted: list[ObjectId]

    @classmethod
    def of(cls, document: Document) -> Self:
        """Read a header whose ``newest`` lists the newest batch of the open epoch, or nothing.

        The summary is that of its ``texts``, the batches that have the briefs, if the header has that field.

        While an append is not verified, its time counts up to the end of the minute that the header has: so the
        place of a session in a listing changes with its header only, even if the writer is killed.
        """
        with readable(f"session {document['_id']!a}"):
            sealed = tuple((part["epoch"], part["upto"]) for part in document["sealed"])
            last, updated = sealed[-1][1] if sealed else 0, document["updated"]
            read, briefs, summary = document.get("base"), document.get("briefs", {}), _NO_SUMMARY
            for batch in document["newest"]:
                last, updated, read = batch["last"], max(updated, batch["at"]), batch.get("state")
            state = None if read is None else State.of(read)
            texts = briefs | document.get("settled", {}).get("briefs", {})
            if "texts" in document and read is not None and state is not None:
                texts = texts_of(read, briefs, {batch["_id"]: batch.get("briefs", {}) for batch in document["texts"]})
                summary = summary_of(read["sum"], texts)
                state = state.limited(summary)
            return cls(
                extent=Extent(
                    inc=document["inc"],
                    epoch=document["epoch"],
                    sealed=sealed,
                    last=last,
                    ttl_us=document["ttl"],
                    expires_at_us=document.get("expires"),
                    frozen=document.get("frozen"),
                    state=state,
                    texts=texts,
                    form=document.get("form", 0),
                    is_settled="settled" in document,
                    at_us=updated,
                    active_us=document["active"],
                ),
                session=SessionRecord(
                    session_id=document["_id"],
                    user_id=document["user"],
                    tags=tuple(document["tags"]),
                    ttl_us=document["ttl"],
                    created_at_us=document["created"],
                    updated_at_us=min(updated, document["active"] + MINUTE_US - 1),
                    version=document["version"],
                    last_position=last,
                    payload=stored_payload(document) if "payload" in document else None,
                    card=stored_payload(document["card"]) if document.get("card") else None,
                    summary=summary,
                    last_change=document["noted"],
                    changes=tuple(
                        HistoryChange(change["n"], change["kind"], change["at"])
                        for change in document.get("changes", ())
                    ),
                    lease=_lease(document.get("lease")),
                ),
                briefs=briefs,
                writing=document.get("writing", []),
                updating=document.get("updating", []),
                counted=document.get("counted", []),
            )

    @property
    def noted(self) -> int:
        """The number of the latest change of the history; 0: none."""
        return self.session.changes[-1].number if self.session.changes else 0

    def has_counted(self, batch: Document) -> bool:
        """Return whether one of the latest cuts has removed a batch, so that the sums have what it adds."""
        return batch["_id"] in self.counted

    def begun(
        self, after: int, state: State, *, epoch: int | None = None, removed: Sequence[ObjectId] = ()
    ) -> Document:
        """Return the fields of a header that begins a new epoch.

        Args:
            after: The last position that stays.
            state: The state there.
            epoch: The number of the epoch; None: the next one.
            removed: The newest batches above the position, the newest last.
        """
        held = {"first": state.first, "last": state.last}
        return {
            "counted": {"$literal": [*self.counted, *removed][-MOST_COUNTED:]},
            "settled": "$$REMOVE",
            "epoch": self.extent.epoch + 1 if epoch is None else epoch,
            "sealed": {"$literal": self.extent.sealed_at(after)},
            "base": {"$literal": state.stored()},
            "briefs": {
                "$literal": {
                    name: text for name, text in self.briefs.items() if (place := held[name]) and place.batch is None
                }
            },
        }


def listed_record(
    document: Document, batch: Document | None, texts: Mapping[ObjectId, Document] | None
) -> SessionRecord:
    """Return the record of a header as a listing shows it; it is called for every session of a page.

    Args:
        document: The header, as it was read.
        batch: The newest batch of its open epoch; None: it has none, or the header is settled.
        texts: The texts of batches that have its briefs; None: the listing is without texts.
    """
    try:
        card, ttl_us, updated, summary = document.get("card"), document["ttl"], document["updated"], _NO_SUMMARY
        if copy := document.get("settled"):
            updated, last = max(updated, copy["at"]), copy["last"]
            if texts is not None:
                summary = summary_of(copy["sum"], copy["briefs"])
        else:
            last, state = document["sealed"][-1]["upto"] if document["sealed"] else 0, document.get("base", {})
            if batch is not None:
                updated, last, state = max(updated, batch["at"]), batch["last"], batch.get("state", {})
            if texts is not None:
                summary = summary_of(state["sum"], texts_of(state, document.get("briefs", {}), texts))
        return stored_header(
            document["_id"],
            document["user"],
            tuple(document["tags"]),
            None if ttl_us is None else int(ttl_us),
            int(document["created"]),
            int(min(updated, document["active"] + MINUTE_US - 1)),
            int(document["version"]),
            int(last),
            int(document["noted"]),
            None if card is None else stored_payload(card),
            summary,
        )
    except _UNREADABLE as exc:
        raise damaged(f"session {document['_id']!a}", _WRONG_SHAPE) from exc


def _lease(document: Document | None) -> Lease | None:
    if document is None:
        return None
    return Lease(fence=document["fence"], holder=document["holder"], until_us=document["until"])


def changes_document(changes: Iterable[HistoryChange]) -> Document:
    """Return the fields of a header that list changes."""
    listed = [{"n": change.number, "kind": change.kind, "at": change.position} for change in changes]
    return {"changes": {"$literal": listed}, "noted": listed[-1]["n"] if listed else 0}


def new_header(record: SessionRecord, extent: Extent, state: State) -> Document:
    """Return the document of a new session; version, times and summary are those of the record."""
    document = {
        "_id": record.session_id,
        **given(record),
        "created": record.created_at_us,
        "updated": record.updated_at_us,
        "active": extent.active_us,
        "version": 1,
        "inc": extent.inc,
        "epoch": extent.epoch,
        "sealed": [{"epoch": epoch, "upto": upto} for epoch, upto in extent.sealed],
        "base": state.stored(),
        "briefs": {
            name: text
            for name, text in initial_briefs(record.summary).items()
            if (place := {"first": state.first, "last": state.last}[name]) and place.batch is None
        },
        "noted": 0,
        "writing": [],
        "settled": settled(extent.last, record.updated_at_us, state, initial_briefs(record.summary)),
    }
    if extent.expires_at_us is not None:
        document["expires"] = extent.expires_at_us
    return document


def settled(last: int, at_us: int, state: State, briefs: Document) -> Document:
    """Return what a header has of the newest batch once it is settled, see ``sessions``.

    Args:
        last: The last position.
        at_us: The time of the latest change.
        state: The state there.
        briefs: The texts of its briefs.
    """
    return {"last": last, "at": at_us, "sum": pairs(state.counters), "briefs": briefs}


def given(record: SessionRecord) -> Document:
    """Return the fields of a header that a put replaces."""
    return {
        "user": record.user_id,
        "tags": list(record.tags),
        "ttl": record.ttl_us,
        "card": None if record.card is None else stored(record.card),
        **stored(cast("Payload", record.payload)),
    }


def minute(time_us: int) -> int:
    """Return the beginning of the minute of a time, by which sessions are listed."""
    return time_us - time_us % MINUTE_US


def batch_document(
    session_id: str, extent: Extent, messages: Sequence[MessageRecord], now_us: int
) -> tuple[Document, State]:
    """Return the document of one append, or of several that are written together, and the state behind it.

    A single message lies in the document itself: a thousand such documents are read in two thirds of the time.
    """
    batch, first = ObjectId(), extent.last + 1
    state, briefs = extent.known.appended(messages, first, batch)
    document: Document = {
        "_id": batch,
        "inc": extent.inc,
        "epoch": extent.epoch,
        "s": session_id,  # for people, and for the purge
        "first": first,
        "last": extent.last + len(messages),
        "at": max(now_us, extent.at_us),
        "state": state.stored(),
    }
    if briefs:
        document["briefs"] = briefs
    indexes = [None if message.index is None else packed(message.index) for message in messages]
    if indexes.count(None) < len(indexes):
        document["index"] = indexes if len(indexes) > 1 else indexes[0]
    if len(messages) == 1:
        return {**document, "ids": messages[0].message_id, **_item(messages[0])}, state
    ids, items = [message.message_id for message in messages], [_item(message) for message in messages]
    return {**document, "before": pairs(extent.known.roles), "ids": ids, "items": items}, state


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


def batch_indexes(session_id: str, batches: Iterable[Document]) -> list[IndexRecord]:
    """Return the indexes of the messages of batches."""
    found = list[IndexRecord]()
    batch: Document = {}
    try:
        for batch in batches:
            items = batch.get("items")
            ids, heads = ((batch["ids"],), (batch,)) if items is None else (batch["ids"], items)
            position = int(batch["first"])
            for message_id, head, value in zip(ids, heads, _indexes(batch), strict=True):
                index = None if value is None else unpacked(value)
                found.append(stored_index(position, message_id, head["role"], int(head["created"]), index))
                position += 1
    except _UNREADABLE as exc:
        key = f"the indexes of messages {batch.get('first')} to {batch.get('last')} of session {session_id!a}"
        raise damaged(key, _WRONG_SHAPE) from exc
    return found


def _indexes(batch: Document) -> Sequence[bytes | None]:
    """Return the index of each message of a batch, as it is stored."""
    value = batch.get("index")
    if "items" not in batch:
        return [value]
    return [None] * len(batch["ids"]) if value is None else value


def changed_index(batch: Document, new: Mapping[int, Payload | None]) -> Document:
    """Return the update that replaces the indexes of messages of a batch, by their positions."""
    values = list(_indexes(batch))
    for position, index in new.items():
        values[position - batch["first"]] = None if index is None else packed(index)
    if values.count(None) == len(values):
        return {"$unset": {"index": 1}}
    return {"$set": {"index": values if "items" in batch else values[0]}}


def memory_record(scope: MemoryScope, document: Document, *, whole: bool = True) -> MemoryRecord:
    """Return the memory of a document; ``whole``: it has the payload."""
    with readable(f"memory {document.get('key')!a} of {scope.kind} {scope.owner_id!a}"):
        return MemoryRecord(
            scope=scope,
            key=document["key"],
            expires_at_us=document.get("expires"),
            retention=document["retention"],
            created_at_us=document["created"],
            updated_at_us=document["updated"],
            version=document["version"],
            payload=stored_payload(document) if whole else NO_PAYLOAD,
        )


def plain_numbers(document: Document) -> Document:
    """Return a document that was read as it is, with the integers of Python."""
    return {name: int(value) if type(value) is Int64 else value for name, value in document.items()}


def live(now_us: int) -> Document:
    """Match what has not expired; what never expires has no ``expires``."""
    return {"expires": {"$not": {"$lte": now_us}}}


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
