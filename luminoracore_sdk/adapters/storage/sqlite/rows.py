"""Records to column values and rows to records.

Rows come with text as UTF-8 bytes, so payloads need no conversion, and a damaged text is noticed here,
where the record has a name.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any, cast
from zlib import crc32

from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = [
    "Row",
    "append_values",
    "clamped",
    "memory_record",
    "memory_values",
    "message_record",
    "query_values",
    "rewritten_memory",
    "rewritten_message",
    "rewritten_session",
    "session_record",
    "session_values",
    "without_gaps",
]

Row = Sequence[Any]


def clamped(number: int) -> int:
    """Return the nearest 64-bit number: a bound beyond it means the same."""
    return max(-sys.maxsize - 1, min(number, sys.maxsize))


def session_values(record: SessionRecord) -> dict[str, Any]:
    """Return the parameters of ``Statements.insert_session`` and ``update_session`` but the time."""
    return {
        "session": record.session_id,
        "user": record.user_id,
        "labels": json.dumps(record.tags, ensure_ascii=False),
        "ttl": record.ttl_us,
        "crc": _session_checksum(record),
        **_payload_values(cast("Payload", record.payload)),
    }


def append_values(session_id: str, messages: Sequence[MessageRecord]) -> dict[str, Any]:
    """Return the parameters of ``Statements.append`` but the time and the condition."""
    given: dict[str, Any] = {"session": session_id}
    for number, message in enumerate(messages):
        given[f"id_{number}"] = message.message_id
        given[f"role_{number}"] = message.role
        given[f"time_{number}"] = message.created_at_us
        given[f"crc_{number}"] = _message_checksum(session_id, message)
        given[f"make_{number}"] = message.payload.encoding
        given[f"data_{number}"] = _stored(message.payload)
    return given


def memory_values(record: MemoryRecord) -> dict[str, Any]:
    """Return the parameters of ``Statements.put_memory`` but the time."""
    return {
        "scope_kind": record.scope.kind,
        "scope_id": record.scope.owner_id,
        "key": record.key,
        "expires_at_us": record.expires_at_us,
        "retention": record.retention,
        "checksum": _memory_checksum(record),
        "tag": record.payload.encoding,
        "payload": _stored(record.payload),
    }


def rewritten_session(record: SessionRecord) -> dict[str, Any]:
    """Return the parameters of ``RewritingStatements.session``."""
    payload = _payload_values(cast("Payload", record.payload))
    return {"session": record.session_id, "crc": _session_checksum(record), **payload}


def rewritten_message(session_id: str, message: MessageRecord) -> dict[str, Any]:
    """Return the parameters of ``RewritingStatements.message``."""
    place = {"session": session_id, "place": message.position}
    return {**place, "crc": _message_checksum(session_id, message), **_payload_values(message.payload)}


def rewritten_memory(record: MemoryRecord) -> dict[str, Any]:
    """Return the parameters of ``RewritingStatements.memory``."""
    place = {"kind": record.scope.kind, "owner": record.scope.owner_id, "name": record.key}
    return {**place, "crc": _memory_checksum(record), **_payload_values(record.payload)}


def query_values(query: SessionQuery) -> dict[str, Any]:
    """Return the parameters of ``Statements.listing`` but the time and the limit."""
    cursor_time, cursor_id = query.cursor or (None, None)
    return {
        "user": query.user_id,
        "label": query.tag,
        "since": query.created_after_us,
        "until": query.created_before_us,
        "cursor_time": cursor_time,
        "cursor_id": cursor_id,
    }


def session_record(row: Row, *, with_payload: bool = True) -> SessionRecord:
    """Return the header of a row: the columns of ``Statements.header``."""
    key = f"session {row[0]!a}"
    try:
        session_id = str(row[0], "utf-8")
        key = f"session {session_id!a}"
        record = SessionRecord(
            session_id=session_id,
            user_id=None if row[1] is None else str(row[1], "utf-8"),
            tags=json.loads(row[2]),
            ttl_us=row[3],
            created_at_us=row[4],
            updated_at_us=row[5],
            version=row[6],
            last_position=row[7],
            payload=_payload(row[9], row[10]) if with_payload else None,
        )
    except (TypeError, ValueError) as exc:
        raise _damaged(key, "a column does not hold what it should") from exc
    if record.payload is not None and row[8] not in (None, _session_checksum(record)):
        raise _damaged(key, _MISMATCH)
    return record


def message_record(session_id: str, row: Row) -> MessageRecord:
    """Return the message of a row: the columns of ``Statements.read``."""
    key = f"message {row[0]} of session {session_id!a}"
    try:
        record = MessageRecord(
            position=row[0],
            message_id=str(row[1], "utf-8"),
            role=str(row[2], "utf-8"),
            created_at_us=row[3],
            payload=_payload(row[5], row[6]),
        )
    except (TypeError, ValueError) as exc:
        raise _damaged(key, "a column does not hold what it should") from exc
    if row[4] not in (None, _message_checksum(session_id, record)):
        raise _damaged(key, _MISMATCH)
    return record


def without_gaps(session_id: str, messages: list[MessageRecord]) -> list[MessageRecord]:
    """Return messages whose positions follow each other, as an append gives them.

    Raises:
        CorruptRecordError: One is missing in between.
    """
    if messages and messages[-1].position - messages[0].position + 1 != len(messages):
        reason = f"{len(messages)} messages at positions {messages[0].position} to {messages[-1].position}"
        raise _damaged(f"session {session_id!a}", reason)
    return messages


def memory_record(scope: MemoryScope, row: Row) -> MemoryRecord:
    """Return the memory of a row: the columns of ``Statements.list_memories``."""
    key = f"memory {row[0]!a} of {scope.kind} {scope.owner_id!a}"
    try:
        record = MemoryRecord(
            scope=scope,
            key=str(row[0], "utf-8"),
            expires_at_us=row[1],
            retention=row[2],
            created_at_us=row[3],
            updated_at_us=row[4],
            payload=_payload(row[6], row[7]),
        )
    except (TypeError, ValueError) as exc:
        raise _damaged(key, "a column does not hold what it should") from exc
    if row[5] not in (None, _memory_checksum(record)):
        raise _damaged(key, _MISMATCH)
    return record


_MISMATCH = "its checksum does not fit; if it was edited on purpose, set the checksum to NULL"


def _payload(tag: bytes, data: object) -> Payload:
    if not isinstance(data, bytes):
        raise TypeError("a payload is text or bytes")
    return Payload(str(tag, "utf-8"), data)


def _payload_values(payload: Payload) -> dict[str, Any]:
    return {"make": payload.encoding, "data": _stored(payload)}


def _stored(payload: Payload) -> str | bytes:
    """Return what goes into the payload column: text where it is text."""
    if not payload.is_text:
        return payload.data
    try:
        return payload.data.decode()
    except UnicodeDecodeError:  # the tag promises too much; the bytes are kept all the same
        return payload.data


def _session_checksum(record: SessionRecord) -> int:
    payload = cast("Payload", record.payload)
    return _checksum(payload, record.session_id, record.user_id, record.tags, record.ttl_us)


def _message_checksum(session_id: str, message: MessageRecord) -> int:
    return _checksum(message.payload, session_id, message.message_id, message.role, message.created_at_us)


def _memory_checksum(record: MemoryRecord) -> int:
    scope = record.scope
    return _checksum(record.payload, scope.kind, scope.owner_id, record.key, record.expires_at_us)


def _checksum(payload: Payload, *fields: object) -> int:
    return crc32(payload.data, crc32("\0".join(map(str, (*fields, payload.encoding))).encode()))


def _damaged(key: str, reason: str) -> CorruptRecordError:
    return CorruptRecordError(backend=BACKEND, key=key, reason=reason)
