"""Which commands the frequent calls send."""

import asyncio

import pytest

from luminoracore_sdk.adapters.storage.mongodb import messages as mongodb_messages
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace


async def test_the_common_append_is_one_insert(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(2, prefix="a"))
        await storage.truncate_messages("s", after=1)
        await storage.append_messages("s", message_records(2, prefix="again"))
        commands.clear()
        await storage.append_messages("s", message_records(2, prefix="b"))
    assert [next(iter(command)) for command in commands] == ["insert"]


async def test_an_append_to_a_session_with_a_time_to_live_is_one_insert_and_one_change_by_id(
    place: MongoPlace,
) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record(ttl_us=10**9))
        await storage.append_messages("s", message_records(2, prefix="a"))
        commands.clear()
        await storage.append_messages("s", message_records(2, prefix="b"))
        sent = {next(iter(command)): command for command in commands}
    assert list(sent) == ["insert", "findAndModify"]
    examined = place.explain(sent["findAndModify"])["executionStats"]
    assert (examined["totalKeysExamined"], examined["totalDocsExamined"]) == (1, 1)


async def test_appends_to_64_sessions_at_once_are_few_inserts_and_no_look(place: MongoPlace) -> None:
    names = [f"{number}" for number in range(64)]
    first = list[str]()
    async with place.recorded() as (storage, commands):
        for name in names:
            await storage.put_session(session_record(name))
        for prefix in ("a", "b", "c"):
            commands.clear()
            await asyncio.gather(*(storage.append_messages(name, message_records(2, prefix=prefix)) for name in names))
            if prefix == "a":
                first = [next(iter(command)) for command in commands]
    assert len(first) <= 9  # for each who went alone, and for the others, three
    sent = [next(iter(command)) for command in commands]
    assert set(sent) == {"insert"}
    assert len(sent) <= 3
    assert sum(len(command["documents"]) for command in commands) == 64


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
        await storage.read_messages("s", span)
        commands.clear()
        read = await storage.read_messages("s", span)
    assert [message.position for message in read] == list(range(first, 301))
    assert [next(iter(command)) for command in commands] == ["find"]
    examined = place.explain(commands[0])["executionStats"]
    assert examined["totalDocsExamined"] == 301 - first


async def test_of_a_history_that_has_grown_since_no_more_is_read_than_is_wanted(place: MongoPlace) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("0")])
        await storage.read_messages("s", MessageRange())
        for number in range(1, 40):
            await storage.append_messages("s", [message_record(f"{number}")])
        commands.clear()
        read = await storage.read_messages("s", MessageRange(limit=2))
        finds = [command for command in commands if "find" in command]
    assert [message.message_id for message in read] == ["0", "1"]
    examined = [place.explain(command)["executionStats"]["totalDocsExamined"] for command in finds]
    assert sum(examined) == 2


async def test_a_history_that_has_become_long_is_read_forwards(
    place: MongoPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongodb_messages, "_BACKWARDS", 5)
    orders = list[int]()
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        for size in (3, 5, 1):
            await storage.append_messages("s", message_records(size, prefix=f"{size}-"))
            commands.clear()
            await storage.read_messages("s", MessageRange())
            await storage.read_messages("s", MessageRange())
            orders += [command["sort"]["first"] for command in commands if "sort" in command]
    # by the header, then by what that told; by that again, then it is known to be long
    assert orders == [1, -1, -1, 1, 1, 1]
