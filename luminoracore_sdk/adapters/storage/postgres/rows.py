"""Records to column values and rows to records."""

import sys
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, cast

from luminoracore_sdk.adapters.storage.postgres.errors import BACKEND
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
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import CorruptRecordError

__all__ = [
    "MAX_BATCH_BYTES",
    "Row",
    "clamped",
    "memory_record",
    "memory_values",
    "message_records",
    "query_values",
    "rewrite_batches",
    "rewrite_values",
    "session_record",
    "session_values",
    "span_values",
    "stored",
]

Row = Sequence[Any]

MAX_BATCH_BYTES = 512 * 1024 * 1024
"""Largest append: the server refuses a message, and any value, of 1 GiB."""


def clamped(number: int) -> int:
    """Return the nearest 64-bit number: a bound beyond it means the same."""
    return max(-sys.maxsize - 1, min(number, sys.maxsize))


def session_values(record: SessionRecord) -> dict[str, Any]:
    """Return the parameters of ``Statements.put`` but the times."""
    return {
        "session": record.session_id,
        "user": record.user_id,
        "labels": list(record.tags),
        "ttl": record.ttl_us,
        **_payload_values(cast("Payload", record.payload)),
    }


def rewrite_values(old: Payload, new: Payload) -> dict[str, Any]:
    """Return the parameters of ``Statements.rewrite`` and ``MemoryStatements.rewrite`` but whose and when."""
    return {f"old_{name}": value for name, value in _payload_values(old).items()} | _payload_values(new)


def rewrite_batches(changes: Sequence[PayloadRewrite]) -> Iterator[dict[str, Any]]:
    """Yield the parameters of ``MessageStatements.rewrite`` but session and time.

    It is one set, unless the payloads do not fit one message of PostgreSQL's protocol: each change is
    for itself, so they may go one after the other.
    """
    batch: list[PayloadRewrite] = []
    free = MAX_BATCH_BYTES
    for change in changes:
        size = len(change.old.data) + len(change.new.data)
        if batch and size > free:
            yield _rewrite_lists(batch)
            batch, free = [], MAX_BATCH_BYTES
        batch.append(change)
        free -= size
    yield _rewrite_lists(batch)


def _rewrite_lists(changes: Sequence[PayloadRewrite]) -> dict[str, Any]:
    old = [stored(change.old) for change in changes]
    new = [stored(change.new) for change in changes]
    return {
        "places": [clamped(change.position) for change in changes],
        "ids": [change.message_id for change in changes],
        "old_makes": [change.old.encoding for change in changes],
        "old_data": [text for text, _ in old],
        "old_bytes": [blob for _, blob in old],
        "makes": [change.new.encoding for change in changes],
        "data": [text for text, _ in new],
        "bytes": [blob for _, blob in new],
    }


def memory_values(record: MemoryRecord) -> dict[str, Any]:
    """Return the parameters of ``MemoryStatements.put`` but the times."""
    return {
        "owner": record.scope.owner_id,
        "name": record.key,
        "ends": record.expires_at_us,
        "rank": record.retention,
        **_payload_values(record.payload),
    }


def query_values(query: SessionQuery) -> dict[str, Any]:
    """Return the parameters of ``Statements.listing`` but the time and the limit."""
    given: dict[str, Any] = {"user": query.user_id, "label": [query.tag]}
    if query.created_after_us is not None:
        given["since"] = clamped(query.created_after_us)
    if query.created_before_us is not None:
        given["until"] = clamped(query.created_before_us)
    if query.cursor is not None:
        given["cursor_time"], given["cursor_id"] = clamped(query.cursor[0]), query.cursor[1]
    return given


def span_values(span: MessageRange) -> dict[str, Any]:
    """Return the parameters of ``MessageStatements.read_oldest`` that come from the range."""
    return {
        "after": clamped(span.after),
        "before": sys.maxsize if span.before is None else clamped(span.before),
        "count": None if span.limit is None else clamped(span.limit),
    }


def session_record(row: Row, *, with_payload: bool = True) -> SessionRecord:
    """Return the header of a row: the columns of ``Statements.header``.

    Raises:
        CorruptRecordError: Its document is missing.
    """
    return SessionRecord(
        session_id=row[0],
        user_id=row[1],
        tags=row[2],
        ttl_us=row[3],
        created_at_us=row[4],
        updated_at_us=row[5],
        version=row[6],
        last_position=row[7],
        payload=_payload(row, 8, f"session {row[0]!a}") if with_payload else None,
    )


def message_records(session_id: str, rows: Sequence[Row], span: MessageRange) -> list[MessageRecord]:
    """Return the messages of the rows of ``MessageStatements.read_oldest``, of which there is one at least.

    Raises:
        CorruptRecordError: They are not those that must be there: positions are 1, 2, 3 … to the last one.
    """
    last = rows[0][0]
    found = _messages(session_id, rows)
    low = max(span.after, 0) + 1
    high = last if span.before is None else min(last, span.before - 1)
    count = max(0, high - low + 1)
    if span.limit is not None and span.limit < count:
        count = span.limit
        low = high - count + 1 if span.newest else low
    # they come in order and each position once, so both ends and their number tell
    ends = [message.position for message in (*found[:1], *found[-1:])]
    if len(found) != count or (count and ends != [low, low + count - 1]):
        listed = f"{found[0].position} to {found[-1].position}" if found else "none"
        reason = f"{len(found)} messages ({listed}) where there must be {count} from {low} on"
        raise _damaged(f"session {session_id!a}", reason)
    return found


def _messages(session_id: str, rows: Sequence[Row]) -> list[MessageRecord]:
    """Return the messages of rows; a row without one is passed over.

    ``_payload`` is written out here, as 1,000 calls of it take a fifth of reading 1,000 messages.
    """
    found = list[MessageRecord]()
    for _, position, message_id, role, created_at_us, tag, text, data in rows:
        if position is None:
            continue
        if tag is None or (text is None) == (data is None):
            raise _without_payload(f"message {position} of session {session_id!a}")
        made = text.encode() if data is None else data
        found.append(stored_record(position, message_id, role, created_at_us, tag, made))
    return found


def memory_record(scope: MemoryScope, row: Row) -> MemoryRecord:
    """Return the memory of a row: the columns of ``MemoryStatements.list``."""
    return MemoryRecord(
        scope=scope,
        key=row[0],
        expires_at_us=row[1],
        retention=row[2],
        created_at_us=row[3],
        updated_at_us=row[4],
        payload=_payload(row, 5, f"memory {row[0]!a} of {scope.kind} {scope.owner_id!a}"),
    )


def _payload(row: Row, place: int, key: str) -> Payload:
    """Return the payload whose tag, text and bytes begin at a place of a row."""
    tag, text, data = row[place], row[place + 1], row[place + 2]
    if tag is None or (text is None) == (data is None):
        raise _without_payload(key)
    return Payload(tag, text.encode() if data is None else data)


def _payload_values(payload: Payload) -> dict[str, Any]:
    text, data = stored(payload)
    return {"make": payload.encoding, "data": text, "bytes": data}


def stored(payload: Payload) -> tuple[str | None, bytes | None]:
    """Return what goes into the text column and what into the bytes column; one of them is None."""
    if not _is_text(payload.encoding) or b"\0" in payload.data:
        return None, payload.data
    try:
        return payload.data.decode(), None
    except UnicodeDecodeError:  # the tag promises too much; the bytes are kept all the same
        return None, payload.data


@lru_cache(maxsize=256)
def _is_text(tag: str) -> bool:
    return Payload(tag, b"").is_text


def _without_payload(key: str) -> CorruptRecordError:
    return _damaged(key, "it has no payload, or two")


def _damaged(key: str, reason: str) -> CorruptRecordError:
    return CorruptRecordError(backend=BACKEND, key=key, reason=reason)
