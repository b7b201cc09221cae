"""Changes of several memories that other storages overtake, or whose process is killed between two commands."""

import time

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MemoryPut, MemoryQuery, MemoryScope
from luminoracore_sdk.domain.errors import ConflictError
from luminoracore_sdk.testing.records import json_payload, memory_record, session_record
from tests.support.mongodb import Action, Moments, MongoPlace

Late = tuple[MongoDBStorage, Moments]

SCOPE = MemoryScope("session", "s")

# When, the call of the driver, and which of these calls in one change.
MOMENTS = {
    "before the announcement": ("before", "update_one", 1),
    "behind the announcement": ("after", "update_one", 1),
    "behind the locks": ("after", "update", 2),
    "behind the reading": ("after", "find", 1),
    "before the commit": ("before", "update_one", 2),
    "behind the commit": ("after", "update_one", 2),
    "behind the puts": ("after", "update", 3),
    "behind the deletes": ("after", "delete_many", 1),
    "before the end": ("before", "update_one", 3),
    "behind the end": ("after", "update_one", 3),
}
COMMITTED = list(MOMENTS)[5:]


class Killed(Exception):  # noqa: N818  # not an error: the process has ended
    """The process that made the call was killed."""


def at(moments: Moments, moment: str, action: Action) -> None:
    """Act at a moment of the next change."""
    when, call, number = MOMENTS[moment]
    set_action = moments.before if when == "before" else moments.after

    def wait(left: int) -> Action:
        async def act() -> None:
            if left == 1:
                await action()
            else:
                set_action("memories", call, wait(left - 1))

        return act

    set_action("memories", call, wait(number))


def puts(value: str, *keys: str, version: int | None = None) -> list[MemoryPut]:
    return [MemoryPut(memory_record(key, value=value), version) for key in keys]


async def begin(storage: MongoDBStorage) -> None:
    await storage.put_session(session_record())
    await storage.change_memories(SCOPE, puts("old", "a", "b", "d"))


async def change(storage: MongoDBStorage, version: int | None = None) -> None:
    await storage.change_memories(SCOPE, [*puts("late", "a", "b", version=version), *puts("late", "c")], deletes=["d"])


async def contents(storage: MongoDBStorage) -> dict[str, tuple[object, int]]:
    found: dict[str, tuple[object, int]] = {}
    for memory in await storage.list_memories(SCOPE):
        found[memory.key] = memory.payload, memory.version
    page = await storage.list_memories(SCOPE, MemoryQuery())
    assert {memory.key: (memory.payload, memory.version) for memory in page} == found
    turn = await storage.read_turn("s", newest=1)
    assert turn is not None
    assert {memory.key: (memory.payload, memory.version) for memory in turn.memories} == found
    for key in "abcd":
        one = await storage.find_memory(SCOPE, key)
        assert (one and (one.payload, one.version)) == found.get(key)
    return found


OLD = {key: (json_payload("old"), 1) for key in "abd"}
NEW = {"a": (json_payload("late"), 2), "b": (json_payload("late"), 2), "c": (json_payload("late"), 1)}


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_change_is_whole_or_absent(
    late: Late, other: MongoDBStorage, place: MongoPlace, moment: str
) -> None:
    storage, moments = late
    await begin(other)

    async def end() -> None:
        raise Killed

    async def kill() -> None:
        moments.before("memories", "update_one", end)  # it withdraws nothing any more
        raise Killed

    at(moments, moment, kill)
    with pytest.raises(Killed):
        await change(storage)
    assert await contents(other) == (NEW if moment in COMMITTED else OLD)
    begun = time.monotonic()
    await other.put_memory(memory_record("a", value="next"))
    await other.change_memories(SCOPE, puts("next", "b", "e"), deletes=["c"])
    assert time.monotonic() - begun < 5
    found = await contents(other)
    versions = {key: version for key, (_, version) in found.items()}
    assert versions == ({"a": 3, "b": 3, "e": 1} if moment in COMMITTED else {"a": 2, "b": 2, "d": 1, "e": 1})
    assert await other.clear_memories(SCOPE) == len(found)
    assert list(place.memories.find()) == []


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_put_in_between_is_before_or_behind(late: Late, other: MongoDBStorage, moment: str) -> None:
    storage, moments = late
    await begin(other)

    async def overtake() -> None:
        await other.put_memory(memory_record("a", value="other"))

    at(moments, moment, overtake)
    await change(storage)
    found = await contents(other)
    assert found in [NEW | {"a": (json_payload(value), 3)} for value in ("late", "other")]
    assert await contents(storage) == found


@pytest.mark.parametrize("moment", MOMENTS)
async def test_of_two_changes_over_one_version_one_is_made(late: Late, other: MongoDBStorage, moment: str) -> None:
    storage, moments = late
    await begin(other)
    made: list[str] = []

    async def overtake() -> None:
        try:
            await other.change_memories(SCOPE, puts("other", "b", "a", version=1))
        except ConflictError:
            return
        made.append("other")

    at(moments, moment, overtake)
    try:
        await change(storage, 1)
    except ConflictError:
        pass
    else:
        made.append("late")
    assert len(made) == 1
    found = await contents(other)
    assert found == (NEW if made == ["late"] else OLD | {key: (json_payload("other"), 2) for key in "ab"})


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_reader_in_between_sees_all_or_nothing(late: Late, other: MongoDBStorage, moment: str) -> None:
    storage, moments = late
    await begin(other)
    seen = []

    async def read() -> None:
        seen.append(await contents(other))

    at(moments, moment, read)
    await change(storage)
    assert seen == [NEW if moment in COMMITTED else OLD]
    assert await contents(other) == NEW


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_clear_in_between_is_before_or_behind(
    late: Late, other: MongoDBStorage, place: MongoPlace, moment: str
) -> None:
    storage, moments = late
    await begin(other)

    async def clear() -> None:
        await other.clear_memories(SCOPE)

    at(moments, moment, clear)
    await change(storage)
    assert await contents(other) in ({}, {key: (payload, 1) for key, (payload, _) in NEW.items()})
    locked = place.memories.count_documents({"key": {"$ne": ""}, "lock": {"$exists": True}})
    assert (locked, place.memories.count_documents({"pending": True})) == (0, 0)


async def test_a_purge_keeps_what_a_change_has_locked(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await begin(other)

    async def purge() -> None:
        assert (await other.purge_expired()).memories == 0

    at(moments, "behind the reading", purge)
    await change(storage)
    assert await contents(other) == NEW
