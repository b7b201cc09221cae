"""The encoding of records in files: what was written comes back, and anything else is damage."""

from collections.abc import Callable
from zlib import crc32

import attrs
import pytest

from luminoracore_sdk.adapters.storage.json_file.records import (
    Batch,
    DamagedError,
    decode_base,
    decode_batch,
    decode_memory,
    decode_session,
    encode_base,
    encode_batch,
    encode_memory,
    encode_session,
    is_base,
)
from luminoracore_sdk.adapters.storage.json_file.summary import Base, Tally
from luminoracore_sdk.application.ports.records import (
    Brief,
    HistoryChange,
    Lease,
    MessageRecord,
    Payload,
    SessionRecord,
    SessionSummary,
)
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record

HOSTILE_ID = '",\\"body\\":[{}]",\\u0000\n\u2028'

TALLY = Tally({"user": 3, HOSTILE_ID: 2**53}, 7, None)

BRIEFS = [
    Payload("json", b'"a brief"'),
    Payload("json", HOSTILE_ID.encode()),
    Payload("json", b"\xff"),
    Payload("json+opt1", b""),
    Payload("json+zstd", bytes(range(256))),
]


def sealed(text: bytes) -> bytes:
    """Return a line with a correct checksum."""
    return b'{"crc":"%08x",' % crc32(text) + text


def unsealed(line: bytes) -> bytes:
    """Return what the checksum of an encoded line covers."""
    return line[len(b'{"crc":"9a3f00c1",') : -1]


def encoded(messages: list[MessageRecord], briefs: dict[int, Payload] | None = None) -> bytes:
    return encode_batch(7, 5, messages, TALLY, briefs or {})


def decode_line(line: bytes) -> object:
    if not line.endswith(b"\n"):
        raise DamagedError("it does not end with a newline")
    return decode_batch(line[:-1])


def decode_first_line(line: bytes) -> object:
    if not line.endswith(b"\n"):
        raise DamagedError("it does not end with a newline")
    return decode_base(line[:-1])


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
    batch = decode_batch(encoded(messages)[:-1])
    written = [attrs.evolve(message, position=7 + number) for number, message in enumerate(messages)]
    assert (batch.at_us, batch.messages, batch.first, batch.last) == (5, written, 7, 6 + len(messages))
    assert batch.tally == TALLY


@pytest.mark.parametrize("payload", BRIEFS)
def test_a_brief_returns_byte_for_byte(payload: Payload) -> None:
    batch = decode_batch(encoded(message_records(3), {8: payload})[:-1])
    assert batch.brief(8) == Brief(8, payload)
    for position in (7, 9):
        with pytest.raises(DamagedError, match=f"no brief of message {position}"):
            batch.brief(position)
    summary = SessionSummary(first=Brief(0, payload), last=Brief(8, payload), counters={HOSTILE_ID: 2**53})
    base = Base(summary, (HistoryChange(3, "cut", 0), HistoryChange(4, "updated", 8)), 5)
    assert decode_base(encode_base(base)[:-1]) == base
    header = attrs.evolve(session_record(), card=payload, lease=Lease(fence=2, holder=HOSTILE_ID, until_us=-1))
    found = decode_session(encode_session(header))
    assert (found, found.lease) == (header, header.lease)


def test_a_base_is_told_from_messages() -> None:
    assert is_base(encode_base(Base()))
    assert decode_base(encode_base(Base())[:-1]) == Base()
    assert not is_base(encoded(message_records(2)))


def test_a_flipped_bit_anywhere_in_a_base_is_damage() -> None:
    text = encode_base(Base(SessionSummary(last=Brief(1, BRIEFS[0]), counters={"user": 1})))[:-1]
    for place in range(len(text)):
        for bit in range(8):
            damaged = bytearray(text)
            damaged[place] ^= 1 << bit
            with pytest.raises(DamagedError):
                (decode_base if is_base(bytes(damaged)) else decode_batch)(bytes(damaged))


def test_a_flipped_bit_anywhere_in_a_line_is_damage() -> None:
    text = encoded([message_record("m1")], {7: BRIEFS[0]})[:-1]
    for place in range(len(text)):
        for bit in range(8):
            damaged = bytearray(text)
            damaged[place] ^= 1 << bit
            with pytest.raises(DamagedError):
                decode_batch(bytes(damaged))


@pytest.mark.parametrize("decode", [decode_line, decode_first_line, decode_session, decode_memory])
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
        (b'"first":7,"at_us"', b'"first":null,"at_us"', "has the wrong type"),
        (b'"size":24,', b'"size":23,', "not as long as it says"),
    ],
)
def test_a_message_of_another_program_is_damage(old: bytes, new: bytes, reason: str) -> None:
    text = unsealed(encoded(message_records(2)))
    assert old in text
    with pytest.raises(DamagedError, match=reason):
        decode_batch(sealed(text.replace(old, new, 1)))


@pytest.mark.parametrize("summary", [b"null", b"{}", b'{"counters":{}}', b"7"])
def test_a_line_without_a_summary_is_damage(summary: bytes) -> None:
    fields = b'"first":1,"at_us":1,"messages":[%b],"summary":%b,"body":[null]}'
    message = b'{"id":"m","role":"user","created_at_us":1,"size":4,"encoding":"json"}'
    batch: Batch = decode_batch(sealed(fields % (message, summary)))
    with pytest.raises(DamagedError, match="no summary"):
        assert batch.tally


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
