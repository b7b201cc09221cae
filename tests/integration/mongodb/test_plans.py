"""How the server carries out every command of the backend: by an index, and no further than needed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.mongodb import MongoPlace
from tests.support.rewriting import NEW, to_new


def stages(plan: object) -> Iterator[dict[str, Any]]:
    """Yield every stage of an explanation, at any depth, but the plans that were rejected."""
    if isinstance(plan, dict):
        if "stage" in plan or "$lookup" in plan:
            yield plan
        for name, value in plan.items():
            if name not in ("rejectedPlans", "command"):
                yield from stages(value)
    elif isinstance(plan, list):
        for value in plan:
            yield from stages(value)


async def rewrite(storage: MongoDBStorage, session_id: str) -> None:
    """Replace the payloads of a session and of all its messages."""
    header = await storage.find_session(session_id)
    assert header is not None
    assert header.payload is not None
    assert await storage.rewrite_session(session_id, old=header.payload, new=NEW) is True
    changes = to_new(await storage.read_messages(session_id, MessageRange()))
    assert await storage.rewrite_messages(session_id, changes) == len(changes)


async def use_everything(storage: MongoDBStorage, place: MongoPlace) -> None:
    """Make every call, in the forms that lead to different commands."""
    await storage.put_session(session_record("s", user_id="u", tags=("t",)), expected_version=0)
    await storage.put_session(session_record("s", user_id="u", tags=("t",)), expected_version=1)
    await storage.append_messages("s", message_records(5))
    await storage.append_messages("s", message_records(5, prefix="again"))
    await storage.append_messages("s", message_records(5, prefix="again"))
    await storage.truncate_messages("s", after=8)
    await storage.truncate_messages("s", after=8)
    await storage.append_messages("s", message_records(5, prefix="late"))
    for span in (MessageRange(), MessageRange(after=4, limit=3), MessageRange(limit=2, newest=True)):
        await storage.read_messages("s", span)
    await rewrite(storage, "s")
    for query in (SessionQuery(), SessionQuery(newest_first=True, cursor=(place.clock.now_us, "z"))):
        for user_id in (None, "u"):
            for tag in (None, "t"):
                await storage.query_sessions(attrs.evolve(query, user_id=user_id, tag=tag))
    await storage.query_sessions(SessionQuery(created_after_us=1, created_before_us=2, cursor=(1, "a")))
    for scope in (MemoryScope("session", "s"), MemoryScope("user", "u")):
        await storage.put_memory(memory_record("k", kind=scope.kind, owner=scope.owner_id), max_entries=1)
        await storage.put_memory(memory_record("k2", kind=scope.kind, owner=scope.owner_id), max_entries=1)
        found = await storage.find_memory(scope, "k2")
        assert found is not None
        assert await storage.rewrite_memory(scope, "k2", old=found.payload, new=NEW) is True
        await storage.list_memories(scope)
        await storage.list_memory_owners()
        await storage.list_memory_owners(after="a")
        await storage.delete_memory(scope, "k")
        await storage.clear_memories(scope)
    await storage.put_session(session_record("brief", ttl_us=1_000_000))
    for prefix in ("a", "b"):
        await storage.append_messages("brief", message_records(2, prefix=prefix))
    place.clock.advance(1)
    await storage.put_session(session_record("brief", ttl_us=1_000_000))
    place.clock.advance(1)
    await storage.purge_expired()
    await storage.delete_session("s")


async def test_no_command_looks_at_a_whole_collection(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        for number in range(20):
            await storage.put_session(session_record(f"other{number}", user_id="u", tags=("t",)))
            await storage.append_messages(f"other{number}", message_records(3))
        await storage.put_memory(memory_record("k", owner="other1"))
        commands.clear()
        await use_everything(storage, place)
    explained = [command for command in commands if "insert" not in command]
    assert {next(iter(command)) for command in explained} == {
        "find",
        "aggregate",
        "update",
        "delete",
        "findAndModify",
    }
    assert len(explained) > 60
    for command in explained:
        found = list(stages(place.explain(command)))
        names = {stage.get("stage") for stage in found}
        assert names & {"COLLSCAN"} == set(), command
        scans = [stage["collectionScans"] for stage in found if "$lookup" in stage and "collectionScans" in stage]
        assert not any(scans), command
        assert names & {"IXSCAN", "IDHACK", "DISTINCT_SCAN", "EOF"}, command


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("query", [SessionQuery(user_id="rare"), SessionQuery(tag="rare")])
async def test_a_listing_reads_the_sessions_that_it_returns_and_no_others(
    place: MongoPlace, query: SessionQuery, newest_first: bool
) -> None:
    async with place.recorded() as (storage, commands):
        for number in range(100):
            name = "rare" if number % 10 == 0 else "usual"
            await storage.put_session(session_record(f"{number:02}", user_id=name, tags=(name,)))
            place.clock.advance(1)
        commands.clear()
        first = await storage.query_sessions(attrs.evolve(query, limit=5, newest_first=newest_first))
        cursor = first.next_cursor
        await storage.query_sessions(attrs.evolve(query, limit=5, newest_first=newest_first, cursor=cursor))
    listings = [command for command in commands if "find" in command]
    assert len(listings) == 2
    for command in listings:
        assert place.explain(command)["executionStats"]["totalKeysExamined"] <= 7


@pytest.mark.parametrize(
    ("span", "most"),
    [
        (MessageRange(limit=4, newest=True), 3),
        (MessageRange(after=1500, limit=4), 3),
        (MessageRange(after=0, limit=4), 3),
        (MessageRange(before=1000, limit=4, newest=True), 3),
    ],
)
async def test_a_small_range_of_a_long_history_reads_a_few_batches(
    place: MongoPlace, span: MessageRange, most: int
) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        for number in range(1000):
            await storage.append_messages("s", message_records(2, prefix=f"{number}-"))
        commands.clear()
        assert len(await storage.read_messages("s", span)) == 4
    examined = [
        place.explain(command)["executionStats"]["totalDocsExamined"] for command in commands if "find" in command
    ]
    assert len(commands) <= 3
    assert sum(examined) <= most + 1


async def test_an_append_costs_the_same_whatever_the_history_holds(place: MongoPlace, tmp_path: Path) -> None:
    costs = []
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        for number in range(500):
            await storage.append_messages("s", [message_record(f"{number}")])
            if number in (5, 499):
                commands.clear()
                await storage.append_messages("s", [message_record(f"counted {number}")])
                costs.append(
                    [
                        place.explain(command)["executionStats"]["totalKeysExamined"]
                        for command in commands
                        if "insert" not in command
                    ]
                )
    assert costs == [[1], [1]]


async def test_ends_and_ids_are_found_without_reading_the_history(
    place: MongoPlace,
) -> None:
    async with place.recorded() as (storage, commands):
        for session_id in ("s", "other"):
            await storage.put_session(session_record(session_id))
            for number in range(300):
                await storage.append_messages(session_id, [message_record(f"{number}")])
        await storage.truncate_messages("s", after=290)
        for number in range(290, 300):
            await storage.append_messages("s", [message_record(f"{number}")])
        commands.clear()
        await storage.query_sessions(SessionQuery())
        replayed = await storage.append_messages("s", [message_record("7")])
        assert (replayed.first_position, replayed.replayed) == (8, True)
    looked, asked = [], []
    for command in commands:
        plan = place.explain(command) if "insert" not in command else {}
        looked += [
            (stage["totalKeysExamined"], stage["totalDocsExamined"], stage["indexesUsed"])
            for stage in stages(plan)
            if "$lookup" in stage
        ]
        if "ids" in command.get("filter", {}):
            asked.append(plan["executionStats"]["totalKeysExamined"])
    assert len(looked) >= 2
    sessions = 2
    for keys, documents, used in looked:
        assert used in (["inc_1_epoch_1_first_1"], ["_id_"])
        assert keys <= sessions
        assert documents <= sessions
    assert asked
    assert max(asked) <= 3


async def test_owners_are_listed_by_one_index_key_for_each(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        for user in range(10):
            for key in range(20):
                await storage.put_memory(memory_record(f"k{key}", kind="user", owner=f"u{user}"))
        commands.clear()
        assert await storage.list_memory_owners(after="u4", limit=3) == ["u5", "u6", "u7"]
    (command,) = commands
    plans = [stage["executionStats"] for stage in stages(place.explain(command)) if "executionStats" in stage]
    assert [stage["stage"] for stage in stages(place.explain(command)) if stage.get("stage") == "DISTINCT_SCAN"]
    assert all(plan["totalKeysExamined"] <= 8 for plan in plans)
