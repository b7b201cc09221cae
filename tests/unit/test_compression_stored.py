"""Dictionaries that a store has of its own: who reads with them, who writes with them, what damage says."""

from collections.abc import Awaitable, Callable

import attrs
import pytest

from luminoracore_sdk.adapters.compression import dictionary_registry as known
from luminoracore_sdk.adapters.compression.dictionary import MAX_CONTENT_BYTES, Dictionary
from luminoracore_sdk.adapters.compression.dictionary_store import choose_dictionary, save_dictionary
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, MessageRange, Payload
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    StorageClosedError,
    StorageUnavailableError,
    UnreadablePayloadError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.session import (
    EncryptedStorageWrapper,
    InMemoryStorage,
    Keyring,
    OptimizedStorageWrapper,
    SessionStorage,
)
from luminoracore_sdk.testing.records import json_payload, memory_record, message_record, session_record
from luminoracore_sdk.types.session import SessionConfig

TEXT = "what the weather is like, and what I should do about it " * 3
TRAINED = Dictionary(TEXT.encode())
STEP = f"+zstd:{TRAINED.id}"
STORE = MemoryScope("user", STORE_OWNER)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another process, which has seen no trained dictionary yet."""
    monkeypatch.setattr(known, "TRAINED", {})


async def filled(base: SessionStorage) -> None:
    """Train a store, and write a record of each kind with what it was trained to."""
    await save_dictionary(base, TRAINED)
    await choose_dictionary(base, TRAINED.id)
    writer = OptimizedStorageWrapper(base, Optimizer())
    await writer.put_session(session_record(text=TEXT))
    await writer.append_messages("s", [message_record("m", text=TEXT)])
    await writer.put_memory(memory_record("k", value=TEXT))


async def session(storage: SessionStorage) -> Payload | None:
    record = await storage.find_session("s")
    return None if record is None else record.payload


async def message(storage: SessionStorage) -> Payload | None:
    return (await storage.read_messages("s", MessageRange()))[0].payload


async def memory(storage: SessionStorage) -> Payload | None:
    record = await storage.find_memory(MemoryScope("session", "s"), "k")
    return None if record is None else record.payload


async def listed_memory(storage: SessionStorage) -> Payload | None:
    return (await storage.list_memories(MemoryScope("session", "s")))[0].payload


@pytest.mark.parametrize("read", [session, message, memory, listed_memory])
async def test_encrypted_store_finds_its_dictionary(read: "Read", monkeypatch: pytest.MonkeyPatch) -> None:
    base, keys = InMemoryStorage(), Keyring({"k": bytes(32)})
    await filled(EncryptedStorageWrapper(base, keys))
    own = await base.list_memories(STORE)
    assert TEXT.encode() not in b"".join(record.payload.data for record in own)
    forget(monkeypatch)
    found = await read(EncryptedStorageWrapper(base, keys))
    assert found is not None
    assert found.encoding == f"json{STEP}"
    assert TEXT.encode() in known.expanded(found, backend="memory", key="x").data


READS = {one.__name__: one for one in (session, message, memory, listed_memory)}
Read = Callable[[SessionStorage], Awaitable[Payload | None]]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_other_process_reads_with_and_without_wrapper(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    base = InMemoryStorage()
    await filled(base)
    raw = await read(base)
    assert raw is not None
    assert raw.encoding.removesuffix(STEP) == "json"
    forget(monkeypatch)
    plain = await read(OptimizedStorageWrapper(base, Optimizer()))
    assert plain is not None
    assert (plain.encoding, TEXT.encode() in plain.data) == ("json", True)
    forget(monkeypatch)
    await read(base)
    assert known.expanded(raw, backend="memory", key="x") == plain


async def test_dictionary_is_chosen_at_opening() -> None:
    base = InMemoryStorage()
    wrapper = OptimizedStorageWrapper(base, Optimizer())
    await wrapper.put_session(session_record(text=TEXT))
    assert (await session(base) or Payload("", b"")).encoding == "json+zstd:g1"
    await save_dictionary(base, TRAINED)
    await choose_dictionary(base, TRAINED.id)
    await wrapper.put_session(session_record(text=TEXT))
    assert (await session(base) or Payload("", b"")).encoding == "json+zstd:g1"
    await wrapper.open()
    await wrapper.put_session(session_record(text=TEXT))
    assert (await session(base) or Payload("", b"")).encoding == f"json{STEP}"


async def test_missing_dictionary_is_an_error_of_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = InMemoryStorage()
    await filled(base)
    await base.delete_memory(STORE, f"dictionary:{TRAINED.id}")
    forget(monkeypatch)
    with pytest.raises(UnreadablePayloadError, match=rf"session 's' .*dictionary '{TRAINED.id}'"):
        await base.load_session("s")
    async with OptimizedStorageWrapper(base, Optimizer()) as wrapper:
        with pytest.raises(CorruptRecordError, match=f"the dictionary '{TRAINED.id}' is missing"):
            await wrapper.save_session("t", {})
        assert await wrapper.list_sessions() == ["s"]


async def test_lost_dictionary_is_stored_again_by_a_writer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = InMemoryStorage()
    await filled(base)
    wrapper = OptimizedStorageWrapper(base, Optimizer())
    await wrapper.put_session(session_record(text=TEXT))
    await base.clear_memories(STORE)
    await wrapper.put_session(session_record(text=TEXT))
    assert await base.list_memories(STORE) == []
    monkeypatch.setattr(OptimizedStorageWrapper, "check_interval", -1.0)
    await wrapper.put_session(session_record(text=TEXT))
    forget(monkeypatch)
    assert await base.load_session("s") == {"text": TEXT}
    general = InMemoryStorage()
    await OptimizedStorageWrapper(general, Optimizer()).save_session("s", {"text": TEXT})
    assert await general.list_memories(STORE) == []


@pytest.mark.parametrize("needs", ["deadbeef", "cafe"])
async def test_a_dictionary_that_needs_itself_or_another_is_damage(needs: str) -> None:
    base = InMemoryStorage()
    for name in ("deadbeef", "cafe"):
        payload = Payload(f"zdict+zstd:{needs if name == 'deadbeef' else 'deadbeef'}", b"x")
        await base.put_memory(MemoryRecord(scope=STORE, key=f"dictionary:{name}", payload=payload))
    await base.put_session(attrs.evolve(session_record(), payload=Payload("json+zstd:deadbeef", b"x")))
    with pytest.raises(CorruptRecordError, match="the dictionary has been changed"):
        await base.load_session("s")


async def test_an_opening_that_fails_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    error = StorageUnavailableError("memory", "away")

    async def fail(*_: object) -> None:
        raise error

    base = InMemoryStorage()
    monkeypatch.setattr(base, "find_memory", fail)
    with pytest.raises(StorageUnavailableError):
        await OptimizedStorageWrapper(base, Optimizer()).open()
    with pytest.raises(StorageClosedError):
        await base.list_sessions()


@pytest.mark.parametrize("name", ["x" * 600, "a b", "G1", ""], ids=len)
async def test_a_name_that_no_dictionary_has_is_told_by_the_record_too(name: str) -> None:
    base = InMemoryStorage()
    record = session_record()
    await base.put_session(attrs.evolve(record, payload=Payload(f"json+zstd:{name}", b"x")))
    with pytest.raises(UnreadablePayloadError, match=r"session 's' .* is not in this store"):
        await base.load_session("s")


@pytest.mark.parametrize("payload", [Payload("zdict", b"other"), Payload("json", TRAINED.data)])
async def test_a_dictionary_that_was_changed_is_not_used(payload: Payload, monkeypatch: pytest.MonkeyPatch) -> None:
    base = InMemoryStorage()
    await filled(base)
    await base.put_memory(MemoryRecord(scope=STORE, key=f"dictionary:{TRAINED.id}", payload=payload))
    forget(monkeypatch)
    with pytest.raises(CorruptRecordError, match="the dictionary has been changed"):
        await base.load_session("s")


@pytest.mark.parametrize("choice", [{}, {"id": 1}, ["id"], "g1"], ids=str)
async def test_a_choice_that_names_no_dictionary_is_damage(choice: JSONValue) -> None:
    base = InMemoryStorage()
    await base.put_memory(MemoryRecord(scope=STORE, key="dictionary", payload=json_payload(choice)))
    with pytest.raises(CorruptRecordError, match=r"the choice of a dictionary .*names no dictionary"):
        await OptimizedStorageWrapper(base, Optimizer()).save_session("s", {})


async def test_bytes_that_were_changed_are_damage() -> None:
    base = InMemoryStorage()
    await filled(base)
    record = await base.find_session("s")
    assert record is not None
    assert record.payload is not None
    broken = Payload(record.payload.encoding, record.payload.data[:-1])
    await base.put_session(attrs.evolve(record, payload=broken))
    with pytest.raises(CorruptRecordError, match="session 's' is damaged: not a frame of its dictionary"):
        await base.load_session("s")


def test_what_could_not_be_read_again_is_not_compressed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "MAX_CONTENT_BYTES", 999)
    large, largest = Payload("json", b"0" * 1000), Payload("json", b"0" * 999)
    assert known.compressed(large, TRAINED, 3) is large
    assert known.compressed(largest, TRAINED, 3).encoding == f"json{STEP}"
    assert InMemoryStorage.max_payload_bytes == MAX_CONTENT_BYTES


def test_what_would_not_get_smaller_stays_as_it_is() -> None:
    short = Payload("json", b'{"a":1}')
    assert known.compressed(short, TRAINED, 3) is short


def test_reserved_user_id_is_refused() -> None:
    with pytest.raises(ValidationError, match="reserved"):
        SessionConfig(user_id=STORE_OWNER)
