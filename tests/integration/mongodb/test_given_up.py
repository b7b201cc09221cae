"""A call whose caller has gone on has no effect later."""

import asyncio

import anyio
import pytest
from bson import ObjectId
from luminoracore_sdk.adapters.storage.mongodb.hints import Hint, Hints

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb import base as mongodb_base
from luminoracore_sdk.adapters.storage.mongodb.documents import End, Header
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import ids


@pytest.mark.parametrize("number", [0, 1])  # motor and PyMongo
async def test_an_append_whose_scope_is_cancelled_again_and_again_does_not_go_on_behind_the_next(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It was inserted, and would remember an end that is none any more."""
    monkeypatch.setattr(mongodb_base, "_GRACE", 0.05)
    writer, other = storages[number], storages[number + 2]
    await writer.put_session(session_record())
    await writer.append_messages("s", message_records(3))
    messages = writer._store.appends._store.messages
    insert, inserted, answer = messages.insert, asyncio.Event(), asyncio.Event()

    async def slow(document: Document) -> None:
        monkeypatch.setattr(messages, "insert", insert)
        await insert(document)
        inserted.set()
        await answer.wait()

    monkeypatch.setattr(messages, "insert", slow)
    await append_and_give_up(writer, "m4", inserted)
    await writer.append_messages("s", [message_record("m5")])
    answer.set()
    await asyncio.sleep(0)
    await other.delete_session("s")
    await other.put_session(session_record())
    await writer.append_messages("s", [message_record("n1")])
    assert await ids(other) == ["n1"]


async def test_an_append_that_looks_when_its_scope_is_cancelled_writes_nothing_later(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongodb_base, "_GRACE", 0.05)
    writer, *_ = storages
    await writer.put_session(session_record())
    sessions = writer._store.sessions
    existing, looking, answer = sessions.existing, asyncio.Event(), asyncio.Event()

    async def slow(session_id: str, now_us: int) -> Header:
        looking.set()
        await answer.wait()
        return await existing(session_id, now_us)

    monkeypatch.setattr(sessions, "existing", slow)
    await append_and_give_up(writer, "late", looking)
    answer.set()
    monkeypatch.setattr(sessions, "existing", existing)
    await writer.append_messages("s", [message_record("m1")])
    assert await ids(writer) == ["m1"]


async def append_and_give_up(storage: MongoDBStorage, message_id: str, when: asyncio.Event) -> None:
    """Append in a scope that is cancelled when something has happened; nothing of it is under way then."""
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(storage.append_messages, "s", [message_record(message_id)])
            await when.wait()
            scope.cancel()
    assert not storage._running


def hint(last: int, *, history: str = "a") -> Hint:
    return Hint(End(ObjectId("0" * 24), ObjectId(history * 24), last), None, float("inf"), 0)


async def test_a_hint_does_not_take_the_place_of_one_that_leads_further_in_the_same_history() -> None:
    hints = Hints()
    hints.put("s", hint(5))
    hints.put("s", hint(4))
    assert hints.take("s", 0) == hint(5)
    hints.put("s", hint(5))
    hints.put("s", hint(1, history="b"))
    assert hints.take("s", 0) == hint(1, history="b")


async def test_a_task_that_was_given_up_remembers_nothing() -> None:
    hints = Hints()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            hints.put("s", hint(4))

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert hints.take("s", 0) is None
