"""A call whose caller has continued has no effect later."""

import asyncio

import anyio

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import Moments, ids

Late = tuple[MongoDBStorage, Moments]


async def append_and_give_up(storage: MongoDBStorage, message_id: str, when: asyncio.Event) -> None:
    """Append in a scope that is cancelled once something has happened."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(storage.append_messages, "s", [message_record(message_id)])
            await when.wait()
            scope.cancel()


async def test_an_append_given_up_after_its_insert_stays_as_it_is(late: Late, other: MongoDBStorage) -> None:
    """Its answer does not come, for longer than it is waited for."""
    writer, moments = late
    await writer.put_session(session_record())
    await writer.append_messages("s", message_records(3))
    inserted, answer = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        inserted.set()
        await answer.wait()

    moments.after("messages", "insert_one", hang)
    await append_and_give_up(writer, "m4", inserted)
    await writer.append_messages("s", [message_record("m5")])
    answer.set()
    await asyncio.sleep(0)
    assert await ids(other) == ["m1", "m2", "m3", "m4", "m5"]
    await other.delete_session("s")
    await other.put_session(session_record())
    await writer.append_messages("s", [message_record("n1")])
    assert await ids(other) == ["n1"]


async def test_an_append_given_up_before_its_insert_writes_nothing_later(late: Late, other: MongoDBStorage) -> None:
    writer, moments = late
    await other.put_session(session_record())
    looking, answer = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        looking.set()
        await answer.wait()

    moments.before("sessions", "aggregate", hang)
    await append_and_give_up(writer, "late", looking)
    answer.set()
    await writer.append_messages("s", [message_record("m1")])
    assert await ids(writer) == ["m1"]
