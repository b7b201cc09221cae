"""Facts that change: a value that replaces another one supersedes it, and the past stays readable."""

import asyncio
from datetime import timedelta
from typing import ClassVar

import attrs
import pytest

from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, Payload
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.memory import MAX_PAST_CHARACTERS, MemorySource, MemoryVersion
from luminoracore_sdk.session import (
    MemoryManager,
    Message,
    SessionManager,
    SessionStorage,
    create_storage,
)
from luminoracore_sdk.storage import StorageWrapper
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.session import MemoryConfig
from luminoracore_sdk.utils.exceptions import InvalidJSONError, ValidationError
from tests.support.backends import EMBEDDED, SERVERS_LATER, backend_fixture, encrypted

BACKENDS = [*EMBEDDED, encrypted(EMBEDDED[0]), *SERVERS_LATER]


backend = backend_fixture(BACKENDS)


@pytest.fixture
def memories(storage: SessionStorage, services: Services) -> MemoryManager:
    return MemoryManager(storage=storage, services=services)


async def test_a_new_value_supersedes_and_the_old_one_stays_readable(
    memories: MemoryManager, clock: ManualClock
) -> None:
    first = clock.now()
    await memories.store_memory("s", "city", "Rome")
    clock.advance(10)
    second = clock.now()
    await memories.store_memory("s", "city", {"name": "Turin"})
    assert await memories.get_memory("s", "city") == {"name": "Turin"}
    assert await memories.history("s", "city") == [
        MemoryVersion(value="Rome", since=first, until=second, source=MemorySource(session_id="s")),
        MemoryVersion(value={"name": "Turin"}, since=second, source=MemorySource(session_id="s")),
    ]
    assert await memories.get_memory("s", "city", as_of=first) == "Rome"
    assert await memories.get_memory("s", "city", as_of=second - timedelta(microseconds=1)) == "Rome"
    assert await memories.get_memory("s", "city", as_of=second) == {"name": "Turin"}
    assert await memories.get_memory("s", "city", as_of=first - timedelta(seconds=1)) is None
    assert [one["value"] for one in await memories.search_memories("s", "city")] == [{"name": "Turin"}]
    assert await memories.history("s", "unknown") == await memories.history("unknown", "city") == []
    assert await memories.get_memory("s", "unknown", as_of=first) is None


async def test_the_same_value_again_is_no_change(memories: MemoryManager, clock: ManualClock) -> None:
    since = clock.now()
    await memories.store_memory("s", "city", {"a": 1, "b": 2})
    clock.advance(10)
    await memories.store_memory("s", "city", {"b": 2, "a": 1}, importance=0.5)
    assert await memories.history("s", "city") == [
        MemoryVersion(value={"a": 1, "b": 2}, since=since, source=MemorySource(session_id="s"))
    ]
    info = await memories.get_memory_info("s", "city")
    assert info is not None
    assert (info["importance"], info["updated_at"]) == (0.5, clock.now())
    await memories.store_memory("s", "city", {"a": True, "b": 2})  # Python says that True is 1, JSON does not
    assert len(await memories.history("s", "city")) == 2


async def test_the_session_and_its_newest_message_are_the_source(
    storage: SessionStorage, memories: MemoryManager
) -> None:
    manager = SessionManager(storage)
    session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"}, {"user_id": "u"})
    await manager.conversation_manager.append(session_id, [Message("user", "I moved"), Message("assistant", "Where?")])
    await memories.store_memory(session_id, "city", "Turin", scope="user")
    [version] = await manager.for_user("u").history("city")
    assert version.source == MemorySource(session_id=session_id, position=2)
    await manager.for_user("u").store_memory("city", "Milan", source=MemorySource(session_id="elsewhere", position=7))
    assert [one.source for one in await manager.for_user("u").history("city")] == [
        MemorySource(session_id=session_id, position=2),
        MemorySource(session_id="elsewhere", position=7),
    ]


async def test_writers_at_once_lose_no_value(storage: SessionStorage) -> None:
    managers = [MemoryManager(storage=storage) for _ in range(4)]
    await managers[0].store_memory("s", "city", "start")
    await asyncio.gather(*(managers[n % 4].store_memory("s", "city", f"value {n}") for n in range(12)))
    values = [version.value for version in await managers[0].history("s", "city")]
    assert values[0] == "start"
    assert {str(value) for value in values[1:]} == {f"value {n}" for n in range(12)}


class IsOvertaken(StorageWrapper):
    """A storage in which another writer stores a value between a read and the write that follows it."""

    others: ClassVar[list[str]] = ["theirs"]

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        found = await super().find_memory(scope, key)
        for value in [self.others.pop() for _ in self.others]:
            await MemoryManager(storage=self.base).store_memory(scope.owner_id, key, value)
        return found


async def test_a_writer_that_is_overtaken_supersedes_what_the_other_stored(storage: SessionStorage) -> None:
    memories = MemoryManager(storage=IsOvertaken(storage))
    IsOvertaken.others[:] = []
    await memories.store_memory("s", "city", "first")
    IsOvertaken.others[:] = ["theirs"]
    await memories.store_memory("s", "city", "ours")
    assert [version.value for version in await memories.history("s", "city")] == ["first", "theirs", "ours"]


async def test_the_newest_past_values_are_kept(storage: SessionStorage) -> None:
    for most, kept in ((3, ["2", "3", "4", "5"]), (0, ["5"])):
        memories = MemoryManager(MemoryConfig(past_values=most), storage=storage)
        for number in range(6):
            await memories.store_memory(f"s{most}", "key", str(number))
        assert [one.value for one in await memories.history(f"s{most}", "key")] == kept
    memories = MemoryManager(storage=storage)
    for number in range(4):
        await memories.store_memory("long", "key", f"{number}" * (MAX_PAST_CHARACTERS // 2 - 10))
    assert [str(one.value)[0] for one in await memories.history("long", "key")] == ["1", "2", "3"]


async def test_an_expired_or_deleted_memory_has_no_past(memories: MemoryManager, clock: ManualClock) -> None:
    await memories.store_memory("s", "a", 1, ttl=5)
    await memories.store_memory("s", "b", 1)
    clock.advance(6)
    await memories.delete_memory("s", "b")
    for key in ("a", "b"):
        await memories.store_memory("s", key, 2)
        assert [one.value for one in await memories.history("s", key)] == [2]


async def test_a_damaged_memory_can_be_replaced(storage: SessionStorage, memories: MemoryManager) -> None:
    await memories.store_memory("s", "city", "Rome")
    stored = await storage.find_memory(MemoryScope("session", "s"), "city")
    assert stored is not None
    await storage.put_memory(attrs.evolve(stored, payload=Payload("json", b"[]")))
    await memories.store_memory("s", "city", "Turin")
    assert [one.value for one in await memories.history("s", "city")] == ["Turin"]


async def test_what_is_not_json_is_refused(memories: MemoryManager) -> None:
    with pytest.raises(InvalidJSONError):
        await memories.store_memory("s", "key", {1, 2})  # type: ignore[arg-type]
    assert await memories.history("s", "key") == []


async def test_an_export_holds_the_past(memories: MemoryManager, clock: ManualClock) -> None:
    await memories.store_memory("s", "city", "Rome")
    clock.advance(5)
    await memories.store_memory("s", "city", "Turin")
    exported = await memories.export_memories("s")
    assert exported is not None
    await memories.import_memories("copy", exported)
    assert await memories.history("copy", "city") == await memories.history("s", "city")
    entry = exported["memories"]["city"]
    damaged: list[JSONObject] = [
        {"source": {}},
        {"source": {"session_id": "s", "position": -1}},
        {"past": [{"value": 1}]},
    ]
    for wrong in damaged:
        with pytest.raises(ValidationError):
            await memories.import_memories("copy", {"memories": {"city": {**entry, **wrong}}})


async def test_recall_finds_the_present_value_only(clock: ManualClock) -> None:
    async with create_storage(search="text", clock=clock) as storage:
        user = SessionManager(storage).for_user("u")
        await user.store_memory("home", "a flat in Rome")
        assert [hit.text for hit in await user.recall("Rome")] == ["a flat in Rome"]
        clock.advance(1)
        await user.store_memory("home", "a house in Turin")
        assert await user.recall("Rome") == []
        assert [hit.text for hit in await user.recall("Turin")] == ["a house in Turin"]
