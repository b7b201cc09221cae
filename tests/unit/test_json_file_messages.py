"""The short way to read a line finds what the long way finds, and refuses what that refuses."""

import attrs
import pytest
from luminoracore_sdk.adapters.storage.json_file.messages import decode_messages
from luminoracore_sdk.adapters.storage.json_file.record import DamagedError, decode_text, encode_batch
from luminoracore_sdk.adapters.storage.json_file.seen import SeenDigests

from luminoracore_sdk.application.ports.records import MessageRecord, Payload
from luminoracore_sdk.testing.records import message_record, message_records

ODD_ID = '",\\"body\\":[{}]",\\u0000\n\u2028'


@pytest.mark.parametrize(
    "messages",
    [
        [message_record("m1")],
        message_records(3),
        [message_record(',"body":[', text=ODD_ID)],
        [message_record(ODD_ID)],
        [attrs.evolve(message_record("m1"), payload=Payload("json+zlib", b"\x00\xff\n"))],
        [attrs.evolve(message_record("m1"), payload=Payload("json", b""))],
    ],
    ids=["one", "three", "marks", "odd", "binary", "empty"],
)
def test_a_line_gives_back_the_messages_that_were_written(messages: list[MessageRecord]) -> None:
    text = encode_batch(7, 1, messages)[:-1]
    written = [attrs.evolve(message, position=7 + number) for number, message in enumerate(messages)]
    assert decode_messages(text) == decode_text(text).messages() == written
    assert [attrs.asdict(message) for message in decode_messages(text)] == list(map(attrs.asdict, written))


def test_a_flipped_bit_anywhere_in_a_line_is_noticed() -> None:
    text = encode_batch(1, 1, [message_record("m1")])[:-1]
    for place in range(len(text)):
        for bit in range(8):
            damaged = bytearray(text)
            damaged[place] ^= 1 << bit
            with pytest.raises(DamagedError):
                decode_messages(bytes(damaged))


def test_no_digest_that_was_seen_is_denied_and_few_others_are_taken_for_seen() -> None:
    def digest(number: int) -> bytes:
        return (number * 0x9E3779B97F4A7C15 % (1 << 64)).to_bytes(8) + bytes(8)

    seen = SeenDigests(b"".join(digest(number) + bytes(8) for number in range(600)))
    for number in range(600, 1024):
        assert not seen.is_full
        seen.add(digest(number))
    assert all(seen.may_hold(digest(number)) for number in range(1024))
    assert sum(seen.may_hold(digest(number)) for number in range(10_000, 11_000)) < 60
    seen.add(digest(1024))
    assert seen.is_full
