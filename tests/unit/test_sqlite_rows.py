"""Rows to records, with damage in every place."""

from typing import Any

import attrs
import pytest
from luminoracore_sdk.adapters.storage.sqlite.messages import message_records

from luminoracore_sdk.adapters.storage.sqlite.rows import (
    append_values,
    clamped,
    memory_record,
    memory_values,
    message_record,
    session_record,
    session_values,
)
from luminoracore_sdk.application.ports.records import MemoryScope, Payload
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.testing import records as builders

Row = list[Any]


def message_row() -> Row:
    given = append_values("s", [builders.message_record("m1")])
    return [5, b"m1", b"user", given["time_0"], given["crc_0"], b"json", given["data_0"].encode()]


def session_row() -> Row:
    record = builders.session_record("s", user_id="u", tags=("a", "b"), ttl_us=9)
    given = session_values(record)
    head = [b"s", b"u", given["labels"].encode(), 9, 1, 2, 3, 4]
    return [*head, given["crc"], b"json", given["data"].encode()]


def memory_row() -> Row:
    given = memory_values(builders.memory_record("k", expires_at_us=7))
    return [b"k", 7, 0.5, 1, 2, given["checksum"], b"json", given["payload"].encode()]


def test_a_whole_row_is_the_record_that_was_written() -> None:
    written = attrs.evolve(builders.message_record("m1"), position=5)
    assert message_record("s", message_row()) == written
    assert session_record(session_row()).tags == ("a", "b")
    assert memory_record(MemoryScope("session", "s"), memory_row()).expires_at_us == 7


def test_messages_made_in_one_loop_are_equal_to_those_made_one_by_one() -> None:
    written = [
        attrs.evolve(record, position=number)
        for number, record in enumerate([builders.message_record("é", text="ü"), *builders.message_records(2)])
    ]
    given = append_values("ß", written)
    rows: list[Row] = [
        [
            *(number, written[number].message_id.encode(), b"user", given[f"time_{number}"]),
            *(given[f"crc_{number}"], b"json", written[number].payload.data),
        ]
        for number in range(3)
    ]
    rows[1][4] = None  # not checked
    made = message_records("ß", rows)
    assert made == written
    assert made == [message_record("ß", row) for row in rows]
    assert [hash(record) for record in made] == [hash(record) for record in written]
    assert [repr(record) for record in made] == [repr(record) for record in written]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (1, b"m2"),
        (1, b"\xff"),
        (1, None),
        (2, b"system"),
        (2, 7),
        (3, 0),
        (3, float(message_row()[3])),
        (5, b"jsom"),
        (5, None),
        (6, b'{"content":"x"}'),
        (6, 7),
    ],
)
def test_a_changed_column_of_a_message_is_damage_with_a_name(column: int, value: object) -> None:
    row = message_row()
    row[column] = value
    with pytest.raises(CorruptRecordError, match="message 5 of session 's' is damaged"):
        message_record("s", row)
    with pytest.raises(CorruptRecordError, match="message 5 of session 's' is damaged"):
        message_records("s", [message_row(), row])


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
        (10, b"{}"),
        (10, None),
    ],
)
def test_a_changed_column_of_a_session_is_damage_with_a_name(column: int, value: object) -> None:
    row = session_row()
    row[column] = value
    with pytest.raises(CorruptRecordError, match="session 's' is damaged"):
        session_record(row)


@pytest.mark.parametrize(("column", "value"), [(0, b"l"), (1, None), (6, b"jsom"), (7, b"1"), (7, 2)])
def test_a_changed_column_of_a_memory_is_damage_with_a_name(column: int, value: object) -> None:
    row = memory_row()
    row[column] = value
    with pytest.raises(CorruptRecordError, match=r"memory .* of session 's' is damaged"):
        memory_record(MemoryScope("session", "s"), row)


def test_a_checksum_of_null_is_not_checked() -> None:
    row = message_row()
    row[4], row[6] = None, b'{"content":"edited by hand"}'
    assert message_record("s", row).payload.data == b'{"content":"edited by hand"}'


def test_text_is_stored_as_text_and_bytes_as_bytes() -> None:
    def stored(payload: Payload) -> object:
        return append_values("s", [attrs.evolve(builders.message_record("m"), payload=payload)])["data_0"]

    assert stored(Payload("json", '"é"'.encode())) == '"é"'
    assert stored(Payload("json+zstd:1", b"text")) == b"text"
    assert stored(Payload("json", b"\xff")) == b"\xff"


@pytest.mark.parametrize(("number", "expected"), [(7, 7), (2**70, 2**63 - 1), (-(2**70), -(2**63))])
def test_a_bound_beyond_64_bits_becomes_the_nearest(number: int, expected: int) -> None:
    assert clamped(number) == expected
