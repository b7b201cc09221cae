"""EncryptedStorageWrapper: what lies in the store, long names, listings, and how it is made."""

from collections.abc import Callable

import attrs
import pytest

from luminoracore_sdk.application.ports.records import MemoryScope, Payload, SessionQuery, SessionRecord
from luminoracore_sdk.session import (
    EncryptedStorageWrapper,
    InMemoryStorage,
    Keyring,
    OptimizedStorageWrapper,
    RetryingStorage,
    create_storage,
)
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import json_payload, memory_record, message_records, session_record
from luminoracore_sdk.types.session import StorageConfig
from luminoracore_sdk.utils.exceptions import (
    ConfigurationError,
    CorruptRecordError,
    DecryptionError,
    UnreadablePayloadError,
)
from tests.support.encryption import ALL, NEW, OLD, SCOPE, keyring, small_store

LONG = "l" * 400
LONG_TOO = "L" * 512
USER = MemoryScope("user", "u")


@pytest.fixture
def base() -> InMemoryStorage:
    return InMemoryStorage(clock=ManualClock())


@pytest.fixture
def storage(base: InMemoryStorage) -> EncryptedStorageWrapper:
    return EncryptedStorageWrapper(base, keyring())


# -- what lies in the store --------------------------------------------------------------------


async def test_payloads_are_tagged_and_28_bytes_longer(storage: EncryptedStorageWrapper) -> None:
    raw = await small_store(storage)
    found = await storage.find_session("s")
    plain = json_payload({"text": "secret"})
    assert found is not None
    assert found.payload == plain
    sealed = (await raw.header()).payload
    assert sealed is not None
    assert (sealed.encoding, len(sealed.data)) == ("json+aes256gcm:old", len(plain.data) + 28)
    assert {payload.encoding for payload in await raw.payloads()} == {"json+aes256gcm:old"}
    assert [payload for payload in await raw.payloads() if b"secret" in payload.data] == []


async def test_no_two_payloads_share_a_nonce(storage: EncryptedStorageWrapper) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(500))
    stored = await storage.base.read_messages("s", ALL)
    assert len({message.payload.data[:12] for message in stored}) == 500


async def test_any_payload_comes_back_whatever_its_tag(storage: EncryptedStorageWrapper) -> None:
    payloads = [Payload("x", b""), Payload("json+aes256gcm:key/1", bytes(range(256))), Payload("json", b"{}")]
    for payload in payloads:
        await storage.put_session(SessionRecord(session_id="s", payload=payload))
        found = await storage.find_session("s")
        assert found is not None
        assert found.payload == payload


async def test_reader_without_encryption_gets_an_error(base: InMemoryStorage, storage: EncryptedStorageWrapper) -> None:
    await storage.save_session("s", {"a": 1})
    with pytest.raises(UnreadablePayloadError, match="switch on the wrapper"):
        await base.load_session("s")


async def test_encrypted_names_are_stable_and_differ_by_scope(
    base: InMemoryStorage, storage: EncryptedStorageWrapper
) -> None:
    for name in ("s", "t"):
        await storage.put_session(session_record(name, tags=("red",)))
        await storage.put_memory(memory_record("k", owner=name))
        await storage.put_memory(memory_record("k", owner=name))
    labels = {tag for record in (await base.query_sessions(SessionQuery())).sessions for tag in record.tags}
    assert len(labels) == 1
    assert "red" not in labels.pop()
    keys = [memory.key for name in ("s", "t") for memory in await base.list_memories(MemoryScope("session", name))]
    assert len(keys) == len(set(keys)) == 2


# -- long names --------------------------------------------------------------------------------


async def test_names_too_long_to_be_encrypted_in_place_come_back(
    base: InMemoryStorage, storage: EncryptedStorageWrapper
) -> None:
    tags = (LONG, LONG_TOO, "short")
    put = await storage.put_session(session_record("s", tags=tags))
    assert put.tags == (LONG_TOO, LONG, "short")
    assert await storage.find_session("s") == put
    stored = await base.find_session("s")
    assert stored is not None
    assert sorted(tag.partition(":")[0] for tag in stored.tags) == ["aes-siv", "hmac-sha256", "hmac-sha256"]
    assert max(map(len, stored.tags)) <= 512
    for tag in tags:
        (listed,) = (await storage.query_sessions(SessionQuery(tag=tag))).sessions
        assert listed == attrs.evolve(put, payload=None)


async def test_long_keys_of_memories_come_back_in_order(storage: EncryptedStorageWrapper) -> None:
    keys = [LONG, "b", LONG_TOO, "a", "\U0001f600" * 512, "x" * 362, "x" * 363]
    for key in keys:
        await storage.put_memory(memory_record(key, kind="user", owner="u", value=key))
        found = await storage.find_memory(USER, key)
        assert found is not None
        assert (found.key, found.payload) == (key, json_payload(key))
    assert [memory.key for memory in await storage.list_memories(USER)] == sorted(keys)


async def test_listing_omits_a_session_deleted_meanwhile(
    storage: EncryptedStorageWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.put_session(session_record("s", tags=(LONG,)))
    await storage.put_session(session_record("t"))

    async def gone(_: object, session_id: str) -> None:
        assert session_id == "s"

    monkeypatch.setattr(InMemoryStorage, "find_session", gone)
    assert [record.session_id for record in (await storage.query_sessions(SessionQuery())).sessions] == ["t"]


async def test_a_long_name_that_does_not_fit_its_hash_is_refused(
    base: InMemoryStorage, storage: EncryptedStorageWrapper
) -> None:
    ring = keyring()
    other = EncryptedStorageWrapper(InMemoryStorage(), Keyring({"old": OLD}, index_key=NEW))
    await other.put_session(session_record("s", tags=(LONG,)))
    await other.put_memory(memory_record(LONG))
    header = await other.base.find_session("s")
    assert header is not None
    base.adopt(header, [], await other.base.list_memories(SCOPE))  # authentic payloads, hashes of another key
    storage = EncryptedStorageWrapper(base, ring)
    with pytest.raises(DecryptionError, match="its names do not match those in its payload"):
        await storage.find_session("s")
    with pytest.raises(DecryptionError, match="its names do not match those in its payload"):
        await storage.list_memories(SCOPE)


# -- how it is made ----------------------------------------------------------------------------


def test_the_factory_puts_it_next_to_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMINORA_ENCRYPTION_KEYS", f"old:{OLD.hex()}")
    config = StorageConfig("json", file_path="x", encryption_enabled=True, compression_enabled=True, retry_attempts=2)
    kinds, storage = [], create_storage(config)
    while isinstance(storage, RetryingStorage | OptimizedStorageWrapper | EncryptedStorageWrapper):
        kinds.append(type(storage))
        storage = storage.base
    assert kinds == [RetryingStorage, OptimizedStorageWrapper, EncryptedStorageWrapper]


def test_the_factory_needs_keys_from_somewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LUMINORA_ENCRYPTION_KEYS", raising=False)
    with pytest.raises(ConfigurationError, match="LUMINORA_ENCRYPTION_KEYS"):
        create_storage(StorageConfig(encryption_enabled=True))
    assert type(create_storage(StorageConfig(encryption_enabled=True), keys=keyring())) is EncryptedStorageWrapper
    assert type(create_storage("memory://", keys=keyring)) is EncryptedStorageWrapper
    assert type(create_storage("memory://")) is InMemoryStorage


async def test_the_factory_hands_on_that_encryption_is_required() -> None:
    clock = ManualClock()
    make: Callable[..., StorageConfig] = lambda **more: StorageConfig(encryption_enabled=True, **more)  # noqa: E731
    for config, refused in ((make(), False), (make(encryption_required=True), True)):
        storage = create_storage(config, keys=keyring(), clock=clock)
        assert isinstance(storage, EncryptedStorageWrapper)
        await storage.base.save_session("s", {"a": 1})
        if refused:
            with pytest.raises(CorruptRecordError, match="encryption is required"):
                await storage.load_session("s")
        else:
            assert await storage.load_session("s") == {"a": 1}
