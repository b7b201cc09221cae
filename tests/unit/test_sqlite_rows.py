"""Rows to records, with damage in every column."""

from typing import Any

import attrs
import pytest
from sqlalchemy.dialects import sqlite

from luminoracore_sdk.adapters.storage.sqlite.migrate import load
from luminoracore_sdk.adapters.storage.sqlite.rows import (
    memory_record,
    memory_values,
    message_records,
    message_values,
    query_values,
    range_values,
    session_record,
    session_values,
)
from luminoracore_sdk.adapters.storage.tables import define_tables
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Payload, SessionQuery
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.testing import records as builders

Row = list[Any]


def message_row() -> Row:
    values = message_values("s", 1, 5, builders.message_record("m1"))
    return [9, 5, b"m1", b"user", values["created"], values["checksum"], b"json", values["payload"].encode()]


def session_row() -> Row:
    values = session_values(builders.session_record("s", user_id="u", tags=("a", "b"), ttl_us=9))
    head = [b"s", b"u", values["tags"].encode(), 9, 1, 2, 3, 4]
    return [*head, values["checksum"], b"json", values["payload"].encode(), 1]


def memory_row() -> Row:
    values = memory_values(builders.memory_record("k", expires_at_us=7))
    return [b"k", 7, 0.5, 1, 2, values["checksum"], b"json", values["payload"].encode()]


def test_an_intact_row_is_the_record_that_was_written() -> None:
    assert message_records("s", [message_row()]) == [attrs.evolve(builders.message_record("m1"), position=5)]
    assert session_record(session_row()).tags == ("a", "b")
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
        (1, b"v"),
        (1, b"\xff"),
        (2, b'["a"]'),
        (2, b"[a"),
        (2, None),
        (3, 10),
        (9, b"jsom"),
        (9, None),
        (10, b"{}"),
        (10, None),
    ],
)
def test_a_changed_column_of_a_session_is_damage(column: int, value: object) -> None:
    row = session_row()
    row[column] = value
    with pytest.raises(CorruptRecordError, match="session 's' is damaged"):
        session_record(row)


@pytest.mark.parametrize(("column", "value"), [(0, b"l"), (1, None), (6, b"jsom"), (7, b"1"), (7, 2)])
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
