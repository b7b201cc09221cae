"""Who closes a history comes through, and is not waited for without end."""

import asyncio

import pytest
from luminoracore_sdk.adapters.storage.mongodb.closing import close

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import StorageBusyError
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace, ids


async def test_appends_that_may_not_wait_for_a_closer_wait_together(place: MongoPlace) -> None:
    """Each of them gives up sooner than one who closed and died is given up."""
    async with place.storage(timeout=0.3) as writer, place.storage() as other:
        await writer.put_session(session_record())
        await writer.append_messages("s", message_records(3))
        header = await other._store.sessions.header("s")
        assert header is not None
        assert await close(other._store.appends._store, header, place.clock.now_us) is True
        refused, receipt = 0, None
        while receipt is None and refused < 20:
            try:
                receipt = await writer.append_messages("s", [message_record("next")])
            except StorageBusyError:
                refused += 1
        assert receipt == AppendReceipt(first_position=4, last_position=4)
        assert refused > 0
        assert await ids(other) == ["m1", "m2", "m3", "next"]


@pytest.mark.parametrize("number", [0, 1])  # motor and PyMongo
async def test_a_closer_comes_through_whose_every_insert_is_too_late(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A writer that is nearer the server has appended whenever the closer's insert arrives."""
    closer, writer = storages[number], storages[number + 2]
    await writer.put_session(session_record())
    await writer.append_messages("s", [message_record("m0")])
    messages = closer._store.appends._store.messages
    insert, late = messages.insert, list[str]()

    async def too_late(document: Document) -> None:
        late.append(f"m{len(late) + 1}")
        assert len(late) < 5
        await writer.append_messages("s", [message_record(late[-1])])
        await insert(document)

    monkeypatch.setattr(messages, "insert", too_late)
    assert await closer.truncate_messages("s", after=0) == 2
    monkeypatch.undo()
    await writer.append_messages("s", [message_record("next")])
    assert await ids(closer) == ["next"]
    assert late == ["m1"]


async def test_who_meets_a_closed_history_does_not_close_it_again(
    place: MongoPlace, storages: list[MongoDBStorage]
) -> None:
    closer, other, *_ = storages
    await other.put_session(session_record())
    await other.append_messages("s", message_records(3))
    seen = [await storage._store.sessions.header("s") for storage in (closer, other)]
    for storage, header, is_first in zip((other, closer), seen, (True, False), strict=True):
        assert header is not None
        closed = await close(storage._store.appends._store, header, place.clock.now_us)
        assert closed is is_first
    assert place.database["messages"].count_documents({"closed": {"$exists": True}}) == 1


async def test_a_history_closed_behind_what_the_closer_had_seen_is_as_it_was(
    place: MongoPlace, storages: list[MongoDBStorage]
) -> None:
    closer, writer, reader, _ = storages
    await writer.put_session(session_record())
    header = await closer._store.sessions.header("s")
    assert header is not None
    place.clock.advance(5)
    await writer.append_messages("s", message_records(3))
    before = await reader.find_session("s")
    place.clock.advance(5)
    assert await close(closer._store.appends._store, header, place.clock.now_us) is False
    header = await closer._store.sessions.header("s")
    assert header is not None
    assert (header.is_closed, header.last) == (True, 3)
    assert await reader.find_session("s") == before
    assert await ids(reader) == ["m1", "m2", "m3"]


@pytest.mark.parametrize("damage", [{}, {"tags": None}])
async def test_a_session_whose_newest_batch_says_less_than_it_holds_is_deleted(
    place: MongoPlace, storages: list[MongoDBStorage], damage: Document
) -> None:
    writer, other, *_ = storages
    await writer.put_session(session_record())
    await writer.append_messages("s", [message_record("m1")])
    place.database["sessions"].update_one({"_id": "s"}, {"$set": {"version": 1, **damage}})
    place.database["messages"].update_one({"s": "s"}, {"$set": {"last": 0}})
    assert await asyncio.wait_for(other.delete_session("s"), 10) is True
    assert await other.find_session("s") is None
