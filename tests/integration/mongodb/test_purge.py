"""What ``purge_expired`` deletes of messages, and what it leaves to those who write meanwhile."""

from contextlib import suppress

from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.mongodb import Moments, MongoPlace, ids

Late = tuple[MongoDBStorage, Moments]


async def test_hidden_batches_are_deleted_and_others_stay(place: MongoPlace) -> None:
    left = {}
    async with place.storage() as storage:
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
        batches = list(place.messages.find({"epoch": 0, "s": {"$in": list(left)}}))
        for number, batch in enumerate(batches):  # as writers leave them that were killed after a late insert
            place.messages.insert_one({**batch, "_id": ObjectId(), "first": 100 + number, "ids": f"late {number}"})
        await storage.purge_expired()
    stored = {name: place.messages.count_documents({"s": name}) for name in left}
    assert stored == left
    assert place.messages.count_documents({}) == 200 + sum(left.values())


async def test_an_epoch_that_begins_during_a_purge_stays(place: MongoPlace, late: Late, other: MongoDBStorage) -> None:
    """The headers are read; a truncation begins an epoch and an append goes there; then batches are deleted."""
    purging, moments = late
    await other.put_session(session_record())
    await other.append_messages("s", message_records(4))
    await other.truncate_messages("s", after=3)

    async def overtake() -> None:
        await other.truncate_messages("s", after=2)
        await other.append_messages("s", message_records(2, prefix="new"))

    moments.before("messages", "delete_many", overtake)
    await purging.purge_expired()
    assert await ids(other) == ["m1", "m2", "new1", "new2"]


async def test_a_session_created_during_a_purge_stays(place: MongoPlace, late: Late, other: MongoDBStorage) -> None:
    purging, moments = late
    await other.put_session(session_record("gone"))
    await other.append_messages("gone", message_records(2))
    await other.put_memory(memory_record("k", owner="gone"))
    place.sessions.delete_one({"_id": "gone"})  # and the client was killed

    async def overtake() -> None:
        await other.put_session(session_record("gone"))
        await other.append_messages("gone", message_records(3))
        await other.put_memory(memory_record("k", owner="gone"))

    moments.before("messages", "delete_many", overtake)
    await purging.purge_expired()
    assert len(await other.read_messages("gone", MessageRange())) == 3
    assert (place.messages.count_documents({}), place.memories.count_documents({})) == (1, 1)


async def test_a_deletion_that_cannot_delete_the_messages_has_deleted_the_session(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    storage, moments = late
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(2))
    await storage.put_memory(memory_record("k"))

    async def fail() -> None:
        raise TimeoutError

    moments.before("messages", "delete_many", fail)
    with suppress(TimeoutError):
        await storage.delete_session("s")
    assert await other.find_session("s") is None
    assert place.memories.count_documents({}) == 0
    await other.purge_expired()
    assert place.messages.count_documents({}) == 0


async def test_nothing_is_left_of_a_truncated_message(place: MongoPlace) -> None:
    async with place.storage() as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(2, prefix="a"))
        await storage.append_messages("s", [message_record("m1", text="secret")])
        await storage.truncate_messages("s", after=1)
        (left,) = place.messages.find()
        assert (left["first"], left["last"], left["ids"], len(left["items"])) == (1, 1, ["a1"], 1)
        receipt = await storage.append_messages("s", [message_record("m1", text="another")])
        assert (receipt.first_position, receipt.replayed) == (2, False)
