"""What ``purge_expired`` takes of messages, and what it leaves to those who write meanwhile."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb import sweep as mongodb_sweep
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.domain.errors import StorageTimeoutError
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.mongodb import MongoPlace, ids


async def test_what_truncations_hid_is_removed_and_what_counts_stays(
    place: MongoPlace, storages: list[MongoDBStorage]
) -> None:
    storage, *_ = storages
    left = {}
    for number in range(250):  # more than are looked at together
        session_id = f"{number:03}"
        await storage.put_session(session_record(session_id))
        await storage.append_messages(session_id, message_records(2, prefix="a"))
        if number % 5 == 0:
            await storage.append_messages(session_id, message_records(2, prefix="b"))
            after = number % 4
            await storage.truncate_messages(session_id, after=after)
            await storage.append_messages(session_id, message_records(1, prefix="c"))
            left[session_id] = 1 + (after + 1) // 2  # batches, one of them cut
    hidden = place.database["messages"].count_documents({"items": [], "closed": {"$exists": False}})
    assert hidden == 50 * 2 - (sum(left.values()) - 50)
    assert place.database["messages"].count_documents({"closed": {"$exists": True}}) == 50
    place.clock.advance(24 * 3600)
    await storage.purge_expired()
    assert place.database["messages"].count_documents({"items": []}) == 0
    stored = {name: place.database["messages"].count_documents({"s": name}) for name in left}
    assert stored == left
    assert place.database["messages"].count_documents({}) == 200 + sum(left.values())


async def test_a_history_that_begins_during_a_purge_stays_whatever_its_writers_clock_says(
    place: MongoPlace, storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headers are read; a truncation begins a history and an append goes there; then comes the rest."""
    purging, other, *_ = storages
    await other.put_session(session_record())
    await other.append_messages("s", message_records(4))
    headers = mongodb_sweep._headers

    async def overtaken(store: Collections, sessions: Mapping[ObjectId, str]) -> list[Document]:
        found = await headers(store, sessions)
        monkeypatch.undo()
        now = place.clock.now()
        place.clock.set(now - timedelta(hours=25))
        await other.truncate_messages("s", after=2)
        await other.append_messages("s", message_records(2, prefix="new"))
        place.clock.set(now)
        return found

    monkeypatch.setattr(mongodb_sweep, "_headers", overtaken)
    await purging.purge_expired()
    assert await ids(other) == ["m1", "m2", "new1", "new2"]


async def followed_by_each_other(storage: MongoDBStorage, writers: int) -> None:
    """Make a session of one message each of so many writers, none of whom knows who followed."""
    await storage.put_session(session_record())
    for number in range(writers):
        storage._store.appends._writer = ObjectId()
        await storage.append_messages("s", [message_record(f"m{number}")])


@pytest.mark.parametrize(("writers", "hours", "clauses", "left"), [(20, 25, 1, 1), (20, 1, 20, 20), (120, 1, 0, 121)])
async def test_a_deletion_asks_the_server_little_whoever_has_appended(
    place: MongoPlace,
    storages: list[MongoDBStorage],
    monkeypatch: pytest.MonkeyPatch,
    writers: int,
    hours: int,
    clauses: int,
    left: int,
) -> None:
    """One position after each writer's batch stays taken, not of yesterday's; or all, if many."""
    storage, *_ = storages
    await followed_by_each_other(storage, writers)
    place.clock.advance(hours * 3600)
    messages = storage._store.messages._store.messages
    delete, asked = messages.delete, list[Document]()

    async def seen(where: Document) -> int:
        asked.append(where)
        return await delete(where)

    monkeypatch.setattr(messages, "delete", seen)
    assert await storage.delete_session("s") is True
    monkeypatch.undo()
    (where,) = asked
    assert [len(part.get("$nor", ())) for part in where["$or"]] == [0, *([clauses] if clauses else [])]
    database = place.database["messages"]
    assert database.count_documents({"items": {"$ne": []}}) == 0
    assert database.count_documents({}) == left


async def test_a_deletion_that_cannot_take_the_messages_out_takes_the_memories(
    place: MongoPlace, storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, *_ = storages
    await storage.put_session(session_record())
    await storage.put_memory(memory_record("k"))
    assert place.database["memories"].count_documents({}) == 1

    async def too_slow(*_: Document) -> list[Document]:
        raise StorageTimeoutError("mongodb", "too slow")

    monkeypatch.setattr(storage._store.messages._store.messages, "aggregate", too_slow)
    assert await storage.delete_session("s") is True
    assert place.database["memories"].count_documents({}) == 0


async def test_what_was_closed_or_emptied_less_than_a_day_ago_stays(
    place: MongoPlace, storages: list[MongoDBStorage]
) -> None:
    storage, *_ = storages
    for name in ("s", "gone"):
        await storage.put_session(session_record(name))
        await storage.append_messages(name, message_records(2))
        await storage.append_messages(name, message_records(2, prefix="b"))
        await storage.truncate_messages(name, after=2)
    await storage.delete_session("gone")
    left = place.database["messages"].count_documents({"items": []})
    assert left >= 4
    for _ in range(2):
        place.clock.advance(12 * 3600 - 1)
        await storage.purge_expired()
        assert place.database["messages"].count_documents({"items": []}) == left
    place.clock.advance(2)
    await storage.purge_expired()
    assert place.database["messages"].count_documents({"items": []}) == 0


async def test_a_single_message_that_was_truncated_keeps_its_position_and_nothing_else(
    place: MongoPlace,
) -> None:
    async with place.storage() as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("m1", text="secret")])
        (whole,) = place.database["messages"].find()
        await storage.truncate_messages("s", after=0)
        left = place.database["messages"].find_one({"_id": whole["_id"]})
        await storage.append_messages("s", [message_record("m1", text="another")])
        (read,) = await storage.read_messages("s", MessageRange())
    assert "secret" in whole["payload"]
    assert left == {
        **{name: whole[name] for name in ("_id", "inc", "h", "s", "first", "last", "w")},
        "at": whole["at"],
        "ids": [whole["_id"]],
        "items": [],
    }
    assert (read.position, b"another" in read.payload.data) == (1, True)
