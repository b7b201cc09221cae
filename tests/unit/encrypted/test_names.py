"""Names that look like encrypted ones, names that must not leave the process, keys that differ at once."""

import asyncio

import attrs
import pytest

from luminoracore_sdk.adapters.encryption.key_check import STORE_SCOPE
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.adapters.wrappers.current_encoding import current_encoding
from luminoracore_sdk.application.maintenance.rewrite import StoreRewrite
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, Page, SessionQuery
from luminoracore_sdk.session import EncryptedStorageWrapper, InMemoryStorage, Keyring
from luminoracore_sdk.testing.records import json_payload, memory_record, session_record
from luminoracore_sdk.utils.exceptions import (
    DecryptionError,
    KeyMismatchError,
    StorageBusyError,
    StorageClosedError,
)
from tests.support.encryption import SCOPE, keyring

LOOKALIKES = ("aes-siv:hello", "hmac-sha256:abc", "aes-siv:AAAA")


@pytest.mark.parametrize("name", LOOKALIKES)
@pytest.mark.parametrize("is_rewritten", [False, True])
async def test_plain_names_that_look_encrypted_are_names_like_others(name: str, is_rewritten: bool) -> None:
    base = InMemoryStorage()
    await base.put_session(session_record(tags=(name, "other")))
    await base.put_memory(memory_record(name, value="theirs"))
    storage = EncryptedStorageWrapper(base, keyring())
    if is_rewritten:
        rewriting = StoreRewrite(base, await current_encoding(storage))
        assert sum([done.changed async for done in rewriting.run()]) == 2
    assert (await storage.query_sessions(SessionQuery())).sessions[0].tags == tuple(sorted((name, "other")))
    assert [one.key for one in await storage.list_memories(SCOPE)] == [name]
    found = await storage.find_memory(SCOPE, name)
    assert found is not None
    assert found.payload == json_payload("theirs")
    await storage.put_memory(memory_record(name, value="new"))
    assert [one.payload for one in await storage.list_memories(SCOPE)] == [json_payload("new")]
    assert await storage.delete_memory(SCOPE, name) is True
    assert await base.list_memories(SCOPE) == []


@pytest.mark.parametrize("secret", ["secret", "s" * 500])
async def test_the_stored_name_of_a_memory_is_no_way_to_it(secret: str) -> None:
    base = InMemoryStorage()
    await base.put_session(session_record())  # from before encryption, so that plain names are looked for
    storage = EncryptedStorageWrapper(base, keyring())
    await storage.put_memory(memory_record(secret, value="kept"))
    (record,) = await base.list_memories(SCOPE)
    assert await storage.find_memory(SCOPE, record.key) is None
    assert await storage.delete_memory(SCOPE, record.key) is False
    await storage.put_memory(memory_record(record.key, value="another"))
    found = await storage.find_memory(SCOPE, secret)
    assert found is not None
    assert found.payload == json_payload("kept")
    assert len(await storage.list_memories(SCOPE)) == 2


async def test_the_stored_form_of_a_label_finds_no_session() -> None:
    base = InMemoryStorage()
    await base.put_session(session_record("plain"))
    storage = EncryptedStorageWrapper(base, keyring())
    await storage.put_session(session_record(tags=("secret",)))
    (stored,) = [one for one in (await base.query_sessions(SessionQuery())).sessions if one.tags]
    assert (await storage.query_sessions(SessionQuery(tag=stored.tags[0]))).sessions == ()
    assert len((await storage.query_sessions(SessionQuery(tag="secret"))).sessions) == 1


class Overheard(StorageWrapper):
    """A storage on a wire.

    Attributes:
        heard: The names that went over it.
    """

    def __init__(self, base: InMemoryStorage) -> None:
        super().__init__(base)
        self.heard: list[object] = []

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        self.heard.append(key)
        return await super().find_memory(scope, key)

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        self.heard.append(key)
        return await super().delete_memory(scope, key)

    async def query_sessions(self, query: SessionQuery) -> Page:
        self.heard.append(query.tag)
        return await super().query_sessions(query)


async def test_where_encryption_is_required_no_name_leaves_the_process() -> None:
    store = InMemoryStorage()
    await store.put_session(session_record("from before"))
    base = Overheard(store)
    for _ in range(2):  # and after it was closed and opened again
        storage = EncryptedStorageWrapper(base, keyring(), required=True)
        await storage.put_session(session_record(tags=("label",)))
        await storage.put_memory(memory_record("key"))
        await storage.find_memory(SCOPE, "missing")
        await storage.query_sessions(SessionQuery(tag="label"))
        await storage.delete_memory(SCOPE, "key")
    assert set(base.heard) & {"label", "key", "missing"} == set()
    assert len(base.heard) > 10


async def test_plain_memories_of_a_user_are_found_and_deleted() -> None:
    base, scope = InMemoryStorage(), MemoryScope("user", "u")
    await base.put_memory(memory_record("name", kind="user", owner="u", value="Ada"))
    storage = EncryptedStorageWrapper(base, keyring())
    found = await storage.find_memory(scope, "name")
    assert found is not None
    assert found.payload == json_payload("Ada")
    await storage.put_memory(memory_record("name", kind="user", owner="u", value="Bob"))
    assert await storage.delete_memory(scope, "name") is True
    assert await storage.list_memories(scope) == []


async def test_plain_records_written_after_opening_are_found() -> None:
    base = InMemoryStorage()
    await EncryptedStorageWrapper(base, keyring()).open()
    await base.open()
    await base.put_session(session_record(tags=("red",)))
    await base.put_memory(memory_record("k"))
    storage = EncryptedStorageWrapper(base, keyring())
    assert len((await storage.query_sessions(SessionQuery(tag="red"))).sessions) == 1
    assert await storage.find_memory(SCOPE, "k") is not None


async def test_own_records_are_found_with_required_encryption() -> None:
    base = InMemoryStorage()
    await base.put_session(session_record())
    await base.put_memory(memory_record("dictionary", kind="user", owner=STORE_SCOPE.owner_id, value="d"))
    storage = EncryptedStorageWrapper(base, keyring())
    rewriting = StoreRewrite(base, await current_encoding(storage))
    assert sum([done.changed async for done in rewriting.run()]) == 2
    found = await EncryptedStorageWrapper(base, keyring(), required=True).find_memory(STORE_SCOPE, "dictionary")
    assert found is not None
    assert found.payload == json_payload("d")


async def test_forged_tag_is_not_listed_with_required_encryption() -> None:
    base = InMemoryStorage()
    storage = EncryptedStorageWrapper(base, keyring(), required=True)
    await storage.put_session(session_record(tags=("true",)))
    stored = await base.find_session("s")
    assert stored is not None
    base.adopt(attrs.evolve(stored, tags=(*stored.tags, "forged")), [], [])
    with pytest.raises(DecryptionError, match="session 's'"):
        await storage.query_sessions(SessionQuery())
    assert (await storage.query_sessions(SessionQuery(tag="forged"))).sessions == ()


class Process(StorageWrapper):
    """The storage of one of several processes: closing it closes it for none of the others."""

    async def close(self) -> None: ...

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        found = await super().find_memory(scope, key)
        await asyncio.sleep(0)  # nobody has written yet when the others look
        return found

    async def put_memory(
        self, record: MemoryRecord, *, max_entries: int | None = None, expected_version: int | None = None
    ) -> MemoryRecord:
        stored = await super().put_memory(record, max_entries=max_entries, expected_version=expected_version)
        await asyncio.sleep(0)  # the others write before anybody looks again
        return stored


async def test_concurrent_openings_with_different_keys_conflict() -> None:
    base = InMemoryStorage()
    rings = [Keyring({"k": bytes([number]) * 32}) for number in range(3)]
    outcomes = await asyncio.gather(
        *(EncryptedStorageWrapper(Process(base), ring).open() for ring in rings), return_exceptions=True
    )
    assert [type(one) for one in outcomes].count(KeyMismatchError) == 2


async def test_concurrent_openings_with_new_keys_are_all_recorded() -> None:
    base, index = InMemoryStorage(), bytes(range(32))
    rings = [Keyring({f"k{number}": bytes([number]) * 32}, index_key=index) for number in range(3)]
    await asyncio.gather(*(EncryptedStorageWrapper(Process(base), ring).open() for ring in rings))
    for number in range(3):
        wrong = Keyring({f"k{number}": bytes([9]) * 32}, index_key=index)
        with pytest.raises(KeyMismatchError, match=f"k{number}"):
            await EncryptedStorageWrapper(Process(base), wrong).open()


async def test_who_never_finds_its_keys_written_down_does_not_open(monkeypatch: pytest.MonkeyPatch) -> None:
    base = InMemoryStorage()

    async def forgetful(record: MemoryRecord, **_: object) -> MemoryRecord:
        return record

    monkeypatch.setattr(base, "put_memory", forgetful)
    with pytest.raises(StorageBusyError, match="their keys"):
        await EncryptedStorageWrapper(base, keyring()).open()


async def test_cancelled_opening_closes_the_storage_below(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = InMemoryStorage()

    async def cancelled(*_: object) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(base, "find_memory", cancelled)
    with pytest.raises(asyncio.CancelledError):
        await EncryptedStorageWrapper(base, keyring()).open()
    with pytest.raises(StorageClosedError):
        await base.list_sessions()


async def test_the_card_of_a_session_with_a_long_tag_is_listed_decrypted(storage: EncryptedStorageWrapper) -> None:
    card = json_payload("a title")
    await storage.put_session(attrs.evolve(session_record("long", tags=("t" * 500,)), card=card))
    listed = {record.session_id: record.card for record in (await storage.query_sessions(SessionQuery())).sessions}
    assert listed["long"] == card
