"""Convert records to what Redis stores, and back.

A session's header is a hash. A message, a memory, a brief and a lease is one value each: its fields joined by NUL,
which no id and no encoding contains, with the payload's bytes last. ``scripts/summary.lua`` describes the counters,
``scripts/history.lua`` the changes of a header.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

from luminoracore_sdk.adapters.storage.packed import packed, unpacked
from luminoracore_sdk.adapters.storage.redis.keys import stamp, unstamp
from luminoracore_sdk.application.ports.records import (
    NO_PAYLOAD,
    Brief,
    HeaderTexts,
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
    without_zeros,
)
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = [
    "BACKEND",
    "HEADER",
    "LISTED_HEADER",
    "TURN_HEADER",
    "WHOLE_HEADER",
    "added_words",
    "damaged",
    "index_record",
    "light_record",
    "memory_record",
    "memory_value",
    "message_element",
    "message_record",
    "number_or_none",
    "optional_payload",
    "session_record",
    "session_summary",
    "summary_texts",
    "text_values",
]

BACKEND = "redis"

HEADER: tuple[bytes, ...] = (
    *(b"created", b"updated_at_us", b"ttl_us"),
    *(b"version", b"last_position", b"user", b"tags"),
)
"""The fields of a session's hash that every record of it is made of."""

TURN_HEADER: tuple[bytes, ...] = (*HEADER, b"encoding", b"payload")

LISTED_HEADER: tuple[bytes, ...] = (*HEADER, b"changes", b"card", b"counters", b"first_brief", b"last_brief")

WHOLE_HEADER: tuple[bytes, ...] = (*LISTED_HEADER, b"encoding", b"payload", b"lease")

Values = Sequence[bytes | None]


def number_or_none(value: int | None) -> bytes:
    """Return a number as text, or nothing for None."""
    return b"" if value is None else b"%d" % value


def message_element(message: MessageRecord) -> bytes:
    """Return a message as an element of its session's list."""
    fields = (message.message_id.encode(), message.role.encode(), b"%d" % message.created_at_us)
    return b"\0".join((*fields, packed(message.payload)))


def memory_value(record: MemoryRecord) -> tuple[bytes, bytes, bytes]:
    """Return expiry (a stamp, or nothing), retention, and payload, as the script ``change_memories`` takes them."""
    expires = b"" if record.expires_at_us is None else stamp(record.expires_at_us)
    return expires, repr(float(record.retention)).encode(), packed(record.payload)


def optional_payload(payload: Payload | None) -> bytes:
    """Return a payload, or nothing for None."""
    return b"" if payload is None else packed(payload)


def _brief_value(brief: Brief | None) -> bytes:
    return b"" if brief is None else b"%d\0%s" % (brief.position, packed(brief.payload))


def text_values(texts: HeaderTexts) -> tuple[bytes, bytes, bytes]:
    """Return card, first and last brief as they are stored."""
    return optional_payload(texts.card), _brief_value(texts.first), _brief_value(texts.last)


def counters_text(counters: Mapping[str, int]) -> bytes:
    """Return counters as they are stored, without those of 0."""
    return "".join([f"\0\0{name}\0{number}" for name, number in counters.items() if number]).encode()


def summary_texts(summary: SessionSummary) -> tuple[bytes, bytes, bytes]:
    """Return counters, first and last brief as they are stored."""
    return counters_text(summary.counters), _brief_value(summary.first), _brief_value(summary.last)


def added_words(messages: Sequence[MessageRecord]) -> tuple[bytes, bytes, bytes]:
    """Return what messages add to a summary: the same as ``SessionSummary.appended``, in a third of the time.

    Returns:
        Counters, first and last brief; the briefs have the place of their message instead of its position.
    """
    counters: dict[str, int] = {}
    first = last = b""
    for place, message in enumerate(messages, start=1):
        counters[message.role] = counters.get(message.role, 0) + 1
        for name, number in message.adds.items():
            counters[name] = counters.get(name, 0) + number
        if message.brief is not None:
            last = b"%d\0%s" % (place, packed(message.brief))
            if message.role == "user" and not first:
                first = last
    return counters_text(counters), first, last


def session_record(session_id: str, fields: Sequence[bytes], values: Values) -> SessionRecord | None:
    """Return the header of a hash, or None if there is none.

    Args:
        session_id: The session's id.
        fields: Which fields were read: ``HEADER`` or one of the others.
        values: Their values.

    Raises:
        CorruptRecordError: A field is missing or malformed.
    """
    found = {name: value for name, value in zip(fields, values, strict=True) if value is not None}
    if not found:
        return None
    try:
        ttl, user, tags = found[b"ttl_us"], found[b"user"], found[b"tags"]
        return SessionRecord(
            session_id=session_id,
            created_at_us=unstamp(found[b"created"]),
            updated_at_us=int(found[b"updated_at_us"]),
            ttl_us=int(ttl) if ttl else None,
            version=int(found[b"version"]),
            last_position=int(found[b"last_position"]),
            user_id=user.decode() if user else None,
            tags=tuple(tags.decode().split("\0")) if tags else (),
            payload=Payload(found[b"encoding"].decode(), found[b"payload"]) if b"payload" in fields else None,
            card=_payload(found[b"card"]) if b"card" in fields else None,
            summary=_summary(found[b"counters"], found[b"first_brief"], found[b"last_brief"])
            if b"counters" in fields
            else _NO_SUMMARY,
            last_change=int(found[b"changes"].partition(b" ")[0]) if b"changes" in found else 0,
            changes=_changes(found[b"changes"]) if b"changes" in found and b"lease" in fields else (),
            lease=_lease(found[b"lease"]) if b"lease" in found else None,
        )
    except (KeyError, ValueError) as exc:
        raise damaged(f"session {session_id!a}", "a field of its hash is missing or malformed") from exc


_NO_SUMMARY = SessionSummary()


def session_summary(session_id: str, counters: bytes, first: bytes, last: bytes) -> SessionSummary:
    """Return the summary of a header.

    Raises:
        CorruptRecordError: A value is malformed.
    """
    try:
        return _summary(counters, first, last)
    except ValueError as exc:
        raise damaged(f"session {session_id!a}", "its summary is malformed") from exc


def _summary(counters: bytes, first: bytes, last: bytes) -> SessionSummary:
    words = counters.decode().split("\0")
    if any((words[0], *words[1::3])):
        raise ValueError("what is added to a counter is two NULs, its name, NUL and a number")
    sums: dict[str, int] = {}
    for name, number in zip(words[2::3], words[3::3], strict=True):
        sums[name] = sums.get(name, 0) + int(number)
    return SessionSummary(first=_brief(first), last=_brief(last), counters=without_zeros(sums))


def _payload(value: bytes) -> Payload | None:
    return unpacked(value) if value else None


def _brief(value: bytes) -> Brief | None:
    if not value:
        return None
    position, payload = value.split(b"\0", 1)
    return Brief(int(position), unpacked(payload))


_KINDS: Mapping[str, Literal["updated", "cut"]] = {"u": "updated", "c": "cut"}


def _changes(value: bytes) -> tuple[HistoryChange, ...]:
    newest, *words = value.decode().split(" ")
    first = int(newest) - len(words) + 1
    return tuple(
        HistoryChange(number, _KINDS[word[:1]], int(word[1:])) for number, word in enumerate(words, start=first)
    )


def _lease(value: bytes) -> Lease:
    fence, until_us, holder = value.split(b"\0")
    return Lease(fence=int(fence), holder=holder.decode(), until_us=int(until_us))


def message_record(session_id: str, position: int, element: bytes) -> MessageRecord:
    """Return the message of a list element.

    Raises:
        CorruptRecordError: The element is malformed.
    """
    try:
        message_id, role, created, encoding, data = element.split(b"\0", 4)
        created_at_us = int(created)
        return stored_record(position, message_id.decode(), role.decode(), created_at_us, encoding.decode(), data)
    except ValueError as exc:
        key = f"message {position} of session {session_id!a}"
        raise damaged(key, "the element is not id, role, time, encoding and payload") from exc


def light_record(session_id: str, value: bytes) -> SessionRecord:
    """Return the header of what the script ``light_headers`` returns.

    Raises:
        CorruptRecordError: A field is missing or malformed.
    """
    try:
        created, updated, ttl, version, last, user, change, tags = value.split(b"\0", 7)
        return stored_header(
            session_id,
            user.decode() if user else None,
            tuple(tags.decode().split("\0")) if tags else (),
            int(ttl) if ttl else None,
            unstamp(created),
            int(updated),
            int(version),
            int(last),
            int(change),
        )
    except ValueError as exc:
        raise damaged(f"session {session_id!a}", "a field of its hash is missing or malformed") from exc


def index_record(session_id: str, position: int, element: bytes) -> IndexRecord:
    """Return the index of a message of what the script ``read_index`` returns.

    Raises:
        CorruptRecordError: The element is malformed.
    """
    try:
        message_id, role, created, index = element.split(b"\0", 3)
        payload = unpacked(index) if index else None
        return stored_index(position, message_id.decode(), role.decode(), int(created), payload)
    except ValueError as exc:
        key = f"the index of message {position} of session {session_id!a}"
        raise damaged(key, "the element is not id, role and time, or the index not encoding and bytes") from exc


def memory_record(scope: MemoryScope, key: bytes, value: bytes, *, whole: bool = True) -> MemoryRecord:
    """Return the memory of a hash value.

    Args:
        scope: The scope.
        key: The key.
        value: The value.
        whole: Whether it has the payload.

    Raises:
        CorruptRecordError: The value is malformed.
    """
    try:
        created, updated, expires, retention, version, encoding, data = value.split(b"\0", 6)
        return MemoryRecord(
            scope=scope,
            key=key.decode(),
            created_at_us=unstamp(created),
            updated_at_us=unstamp(updated),
            expires_at_us=unstamp(expires) if expires else None,
            retention=float(retention),
            version=int(version),
            payload=Payload(encoding.decode(), data) if whole else NO_PAYLOAD,
        )
    except ValueError as exc:
        reason = "the value is not three times, retention, version, encoding and payload"
        raise damaged(f"memory {key!a} of {scope.kind} {scope.owner_id!a}", reason) from exc


def damaged(key: str, reason: str) -> CorruptRecordError:
    """Return the error for a record that cannot be read."""
    return CorruptRecordError(backend=BACKEND, key=key, reason=reason)
