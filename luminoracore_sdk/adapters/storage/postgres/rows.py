"""Conversion of records to the parameters of ``queries.sql``, and of rows to records."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, Protocol, TypeVar, cast

import attrs
import orjson

from luminoracore_sdk.adapters.storage.base import Append, MemoryChange, MessageUpdate, key_bounds
from luminoracore_sdk.adapters.storage.packed import packed, unpacked
from luminoracore_sdk.adapters.storage.postgres.errors import BACKEND
from luminoracore_sdk.application.ports.records import (
    MAX_CHANGES,
    NO_PAYLOAD,
    ROLES,
    AppendReceipt,
    Brief,
    HeaderTexts,
    HistoryChange,
    IndexRecord,
    IndexRewrite,
    Lease,
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
    SessionSummary,
    TurnRecords,
    stored_brief,
    stored_header,
    stored_index,
    stored_payload,
    stored_receipt,
    stored_record,
    stored_summary,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import CorruptRecordError, PayloadTooLargeError

__all__ = [
    "MAX_BATCH_BYTES",
    "Row",
    "batch_values",
    "clamped",
    "cut_values",
    "fork_header",
    "found_session",
    "group_receipts",
    "group_values",
    "index_records",
    "index_rewrite_values",
    "insert_batches",
    "is_plain",
    "light_session",
    "listed_session",
    "memory_batches",
    "memory_page_values",
    "memory_record",
    "message_records",
    "message_values",
    "query_values",
    "rewrite_batches",
    "rewrite_values",
    "session_values",
    "span_values",
    "stored_lease",
    "texts_values",
    "turn_records",
    "update_values",
]


T = TypeVar("T")
R = TypeVar("R", MessageRecord, IndexRecord)


class Row(Protocol):
    """What asyncpg's records and tuples have in common."""

    def __getitem__(self, index: Any, /) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...


MAX_BATCH_BYTES = 512 * 1024 * 1024
"""Most payload in one statement: the server refuses a protocol message, and any value, of 1 GiB."""

_MIN, _MAX = -sys.maxsize - 1, sys.maxsize


def clamped(number: int) -> int:
    """Return the nearest 64-bit number: a bound beyond it means the same."""
    return max(_MIN, min(number, _MAX))


# -- payloads ------------------------------------------------------------------------------------


def _payload_values(payload: Payload) -> dict[str, Any]:
    text, blob = _columns(payload)
    return {"encoding": payload.encoding, "payload": text, "blob": blob}


def _columns(payload: Payload) -> tuple[str | None, bytes | None]:
    """Return the values of the text and of the bytes column; one of them is None."""
    if not _is_text(payload.encoding) or b"\0" in payload.data:
        return None, payload.data
    try:
        return payload.data.decode(), None
    except UnicodeDecodeError:  # the encoding promises text; the bytes are kept all the same
        return None, payload.data


@lru_cache(maxsize=256)
def _is_text(encoding: str) -> bool:
    return Payload(encoding, b"").is_text


def _packed(payload: Payload | None) -> bytes | None:
    return None if payload is None else packed(payload)


def _unpacked(value: bytes | None, key: str) -> Payload | None:
    try:
        return None if value is None else unpacked(value)
    except ValueError as exc:
        raise _damaged(key, "it does not begin with an encoding") from exc


def _payload(row: Row, first: int, key: str) -> Payload:
    """Return the payload whose three columns begin at an index of a row."""
    encoding, text, blob = row[first], row[first + 1], row[first + 2]
    if encoding is None or (text is None) == (blob is None):
        raise _without_payload(key)
    return stored_payload(encoding, text.encode() if blob is None else blob)


def _without_payload(key: str) -> CorruptRecordError:
    return _damaged(key, "it has no payload, or two")


def _damaged(key: str, reason: str) -> CorruptRecordError:
    return CorruptRecordError(backend=BACKEND, key=key, reason=reason)


def rewrite_values(old: Payload, new: Payload) -> dict[str, Any]:
    """Return the payload parameters of ``rewrite_session`` and ``rewrite_*_memory``."""
    return {f"old_{name}": value for name, value in _payload_values(old).items()} | _payload_values(new)


# -- sessions ------------------------------------------------------------------------------------


_ROLES: tuple[str, ...] = ("user", "assistant", "system", "tool")  # in the order of the columns
_BRIEFS = ("first_place", "first_brief", "last_place", "last_brief")
_FOLDED = (*_ROLES, "adds", *_BRIEFS)
_NO_SUMMARY = SessionSummary()


def _brief_columns(brief: Brief | None) -> tuple[Any, ...]:
    return (None, None) if brief is None else (clamped(brief.position), packed(brief.payload))


def _summary_columns(summary: SessionSummary) -> tuple[Any, ...]:
    """Return the parameters of a summary, as ``_FOLDED`` names them; the places of briefs are their positions."""
    others = dict(summary.counters)
    numbers = [others.pop(role, 0) for role in _ROLES]
    return (*numbers, _object(others), *_brief_columns(summary.first), *_brief_columns(summary.last))


def _object(counters: Mapping[str, int]) -> str | None:
    return orjson.dumps(counters).decode() if counters else None


def session_values(record: SessionRecord, now_us: int) -> dict[str, Any]:
    """Return the parameters of ``put_session`` and ``create_session``."""
    return {
        "session": record.session_id,
        "owner": record.user_id,
        "tags": list(record.tags),
        "ttl": record.ttl_us,
        "created": record.created_at_us or now_us,
        "now": now_us,
        "last": record.last_position,
        **dict(zip(_FOLDED, _summary_columns(record.summary), strict=True)),
        "card": _packed(record.card),
        **_payload_values(cast("Payload", record.payload)),
    }


def query_values(query: SessionQuery) -> dict[str, Any]:
    """Return the parameters of the listings but ``now``, as far as the query has them."""
    given: dict[str, Any] = {"count": query.limit + 1}
    if query.user_id is not None:
        given["user"] = query.user_id
    if query.tag is not None:
        given["tags"] = [query.tag]
    if query.without_tag is not None:
        given["without_tags"] = [query.without_tag]
    if query.created_after_us is not None:
        given["created_after"] = clamped(query.created_after_us)
    if query.created_before_us is not None:
        given["created_before"] = clamped(query.created_before_us)
    if query.cursor is not None:
        given["cursor_time"], given["cursor_id"] = clamped(query.cursor[0]), query.cursor[1]
    return given


def listed_session(row: Row) -> SessionRecord:
    """Return the header of a row of a listing.

    Raises:
        CorruptRecordError: Its card or summary is damaged.
    """
    key = f"session {row[0]!a}"
    summary = stored_summary(_brief(row, 14, key), _brief(row, 16, key), _counters(row, 9, key))
    return light_session(row[:9], _unpacked(row[18], key), summary)


def light_session(row: Row, card: Payload | None = None, summary: SessionSummary = _NO_SUMMARY) -> SessionRecord:
    """Return the header of the first columns of a listing."""
    session_id, user_id, tags, ttl_us, created_at_us, updated_at_us, version, last_position, last_change = row
    return stored_header(
        session_id,
        user_id,
        tuple(tags),  # sorted and distinct, as it was stored
        ttl_us,
        created_at_us,
        updated_at_us,
        version,
        last_position,
        last_change or 0,
        card,
        summary,
    )


def fork_header(source_id: str, rows: Sequence[Row], record: SessionRecord, at: int) -> SessionRecord:
    """Return the header of a fork, with the messages that the rows of ``fork_source`` count.

    Raises:
        CorruptRecordError: There are more or fewer than the positions up to ``at``.
    """
    numbers = {role: number for _, _, role, number in rows if number}
    if sum(numbers.values()) != at:
        raise _damaged(f"session {source_id!a}", f"{sum(numbers.values())} messages up to position {at}")
    summary = attrs.evolve(record.summary, counters={**record.summary.counters, **numbers})
    return attrs.evolve(record, last_position=at, summary=summary)


def found_session(row: Row, payload: Payload | None = None) -> SessionRecord:
    """Return the header of a row of ``find_session``, or of one that was put, with the payload that it was given.

    Raises:
        CorruptRecordError: Its document is missing, or something of it is damaged.
    """
    key = f"session {row[0]!a}"
    return attrs.evolve(
        listed_session(row),
        payload=_payload(row, 23, key) if payload is None else payload,
        changes=_changes(row[19] or (), row[8] or 0, key),
        lease=stored_lease(row[20], row[21], row[22], key),
    )


def _brief(row: Row, first: int, key: str) -> Brief | None:
    position, payload = row[first], _unpacked(row[first + 1], key)
    if position is None or payload is None:
        if position is not payload:
            raise _damaged(key, "a brief has no text or no position")
        return None
    return stored_brief(position, payload)


def _counters(row: Row, first: int, key: str) -> dict[str, int]:
    counters = {role: row[index] for index, role in enumerate(_ROLES, first) if row[index]}
    if (text := row[first + len(_ROLES)]) is not None:
        others = orjson.loads(text)
        if type(others) is not dict or not {int}.issuperset(map(type, others.values())):
            raise _damaged(key, "its counters are not an object of whole numbers")
        counters |= others
    return counters


def _changes(codes: Sequence[int], newest: int, key: str) -> tuple[HistoryChange, ...]:
    if newest < len(codes) or (not codes and newest):
        raise _damaged(key, f"{len(codes)} changes end at number {newest}")
    return tuple(
        HistoryChange(number, "updated", (code + 1) // 2) if code % 2 else HistoryChange(number, "cut", code // 2)
        for number, code in enumerate(codes, newest - len(codes) + 1)
    )


def _change_values(code: int) -> dict[str, Any]:
    return {"change": clamped(code), "most": MAX_CHANGES}


def update_values(update: MessageUpdate) -> dict[str, Any]:
    """Return the parameters of ``update_message``."""
    message = update.message
    return {
        "session": update.session_id,
        "now": update.now_us,
        "position": message.position,
        "id": message.message_id,
        "place": None if update.brief is None else message.position,
        **rewrite_values(message.payload, update.payload),
        "brief": _packed(update.brief),
        "index_data": _packed(update.index),
        **_change_values(2 * message.position - 1),
    }


def texts_values(texts: HeaderTexts) -> dict[str, Any]:
    """Return the parameters of ``rewrite_texts`` for new texts."""
    briefs = (*_brief_columns(texts.first), *_brief_columns(texts.last))
    return {"card": _packed(texts.card), **dict(zip(_BRIEFS, briefs, strict=True))}


def cut_values(after: int) -> dict[str, Any]:
    """Return the parameters of ``cut_messages`` that a position gives."""
    return {"after": clamped(after), **_change_values(2 * after)}


def stored_lease(fence: int | None, holder: str | None, until_us: int | None, key: str) -> Lease | None:
    """Return a lease of its columns; None if there was none.

    Raises:
        CorruptRecordError: One of them is missing.
    """
    if (fence, holder, until_us) == (None, None, None):
        return None
    if fence is None or holder is None or until_us is None:
        raise _damaged(key, "a part of its lease is missing")
    return Lease(fence=fence, holder=holder, until_us=until_us)


# -- appends -------------------------------------------------------------------------------------


_MOST_ADDS = 3
_ADDED = tuple(f"{part}_{number}" for number in range(1, _MOST_ADDS + 1) for part in ("name", "number"))
_MOST_FOLDED = 1023
_UNREACHED = -1  # no last position


def is_plain(append: Append) -> bool:
    """Return whether ``append_message`` has a place for what an append brings."""
    adds = append.messages[0].adds
    return len(append.messages) == 1 and len(adds) <= _MOST_ADDS and ROLES.isdisjoint(adds)


def message_values(append: Append) -> dict[str, Any]:
    """Return the parameters of ``append_message``, as far as the message has them."""
    (message,) = append.messages
    given = {
        **_append_values(append),
        "id": message.message_id,
        "role": message.role,
        message.role: 1,
        "time": message.created_at_us,
        "index_data": _packed(message.index),
        **_payload_values(message.payload),
    }
    if message.brief is not None:
        given |= {"last_place": 1, "last_brief": packed(message.brief)}
        if message.role == "user":
            given |= {"first_place": 1, "first_brief": given["last_brief"]}
    if message.adds:
        given |= dict(zip(_ADDED, _three(message.adds), strict=True))
    return given


def _three(adds: Mapping[str, int]) -> list[str | int]:
    """Return three counters, each before what is added to it; one that is missing has an empty name."""
    return [value for pair in adds.items() for value in pair] + ["", 0] * (_MOST_ADDS - len(adds))


def batch_values(append: Append) -> dict[str, Any]:
    """Return the parameters of ``append_messages``.

    Raises:
        PayloadTooLargeError: Together the payloads do not fit one message of PostgreSQL's protocol.
    """
    size = append.size_bytes
    if size > MAX_BATCH_BYTES:
        raise PayloadTooLargeError(backend=BACKEND, key="the batch", size_bytes=size, limit_bytes=MAX_BATCH_BYTES)
    folded = dict(zip(_FOLDED, _folded(append.messages), strict=True))
    return {**_append_values(append), **folded, "adds": _object(folded["adds"]), **_message_lists(append.messages)}


def _append_values(append: Append) -> dict[str, Any]:
    return {
        "session": append.session_id,
        "now": append.now_us,
        "expected_last": _expected_last(append),
        "fence": None if append.fence is None else clamped(append.fence),
    }


def _folded(messages: Iterable[MessageRecord]) -> tuple[Any, ...]:
    """Return what messages add to the summary of their session, as ``_FOLDED`` names it.

    The places of briefs count from 1; one that is the first and the last is given once. It is
    ``SessionSummary.appended`` written out: every append pays for it.
    """
    roles = dict.fromkeys(_ROLES, 0)
    adds: dict[str, int] = {}  # dict[str, int]() takes ten times as long
    first_place = first = last_place = last = None
    for place, message in enumerate(messages, 1):
        roles[message.role] += 1
        for name, number in message.adds.items():
            counters = roles if name in roles else adds
            counters[name] = counters.get(name, 0) + number
        if message.brief is not None:
            last_place, last = place, message.brief
            if first is None and message.role == "user":
                first_place, first = place, last
    first = None if first_place == last_place else first
    return (*roles.values(), adds, first_place, _packed(first), last_place, _packed(last))


def group_values(appends: Sequence[Append]) -> dict[str, Any]:
    """Return the parameters of ``append_group``; several appends to one session are one item.

    A session for whose counters the statement has no place is left unwritten.
    """
    messages = dict[str, list[MessageRecord]]()
    expected = dict[str, int | None]()
    for append in appends:
        messages.setdefault(append.session_id, []).extend(append.messages)
        expected[append.session_id] = _expected_last(append)
    folds, all_adds, firsts, lasts = list[int](), list[str | None](), list[bytes | None](), list[bytes | None]()
    for session_id, of_one in messages.items():
        user, assistant, system, tool, adds, first_place, first, last_place, last = _folded(of_one)
        if len(adds) > _MOST_ADDS or max(user, assistant, system, tool) > _MOST_FOLDED:
            expected[session_id], adds, user, assistant, system, tool = _UNREACHED, {}, 0, 0, 0, 0
        roles = user | assistant << 10 | system << 20 | tool << 30
        folds.append(roles | (first_place or 0) << 40 | (last_place or 0) << 50)
        all_adds.append(orjson.dumps(_three(adds)).decode() if adds else None)
        firsts.append(first)
        lasts.append(last)
    lists = _message_lists([message for of_one in messages.values() for message in of_one])
    encodings = set(lists["encodings"])
    if len(encodings) == 1:
        lists["encodings"] = ()
    sizes = [] if len(lists["ids"]) == len(messages) else [len(of_one) for of_one in messages.values()]
    return {
        "now": max(append.now_us for append in appends),  # a session that has expired by then is tried alone
        "sessions": list(messages),
        "expected_lasts": _list(list(expected.values())),
        "sizes": sizes,
        "folds": folds,
        "adds": _list(all_adds),
        "first_briefs": _list(firsts),
        "last_briefs": _list(lasts),
        "numbers": [number for number, size in enumerate(sizes, 1) for _ in range(size)],
        "places": [place for size in sizes for place in range(1, size + 1)],
        "encoding": encodings.pop(),
        **lists,
    }


def group_receipts(appends: Sequence[Append], rows: Sequence[Row]) -> list[AppendReceipt | None]:
    """Return the receipts of appends for the rows of ``append_group``; None: not written."""
    last_of: dict[str, int] = {row[0]: row[1] for row in rows}
    receipts = list[AppendReceipt | None]()
    for append in reversed(appends):  # the last append to a session ends at its last position
        if (last := last_of.get(append.session_id)) is None:
            receipts.append(None)
            continue
        first = last - len(append.messages) + 1
        receipts.append(stored_receipt(first, last, False))  # noqa: FBT003  # not replayed
        last_of[append.session_id] = first - 1
    return receipts[::-1]


def _expected_last(append: Append) -> int | None:
    return None if append.expected_last is None else clamped(append.expected_last)


def _message_lists(messages: Iterable[MessageRecord]) -> dict[str, Any]:
    columns = [
        (
            *(message.message_id, message.role, message.created_at_us, _packed(message.index)),
            *(message.payload.encoding, *_columns(message.payload)),
        )
        for message in messages
    ]
    ids, roles, times, indexes, encodings, payloads, blobs = zip(*columns, strict=True)
    return {
        "ids": ids,
        "roles": roles,
        "times": times,
        "indexes": _list(indexes),
        "encodings": encodings,
        "payloads": _list(payloads),
        "blobs": _list(blobs),
    }


def _list(values: Sequence[T | None]) -> Sequence[T | None]:
    """Return the values of a list parameter of ``unnest``, which fills up a list that is too short with NULL."""
    return () if values.count(None) == len(values) else values


# -- messages ------------------------------------------------------------------------------------


def span_values(span: MessageRange) -> dict[str, Any]:
    """Return the parameters of ``read_oldest_messages`` and ``read_newest_messages`` that a range gives."""
    return {
        "after": clamped(span.after),
        "before": _MAX if span.before is None else clamped(span.before),
        "count": None if span.limit is None else clamped(span.limit),
    }


def message_records(session_id: str, rows: Sequence[Row], span: MessageRange, *, last: int) -> list[MessageRecord]:
    """Return the messages of the rows of a read, in the order of their positions.

    Args:
        session_id: The session.
        rows: Each with something, position, id, role, time of creation, and the payload's three columns.
        span: The range that was read.
        last: The newest position of the session.

    Raises:
        CorruptRecordError: They are not those of the range: positions are 1, 2, 3 … to the last one.
    """
    return _of_range(session_id, _messages(session_id, rows), span, last)


def _of_range(session_id: str, found: list[R], span: MessageRange, last: int) -> list[R]:
    """Return the records of a range, if they are all of it."""
    low = max(span.after, 0) + 1
    high = last if span.before is None else min(last, span.before - 1)
    count = max(0, high - low + 1)
    if span.limit is not None and span.limit < count:
        count = span.limit
        low = high - count + 1 if span.newest else low
    # they come in order and each position once, so both ends and their number suffice
    ends = [message.position for message in (*found[:1], *found[-1:])]
    if len(found) != count or (count and ends != [low, low + count - 1]):
        listed = f"{found[0].position} to {found[-1].position}" if found else "none"
        reason = f"{len(found)} messages ({listed}) where there must be {count} from {low} on"
        raise _damaged(f"session {session_id!a}", reason)
    return found


def _messages(session_id: str, rows: Sequence[Row]) -> list[MessageRecord]:
    """Return the messages of rows; a row without one is skipped.

    ``_payload`` is written out here: 1,000 calls of it are a fifth of the time of reading 1,000 messages.
    """
    found = list[MessageRecord]()
    for _, position, message_id, role, created_at_us, encoding, text, blob in rows:
        if position is None:
            continue
        if encoding is None or (text is None) == (blob is None):
            raise _without_payload(f"message {position} of session {session_id!a}")
        data = text.encode() if blob is None else blob
        found.append(stored_record(position, message_id, role, created_at_us, encoding, data))
    return found


def index_records(session_id: str, rows: Sequence[Row], span: MessageRange, *, last: int) -> list[IndexRecord]:
    """Return the indexes of the rows of a read, in the order of their positions; see ``message_records``."""
    found = list[IndexRecord]()
    for _, position, message_id, role, created_at_us, value in rows:
        if position is None:
            continue
        index = (
            None if value is None else _unpacked(value, f"the index of message {position} of session {session_id!a}")
        )
        found.append(stored_index(position, message_id, role, created_at_us, index))
    return _of_range(session_id, found, span, last)


def index_rewrite_values(changes: Sequence[IndexRewrite]) -> dict[str, Any]:
    """Return the parameters of ``rewrite_index`` but session and time."""
    return {
        "positions": [clamped(change.position) for change in changes],
        "ids": [change.message_id for change in changes],
        "old_indexes": [_packed(change.old) for change in changes],
        "indexes": [_packed(change.new) for change in changes],
    }


def turn_records(rows: Sequence[Row], newest: int) -> TurnRecords | None:
    """Return what the rows of ``read_turn`` hold; None if there are none.

    Raises:
        CorruptRecordError: A payload is missing, or a message.
    """
    kinds: tuple[list[Row], list[Row], list[Row]] = ([], [], [])
    for row in rows:
        kinds[row[0]].append(row)
    headers, memories, messages = kinds
    if not headers:
        return None
    _, last, session_id, user_id, created, *document, updated, ttl, tags, version, _ = headers[0]
    session = SessionRecord(
        session_id=session_id,
        user_id=user_id,
        tags=tags,
        ttl_us=ttl,
        created_at_us=created,
        updated_at_us=updated,
        version=version,
        last_position=last,
        payload=_payload(document, 0, f"session {session_id!a}"),
    )
    messages.sort(key=itemgetter(1))
    return TurnRecords(
        session=session,
        memories=_memories_of_turn(MemoryScope("session", session_id), memories),
        messages=message_records(
            session_id, [row[:8] for row in messages], MessageRange(limit=newest, newest=True), last=last
        ),
    )


def _memories_of_turn(scope: MemoryScope, rows: Sequence[Row]) -> list[MemoryRecord]:
    found = list[MemoryRecord]()
    for _, _, key, _, created, *payload, updated, expires, _, version, retention in rows:
        found.append(memory_record(scope, (key, expires, retention, created, updated, version, *payload)))
    return sorted(found, key=lambda memory: (memory.created_at_us, memory.key))


def rewrite_batches(changes: Sequence[PayloadRewrite]) -> Iterator[dict[str, Any]]:
    """Yield the parameters of ``rewrite_messages`` but session and time.

    It is one set, unless the payloads do not fit one message of PostgreSQL's protocol; each change stands for
    itself, so they may be made one after the other.
    """
    for batch in _batches(changes, lambda change: len(change.old.data) + len(change.new.data)):
        yield _rewrite_lists(batch)


def insert_batches(messages: Sequence[MessageRecord]) -> Iterator[dict[str, Any]]:
    """Yield the parameters of ``insert_messages`` but the session, in as many sets as are needed."""
    for batch in _batches(messages, lambda message: len(message.payload.data) + len(_packed(message.index) or b"")):
        yield {"positions": [message.position for message in batch], **_message_lists(batch)}


def _batches(items: Sequence[T], size: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Yield items in groups that fit one message of PostgreSQL's protocol."""
    batch: list[T] = []
    free = MAX_BATCH_BYTES
    for item in items:
        if batch and size(item) > free:
            yield batch
            batch, free = [], MAX_BATCH_BYTES
        batch.append(item)
        free -= size(item)
    yield batch


def _rewrite_lists(changes: Sequence[PayloadRewrite]) -> dict[str, Any]:
    old = [_columns(change.old) for change in changes]
    new = [_columns(change.new) for change in changes]
    return {
        "positions": [clamped(change.position) for change in changes],
        "ids": [change.message_id for change in changes],
        "old_encodings": [change.old.encoding for change in changes],
        "old_payloads": [text for text, _ in old],
        "old_blobs": [blob for _, blob in old],
        "encodings": [change.new.encoding for change in changes],
        "payloads": [text for text, _ in new],
        "blobs": [blob for _, blob in new],
    }


# -- memories ------------------------------------------------------------------------------------


def memory_batches(puts: Sequence[MemoryPut], now_us: int) -> Iterator[dict[str, Any]]:
    """Yield the parameters of ``put_*_memories`` but the owner, in as many sets as are needed."""
    for batch in _batches(puts, lambda put: len(put.record.payload.data)):
        yield {
            "fresh": [put.record.key for put in batch if put.expected_version == 0],
            "now": now_us,
            "created": [put.record.created_at_us or now_us for put in batch],
            **_memory_lists(batch),
        }


def _memory_lists(puts: Sequence[MemoryPut]) -> dict[str, Any]:
    records = [put.record for put in puts]
    columns = [_columns(record.payload) for record in records]
    return {
        "keys": [record.key for record in records],
        "expected": [None if put.expected_version is None else clamped(put.expected_version) for put in puts],
        "expiries": [record.expires_at_us for record in records],
        "retentions": [repr(float(record.retention)) for record in records],  # the driver asks for float8[]
        "encodings": [record.payload.encoding for record in records],
        "payloads": [text for text, _ in columns],
        "blobs": [blob for _, blob in columns],
    }


def memory_group_values(changes: Sequence[MemoryChange]) -> dict[str, Any]:
    """Return the parameters of ``put_group_memories``."""
    nows = [change.now_us for change in changes for _ in change.puts]
    puts = [put for change in changes for put in change.puts]
    return {
        "now": max(nows),  # a session that has expired by then is tried alone
        "nows": nows,
        "owners": [put.record.scope.owner_id for put in puts],
        "created": [put.record.created_at_us or now for put, now in zip(puts, nows, strict=True)],
        **_memory_lists(puts),
    }


def memory_group(changes: Sequence[MemoryChange], rows: Sequence[Row]) -> list[list[MemoryRecord] | None]:
    """Return the memories of changes for the rows of ``put_group_memories``; None: not written."""
    found = {(owner, key): (created, version) for owner, key, created, version in rows}
    stored = list[list[MemoryRecord] | None]()
    for change in changes:
        records = [put.record for put in change.puts]
        times = [found.get((record.scope.owner_id, record.key)) for record in records]
        stored.append(
            None
            if None in times
            else [
                attrs.evolve(record, created_at_us=time[0], updated_at_us=change.now_us, version=time[1])
                for record, time in zip(records, times, strict=True)
                if time is not None
            ]
        )
    return stored


def memory_page_values(query: MemoryQuery) -> dict[str, Any]:
    """Return the parameters of a page of memories, but the owner and the time."""
    low, high = key_bounds(query.prefix, query.after, descending=query.descending)
    return {"low": low, "high": high, "after": query.after or "", "count": query.limit, "whole": query.with_payload}


def memory_record(scope: MemoryScope, row: Row, *, whole: bool = True) -> MemoryRecord:
    """Return the memory of a row of ``find_*_memory``, ``list_*_memories`` or a page.

    Args:
        scope: The scope.
        row: The row.
        whole: Whether it has the payload.

    Raises:
        CorruptRecordError: Its payload is missing.
    """
    name = f"memory {row[0]!a} of {scope.kind} {scope.owner_id!a}"
    return MemoryRecord(
        scope=scope,
        key=row[0],
        expires_at_us=row[1],
        retention=row[2],
        created_at_us=row[3],
        updated_at_us=row[4],
        version=row[5],
        payload=_payload(row, 6, name) if whole else NO_PAYLOAD,
    )
