"""What a rewriting makes of each record: compressed, plain again, encrypted, under another key."""

import os
from collections.abc import Callable
from itertools import product

import attrs
import pytest

from luminoracore_sdk.adapters.compression import dictionary_registry as known
from luminoracore_sdk.adapters.compression.dictionary import Dictionary
from luminoracore_sdk.adapters.compression.dictionary_store import choose_dictionary, save_dictionary
from luminoracore_sdk.adapters.wrappers.current_encoding import backend_of, current_encoding
from luminoracore_sdk.application.maintenance.rewrite import StoreRewrite
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.optimization import OptimizationConfig, Optimizer
from luminoracore_sdk.session import (
    EncryptedStorageWrapper,
    InMemoryStorage,
    Keyring,
    OptimizedStorageWrapper,
    SessionStorage,
)
from luminoracore_sdk.testing.records import json_payload, memory_record, message_record, session_record

TEXT = "what the weather is like, and what I should do about it, if it is like that again " * 3
CARD, BRIEF, INDEX = json_payload("a card"), json_payload("a brief"), json_payload("an index " * 40)
OLD, NEW = os.urandom(32), os.urandom(32)
NOTATION = Optimizer(OptimizationConfig(record_compression=False))

MAKES: dict[str, tuple[Callable[[SessionStorage], SessionStorage], str]] = {
    "plain": (lambda base: base, "json"),
    "compressed": (lambda base: OptimizedStorageWrapper(base, Optimizer()), "json+zstd:g1"),
    "encrypted": (lambda base: EncryptedStorageWrapper(base, Keyring({"old": OLD})), "json+aes256gcm:old"),
    "both": (
        lambda base: OptimizedStorageWrapper(
            EncryptedStorageWrapper(base, Keyring({"new": NEW, "old": OLD})), Optimizer()
        ),
        "json+zstd:g1+aes256gcm:new",
    ),
}


async def fill(storage: SessionStorage) -> None:
    await storage.put_session(attrs.evolve(session_record(text=TEXT, tags=("t",)), card=CARD))
    await storage.append_messages("s", [attrs.evolve(message_record("m", text=TEXT), brief=BRIEF, index=INDEX)])
    await storage.put_memory(memory_record("k", value=TEXT))
    await storage.put_memory(memory_record("k", value=TEXT, kind="user", owner="u"))


async def tags(backend: SessionStorage) -> set[str]:
    header = await backend.find_session("s")
    assert header is not None
    assert header.payload is not None
    messages = await backend.read_messages("s", MessageRange())
    scopes = (MemoryScope("session", "s"), MemoryScope("user", "u"))
    memories = [memory for scope in scopes for memory in await backend.list_memories(scope)]
    assert (len(messages), len(memories)) == (1, 2)
    texts = {found.payload.encoding for found in (header.summary.first, header.summary.last) if found}
    assert header.card is not None
    secret = {header.payload.encoding} if "aes" in header.payload.encoding else {"json"}
    [found] = await backend.read_index("s", MessageRange())
    assert found.index is not None
    assert {name.rpartition("+")[2] for name in (*texts, header.card.encoding, found.index.encoding)} == {
        name.rpartition("+")[2] for name in secret
    }
    payloads = [*(message.payload for message in messages), *(memory.payload for memory in memories)]
    return {header.payload.encoding, *(payload.encoding for payload in payloads)}


async def contents(storage: SessionStorage) -> list[object]:
    header = await storage.find_session("s")
    assert header is not None
    return [
        header.texts,
        await storage.load_session("s"),
        *[message.payload for message in await storage.read_messages("s", MessageRange())],
        *await storage.read_index("s", MessageRange()),
        *[memory.payload for memory in await storage.list_memories(MemoryScope("session", "s"))],
        *[memory.payload for memory in await storage.list_memories(MemoryScope("user", "u"))],
    ]


async def rewrite(storage: SessionStorage) -> tuple[int, int]:
    """Rewrite a store to what a storage writes now; returns how many records were changed and unreadable."""
    rewriting = StoreRewrite(backend_of(storage), await current_encoding(storage))
    done = [one async for one in rewriting.run()]
    return sum(one.changed for one in done), sum(one.unreadable for one in done)


READABLE = [
    (before, after)
    for before, after in product(MAKES, MAKES)
    if before != "both" or after == "both"
    if before != "encrypted" or after in ("encrypted", "both")
]


@pytest.mark.parametrize(("before", "after"), READABLE)
async def test_rewritten_records_have_the_current_encoding(before: str, after: str) -> None:
    base = InMemoryStorage()
    await fill(MAKES[before][0](base))
    make, tag = MAKES[after]
    assert await rewrite(make(base)) == (0 if before == after else 4, 0)
    assert await tags(base) == {tag}
    plain = InMemoryStorage()
    await fill(plain)
    assert await contents(make(base)) == await contents(plain)
    assert await rewrite(make(base)) == (0, 0)


@pytest.mark.parametrize("make", ["plain", "compressed"])
async def test_without_its_key_nothing_is_rewritten(make: str) -> None:
    base = InMemoryStorage()
    await fill(MAKES["encrypted"][0](base))
    assert await rewrite(MAKES[make][0](base)) == (0, 4)
    assert await tags(base) == {"json+aes256gcm:old"}


@pytest.mark.parametrize("make", ["compressed", "both"])
async def test_unseen_trained_dictionary_is_loaded_by_a_rewrite(make: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, trained = InMemoryStorage(), Dictionary(TEXT.encode())
    storage = MAKES[make][0](base)
    await save_dictionary(storage, trained)
    await choose_dictionary(storage, trained.id)
    await fill(MAKES[make][0](base))
    tag = MAKES[make][1]
    assert await tags(base) == {tag.replace("g1", trained.id)}
    await choose_dictionary(storage, "g1")
    monkeypatch.setattr(known, "TRAINED", {})
    assert await rewrite(MAKES[make][0](base)) == (4, 0)
    assert await tags(base) == {tag}


async def test_each_encoding_has_its_own_name() -> None:
    names = [
        (await current_encoding(storage)).name
        for storage in (
            *(make(InMemoryStorage()) for make, _ in MAKES.values()),
            OptimizedStorageWrapper(InMemoryStorage(), NOTATION),
            OptimizedStorageWrapper(InMemoryStorage(), Optimizer(OptimizationConfig(compression_level=9))),
        )
    ]
    assert names == [
        "plain",
        "zstd:g1 level 3",
        "plain, key old",
        "zstd:g1 level 3, key new",
        "+opt1 Optimizer",
        "zstd:g1 level 9",
    ]


async def test_own_records_are_encrypted_but_not_compressed() -> None:
    base, trained = InMemoryStorage(), Dictionary(b'"id":"dictionary","keys","index"' + TEXT.encode())
    await save_dictionary(base, trained)
    await choose_dictionary(base, trained.id)
    await fill(MAKES["both"][0](base))
    await rewrite(MAKES["both"][0](base))
    own = await base.list_memories(MemoryScope("user", STORE_OWNER))
    assert {memory.payload.encoding for memory in own} == {
        "json",
        "json+aes256gcm:new",
        "zdict+aes256gcm:new",
    }
