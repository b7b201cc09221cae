"""Short ways to make records in tests: every field that a test does not care for has a value."""

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["json_payload", "memory_record", "message_record", "message_records", "session_record"]

_CODEC = JsonCodec()
_SAID_AT_US = 1_700_000_000_000_001


def json_payload(value: JSONValue) -> Payload:
    """Return the payload that the package itself makes of a JSON value."""
    return _CODEC.encode(value)


def session_record(
    session_id: str = "s",
    *,
    text: str = "a session",
    user_id: str | None = None,
    tags: tuple[str, ...] = (),
    ttl_us: int | None = None,
) -> SessionRecord:
    """Return a header ready to be put."""
    return SessionRecord(
        session_id=session_id,
        payload=json_payload({"text": text}),
        user_id=user_id,
        tags=tags,
        ttl_us=ttl_us,
    )


def message_record(message_id: str, *, text: str | None = None, role: str = "user") -> MessageRecord:
    """Return a message ready to be appended; its text follows from its id when none is given."""
    return MessageRecord(
        message_id=message_id,
        role=role,
        created_at_us=_SAID_AT_US,
        payload=json_payload({"content": text or f"text of {message_id}"}),
    )


def message_records(count: int, *, prefix: str = "m") -> list[MessageRecord]:
    """Return so many messages with the ids m1, m2, m3 …."""
    return [message_record(f"{prefix}{number}") for number in range(1, count + 1)]


def memory_record(
    key: str,
    *,
    owner: str = "s",
    kind: str = "session",
    value: JSONValue = "a value",
    retention: float = 0.0,
    expires_at_us: int | None = None,
) -> MemoryRecord:
    """Return a memory ready to be put, of session ``s`` unless said otherwise."""
    return MemoryRecord(
        scope=MemoryScope(kind, owner),
        key=key,
        payload=json_payload(value),
        retention=retention,
        expires_at_us=expires_at_us,
    )
