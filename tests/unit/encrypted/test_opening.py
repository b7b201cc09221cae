"""EncryptedStorageWrapper: the keys at opening, and what the store remembers of them."""

import pytest

from luminoracore_sdk.adapters.encryption.key_check import CHECK_KEY, STORE_SCOPE
from luminoracore_sdk.application.ports.records import Payload, SessionRecord
from luminoracore_sdk.session import (
    EncryptedStorageWrapper,
    InMemoryStorage,
    Keyring,
)
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import memory_record, session_record
from luminoracore_sdk.utils.exceptions import (
    ConfigurationError,
    CorruptRecordError,
    DecryptionError,
    KeyMismatchError,
    KeyNotFoundError,
    MissingDependencyError,
    PayloadTooLargeError,
    StorageClosedError,
    StorageReadOnlyError,
)
from tests.support.encryption import NEW, OLD, SCOPE, keyring, small_store


@pytest.fixture
def base() -> InMemoryStorage:
    return InMemoryStorage(clock=ManualClock())


@pytest.fixture
def storage(base: InMemoryStorage) -> EncryptedStorageWrapper:
    return EncryptedStorageWrapper(base, keyring())


async def test_keys_are_fetched_at_each_opening(
    base: InMemoryStorage,
) -> None:
    fetched = []

    def fetch() -> Keyring:
        fetched.append("now")
        return keyring()

    storage = EncryptedStorageWrapper(base, fetch)
    assert fetched == []
    await storage.put_session(session_record())
    await storage.open()
    await storage.find_session("s")
    assert fetched == ["now"]
    await storage.close()
    with pytest.raises(StorageClosedError):
        await storage.find_session("s")
    await storage.open()
    assert fetched == ["now", "now"]


async def test_error_of_fetching_keys_leaves_the_store_closed(
    monkeypatch: pytest.MonkeyPatch, base: InMemoryStorage
) -> None:
    def fetch() -> Keyring:
        raise ConnectionError("the KMS does not answer")

    async def not_opened(_: object) -> None:
        raise AssertionError("it was opened")

    monkeypatch.setattr(InMemoryStorage, "open", not_opened)
    with pytest.raises(ConnectionError, match="the KMS does not answer"):
        await EncryptedStorageWrapper(base, fetch).find_session("s")


@pytest.mark.parametrize(
    ("ring", "key_id", "what"),
    [
        (Keyring({"old": NEW}), None, "the index key"),
        (Keyring({"new": NEW, "old": OLD}, index_key=NEW), None, "the index key"),
        (Keyring({"new": NEW}), None, "the index key"),
        (Keyring({"old": bytes(32)}, index_key=NEW), None, "the index key"),
    ],
)
async def test_another_index_key_is_refused_at_opening(
    base: InMemoryStorage, storage: EncryptedStorageWrapper, ring: Keyring, key_id: str | None, what: str
) -> None:
    await storage.save_session("s", {"a": 1})
    await base.open()
    other = EncryptedStorageWrapper(base, ring)
    with pytest.raises(KeyMismatchError, match=what) as caught:
        await other.open()
    assert caught.value.key_id == key_id
    with pytest.raises(StorageClosedError):  # the storage below is not left open
        await base.find_session("s")
    await base.open()
    with pytest.raises(KeyMismatchError):  # nor does it become an empty history at first use
        await other.load_session("s")


async def test_other_bytes_under_a_known_id_are_refused_at_opening(base: InMemoryStorage) -> None:
    first = EncryptedStorageWrapper(base, Keyring({"a": OLD, "b": NEW}, index_key=bytes(32)))
    await first.save_session("s", {"a": 1})
    other = EncryptedStorageWrapper(base, Keyring({"c": OLD, "b": bytes(32)}, index_key=bytes(32)))
    with pytest.raises(KeyMismatchError, match="the key 'b' is not the one") as caught:
        await other.open()
    assert caught.value.key_id == "b"


async def test_a_new_key_in_front_is_written_down_with_the_others(base: InMemoryStorage) -> None:
    await EncryptedStorageWrapper(base, keyring("old")).open()
    first = await base.find_memory(STORE_SCOPE, CHECK_KEY)
    await EncryptedStorageWrapper(base, keyring("new", "old")).open()
    second = await base.find_memory(STORE_SCOPE, CHECK_KEY)
    assert first is not None
    assert second is not None
    assert first.payload != second.payload
    await EncryptedStorageWrapper(base, keyring("old")).open()
    assert await base.find_memory(STORE_SCOPE, CHECK_KEY) == second
    with pytest.raises(KeyMismatchError, match="the key 'new' is not the one"):
        await EncryptedStorageWrapper(base, Keyring({"new": bytes(32), "old": OLD})).open()
    for key in (OLD, NEW):
        assert key.hex().encode() not in second.payload.data


async def test_a_key_that_left_the_ring_is_still_known(base: InMemoryStorage) -> None:
    rings = [{"a": OLD, "b": NEW}, {"c": OLD, "b": NEW}, {"a": bytes(32), "b": NEW}]
    for ring in rings[:2]:
        await EncryptedStorageWrapper(base, Keyring(ring)).open()
    with pytest.raises(KeyMismatchError, match="the key 'a' is not the one"):
        await EncryptedStorageWrapper(base, Keyring(rings[2])).open()


async def test_without_the_key_check_the_first_record_fails(
    storage: EncryptedStorageWrapper,
) -> None:
    raw = await small_store(storage)
    await raw.forget_keys()
    wrong = EncryptedStorageWrapper(raw.base, Keyring({"old": NEW}))
    with pytest.raises(DecryptionError):
        await wrong.find_session("s")
    with pytest.raises(DecryptionError):
        await wrong.list_memories(SCOPE)
    with pytest.raises(DecryptionError):
        await wrong.list_sessions()


async def test_a_record_under_a_key_that_is_gone_is_an_error(base: InMemoryStorage) -> None:
    await EncryptedStorageWrapper(base, Keyring({"a": OLD}, index_key=bytes(32))).save_session("s", {})
    storage = EncryptedStorageWrapper(base, Keyring({"b": NEW}, index_key=bytes(32)))
    with pytest.raises(KeyNotFoundError, match="'a'") as caught:
        await storage.load_session("s")
    assert caught.value.key_id == "a"


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"v": 2, "index": "", "keys": {}},
        {"v": 1, "index": 5, "keys": {}},
        {"v": 1, "index": "é", "keys": {}},
        {"v": 1, "index": "", "keys": []},
        {"v": 1, "index": "", "keys": {"a": 5}},
        {"v": 1, "index": "", "keys": {"a": "é"}},
    ],
    ids=repr,
)
async def test_a_damaged_record_of_keys_is_an_error(base: InMemoryStorage, document: object) -> None:
    record = memory_record(CHECK_KEY, kind="user", owner=STORE_SCOPE.owner_id, value=document)  # type: ignore[arg-type]
    await base.put_memory(record)
    with pytest.raises(CorruptRecordError, match="it is not a key check"):
        await EncryptedStorageWrapper(base, keyring()).open()


async def test_a_store_that_cannot_be_written_is_opened_all_the_same(
    base: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise StorageReadOnlyError("memory", "a replica")

    monkeypatch.setattr(InMemoryStorage, "put_memory", refuse)
    storage = EncryptedStorageWrapper(base, keyring())
    assert await storage.find_session("s") is None


async def test_the_record_of_keys_is_hidden_and_survives_a_clearing(
    base: InMemoryStorage, storage: EncryptedStorageWrapper
) -> None:
    owner = STORE_SCOPE.owner_id
    for key in (CHECK_KEY, "dictionary"):
        await storage.put_memory(memory_record(key, kind="user", owner=owner, value="mine"))
    assert [memory.key for memory in await storage.list_memories(STORE_SCOPE)] == ["dictionary", CHECK_KEY]
    assert len(await base.list_memories(STORE_SCOPE)) == 3
    assert await storage.delete_memory(STORE_SCOPE, CHECK_KEY) is True
    assert await storage.find_memory(STORE_SCOPE, CHECK_KEY) is None
    assert await storage.clear_memories(STORE_SCOPE) == 1
    assert [memory.key for memory in await base.list_memories(STORE_SCOPE)] == [CHECK_KEY]


async def test_keys_of_another_kind_are_refused(base: InMemoryStorage) -> None:
    with pytest.raises(ConfigurationError, match="keys must be a Keyring or a callable, not dict"):
        EncryptedStorageWrapper(base, {"a": OLD})  # type: ignore[arg-type]


def test_without_the_extra_the_error_says_what_to_install(
    base: InMemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(MissingDependencyError, match=r"luminoracore-sdk\[encryption\]"):
        EncryptedStorageWrapper(base, keyring())


async def test_a_header_without_a_payload_is_damage(base: InMemoryStorage, storage: EncryptedStorageWrapper) -> None:
    base.adopt(SessionRecord(session_id="s", payload=None, updated_at_us=1, version=1), [], [])
    with pytest.raises(CorruptRecordError, match="it has no payload"):
        await storage.find_session("s")


async def test_more_than_the_library_takes_is_refused(
    storage: EncryptedStorageWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("luminoracore_sdk.adapters.encryption.cipher.LARGEST_BYTES", 5)
    with pytest.raises(PayloadTooLargeError, match="a payload is 6 bytes"):
        await storage.put_session(SessionRecord(session_id="s", payload=Payload("x", b"123456")))
