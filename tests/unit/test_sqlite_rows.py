"""Rows to records, with damage in every column."""

from typing import Any, cast

import attrs
import pytest
from sqlalchemy.dialects import sqlite

from luminoracore_sdk.adapters.storage.sqlite.migrate import load
from luminoracore_sdk.adapters.storage.sqlite.rows import (
    folded,
    history,
    history_values,
    index_records,
    index_value,
    light_records,
    listed_records,
    memory_record,
    memory_values,
    message_records,
    message_seed,
    message_values,
    moved_checksum,
    query_values,
    range_values,
    session_record,
    session_values,
    summary,
    summary_value,
    turn_record,
)
from luminoracore_sdk.adapters.storage.tables import define_tables
from luminoracore_sdk.application.ports.records import (
    Brief,
    HistoryChange,
    IndexRecord,
    Lease,
    MemoryScope,
    MessageRange,
    Payload,
    SessionQuery,
    SessionSummary,
)
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.testing import records as builders

Row = list[Any]


def message_row() -> Row:
    values = message_values("s", 1, 5, builders.message_record("m1"))
    return [9, 5, b"m1", b"user", values["created"], values["checksum"], b"json", values["payload"].encode()]


_INDEX = IndexRecord(position=5, message_id="m1", role="user", created_at_us=7, index=Payload("terms", b"\xff\0cat"))


def index_row() -> Row:
    return [9, 5, b"m1", b"user", 7, index_value(_INDEX, _INDEX.index)]


_CARD = Payload("json", b'{"title":"t"}')
_SUMMARY = SessionSummary(
    first=Brief(1, Payload("json", b'"first"')),
    last=Brief(3, Payload("json+zstd", b"\xff")),
    counters={"user": 2, "assistant": 1, "tool": 3, "tokens": 7},
)
_CHANGES = (HistoryChange(1, "cut", 2),)
_LEASE = Lease(fence=1, holder="h", until_us=5)


def session_row() -> Row:
    record = attrs.evolve(builders.session_record("s", user_id="u", tags=("a", "b"), ttl_us=9), card=_CARD)
    values = session_values(record) | history_values("s", _CHANGES, _LEASE)
    head = [b"s", b"u", values["tags"].encode(), 9, 1, 2, 3, 4, values["last_change"]]
    texts = [summary_value("s", _CARD, _SUMMARY), values["history"]]
    return [*head, *texts, values["checksum"], b"json", values["payload"].encode()]


def listed_row() -> Row:
    return session_row()[:10]


def turn_row() -> Row:
    return session_row()[:8] + session_row()[11:]


def memory_row() -> Row:
    values = memory_values(builders.memory_record("k", expires_at_us=7))
    return [b"k", 7, 0.5, 1, 2, 3, values["checksum"], b"json", values["payload"].encode()]


def test_an_intact_row_is_the_record_that_was_written() -> None:
    assert message_records("s", [message_row()]) == [attrs.evolve(builders.message_record("m1"), position=5)]
    found = session_record(session_row())
    assert (found.tags, found.card, found.summary) == (("a", "b"), _CARD, _SUMMARY)
    assert (found.last_change, found.changes, found.lease) == (1, _CHANGES, _LEASE)
    assert listed_records([listed_row()]) == [attrs.evolve(found, payload=None)]
    assert light_records([listed_row()[:9]]) == [found.listed(texts=False)]
    assert index_records("s", [index_row()]) == [_INDEX]
    assert turn_record(turn_row()) == found.of_turn()
    assert memory_record(MemoryScope("session", "s"), memory_row()).expires_at_us == 7


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (2, b"m2"),
        (2, b"\xff"),
        (2, None),
        (3, b"system"),
        (3, 7),
        (4, 0),
        (4, float(message_row()[4])),
        (6, b"jsom"),
        (6, None),
        (7, b'{"content":"x"}'),
        (7, 7),
        (7, None),
    ],
)
def test_a_changed_column_of_a_message_is_damage(column: int, value: object) -> None:
    row = message_row()
    row[column] = value
    with pytest.raises(CorruptRecordError, match="message 5 of session 's' is damaged"):
        message_records("s", [message_row(), row])


@pytest.mark.parametrize(("column", "value"), [(2, b"\xff"), (3, 7), (4, 1.5), (6, None), (7, 7), (7, None)])
def test_a_wrong_type_without_a_checksum_is_damage(column: int, value: object) -> None:
    row = message_row()
    row[column], row[5] = value, None
    with pytest.raises(CorruptRecordError, match="message 5 of session 's' is damaged"):
        message_records("s", [row])


def test_a_checksum_of_null_is_not_checked() -> None:
    row = message_row()
    row[5], row[7] = None, b'{"content":"edited by hand"}'
    [message] = message_records("s", [row])
    assert message.payload.data == b'{"content":"edited by hand"}'


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (2, b"m2"),
        (2, b"\xff"),
        (2, None),
        (3, b"system"),
        (3, 7),
        (4, 8),
        (4, None),
        (5, 7),
        (5, b""),
        (5, b"1234terms"),
        (5, index_row()[5] + b"s"),
        (5, b"\0" + index_row()[5][1:]),
    ],
)
def test_a_changed_column_of_an_index_is_damage(column: int, value: object) -> None:
    row = index_row()
    row[column] = value
    with pytest.raises(CorruptRecordError, match="the index of message 5 of session 's' is damaged"):
        index_records("s", [index_row(), row])


@pytest.mark.parametrize(("column", "value"), [(2, None), (3, b"\xff"), (4, 1.5)])
def test_a_wrong_type_without_an_index_is_damage(column: int, value: object) -> None:
    row = [*index_row()[:5], None]
    assert index_records("s", [row]) == [attrs.evolve(_INDEX, index=None)]
    row[column] = value
    with pytest.raises(CorruptRecordError, match="the index of message 5 of session 's' is damaged"):
        index_records("s", [row])


_DAMAGED_DOCUMENTS = [
    (1, b"v"),
    (1, b"\xff"),
    (2, b'["a"]'),
    (2, b"[a"),
    (2, None),
    (3, 10),
    (12, b"jsom"),
    (12, None),
    (13, b"{}"),
    (13, None),
]


def _flipped(place: int) -> bytes:
    """Return a summary of which one bit is another: checksum, sizes, positions, card, counters."""
    data = bytearray(summary_value("s", _CARD, _SUMMARY))
    data[place] ^= 1
    return bytes(data)


_DAMAGED_SUMMARIES = [
    (0, 7),
    (0, b"\xff"),
    (4, b"1"),
    (5, 2.0),
    (8, None),
    (8, 1.0),
    (9, "text"),
    (9, b""),
    (9, b"short"),
    (9, summary_value("t", _CARD, _SUMMARY)),
    *((9, _flipped(place)) for place in (0, 7, 11, 15, 19, 23, 30, -1)),
]


@pytest.mark.parametrize(("column", "value"), [*_DAMAGED_DOCUMENTS, *_DAMAGED_SUMMARIES])
def test_a_changed_column_of_a_session_is_damage(column: int, value: object) -> None:
    row = session_row()
    row[column] = value
    with pytest.raises(CorruptRecordError, match=r"session .* is damaged"):
        session_record(row)


@pytest.mark.parametrize(("column", "value"), _DAMAGED_SUMMARIES)
def test_a_changed_column_of_a_listed_session_is_damage(column: int, value: object) -> None:
    row = listed_row()
    row[column] = value
    with pytest.raises(CorruptRecordError, match=r"session .* is damaged"):
        listed_records([row])


@pytest.mark.parametrize(("column", "value"), _DAMAGED_DOCUMENTS)
def test_a_changed_column_of_the_session_of_a_turn_is_damage(column: int, value: object) -> None:
    row = turn_row()
    row[column if column < 8 else column - 3] = value
    with pytest.raises(CorruptRecordError, match="session 's' is damaged"):
        turn_record(row)


@pytest.mark.parametrize("data", [b"", b"{}", b"\0\0\0\0{}", history_values("t", _CHANGES, _LEASE)["history"], "text"])
def test_a_changed_history_is_damage(data: object) -> None:
    with pytest.raises(CorruptRecordError, match="session 's' is damaged"):
        history("s", cast("bytes", data))


def test_an_append_folds_what_is_intact_and_leaves_what_is_not() -> None:
    message = attrs.evolve(
        builders.message_record("m"), brief=Payload("json", b'"new"'), adds={"tokens": -7, "user": 2}
    )
    data = folded("s", summary_value("s", _CARD, _SUMMARY), 5, [message])
    counters = {"user": 5, "assistant": 1, "tool": 3}
    expected = attrs.evolve(_SUMMARY, last=Brief(5, Payload("json", b'"new"')), counters=counters)
    assert summary("s", data) == (_CARD, expected)
    with pytest.raises(CorruptRecordError, match="session 't' is damaged: the checksum of its summary does not match"):
        summary("t", data)
    assert folded("t", data, 6, [message]) == data


def test_a_header_that_says_nothing_has_no_summary() -> None:
    assert summary("s", None) == (None, SessionSummary())
    assert history("s", None) == ((), None)
    [found] = listed_records([[*listed_row()[:9], None]])
    assert (found.card, found.summary) == (None, SessionSummary())


def test_counters_beyond_64_bits_are_kept() -> None:
    wide = SessionSummary(counters={"tokens": 2**70})
    assert summary("s", summary_value("s", None, wide)) == (None, wide)


def test_the_checksum_of_a_moved_message_is_that_of_a_new_one() -> None:
    row = message_row()
    seeds = message_seed("s"), message_seed("t")
    rest = row[2], row[3], b"%d" % row[4], row[6], row[7]
    row[5] = moved_checksum(*seeds, row[5], *rest)
    assert message_records("t", [row]) == message_records("s", [message_row()])
    row[5] = moved_checksum(*seeds, 1, *rest)
    with pytest.raises(CorruptRecordError):
        message_records("t", [row])
    assert moved_checksum(*seeds, None, *rest) is None


@pytest.mark.parametrize(("column", "value"), [(0, b"l"), (1, None), (7, b"jsom"), (8, b"1"), (8, 2)])
def test_a_changed_column_of_a_memory_is_damage(column: int, value: object) -> None:
    row = memory_row()
    row[column] = value
    with pytest.raises(CorruptRecordError, match=r"memory .* of session 's' is damaged"):
        memory_record(MemoryScope("session", "s"), row)


def test_text_is_stored_as_text_and_bytes_as_bytes() -> None:
    def stored(payload: Payload) -> tuple[object, object]:
        values = message_values("s", 1, 1, attrs.evolve(builders.message_record("m"), payload=payload))
        return values["payload"], values["blob"]

    assert stored(Payload("json", '"é"'.encode())) == ('"é"', None)
    assert stored(Payload("json+zstd:1", b"text")) == (None, b"text")
    assert stored(Payload("json", b"\xff")) == (None, b"\xff")


@pytest.mark.parametrize(("bound", "expected"), [(7, 7), (2**70, 2**62), (-(2**70), -(2**62))])
def test_a_bound_beyond_64_bits_becomes_the_nearest(bound: int, expected: int) -> None:
    assert range_values(MessageRange(after=bound))["after"] == expected
    assert query_values(SessionQuery(created_after_us=bound))["low_time"] == expected


def test_the_statements_know_all_tables() -> None:
    names = define_tables(sqlite.dialect(), prefix="p_").names()
    sql = " ".join(load("p_")[name].sql for name in load("p_").names())
    assert [name for name in names.values() if f'"{name}"' not in sql] == []
