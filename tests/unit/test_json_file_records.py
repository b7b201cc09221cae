"""Records that are sealed but not what this package writes are damage too, never a stray error."""

from collections.abc import Callable
from zlib import crc32

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
from luminoracore_sdk.application.ports.records import MemoryRecord, SessionRecord
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.testing.records import memory_record, message_records, session_record


def sealed(text: bytes) -> bytes:
    """Return a line whose checksum is right, whatever it says."""
    return b'{"crc":"%08x",' % crc32(text) + text + b"\n"


@pytest.mark.parametrize("decode", [decode_batch, decode_session, decode_memory])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (sealed(b'"size":4,"encoding":"json","body":null}'), "a field is missing"),
        (sealed(b'"size":4,encoding,"body":null}'), "not JSON"),
        (sealed(b'"size":999,"encoding":"json","body":null}'), "not JSON"),
        (b'{"crc":"00000000","size":4,"body":null}', "does not end"),
        (b"", "does not end"),
    ],
)
def test_a_line_of_another_make_is_damage(decode: Callable[[bytes], object], line: bytes, reason: str) -> None:
    with pytest.raises(DamagedError, match=reason):
        decode(line)


@pytest.mark.parametrize(
    "decode",
    [decode_session, decode_memory],
)
def test_fields_of_another_kind_are_damage(decode: Callable[[bytes], object]) -> None:
    line = encode_memory(memory_record("k")) if decode is decode_memory else encode_session(session_record())
    text = line[18:-1].replace(b'"tags":[]', b'"tags":7').replace(b'"retention":"0.0"', b'"retention":"x"')
    with pytest.raises(DamagedError):
        decode(sealed(text))


def test_a_message_of_another_kind_is_damage() -> None:
    text = encode_batch(1, 1, message_records(2))[18:-1].replace(b'"role":"user",', b"", 1)
    with pytest.raises(DamagedError, match="a field is missing"):
        decode_batch(sealed(text)).messages()


def test_a_line_without_messages_is_damage() -> None:
    with pytest.raises(DamagedError, match="holds no message"):
        decode_batch(sealed(b'"size":2,"first":1,"at_us":1,"messages":[],"body":[]}'))


def test_payload_sizes_that_do_not_add_up_are_damage() -> None:
    line = encode_batch(1, 1, message_records(2))
    wrong = line[18:-1].replace(b'"size":24,"tag"', b'"size":23,"tag"', 1)
    assert wrong != line[18:-1]
    with pytest.raises(DamagedError, match="not as long"):
        decode_batch(sealed(wrong)).messages()


def test_a_session_without_payload_is_refused() -> None:
    with pytest.raises(ValidationError):
        encode_session(SessionRecord(session_id="s", payload=None))


@pytest.mark.parametrize("retention", [0.1, -0.0, float("inf"), 5e-324])
def test_any_retention_returns_exactly(retention: float) -> None:
    record = memory_record("k", retention=retention)
    found = decode_memory(encode_memory(record))
    assert isinstance(found, MemoryRecord)
    assert repr(found.retention) == repr(retention)
