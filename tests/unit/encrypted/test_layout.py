"""What an encrypted store looks like in bytes: later versions have to read it."""

import attrs
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.encryption.cipher import pack
from luminoracore_sdk.adapters.encryption.records import EncryptedRecords
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.session import Keyring
from luminoracore_sdk.testing.strategies import ids

KEY = bytes(range(32))
RECORDS = EncryptedRecords(Keyring({"k": KEY}), backend="memory")
SCOPE = MemoryScope("user", "u")
TAG = "json+aes256gcm:k"


def by_hand(payload: Payload, *place: bytes) -> bytes:
    """Decrypt with the cipher itself; the place is written down as other programs would have to."""

    def parts(*each: bytes) -> bytes:
        return b"".join(len(part).to_bytes(4, "big") + part for part in each)

    data = parts(payload.encoding.encode(), parts(*place))
    return AESGCM(KEY).decrypt(payload.data[:12], payload.data[12:], data)


def test_names_keep_their_stored_forms() -> None:
    assert RECORDS.stored_tag("red") == "aes-siv:c5FRnGk96ZVw4PP3ITVYlJQZBw"
    assert RECORDS.stored_tag("l" * 400) == "hmac-sha256:RwdNBP7fT_neVfj6q1z4qhqU8MpuDkBsGKX43zo5dB0"
    assert RECORDS.stored_key(SCOPE, "red") == "aes-siv:8ejv68Z6ZvkRHbUSPUJsFR5-aA"


def test_stored_message_of_this_version_is_readable() -> None:
    data = bytes.fromhex("9f7ff3cc074c5ea9fb9ff7d4c64f6e54ef60ce90d6b3545f151345360b06589e")
    stored = MessageRecord(message_id="m1", role="user", created_at_us=-5, payload=Payload(TAG, data), position=42)
    read = RECORDS.message("s", stored)
    assert read == attrs.evolve(stored, payload=Payload("json", b'"hi"'))
    assert by_hand(stored.payload, b"message", b"s", b"42", b"m1", b"user", b"-5") == b'"hi"'


def test_stored_memory_of_this_version_is_readable() -> None:
    data = bytes.fromhex("a0d8a4b8cb132d1e13f8c71601a1b39fd7db43076953568e9de623cc815f10a2")
    key = "aes-siv:8ejv68Z6ZvkRHbUSPUJsFR5-aA"
    stored = MemoryRecord(scope=SCOPE, key=key, payload=Payload(TAG, data))
    read = RECORDS.memory(stored)
    assert (read.key, read.payload) == ("red", Payload("json", b'"hi"'))
    assert by_hand(stored.payload, b"memory", b"user", b"u", key.encode()) == b'"hi"'


def test_header_is_bound_to_its_user_and_tags() -> None:
    payload = Payload("json", b"{}")
    for user_id, user in (("u", b"uu"), (None, b"")):
        record = SessionRecord(session_id="s", payload=payload, user_id=user_id, tags=("red", "l" * 400))
        stored = RECORDS.stored_session(record, payload)
        assert stored.payload is not None
        labels = [tag.encode() for tag in stored.tags]
        name = (400).to_bytes(4, "big") + b"l" * 400
        plain = (404).to_bytes(4, "big") + name + b"{}"
        assert by_hand(stored.payload, b"session", b"s", user, *labels) == plain


@given(st.lists(st.binary(max_size=6), max_size=4), st.lists(st.binary(max_size=6), max_size=4))
def test_other_parts_are_packed_into_other_bytes(one: list[bytes], other: list[bytes]) -> None:
    assert (pack(*one) == pack(*other)) == (one == other)


@given(ids(), ids())
def test_any_name_comes_back(name: str, owner: str) -> None:
    payload = Payload("json", b"[]")
    header = SessionRecord(session_id=owner, payload=payload, user_id=owner, tags=(name, owner))
    stored = RECORDS.stored_session(header, payload)
    assert stored.payload is not None
    assert RECORDS.session(stored, stored.payload) == header
    memory = MemoryRecord(scope=MemoryScope("user", owner), key=name, payload=payload)
    assert RECORDS.memory(RECORDS.stored_memory(memory)) == memory
