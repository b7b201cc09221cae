"""Convert records to what Redis stores, and back.

A session's header is a hash. A message, and a memory, is one value: its fields joined by NUL, which no id and
no encoding contains, with the payload's bytes last.
"""

from collections.abc import Sequence

from luminoracore_sdk.adapters.storage.redis.keys import stamp, unstamp
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
    stored_record,
)
from luminoracore_sdk.domain.errors import CorruptRecordError, ValidationError

__all__ = [
    "BACKEND",
    "HEADER",
    "HEADER_WITH_PAYLOAD",
    "damaged",
    "encoded_payload",
    "encoding_bytes",
    "memory_record",
    "memory_value",
    "message_element",
    "message_record",
    "number_or_none",
    "session_record",
]

BACKEND = "redis"

HEADER: tuple[bytes, ...] = (
    *(b"created", b"updated_at_us", b"ttl_us"),
    *(b"version", b"last_position", b"user", b"tags"),
)
"""The fields of a session's hash, in the order in which ``session_record`` takes them."""

HEADER_WITH_PAYLOAD: tuple[bytes, ...] = (*HEADER, b"encoding", b"payload")

Values = Sequence[bytes | None]


def number_or_none(value: int | None) -> bytes:
    """Return a number as text, or nothing for None."""
    return b"" if value is None else b"%d" % value


def encoding_bytes(payload: Payload) -> bytes:
    """Return the name of a payload's encoding as it is stored.

    Raises:
        ValidationError: It contains NUL, which ends a field here.
    """
    if "\0" in payload.encoding:
        raise ValidationError("a payload's encoding contains no NUL character")
    return payload.encoding.encode()


def encoded_payload(payload: Payload) -> bytes:
    """Return encoding and bytes as they end a stored message or memory."""
    return encoding_bytes(payload) + b"\0" + payload.data


def message_element(message: MessageRecord) -> bytes:
    """Return a message as an element of its session's list."""
    fields = (message.message_id.encode(), message.role.encode(), b"%d" % message.created_at_us)
    return b"\0".join((*fields, encoded_payload(message.payload)))


def memory_value(record: MemoryRecord) -> tuple[bytes, bytes, bytes]:
    """Return expiry (a stamp, or nothing), retention, and payload, as the script ``put_memory`` takes them."""
    expires = b"" if record.expires_at_us is None else stamp(record.expires_at_us)
    return expires, repr(float(record.retention)).encode(), encoded_payload(record.payload)


def session_record(session_id: str, values: Values) -> SessionRecord | None:
    """Return the header of a hash, or None if there is none.

    Args:
        session_id: The session's id.
        values: The values of ``HEADER`` or ``HEADER_WITH_PAYLOAD``.

    Raises:
        CorruptRecordError: A field is missing or malformed.
    """
    if not any(value is not None for value in values):
        return None
    try:
        created, updated, ttl, version, last, user, tags, *payload = map(_required, values)
        return SessionRecord(
            session_id=session_id,
            created_at_us=unstamp(created),
            updated_at_us=int(updated),
            ttl_us=int(ttl) if ttl else None,
            version=int(version),
            last_position=int(last),
            user_id=user.decode() if user else None,
            tags=tuple(tags.decode().split("\0")) if tags else (),
            payload=Payload(payload[0].decode(), payload[1]) if payload else None,
        )
    except ValueError as exc:
        raise damaged(f"session {session_id!a}", "a field of its hash is missing or malformed") from exc


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


def memory_record(scope: MemoryScope, key: bytes, value: bytes) -> MemoryRecord:
    """Return the memory of a hash value.

    Raises:
        CorruptRecordError: The value is malformed.
    """
    try:
        created, updated, expires, retention, encoding, data = value.split(b"\0", 5)
        return MemoryRecord(
            scope=scope,
            key=key.decode(),
            created_at_us=unstamp(created),
            updated_at_us=unstamp(updated),
            expires_at_us=unstamp(expires) if expires else None,
            retention=float(retention),
            payload=Payload(encoding.decode(), data),
        )
    except ValueError as exc:
        reason = "the value is not three times, retention, encoding and payload"
        raise damaged(f"memory {key!a} of {scope.kind} {scope.owner_id!a}", reason) from exc


def damaged(key: str, reason: str) -> CorruptRecordError:
    """Return the error for a record that cannot be read."""
    return CorruptRecordError(backend=BACKEND, key=key, reason=reason)


def _required(value: bytes | None) -> bytes:
    if value is None:
        raise ValueError("a field is missing")
    return value
