"""Where a MongoDB store lives, who makes it, and what is refused there."""

import asyncio
import subprocess
import sys
from typing import Any

import attrs
import pytest
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MessageRange, Payload, Purged
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    PayloadTooLargeError,
    SchemaVersionError,
    StorageClosedError,
    StorageReadOnlyError,
)
from luminoracore_sdk.testing.crash import crash_trial
from luminoracore_sdk.testing.records import (
    memory_record,
    message_records,
    session_record,
)
from tests.support.mongodb import MongoPlace, with_database
from tests.support.servers import mongodb_replica_set_url
from tests.support.servers.mongo import MongoServer
from tests.support.servers.process import wait_until

_ALL = MessageRange()


async def test_the_database_that_the_url_names_is_used(place: MongoPlace) -> None:
    async with MongoDBStorage(with_database(place.url, place.name)) as storage:
        await storage.put_session(session_record())
    assert [header["_id"] for header in place.sessions.find({})] == ["s"]


async def test_a_database_that_is_given_goes_before_the_one_in_the_url(place: MongoPlace) -> None:
    async with MongoDBStorage(with_database(place.url, "unused"), database=place.name) as storage:
        await storage.put_session(session_record())
    assert place.sessions.count_documents({}) == 1


async def test_two_prefixes_in_one_database_do_not_see_each_other(place: MongoPlace) -> None:
    one, other = place.storage(collection_prefix="one_"), place.storage(collection_prefix="two.")
    async with one, other:
        for storage, count in ((one, 2), (other, 3)):
            await storage.put_session(session_record(), expected_version=0)
            await storage.append_messages("s", message_records(count))
            await storage.put_memory(memory_record("k", value=count))
        assert [len(await storage.read_messages("s", _ALL)) for storage in (one, other)] == [2, 3]
        await one.delete_session("s")
        assert await other.list_sessions() == ["s"]
    names = ("memories", "messages", "meta", "sessions")
    assert sorted(place.database.list_collection_names()) == [
        *(f"one_{name}" for name in names),
        *(f"two.{name}" for name in names),
    ]


async def test_a_client_that_was_passed_in_stays_open(place: MongoPlace) -> None:
    async with AsyncMongoClient[dict[str, Any]](place.url) as client:
        async with MongoDBStorage(client=client, database=place.name) as storage:
            await storage.put_session(session_record())
        assert await client[place.name]["luminora_sessions"].count_documents({}) == 1
        await storage.open()
        assert await storage.list_sessions() == ["s"]
        await storage.close()


async def test_a_motor_client_that_was_passed_in_stays_open(place: MongoPlace) -> None:
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(place.url)
    async with MongoDBStorage(client=client, database=place.name) as storage:
        await storage.put_session(session_record())
    assert await client[place.name]["luminora_sessions"].count_documents({}) == 1
    client.close()


async def test_a_client_that_its_owner_closed_is_told_as_a_closed_storage(place: MongoPlace) -> None:
    client = AsyncMongoClient[dict[str, Any]](place.url)
    async with MongoDBStorage(client=client, database=place.name) as storage:
        await storage.put_session(session_record())
        await client.close()
        with pytest.raises(StorageClosedError):
            await storage.find_session("s")


_PROCESS = """
import asyncio, sys
from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MessageRecord, Payload, SessionRecord

async def main(url, database, number):
    driver = "motor" if int(number) % 2 else "pymongo"
    text = Payload("json", b"1")
    async with MongoDBStorage(url, database=database, driver=driver) as storage:
        await storage.put_session(SessionRecord(session_id="shared", payload=text))
        message = MessageRecord(message_id=number, role="user", created_at_us=1, payload=text)
        await storage.append_messages("shared", [message])

asyncio.run(main(*sys.argv[1:]))
"""


def test_twenty_processes_at_once_make_one_store(place: MongoPlace) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, place.url, place.name, str(number)],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(20)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert said == [""] * 20
    assert place.sessions.find_one({}, {"version": 1}) == {"_id": "shared", "version": 20}
    appended = list(place.messages.find({}).sort("first", 1))
    assert [batch["first"] for batch in appended] == list(range(1, 21))
    indexes = place.messages.index_information()
    unique = {name for name, index in indexes.items() if index.get("unique")}
    assert unique == {"inc_1_epoch_1_first_1", "inc_1_ids_1"}


async def test_a_store_of_a_newer_version_is_left_alone(place: MongoPlace) -> None:
    place.meta.insert_one({"_id": "luminoracore_sdk", "version": 2})
    storage = place.storage()
    with pytest.raises(SchemaVersionError) as caught:
        await storage.put_session(session_record())
    assert (caught.value.found, caught.value.supported) == (2, 1)
    assert place.database.list_collection_names() == ["luminora_meta"]
    await storage.close()


@pytest.mark.parametrize("version", ["x", None, 1.5])
async def test_a_version_that_is_none_is_told_as_it_is(place: MongoPlace, version: object) -> None:
    place.meta.insert_one({"_id": "luminoracore_sdk", "version": version})
    with pytest.raises(SchemaVersionError, match="in its meta document the version"):
        await place.storage().open()


async def test_sessions_without_a_version_are_not_taken_for_a_new_store(place: MongoPlace) -> None:
    async with place.storage() as storage:
        await storage.put_session(session_record())
    place.meta.delete_many({})
    with pytest.raises(SchemaVersionError, match="has no version, but documents in the collection luminora_sessions"):
        await place.storage().open()
    assert place.meta.count_documents({}) == 0


@pytest.mark.parametrize("name", ["sessions", "messages", "memories", "meta"])
async def test_a_collection_of_something_else_is_left_alone(place: MongoPlace, name: str) -> None:
    theirs = {"_id": "schema", "version": 1, "text": "theirs"}
    place.database[f"chat_{name}"].insert_one(theirs)
    with pytest.raises(SchemaVersionError, match=f"no version, but documents in the collection chat_{name}"):
        await place.storage(collection_prefix="chat_").open()
    assert place.database.list_collection_names() == [f"chat_{name}"]
    assert list(place.database[f"chat_{name}"].find({})) == [theirs]
    assert list(place.database[f"chat_{name}"].index_information()) == ["_id_"]
    async with place.storage(collection_prefix="mine_") as storage:
        assert await storage.schema_version() == 1


async def test_a_history_far_beyond_16_megabytes_is_kept(place: MongoPlace) -> None:
    text = Payload("json", b'"' + b"x" * 2_000_000 + b'"')
    async with place.storage("pymongo") as storage:
        await storage.put_session(session_record())
        for number in range(10):
            batch = message_records(4, prefix=f"{number}-")
            await storage.append_messages("s", [attrs.evolve(message, payload=text) for message in batch])
        read = await storage.read_messages("s", _ALL)
        assert [message.position for message in read] == list(range(1, 41))
        same = [message.payload == text for message in read]
        assert same == [True] * 40
        streamed = [message.position async for message in storage.stream_messages("s", chunk=3)]
        assert streamed == list(range(1, 41))


async def test_a_batch_that_is_too_large_as_a_whole_is_refused_as_a_whole(place: MongoPlace) -> None:
    text = Payload("json", b'"' + b"x" * 4_000_000 + b'"')
    batch = [attrs.evolve(message, payload=text) for message in message_records(4)]
    async with place.storage() as storage:
        await storage.put_session(session_record())
        with pytest.raises(PayloadTooLargeError, match="the batch of 4 messages"):
            await storage.append_messages("s", batch)
        assert (await storage.append_messages("s", batch[:3])).last_position == 3


async def test_a_header_that_its_tags_make_too_large_is_refused(place: MongoPlace) -> None:
    huge = Payload("json", b'"' + b"x" * (15 * 1024 * 1024 - 2) + b'"')
    tags = tuple(f"{number:05}{'y' * 500}" for number in range(3000))
    record = attrs.evolve(session_record(tags=tags), payload=huge)
    async with place.storage() as storage:
        with pytest.raises(PayloadTooLargeError):
            await storage.put_session(record)
        assert await storage.find_session("s") is None
        await storage.put_session(session_record(tags=("few",)))
        with pytest.raises(PayloadTooLargeError):
            await storage.put_session(record)
        found = await storage.find_session("s")
        assert found is not None
        assert found.tags == ("few",)


async def test_a_missing_batch_is_damage(place: MongoPlace) -> None:
    async with place.storage() as storage:
        await storage.put_session(session_record())
        for number in range(3):
            await storage.append_messages("s", message_records(2, prefix=f"{number}-"))
        place.messages.delete_one({"first": 3})
        with pytest.raises(CorruptRecordError, match="4 messages at positions 1 to 6"):
            await storage.read_messages("s", _ALL)
        assert len(await storage.read_messages("s", MessageRange(after=4))) == 2


@pytest.mark.parametrize(
    "change",
    [{"$unset": {"version": 1}}, {"$set": {"payload": 7}}, {"$set": {"tags": None}}, {"$unset": {"epoch": 1}}],
)
async def test_a_damaged_header_is_told_with_its_key(place: MongoPlace, change: dict[str, Any]) -> None:
    async with place.storage() as storage:
        await storage.put_session(session_record())
        place.sessions.update_one({}, change)
        with pytest.raises(CorruptRecordError, match="session 's'"):
            await storage.find_session("s")


async def test_purge_removes_what_a_killed_client_left_and_nothing_else(place: MongoPlace) -> None:
    async with place.storage() as storage:
        for name in ("gone", "kept"):
            await storage.put_session(session_record(name))
            await storage.append_messages(name, message_records(3))
            await storage.append_messages(name, message_records(3, prefix="late"))
            await storage.put_memory(memory_record("k", owner=name))
        await storage.put_memory(memory_record("k", kind="user", owner="gone"))
        await storage.truncate_messages("kept", after=2)
        place.sessions.delete_one({"_id": "gone"})  # and the client died
        assert await storage.purge_expired() == Purged(sessions=0, memories=0)
        assert [batch["s"] for batch in place.messages.find({})] == ["kept"]
        assert sorted(memory.get("s", "") for memory in place.memories.find({})) == ["", "kept"]
        assert len(await storage.read_messages("kept", _ALL)) == 2


def test_kills_of_a_writing_client_lose_nothing_and_tear_nothing(place: MongoPlace) -> None:
    url = with_database(place.url, place.name)
    factory = "luminoracore_sdk.adapters.storage.mongodb:MongoDBStorage"
    reports = [crash_trial(factory, url, seed=seed) for seed in range(5)]
    assert [report.problems for report in reports] == [()] * 5
    assert sum(report.acknowledged for report in reports) >= 5


async def test_a_primary_that_stepped_down_is_read_only_and_recovers(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("replica")
    with MongoServer(folder, replica_set="rs") as server, server.client() as admin:
        direct = f"mongodb://127.0.0.1:{server.port}/?directConnection=true"
        async with MongoDBStorage(direct, database="stepping") as storage:
            await storage.put_session(session_record())
            admin.admin.command("replSetStepDown", 60, secondaryCatchUpPeriodSecs=0, force=True)
            wait_until(lambda: not admin.admin.command("hello")["isWritablePrimary"], "a secondary")
            with pytest.raises(StorageReadOnlyError) as caught:
                await storage.put_session(session_record(text="late"))
            assert caught.value.in_doubt is False
            assert await storage.list_sessions() == ["s"]
            admin.admin.command("replSetFreeze", 0)
            await asyncio.to_thread(
                wait_until, lambda: bool(admin.admin.command("hello")["isWritablePrimary"]), "a primary"
            )
            assert (await storage.put_session(session_record())).version == 2


async def test_a_replica_set_by_its_name_takes_writes_by_majority(place: MongoPlace) -> None:
    async with MongoDBStorage(mongodb_replica_set_url(), database=place.name, driver="pymongo") as storage:
        await storage.put_session(session_record())
        receipt = await storage.append_messages("s", message_records(2))
        assert receipt.last_position == 2
        await storage.delete_session("s")
