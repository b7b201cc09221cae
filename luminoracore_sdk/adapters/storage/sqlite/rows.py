"""Records to parameters of ``queries.sql``, and rows to records.

A statement takes the parameters that it names from a mapping that may hold more.

Rows contain TEXT as UTF-8 bytes, so that payloads need no conversion, and that a damaged string is noticed here,
where the record has a name.

``checksum`` is a CRC-32 of what the caller wrote into the row. NULL means "not checked": set it so after a row
was edited by hand. Summary, history and index, which are written apart from it, begin with their own.
"""

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar, cast
from zlib import crc32

import attrs

from luminoracore_sdk.adapters.storage.base import key_bounds
from luminoracore_sdk.adapters.storage.folded import (
    counters_text,
    header_text,
    parse_counters_text,
    parse_header_text,
)
from luminoracore_sdk.adapters.storage.packed import packed, unpacked
from luminoracore_sdk.adapters.storage.sqlite.connection import Row
from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND
from luminoracore_sdk.application.ports.records import (
    NO_PAYLOAD,
    HistoryChange,
    IndexRecord,
    Lease,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
    SessionSummary,
    stored_brief,
    stored_header,
    stored_index,
    stored_payload,
    stored_record,
    stored_summary,
    without_zeros,
)
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = [
    "activity_values",
    "damaged",
    "folded",
    "history",
    "history_values",
    "index_records",
    "index_value",
    "indexes_of_range",
    "light_records",
    "listed_records",
    "memory_owner",
    "memory_owners",
    "memory_page_values",
    "memory_record",
    "memory_values",
    "message_records",
    "message_seed",
    "message_values",
    "messages_of_range",
    "moved_checksum",
    "query_values",
    "range_values",
    "session_record",
    "session_values",
    "summary",
    "summary_value",
    "turn_record",
]

_NO_BOUND = 2**62  # more than any position or time; sums of two fit 64 bits

_CRC_BYTES = 4

Values = dict[str, Any]
T = TypeVar("T", MessageRecord, IndexRecord)


_NO_SUMMARY = SessionSummary()

# -- sessions --------------------------------------------------------------------------------------


def session_values(record: SessionRecord) -> Values:
    """Return the parameters of a header and of its document, without key, times and summary."""
    return {
        "session": record.session_id,
        "user": record.user_id,
        "tags": json.dumps(record.tags, ensure_ascii=False),
        "ttl": record.ttl_us,
        "checksum": _session_checksum(record),
        **_payload_values(cast("Payload", record.payload)),
    }


def session_record(row: Row) -> SessionRecord:
    """Return the header of a row of ``find_session``.

    Raises:
        CorruptRecordError: The row is damaged.
    """
    [record] = listed_records([row[:10]])
    try:
        changes, lease = _history(crc32(row[0]), row[10])
        record = attrs.evolve(record, payload=_payload(row[12], row[13]), changes=changes, lease=lease)
        return _checked(record, row[11])
    except _DAMAGE as exc:
        raise _damaged_session(row[0], exc) from exc


def turn_record(row: Row) -> SessionRecord:
    """Return the header of a row of ``find_session_of_turn``.

    Raises:
        CorruptRecordError: The row is damaged.
    """
    try:
        record = SessionRecord(
            session_id=str(row[0], "utf-8"),
            user_id=None if row[1] is None else str(row[1], "utf-8"),
            tags=_tags(row[2]),
            ttl_us=row[3],
            created_at_us=row[4],
            updated_at_us=row[5],
            version=row[6],
            last_position=row[7],
            payload=_payload(row[9], row[10]),
        )
        return _checked(record, row[8])
    except _DAMAGE as exc:
        raise _damaged_session(row[0], exc) from exc


def listed_records(rows: Sequence[Row]) -> list[SessionRecord]:
    """Return the headers of rows of a listing, which have no payload.

    A page spends half of its time here, so the loop calls little.

    Raises:
        CorruptRecordError: A row is damaged.
    """
    records: list[SessionRecord] = []
    for (
        session_id,
        user_id,
        tags,
        ttl_us,
        created_at_us,
        updated_at_us,
        version,
        last_position,
        last_change,
        data,
    ) in rows:
        try:
            if not type(created_at_us) is type(updated_at_us) is type(last_change) is int:
                raise TypeError
            card, summary = (None, _NO_SUMMARY) if data is None else _summary(crc32(session_id), data)
            record = stored_header(
                session_id.decode(),
                None if user_id is None else user_id.decode(),
                _tags(tags),
                ttl_us,
                created_at_us,
                updated_at_us,
                version,
                last_position,
                last_change,
                card,
                summary,
            )
        except _DAMAGE as exc:
            raise _damaged_session(session_id, exc) from exc
        records.append(record)
    return records


def light_records(rows: Sequence[Row]) -> list[SessionRecord]:
    """Return the headers of rows of a listing without texts.

    Raises:
        CorruptRecordError: A row is damaged.
    """
    records: list[SessionRecord] = []
    for session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, *numbers in rows:
        try:
            if not type(created_at_us) is type(updated_at_us) is type(numbers[2]) is int:
                raise TypeError
            user = None if user_id is None else user_id.decode()
            record = stored_header(
                session_id.decode(), user, _tags(tags), ttl_us, created_at_us, updated_at_us, *numbers
            )
        except _DAMAGE as exc:
            raise _damaged_session(session_id, exc) from exc
        records.append(record)
    return records


@lru_cache(maxsize=256)
def _tags(text: bytes) -> tuple[str, ...]:
    """Return tags; many sessions have the same."""
    return tuple(json.loads(text))


def _checked(record: SessionRecord, checksum: int | None) -> SessionRecord:
    if checksum not in (None, _session_checksum(record)):
        raise _MismatchError("checksum")
    return record


class _MismatchError(ValueError):
    """A checksum does not match; the text is the name of its column."""


_DAMAGE = (AttributeError, TypeError, ValueError, struct.error)
"""What the functions below raise for a row that is damaged."""


def _damaged_session(session_id: str | bytes, error: Exception) -> CorruptRecordError:
    """Return the error for a row of ``sessions``."""
    try:
        name = session_id if isinstance(session_id, str) else str(session_id, "utf-8")
    except (TypeError, UnicodeDecodeError):
        return damaged(f"session {session_id!a}", _WRONG_TYPE)
    if not isinstance(error, _MismatchError):
        return damaged(f"session {name!a}", _WRONG_TYPE)
    reason = _MISMATCH if str(error) == "checksum" else f"the checksum of its {error} does not match"
    return damaged(f"session {name!a}", reason)


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
    return {**bounds, **_owner_values(query)}


def activity_values(query: SessionQuery) -> Values:
    """Return the parameters of a listing by activity, without the time and the count."""
    time, session_id = query.cursor or ((_NO_BOUND, "") if query.newest_first else (-_NO_BOUND, ""))
    return {
        "time": _clamped(time),
        "id": session_id,
        "since": -_NO_BOUND if query.created_after_us is None else _clamped(query.created_after_us),
        "before": _NO_BOUND if query.created_before_us is None else _clamped(query.created_before_us),
        **_owner_values(query),
    }


def _owner_values(query: SessionQuery) -> Values:
    values = {"user": query.user_id, "tag": query.tag, "without_tag": query.without_tag}
    return {name: value for name, value in values.items() if value is not None}


def _session_checksum(record: SessionRecord) -> int:
    payload = cast("Payload", record.payload)
    return _checksum(payload, record.session_id, record.user_id, record.tags, record.ttl_us)


# -- summaries -------------------------------------------------------------------------------------

_HEAD = struct.Struct(">IIIIII")
"""Of a summary: CRC-32 of what follows; sizes of card, first and last brief, 0: none; positions of the briefs.

Then card, briefs and counters.
"""


def summary_value(session_id: str, card: Payload | None, summary: SessionSummary) -> bytes:
    """Return the column of a card and a summary."""
    first, last = summary.first, summary.last
    return _joined(
        crc32(session_id.encode()),
        b"" if card is None else packed(card),
        0 if first is None else first.position,
        b"" if first is None else packed(first.payload),
        0 if last is None else last.position,
        b"" if last is None else packed(last.payload),
        counters_text(summary.counters),
    )


def summary(session_id: str, data: bytes | None) -> tuple[Payload | None, SessionSummary]:
    """Return the card and the summary of a column.

    Raises:
        CorruptRecordError: It is damaged.
    """
    try:
        return (None, _NO_SUMMARY) if data is None else _summary(crc32(session_id.encode()), data)
    except _DAMAGE as exc:
        raise _damaged_session(session_id, exc) from exc


def folded(session_id: str, data: bytes | None, first_position: int, messages: Sequence[MessageRecord]) -> bytes:
    """Return the column once messages are appended, of which the first has this position.

    A damaged one stays as it is: it delays no append, and what reads it raises.
    """
    seed = crc32(session_id.encode())
    card, first_at, first, last_at, last, counters = b"", 0, b"", 0, b"", dict[str, int]()
    if data is not None:
        try:
            card, first_at, first, last_at, last, text = _parts(seed, data)
            counters = parse_counters_text(text)
        except _DAMAGE:
            return data
    for position, message in enumerate(messages, first_position):
        counters[message.role] = counters.get(message.role, 0) + 1
        for name, number in message.adds.items():
            counters[name] = counters.get(name, 0) + number
        if message.brief is not None:
            last_at, last = position, packed(message.brief)
            if not first and message.role == "user":
                first_at, first = last_at, last
    return _joined(seed, card, first_at, first, last_at, last, counters_text(without_zeros(counters)))


def _joined(seed: int, card: bytes, first_at: int, first: bytes, last_at: int, last: bytes, counters: bytes) -> bytes:
    parts = b"".join((card, first, last, counters))
    head = _HEAD.pack(0, len(card), len(first), len(last), first_at, last_at)[_CRC_BYTES:]
    return crc32(parts, crc32(head, seed)).to_bytes(_CRC_BYTES) + head + parts


def _parts(seed: int, data: bytes) -> tuple[bytes, int, bytes, int, bytes, bytes]:
    """Return card, position and brief of the first message and of the last, and counters."""
    checksum, card_size, first_size, last_size, first_at, last_at = _HEAD.unpack_from(data)
    if checksum != crc32(data[_CRC_BYTES:], seed):
        raise _MismatchError("summary")
    card_end = _HEAD.size + card_size
    first_end = card_end + first_size
    last_end = first_end + last_size
    return (
        *(data[_HEAD.size : card_end], first_at, data[card_end:first_end]),
        *(last_at, data[first_end:last_end], data[last_end:]),
    )


def _summary(seed: int, data: bytes) -> tuple[Payload | None, SessionSummary]:
    """Return card and summary; a page spends half of its time here, so it calls little."""
    checksum, card_size, first_size, last_size, first_at, last_at = _HEAD.unpack_from(data)
    if checksum != crc32(data[_CRC_BYTES:], seed):
        raise _MismatchError("summary")
    first_start = _HEAD.size + card_size
    last_start = first_start + first_size
    end = last_start + last_size
    card = first = last = None
    if card_size:
        encoding, value = data[_HEAD.size : first_start].split(b"\0", 1)
        card = stored_payload(encoding.decode(), value)
    if first_size:
        encoding, value = data[first_start:last_start].split(b"\0", 1)
        first = stored_brief(first_at, stored_payload(encoding.decode(), value))
    if last_size:
        encoding, value = data[last_start:end].split(b"\0", 1)
        last = stored_brief(last_at, stored_payload(encoding.decode(), value))
    return card, stored_summary(first, last, parse_counters_text(data[end:]))


def history_values(session_id: str, changes: Sequence[HistoryChange], lease: Lease | None) -> Values:
    """Return the parameters of a history."""
    text = header_text(None, _NO_SUMMARY, changes, lease).encode()
    checksum = crc32(text, crc32(session_id.encode())).to_bytes(_CRC_BYTES)
    return {"history": checksum + text, "last_change": changes[-1].number if changes else 0}


def history(session_id: str, data: bytes | None) -> tuple[tuple[HistoryChange, ...], Lease | None]:
    """Return the changes and the lease of a column.

    Raises:
        CorruptRecordError: It is damaged.
    """
    try:
        return _history(crc32(session_id.encode()), data)
    except _DAMAGE as exc:
        raise _damaged_session(session_id, exc) from exc


def _history(seed: int, data: bytes | None) -> tuple[tuple[HistoryChange, ...], Lease | None]:
    if data is None:
        return (), None
    text = data[_CRC_BYTES:]
    if data[:_CRC_BYTES] != crc32(text, seed).to_bytes(_CRC_BYTES):
        raise _MismatchError("history")
    _, _, changes, lease = parse_header_text(text)
    return changes, lease


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
        "index_data": index_value(message, message.index),
        "checksum": crc32(payload.data, crc32(head.encode())),
        **_payload_values(payload),
    }


def index_value(message: MessageRecord | IndexRecord, index: Payload | None) -> bytes | None:
    """Return the column of the index of a message: the CRC-32 of what it belongs to and is, and what it is.

    It names no session, so that a fork copies it as it is.
    """
    if index is None:
        return None
    data = packed(index)
    head = f"{message.message_id}\0{message.role}\0{message.created_at_us}"
    return crc32(data, crc32(head.encode())).to_bytes(_CRC_BYTES) + data


def message_seed(session_id: str) -> int:
    """Return where the checksums of a session's messages begin."""
    return crc32(f"{session_id}\0".encode())


def moved_checksum(  # what the statement passes
    seed: int,
    new_seed: int,
    checksum: int | None,
    message_id: bytes,
    role: bytes,
    created_at_us: bytes,
    encoding: bytes,
    data: bytes,
) -> int | None:
    """Return the checksum of a message in another session; that of a damaged one stays wrong."""
    if checksum is None:
        return None
    head = b"%b\0%b\0%b\0%b" % (message_id, role, created_at_us, encoding)
    return checksum ^ crc32(data, crc32(head, seed)) ^ crc32(data, crc32(head, new_seed))


def message_records(session_id: str, rows: Sequence[Row]) -> list[MessageRecord]:
    """Return the messages of rows of ``read_messages``, each of which has one.

    A read of a whole conversation spends most of its time here, so the loop calls no function of Python:
    2.5 µs a message instead of 5 (Python 3.11, attrs 25).

    Raises:
        CorruptRecordError: A row is damaged.
    """
    start = message_seed(session_id)
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


def index_records(session_id: str, rows: Sequence[Row]) -> list[IndexRecord]:
    """Return the indexes of rows of ``read_index``, each of which has a message.

    Raises:
        CorruptRecordError: A row is damaged.
    """
    records: list[IndexRecord] = []
    for _, position, message_id, role, created_at_us, value in rows:
        try:
            index = None if value is None else unpacked(value[_CRC_BYTES:])
            record = stored_index(position, message_id.decode(), role.decode(), created_at_us, index)
            head = b"%b\0%b\0%d" % (message_id, role, created_at_us)
            is_intact = value is None or value[:_CRC_BYTES] == crc32(value[_CRC_BYTES:], crc32(head)).to_bytes(
                _CRC_BYTES
            )
            if type(created_at_us) is not int:
                raise TypeError
        except _DAMAGE as exc:
            raise damaged(f"the index of message {position} of session {session_id!a}", _WRONG_TYPE) from exc
        if not is_intact:
            raise damaged(f"the index of message {position} of session {session_id!a}", "its checksum does not match")
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
    """Return the messages that ``read_messages`` found; see ``_of_range``."""
    return _of_range(session_id, span, rows, message_records)


def indexes_of_range(session_id: str, span: MessageRange, rows: Sequence[Row]) -> list[IndexRecord]:
    """Return the indexes that ``read_index`` found; see ``_of_range``."""
    return _of_range(session_id, span, rows, index_records)


def _of_range(
    session_id: str, span: MessageRange, rows: Sequence[Row], read: Callable[[str, Sequence[Row]], list[T]]
) -> list[T]:
    """Return the records of the rows of a range, after a check that none is missing.

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
    found = [] if span.limit == 0 or rows[0][1] is None else read(session_id, rows)
    expected = max(end - first + 1, 0)
    if len(found) != expected or (found and (found[0].position, found[-1].position) != (first, end)):
        positions = f"{found[0].position} to {found[-1].position}" if found else "none"
        reason = f"{len(found)} messages ({positions}) where its last position, {last}, implies {expected}"
        raise damaged(f"session {session_id!a}", reason)
    return found


# -- memories --------------------------------------------------------------------------------------


def memory_owner(scope: MemoryScope) -> str | bytes:
    """Return the parameter ``owner`` of the statements of a scope."""
    return scope.owner_id if scope.kind == "session" else hashlib.sha256(scope.owner_id.encode()).digest()


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


def memory_record(scope: MemoryScope, row: Row, *, whole: bool = True) -> MemoryRecord:
    """Return the memory of a row of ``find_…_memory``, ``list_…_memories`` or a page.

    Args:
        scope: The scope.
        row: The row.
        whole: Whether it has the payload, without which there is nothing to check.

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
            version=row[5],
            payload=_payload(row[7], row[8]) if whole else NO_PAYLOAD,
        )
    except (TypeError, ValueError) as exc:
        raise damaged(key, _WRONG_TYPE) from exc
    if whole and row[6] not in (None, _memory_checksum(record)):
        raise damaged(key, _MISMATCH)
    return record


def memory_page_values(query: MemoryQuery) -> Values:
    """Return the parameters of a page of memories, but the owner and the time."""
    low, high = key_bounds(query.prefix, query.after, descending=query.descending)
    count = -1 if query.limit is None else query.limit
    return {"low": low, "high": high, "after": query.after or "", "count": count, "whole": query.with_payload}


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


@lru_cache(maxsize=64)
def _is_text(encoding: str) -> bool:
    """Return whether payloads of an encoding are text, at 0.1 µs instead of 0.9; a store has few encodings."""
    return Payload(encoding, b"").is_text


def _payload_values(payload: Payload) -> Values:
    """Return the columns of a payload: ``payload`` where it is text, else ``blob``."""
    values: Values = {"encoding": payload.encoding, "payload": None, "blob": None}
    if _is_text(payload.encoding):
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
