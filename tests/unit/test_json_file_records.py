"""The encoding of records in files: what was written comes back, and anything else is damage."""

from collections.abc import Callable
from zlib import crc32

import attrs
import pytest

from luminoracore_sdk.adapters.storage.json_file.records import (
    DamagedError,
    decode_batch,
    decode_memory,
    decode_session,
    encode_batch,
    encode_memory,
    encode_session,
)
from luminoracore_sdk.application.ports.records import MessageRecord, Payload, SessionRecord
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record

HOSTILE_ID = '",\\"body\\":[{}]",\\u0000\n\u2028'


def sealed(text: bytes) -> bytes:
    """Return a line with a correct checksum."""
    return b'{"crc":"%08x",' % crc32(text) + text


def unsealed(line: bytes) -> bytes:
    """Return what the checksum of an encoded line covers."""
    return line[len(b'{"crc":"9a3f00c1",') : -1]


def decode_line(line: bytes) -> object:
    if not line.endswith(b"\n"):
        raise DamagedError("it does not end with a newline")
    return decode_batch(line[:-1])


@pytest.mark.parametrize(
    "messages",
    [
        [message_record("m1")],
        message_records(3),
        [message_record(',"body":[', text=HOSTILE_ID)],
        [message_record(HOSTILE_ID)],
        [attrs.evolve(message_record("m1"), payload=Payload("json+zlib", b"\x00\xff\n"))],
        [attrs.evolve(message_record("m1"), payload=Payload("json", b""))],
    ],
    ids=["one", "three", "marks", "hostile", "binary", "empty"],
)
def test_a_line_returns_the_messages_that_were_written(messages: list[MessageRecord]) -> None:
    text = encode_batch(7, 5, messages)[:-1]
    written = [attrs.evolve(message, position=7 + number) for number, message in enumerate(messages)]
    assert decode_batch(text) == (5, written)


def test_a_flipped_bit_anywhere_in_a_line_is_damage() -> None:
    text = encode_batch(1, 1, [message_record("m1")])[:-1]
    for place in range(len(text)):
        for bit in range(8):
            damaged = bytearray(text)
            damaged[place] ^= 1 << bit
            with pytest.raises(DamagedError):
                decode_batch(bytes(damaged))


@pytest.mark.parametrize("decode", [decode_line, decode_session, decode_memory])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (sealed(b'"encoding":"json","body":null}\n')[:-1], "does not end with a newline"),
        (sealed(b'"encoding":"json","body":null}') + b"\n", "a field is missing"),
        (sealed(b'encoding,"body":null}') + b"\n", "not JSON"),
        (sealed(b'"encoding":"json"}') + b"\n", "it has no body"),
        (b'{"crc":"00000000","body":null}\n', "its checksum is wrong"),
        (b"null\n", "does not begin as a record"),
        (b"", "does not end with a newline"),
    ],
)
def test_a_line_of_another_program_is_damage(decode: Callable[[bytes], object], line: bytes, reason: str) -> None:
    with pytest.raises(DamagedError, match=reason):
        decode(line)


@pytest.mark.parametrize("decode", [decode_session, decode_memory])
def test_a_field_of_the_wrong_type_is_damage(decode: Callable[[bytes], object]) -> None:
    line = encode_memory(memory_record("k")) if decode is decode_memory else encode_session(session_record())
    text = unsealed(line).replace(b'"tags":[]', b'"tags":7').replace(b'"retention":"0.0"', b'"retention":"x"')
    with pytest.raises(DamagedError, match="has the wrong type"):
        decode(sealed(text) + b"\n")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"role":"user",', b"", "a field is missing"),
        (b'"first":1', b'"first":null', "has the wrong type"),
        (b'"size":24,', b'"size":23,', "not as long as it says"),
    ],
)
def test_a_message_of_another_program_is_damage(old: bytes, new: bytes, reason: str) -> None:
    text = unsealed(encode_batch(1, 1, message_records(2)))
    assert old in text
    with pytest.raises(DamagedError, match=reason):
        decode_batch(sealed(text.replace(old, new, 1)))


def test_a_line_without_messages_is_damage() -> None:
    with pytest.raises(DamagedError, match="not as long as it says"):
        decode_batch(sealed(b'"first":1,"at_us":1,"messages":[],"body":[]}'))


def test_a_session_without_payload_is_refused() -> None:
    with pytest.raises(ValidationError):
        encode_session(SessionRecord(session_id="s", payload=None))


@pytest.mark.parametrize("retention", [0.1, -0.0, float("inf"), 5e-324])
def test_any_retention_returns_exactly(retention: float) -> None:
    found = decode_memory(encode_memory(memory_record("k", retention=retention)))
    assert repr(found.retention) == repr(retention)
