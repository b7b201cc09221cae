"""Rotation: a live store is rewritten, from plain records or under a new key."""

import attrs
import pytest

from luminoracore_sdk.adapters.encryption.key_check import STORE_SCOPE
from luminoracore_sdk.adapters.encryption.rotation import KeyRotation
from luminoracore_sdk.application.ports.records import MemoryScope, Payload, SessionRecord
from luminoracore_sdk.session import EncryptedStorageWrapper, InMemoryStorage
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import json_payload, memory_record, session_record
from luminoracore_sdk.utils.exceptions import DecryptionError
from tests.support.encryption import ALL, SCOPE, Raw, everything, keyring, small_store

LONG = "l" * 400


async def rewrite(raw: Raw, rotation: KeyRotation) -> int:
    """Replace every payload as a rewriting backend does; returns how many were replaced."""
    header = await raw.header()
    new = rotation.session(header)
    messages = {message.position: rotation.message("s", message) for message in await raw.messages()}
    memories = {memory.key: rotation.memory(memory) for memory in await raw.memories()}
    await raw.replace(
        header=attrs.evolve(header, payload=new or header.payload),
        messages=[
            attrs.evolve(message, payload=messages[message.position] or message.payload)
            for message in await raw.messages()
        ],
        memories=[
            attrs.evolve(memory, payload=memories[memory.key] or memory.payload) for memory in await raw.memories()
        ],
    )
    return sum(payload is not None for payload in (new, *messages.values(), *memories.values()))


async def test_rewritten_plain_store_passes_required_encryption(
    base: InMemoryStorage, storage: EncryptedStorageWrapper
) -> None:
    before = await everything(base)
    raw = Raw(base)
    assert await rewrite(raw, await storage.rotation()) == 5
    assert {payload.encoding for payload in await raw.payloads()} == {"json+aes256gcm:old"}
    assert [payload for payload in await raw.payloads() if b"plain" in payload.data] == []
    assert await everything(storage) == before
    assert await rewrite(raw, await storage.rotation()) == 0
    strict = EncryptedStorageWrapper(base, keyring(), required=True)
    assert [
        await strict.find_session("s"),
        await strict.read_messages("s", ALL),
        await strict.list_memories(SCOPE),
    ] == before[:3]
    assert await strict.find_memory(SCOPE, "k1") is None  # until its name is encrypted, too
    for memory in await storage.list_memories(SCOPE):
        await storage.put_memory(memory)
    assert [memory.key for memory in await strict.list_memories(SCOPE)] == ["k1", "k2"]
    assert await strict.find_memory(SCOPE, "k1") is not None


@pytest.mark.parametrize("scope", [MemoryScope("user", "s"), MemoryScope("session", "t")])
async def test_a_rewritten_memory_is_bound_to_its_scope(
    base: InMemoryStorage, storage: EncryptedStorageWrapper, scope: MemoryScope
) -> None:
    raw = Raw(base)
    await base.put_session(session_record("t"))
    await rewrite(raw, await storage.rotation())
    (stored, _) = await raw.memories()
    await base.put_memory(attrs.evolve(stored, scope=scope))
    with pytest.raises(DecryptionError, match=f"memory 'k1' of {scope.kind} '{scope.owner_id}' is damaged"):
        await storage.find_memory(scope, "k1")


async def test_a_rewrite_leaves_no_record_under_the_old_key(
    clock: ManualClock,
) -> None:
    base = InMemoryStorage(clock=clock)
    first = EncryptedStorageWrapper(base, keyring("old"))
    raw = await small_store(first)
    await first.put_session(session_record("s", tags=("red", "blue", LONG)))
    await first.put_memory(memory_record(LONG))
    before = await everything(first)
    both = EncryptedStorageWrapper(base, keyring("new", "old"))
    assert await everything(both) == before
    assert (await both.rotation()).key_id == "new"
    assert await rewrite(raw, await both.rotation()) == 6
    assert {payload.encoding for payload in await raw.payloads()} == {"json+aes256gcm:new"}
    assert await everything(both) == before
    assert await rewrite(raw, await both.rotation()) == 0


async def test_a_rewrite_may_change_what_is_inside(storage: EncryptedStorageWrapper) -> None:
    raw = await small_store(EncryptedStorageWrapper(InMemoryStorage(), keyring()))
    storage = EncryptedStorageWrapper(raw.base, keyring())

    def changed(payload: Payload) -> Payload:
        return Payload("json", b'"changed"') if b"one" in payload.data else payload

    rotation = await storage.rotation(rewrite=changed)
    assert await rewrite(raw, rotation) == 1
    found = await storage.read_messages("s", ALL)
    assert found[0].payload == json_payload("changed")
    assert found[1].payload == json_payload({"content": "secret two"})


async def test_rewrite_leaves_the_key_check_unchanged(
    storage: EncryptedStorageWrapper,
) -> None:
    rotation = await storage.rotation()
    (check,) = await storage.base.list_memories(STORE_SCOPE)
    assert rotation.memory(check) is None
    assert rotation.session(SessionRecord(session_id="s", payload=None)) is None
    assert rotation.has_plain_names(check) is False


async def test_plain_names_are_told_from_encrypted_ones(
    base: InMemoryStorage, storage: EncryptedStorageWrapper
) -> None:
    rotation = await storage.rotation()
    header, memories = await base.find_session("s"), await base.list_memories(SCOPE)
    assert header is not None
    assert rotation.has_plain_names(header) is True
    assert [rotation.has_plain_names(memory) for memory in memories] == [True, True]
    await storage.put_session(header)
    await storage.put_memory(memory_record("k1"))
    header, memories = await base.find_session("s"), await base.list_memories(SCOPE)
    assert header is not None
    assert rotation.has_plain_names(header) is False
    assert sorted(rotation.has_plain_names(memory) for memory in memories) == [False, True]


async def test_a_card_alone_is_rotated_too(clock: ManualClock) -> None:
    base = InMemoryStorage(clock=clock)
    old, new = EncryptedStorageWrapper(base, keyring()), EncryptedStorageWrapper(base, keyring("new", "old"))
    await old.put_session(attrs.evolve(session_record(), card=json_payload("a title")))
    rotation = await new.rotation()
    texts = rotation.texts(await Raw(base).header())
    assert texts is not None
    assert texts.card is not None
    assert texts.card.encoding == "json+aes256gcm:new"
    await base.put_session((await Raw(base).header()).with_texts(texts))
    assert rotation.texts(await Raw(base).header()) is None
