"""Which commands the frequent calls send."""

import asyncio

import pytest
from pymongo import AsyncMongoClient

from luminoracore_sdk.adapters.storage.mongodb.driver import Collection, Document
from luminoracore_sdk.application.ports.records import MessageRange, SessionQuery
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace


def names(commands: list[dict[str, object]]) -> list[str]:
    return [next(iter(command)) for command in commands]


async def test_an_append_is_one_insert_and_one_look_at_the_header(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        commands.clear()
        for prefix in "abcde":
            await storage.append_messages("s", message_records(2, prefix=prefix))
    assert names(commands) == ["insert", "findAndModify"] * 2 + ["insert", "find"] * 3  # the first one settles it
    examined = place.explain(commands[-1])["executionStats"]
    assert (examined["totalKeysExamined"], examined["totalDocsExamined"]) == (1, 1)


async def test_an_append_with_a_time_to_live_is_one_insert_and_one_change(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record(ttl_us=10**9))
        await storage.append_messages("s", message_records(2, prefix="a"))
        commands.clear()
        await storage.append_messages("s", message_records(2, prefix="b"))
    assert names(commands) == ["insert", "findAndModify"]
    examined = place.explain(commands[1])["executionStats"]
    assert (examined["totalKeysExamined"], examined["totalDocsExamined"]) == (1, 1)


async def test_appends_to_64_sessions_at_once_share_their_commands(place: MongoPlace) -> None:
    sessions = [f"{number}" for number in range(64)]
    async with place.recorded() as (storage, commands):
        for session_id in sessions:
            await storage.put_session(session_record(session_id))
        commands.clear()
        await asyncio.gather(*(storage.append_messages(session_id, message_records(2)) for session_id in sessions))
    assert len(commands) <= 7  # two for each of those that went alone; insert, find and update for the others together
    assert sum(len(command.get("documents", ())) for command in commands) == 64


@pytest.mark.parametrize(
    ("span", "first"),
    [
        (MessageRange(limit=20, newest=True), 281),
        (MessageRange(newest=True), 1),
        (MessageRange(), 1),
    ],
)
async def test_the_newest_messages_and_all_are_read_with_one_command(
    place: MongoPlace, span: MessageRange, first: int
) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        for number in range(300):
            await storage.append_messages("s", [message_record(f"{number}")])
        commands.clear()
        read = await storage.read_messages("s", span)
    assert [message.position for message in read] == list(range(first, 301))
    assert names(commands) == ["aggregate"]


async def test_a_page_reads_no_more_than_its_messages(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        for number in range(40):
            await storage.append_messages("s", [message_record(f"{number}")])
        commands.clear()
        read = await storage.read_messages("s", MessageRange(limit=2))
        brought = place.database.command({**commands[-1], "cursor": {}})["cursor"]["firstBatch"]
    assert [message.message_id for message in read] == ["0", "1"]
    assert len(brought) == 3  # and the header


@pytest.mark.parametrize(("span", "found"), [((149, 151), [150]), ((0, 2), [1]), ((148, 153), [149, 150, 151, 152])])
async def test_few_messages_in_the_middle_are_read_with_one_command(
    place: MongoPlace, span: tuple[int, int], found: list[int]
) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(150, prefix="a"))
        await storage.append_messages("s", message_records(1, prefix="b"))
        await storage.append_messages("s", message_records(150, prefix="c"))
        commands.clear()
        read = await storage.read_messages("s", MessageRange(after=span[0], before=span[1]))
        indexes = await storage.read_index("s", MessageRange(after=span[0], before=span[1]))
    assert [record.position for record in read] == [record.position for record in indexes] == found
    assert names(commands) == ["aggregate"] * 2


async def test_few_messages_of_several_sessions_are_read_with_one_command(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        for number in range(5):
            await storage.put_session(session_record(f"{number}"))
            await storage.append_messages(f"{number}", message_records(9, prefix=f"{number}-"))
        commands.clear()
        spans = [(number, after) for number in range(5) for after in (number + 1, 6)]
        read = await asyncio.gather(
            *(storage.read_messages(f"{number}", MessageRange(after=after, limit=2)) for number, after in spans)
        )
    wanted = [[f"{number}-{after + 1}", f"{number}-{after + 2}"] for number, after in spans]
    assert [[message.message_id for message in messages] for messages in read] == wanted
    assert names(commands) == ["aggregate"]


async def test_a_listing_without_texts_is_repeated_with_one_command(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        for number in range(1, 4):
            await storage.put_session(session_record(f"{number}"))
            await storage.append_messages(f"{number}", message_records(number))
        page = await storage.query_sessions(SessionQuery(texts=False))
        commands.clear()
        assert await storage.query_sessions(SessionQuery(texts=False)) == page
    assert [header.last_position for header in page.sessions] == [1, 2, 3]
    assert names(commands) == ["aggregate"]


@pytest.mark.parametrize("size", [1, 2_000_000])
async def test_documents_are_returned_unless_they_are_known(place: MongoPlace, size: int) -> None:
    async with AsyncMongoClient[Document](place.url) as client:
        collection = Collection(client[place.name]["luminora_other"])
        documents: list[Document] = [{"_id": number, "value": "x" * size} for number in range(10)]
        for document in documents:
            await collection.insert(document)
        sent, found = await collection.aggregate_unless(None, 10, {"$sort": {"_id": 1}}) or (None, [])
        assert found == documents
        again = await collection.aggregate_unless(sent, 10, {"$sort": {"_id": 1}})
        assert again is None if size == 1 else again is not None  # over 16 MB they come in parts
