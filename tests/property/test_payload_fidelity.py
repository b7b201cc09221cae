"""2,000 values, as text and as bytes, come back equal from every kind of record of every backend."""

import asyncio
import zlib
from collections.abc import Awaitable, Callable
from functools import cache
from itertools import cycle

import attrs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from luminoracore_sdk.adapters.codec.values import JSON, JSON_WIDE, JsonCodec
from luminoracore_sdk.application.ports.records import MAX_BATCH, MemoryScope, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, same_json
from luminoracore_sdk.testing import (
    ManualClock,
    StorageFactory,
    json_payload,
    json_values,
    memory_record,
    message_record,
    session_record,
)
from tests.support.backends import Backend, each_backend

COUNT = 2000
SAMPLE = 20
CODEC = JsonCodec()
TAGS = ("json+zstd", "json+opt1+zstd:dict-7+aes256gcm:key/1", "x")
Step = Callable[[SessionStorage], Awaitable[None]]


@attrs.frozen
class Value:
    """A JSON value as the codec encodes it, and binary data under another encoding."""

    json: JSONValue
    text: Payload
    binary: Payload


@cache
def values() -> list[Value]:
    """Return 2,000 different values, the same ones in every process."""
    found: dict[Payload, JSONValue] = {}
    search = settings(
        max_examples=80,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
    # Hypothesis repeats values: repetitions in a list are refused, those between lists dropped.
    different = st.lists(json_values(), min_size=40, max_size=40, unique_by=json_payload)

    @search
    @given(different)
    def collect(drawn: list[JSONValue]) -> None:
        found.update((json_payload(value), value) for value in drawn)

    collect()
    return [
        Value(value, text, Payload(tag, zlib.compress(text.data)))
        for (text, value), tag in zip(list(found.items())[:COUNT], cycle(TAGS), strict=False)
    ]


def decoded(payload: Payload) -> JSONValue:
    return CODEC.decode(payload, backend="test", key="value")


def test_there_are_2000_values_of_every_kind() -> None:
    assert len({value.text for value in values()}) == len(values()) == COUNT
    assert {value.text.encoding for value in values()} == {JSON, JSON_WIDE}
    assert {value.binary.encoding for value in values()} == set(TAGS)
    kinds = {type(value.json) for value in values()}
    assert kinds == {type(None), bool, int, float, str, list, dict}
    texts = b"".join(value.text.data for value in values())
    for special in (b"\\u0000", b"\\ud800", str(2**70).encode(), b"-0.0", b"5e-324", b'"$set"', b'"a.b"'):
        assert special in texts
    assert {byte for value in values() for byte in value.binary.data} == set(range(256))


def unlike(sent: list[Payload], found: list[Payload]) -> list[tuple[Payload, Payload]]:
    """Return the first pairs that differ; a failure with all of them would be megabytes long."""
    return [pair for pair in zip(sent, found, strict=True) if pair[0] != pair[1]][:3]


def write_and_check(backend: Backend, write: Step, check: Step) -> None:
    """Write and check on a new store, through a new storage for the check if the backend is persistent."""

    async def run(make: StorageFactory) -> None:
        async with make(ManualClock()) as storage:
            await write(storage)
            if not backend.persistent:
                await check(storage)
        if backend.persistent:
            async with make(ManualClock()) as storage:
                await check(storage)

    with backend.place() as make:
        asyncio.run(run(make))


@each_backend()
def test_2000_messages_of_each_encoding_come_back_equal(backend: Backend) -> None:
    payloads = {"text": [value.text for value in values()], "binary": [value.binary for value in values()]}

    async def write(storage: SessionStorage) -> None:
        for make, sent in payloads.items():
            await storage.put_session(session_record(make))
            messages = [
                attrs.evolve(message_record(f"m{place}"), payload=payload) for place, payload in enumerate(sent)
            ]
            for start in range(0, COUNT, MAX_BATCH):
                await storage.append_messages(make, messages[start : start + MAX_BATCH])

    async def check(storage: SessionStorage) -> None:
        for make, sent in payloads.items():
            found = [message.payload async for message in storage.stream_messages(make)]
            assert unlike(sent, found) == []
            if make == "text":
                pairs = zip(map(decoded, found), values(), strict=True)
                assert [same_json(read, value.json) for read, value in pairs].count(True) == COUNT

    write_and_check(backend, write, check)


@each_backend()
def test_headers_and_memories_hold_the_same_payloads(backend: Backend) -> None:
    payloads = [payload for value in values()[::SAMPLE] for payload in (value.text, value.binary)]
    names = [f"n{number:03}" for number in range(len(payloads))]

    async def write(storage: SessionStorage) -> None:
        for name, payload in zip(names, payloads, strict=True):
            await storage.put_session(attrs.evolve(session_record(name), payload=payload))
            memory = memory_record(name, kind="user", owner="u")
            await storage.put_memory(attrs.evolve(memory, payload=payload))

    async def check(storage: SessionStorage) -> None:
        headers = [await storage.find_session(name) for name in names]
        assert unlike(payloads, [header.payload for header in headers if header and header.payload]) == []
        memories = await storage.list_memories(MemoryScope("user", "u"))
        assert unlike(payloads, [memory.payload for memory in memories]) == []

    write_and_check(backend, write, check)


@each_backend()
def test_documents_are_loaded_as_they_were_saved(backend: Backend) -> None:
    documents: dict[str, JSONObject] = {
        f"n{number}": value.json if type(value.json) is dict else {"value": value.json}
        for number, value in enumerate(values()[::SAMPLE])
    }

    async def write(storage: SessionStorage) -> None:
        for name, document in documents.items():
            await storage.save_session(name, document)

    async def check(storage: SessionStorage) -> None:
        same = [same_json(await storage.load_session(name), documents[name]) for name in documents]
        assert same.count(True) == COUNT // SAMPLE

    write_and_check(backend, write, check)
