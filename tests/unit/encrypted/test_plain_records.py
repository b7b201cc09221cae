"""EncryptedStorageWrapper over a store that was plain."""

import attrs
import pytest

from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.session import EncryptedStorageWrapper, InMemoryStorage
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import json_payload, memory_record, message_records, session_record
from luminoracore_sdk.utils.exceptions import UnencryptedRecordError, ValidationError
from tests.support.encryption import ALL, SCOPE, everything, keyring

LONG = "l" * 400


async def test_every_old_record_still_reads(base: InMemoryStorage, storage: EncryptedStorageWrapper) -> None:
    before = await everything(base)
    assert await everything(storage) == before


async def test_messages_go_on_behind_the_plain_ones(base: InMemoryStorage, storage: EncryptedStorageWrapper) -> None:
    await storage.append_messages("s", message_records(1, prefix="new"))
    found = await storage.read_messages("s", ALL)
    assert [(message.position, message.message_id) for message in found] == [
        (1, "m1"),
        (2, "m2"),
        (3, "new1"),
    ]
    stored = await base.read_messages("s", ALL)
    assert [message.payload.encoding for message in stored] == ["json", "json", "json+aes256gcm:old"]


async def test_a_put_encrypts_labels_and_payload(base: InMemoryStorage, storage: EncryptedStorageWrapper) -> None:
    header = await storage.find_session("s")
    assert header is not None
    await storage.put_session(header, expected_version=1)
    stored = await base.find_session("s")
    assert stored is not None
    assert [tag.partition(":")[0] for tag in stored.tags] == ["aes-siv", "aes-siv"]
    (listed,) = (await storage.query_sessions(SessionQuery(tag="red"))).sessions
    assert listed.tags == ("blue", "red")


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_by_tag_have_plain_and_encrypted_sessions(
    base: InMemoryStorage,
    storage: EncryptedStorageWrapper,
    clock: ManualClock,
    limit: int,
    newest_first: bool,
) -> None:
    names = ["a", "b", "c", "d", "e", "f"]
    for name in names:
        clock.advance(1)
        await (base if name in "abe" else storage).put_session(session_record(name, tags=("x",)))
        await storage.put_session(session_record(f"not {name}", tags=("y",)))
    found: list[str] = []
    query = SessionQuery(tag="x", limit=limit, newest_first=newest_first)
    for _ in range(10):
        page = await storage.query_sessions(query)
        assert len(page.sessions) <= limit
        found += [record.session_id for record in page.sessions]
        if page.next_cursor is None:
            break
        query = attrs.evolve(query, cursor=page.next_cursor)
    assert found == (names[::-1] if newest_first else names)


async def test_a_session_that_is_in_both_listings_is_listed_once(
    base: InMemoryStorage, storage: EncryptedStorageWrapper
) -> None:
    await storage.put_session(session_record("s", tags=("red",)))
    stored = await base.find_session("s")
    assert stored is not None
    await base.put_session(attrs.evolve(stored, tags=("red", *stored.tags)))
    assert [record.session_id for record in (await storage.query_sessions(SessionQuery(tag="red"))).sessions] == ["s"]


async def test_a_memory_that_is_put_again_moves_to_its_encrypted_key(
    base: InMemoryStorage, storage: EncryptedStorageWrapper, clock: ManualClock
) -> None:
    created_at_us = clock.now_us - 1_000_000
    put = await storage.put_memory(memory_record("k1", value="new"), max_entries=2)
    assert (put.key, put.created_at_us, put.updated_at_us) == ("k1", created_at_us, clock.now_us)
    assert await storage.find_memory(SCOPE, "k1") == put
    keys = [memory.key for memory in await storage.list_memories(SCOPE)]
    assert keys == ["k1", "k2"]  # nothing had to go
    assert sorted(memory.key.partition(":")[0] for memory in await base.list_memories(SCOPE)) == [
        "aes-siv",
        "k2",
    ]


async def test_a_put_that_is_refused_moves_nothing(base: InMemoryStorage, storage: EncryptedStorageWrapper) -> None:
    before = await base.list_memories(SCOPE)
    with pytest.raises(ValidationError, match="max_entries"):
        await storage.put_memory(memory_record("k1", value="new"), max_entries=0)
    assert await base.list_memories(SCOPE) == before


async def test_a_limit_counts_plain_memories_too(storage: EncryptedStorageWrapper) -> None:
    await storage.put_memory(memory_record("k3", retention=5.0), max_entries=2)
    assert sorted(memory.key for memory in await storage.list_memories(SCOPE)) == ["k2", "k3"]


async def test_of_a_memory_that_was_half_moved_the_new_one_counts(
    base: InMemoryStorage, storage: EncryptedStorageWrapper
) -> None:
    old = await base.find_memory(SCOPE, "k1")
    assert old is not None
    await storage.put_memory(memory_record("k1", value="new"))
    await base.put_memory(old)  # as if it had not been deleted yet
    listed = await storage.list_memories(SCOPE)
    assert [(memory.key, memory.payload == json_payload("new")) for memory in listed] == [
        ("k1", True),
        ("k2", False),
    ]
    found = await storage.find_memory(SCOPE, "k1")
    assert found is not None
    assert found.payload == json_payload("new")
    assert await storage.delete_memory(SCOPE, "k1") is True
    assert [memory.key for memory in await base.list_memories(SCOPE)] == ["k2"]


async def test_a_memory_that_moves_while_it_is_looked_for_is_found(
    base: InMemoryStorage, storage: EncryptedStorageWrapper, monkeypatch: pytest.MonkeyPatch
) -> None:
    await storage.open()
    find = base.find_memory

    async def find_late(scope: object, key: str) -> object:
        if key == "k1":
            monkeypatch.undo()
            await storage.put_memory(memory_record("k1", value="moved"))
        return await find(SCOPE, key)

    monkeypatch.setattr(base, "find_memory", find_late)
    found = await storage.find_memory(SCOPE, "k1")
    assert found is not None
    assert found.payload == json_payload("moved")


async def test_plain_memories_are_deleted_by_their_names(storage: EncryptedStorageWrapper) -> None:
    assert [await storage.delete_memory(SCOPE, "k1") for _ in range(2)] == [True, False]
    assert await storage.find_memory(SCOPE, "k1") is None


async def test_where_encryption_is_required_plain_records_are_refused(base: InMemoryStorage) -> None:
    strict = EncryptedStorageWrapper(base, keyring(), required=True)
    with pytest.raises(UnencryptedRecordError, match="session 's' is damaged: it is not encrypted"):
        await strict.find_session("s")
    with pytest.raises(UnencryptedRecordError, match="message 1 of session 's'"):
        await strict.read_messages("s", ALL)
    assert await strict.find_memory(SCOPE, "k1") is None  # it is not asked for by its plain name
    assert await strict.delete_memory(SCOPE, "k1") is False
    assert (await strict.query_sessions(SessionQuery(tag="red"))).sessions == ()
    with pytest.raises(UnencryptedRecordError, match="memory 'k1' of session 's'"):
        await strict.list_memories(SCOPE)
    with pytest.raises(UnencryptedRecordError):  # a rewrite would make planted records look like ours
        (await strict.rotation()).message("s", (await base.read_messages("s", ALL))[0])
