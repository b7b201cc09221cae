"""Records to parameters of ``queries.sql``, and rows to records.

A statement takes the parameters that it names from a mapping that may hold more.

Rows contain TEXT as UTF-8 bytes, so that payloads need no conversion, and that a damaged string is noticed here,
where the record has a name.

``checksum`` is a CRC-32 of what the caller wrote into the row. NULL means "not checked": set it so after a row
was edited by hand.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast
from zlib import crc32

from luminoracore_sdk.adapters.storage.sqlite.connection import Row
from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
    stored_record,
)
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = [
    "damaged",
    "memory_owner",
    "memory_owners",
    "memory_record",
    "memory_values",
    "message_records",
    "message_values",
    "messages_of_range",
    "query_values",
    "range_values",
    "session_record",
    "session_values",
    "user_digest",
]

_NO_BOUND = 2**62  # more than any position or time; sums of two fit 64 bits

Values = dict[str, Any]


# -- sessions --------------------------------------------------------------------------------------


def session_values(record: SessionRecord) -> Values:
    """Return the parameters of a header and of its document, without key and times."""
    return {
        "session": record.session_id,
        "user": record.user_id,
        "tags": json.dumps(record.tags, ensure_ascii=False),
        "ttl": record.ttl_us,
        "checksum": _session_checksum(record),
        **_payload_values(cast("Payload", record.payload)),
    }


def session_record(row: Row, *, with_payload: bool = True) -> SessionRecord:
    """Return the header of a row of ``find_session``, or without a payload of a listing.

    Raises:
        CorruptRecordError: The row is damaged.
    """
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
        raise damaged(key, _WRONG_TYPE) from exc
    if record.payload is not None and row[8] not in (None, _session_checksum(record)):
        raise damaged(key, _MISMATCH)
    return record


def query_values(query: SessionQuery) -> Values:
    """Return the parameters of a listing, without the time and the count.

    A time is combined with the empty id, which is below every other: ``created_at_us >= since`` is the same as
    ``(created_at_us, session_id) > (since, '')``.
    """
    low = (-_NO_BOUND if query.created_after_us is None else _clamped(query.created_after_us), "")
    high = (_NO_BOUND if query.created_before_us is None else _clamped(query.created_before_us), "")
    if query.cursor is not None:
        cursor = (_clamped(query.cursor[0]), query.cursor[1])
        low, high = (low, min(high, cursor)) if query.newest_first else (max(low, cursor), high)
    bounds = {"low_time": low[0], "low_id": low[1], "high_time": high[0], "high_id": high[1]}
    return (
        {**bounds, "tag": query.tag} if query.user_id is None else {**bounds, "tag": query.tag, "user": query.user_id}
    )


def _session_checksum(record: SessionRecord) -> int:
    payload = cast("Payload", record.payload)
    return _checksum(payload, record.session_id, record.user_id, record.tags, record.ttl_us)


# -- messages --------------------------------------------------------------------------------------


def message_values(session_id: str, sid: int, position: int, message: MessageRecord) -> Values:
    """Return the parameters of a message."""
    payload = message.payload
    head = f"{session_id}\0{message.message_id}\0{message.role}\0{message.created_at_us}\0{payload.encoding}"
    return {
        "sid": sid,
        "position": position,
        "message_id": message.message_id,
        "role": message.role,
        "created": message.created_at_us,
        "checksum": crc32(payload.data, crc32(head.encode())),
        **_payload_values(payload),
    }


def message_records(session_id: str, rows: Sequence[Row]) -> list[MessageRecord]:
    """Return the messages of rows of ``read_messages``, each of which has one.

    A read of a whole conversation spends most of its time here, so the loop calls no function of Python:
    2.5 µs a message instead of 5 (Python 3.11, attrs 25).

    Raises:
        CorruptRecordError: A row is damaged.
    """
    start = crc32(f"{session_id}\0".encode())
    records: list[MessageRecord] = []
    for _, position, message_id, role, created_at_us, checksum, encoding, data in rows:
        try:
            record = stored_record(position, message_id.decode(), role.decode(), created_at_us, encoding.decode(), data)
            head = b"%b\0%b\0%d\0%b" % (message_id, role, created_at_us, encoding)
            is_intact = checksum is None or checksum == crc32(data, crc32(head, start))
        except (AttributeError, TypeError, ValueError) as exc:
            raise damaged(f"message {position} of session {session_id!a}", _WRONG_TYPE) from exc
        if not is_intact:
            raise damaged(f"message {position} of session {session_id!a}", _MISMATCH)
        if type(created_at_us) is not int or type(data) is not bytes:
            raise damaged(f"message {position} of session {session_id!a}", _WRONG_TYPE)
        records.append(record)
    return records


def range_values(span: MessageRange) -> Values:
    """Return the parameters of ``read_messages``, without session and time."""
    return {
        "after": _clamped(span.after),
        "before": _NO_BOUND if span.before is None else _clamped(span.before),
        "newest": _clamped(span.limit) if span.newest and span.limit is not None else _NO_BOUND,
        # one row shows that the session exists, even if none is wanted
        "count": -1 if span.limit is None else _clamped(max(span.limit, 1)),
    }


def messages_of_range(session_id: str, span: MessageRange, rows: Sequence[Row]) -> list[MessageRecord]:
    """Return the messages that ``read_messages`` found, after a check that none is missing.

    Raises:
        CorruptRecordError: A row is damaged, or the positions are not those that the session's last position
            implies.
    """
    last = rows[0][0]
    if type(last) is not int:
        raise damaged(f"session {session_id!a}", _WRONG_TYPE)
    first, end = max(span.after, 0) + 1, last if span.before is None else min(last, span.before - 1)
    if span.limit is not None and span.newest:
        first = max(first, end - span.limit + 1)
    elif span.limit is not None:
        end = min(end, first + span.limit - 1)
    found = [] if span.limit == 0 or rows[0][1] is None else message_records(session_id, rows)
    expected = max(end - first + 1, 0)
    if len(found) != expected or (found and (found[0].position, found[-1].position) != (first, end)):
        positions = f"{found[0].position} to {found[-1].position}" if found else "none"
        reason = f"{len(found)} messages ({positions}) where its last position, {last}, implies {expected}"
        raise damaged(f"session {session_id!a}", reason)
    return found


# -- memories --------------------------------------------------------------------------------------


def user_digest(user_id: str) -> bytes:
    """Return the key of a user's memories."""
    return hashlib.sha256(user_id.encode()).digest()


def memory_owner(scope: MemoryScope) -> str | bytes:
    """Return the parameter ``owner`` of the statements of a scope."""
    return scope.owner_id if scope.kind == "session" else user_digest(scope.owner_id)


def memory_values(record: MemoryRecord) -> Values:
    """Return the parameters of a memory, without its times of creation and change."""
    scope = record.scope
    return {
        "owner": memory_owner(scope),
        "user": scope.owner_id,
        "key": record.key,
        "expires": record.expires_at_us,
        "retention": record.retention,
        "checksum": _memory_checksum(record),
        **_payload_values(record.payload),
    }


def memory_record(scope: MemoryScope, row: Row) -> MemoryRecord:
    """Return the memory of a row of ``find_…_memory`` or ``list_…_memories``.

    Raises:
        CorruptRecordError: The row is damaged.
    """
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
        raise damaged(key, _WRONG_TYPE) from exc
    if row[5] not in (None, _memory_checksum(record)):
        raise damaged(key, _MISMATCH)
    return record


def memory_owners(rows: Sequence[Row]) -> list[str]:
    """Return the users of rows of ``list_memory_owners``.

    Raises:
        CorruptRecordError: A user's id does not match its digest.
    """
    owners: list[str] = []
    for digest, user_id in rows:
        if type(user_id) is not bytes or hashlib.sha256(user_id).digest() != digest:
            raise damaged(f"the memories of user {user_id!a}", "the id does not match its digest")
        owners.append(user_id.decode())
    return owners


def _memory_checksum(record: MemoryRecord) -> int:
    scope = record.scope
    return _checksum(record.payload, scope.kind, scope.owner_id, record.key, record.expires_at_us)


# -- all -------------------------------------------------------------------------------------------

_MISMATCH = "its checksum does not match; if it was edited on purpose, set the checksum to NULL"
_WRONG_TYPE = "a column holds a value of the wrong type"


def damaged(key: str, reason: str) -> CorruptRecordError:
    """Return the error for a record that cannot be read."""
    return CorruptRecordError(backend=BACKEND, key=key, reason=reason)


def _clamped(number: int) -> int:
    """Return the nearest number that SQLite can calculate with; a bound beyond it means the same."""
    return max(-_NO_BOUND, min(number, _NO_BOUND))


def _payload(encoding: object, data: object) -> Payload:
    if not isinstance(encoding, bytes) or not isinstance(data, bytes):
        raise TypeError("a payload is TEXT or BLOB")
    return Payload(str(encoding, "utf-8"), data)


def _payload_values(payload: Payload) -> Values:
    """Return the columns of a payload: ``payload`` where it is text, else ``blob``."""
    values: Values = {"encoding": payload.encoding, "payload": None, "blob": None}
    if payload.is_text:
        try:
            values["payload"] = payload.data.decode()
        except UnicodeDecodeError:  # not what its encoding says; the bytes are kept as they are
            pass
        else:
            return values
    values["blob"] = payload.data
    return values


def _checksum(payload: Payload, *fields: object) -> int:
    return crc32(payload.data, crc32("\0".join(map(str, (*fields, payload.encoding))).encode()))
