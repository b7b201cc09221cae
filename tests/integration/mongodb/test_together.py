"""Appends that are asked for at the same time and written together."""

import asyncio

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange
from luminoracore_sdk.domain.errors import ConflictError, CorruptRecordError, SessionNotFoundError
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace, ids


@pytest.mark.parametrize("driver", [0, 1], ids=["motor", "pymongo"])
async def test_of_appends_that_are_written_together_each_has_its_own_outcome(
    storages: list[MongoDBStorage], driver: int
) -> None:
    storage, elsewhere = storages[driver], storages[2 + driver]
    names = [f"{number}" for number in range(12)]
    for name in names:
        await storage.put_session(session_record(name, ttl_us=10**9 if name == "7" else None))
        await storage.append_messages(name, [message_record("m1")])
    await elsewhere.append_messages("1", [message_record("theirs")])
    await elsewhere.truncate_messages("2", after=0)
    await elsewhere.delete_session("3")
    outcomes = await asyncio.gather(
        *(storage.append_messages(name, [message_record("new")]) for name in names[:4]),
        storage.append_messages("4", [message_record("new")], expected_last=7),
        storage.append_messages("5", [message_record("m1")]),
        storage.append_messages("6", message_records(2, prefix="m")),
        storage.append_messages("7", [message_record("new")]),
        storage.append_messages("none", [message_record("new")]),
        storage.append_messages("8", [message_record("new")], expected_last=1),
        *(storage.append_messages("9", message_records(2, prefix=prefix)) for prefix in "abc"),
        *(storage.append_messages("10", [message_record("twice")]) for _ in range(2)),
        return_exceptions=True,
    )
    at = [AppendReceipt(first_position=place, last_position=place) for place in range(4)]
    assert outcomes[:3] == [at[2], at[3], at[1]]
    assert isinstance(outcomes[3], SessionNotFoundError)
    assert isinstance(outcomes[4], ConflictError)
    assert outcomes[5] == AppendReceipt(first_position=1, last_position=1, replayed=True)
    assert isinstance(outcomes[6], ConflictError)  # m1 is stored, m2 is not
    assert outcomes[7] == at[2]
    assert isinstance(outcomes[8], SessionNotFoundError)
    assert outcomes[9] == at[2]
    assert [receipt.first_position for receipt in outcomes[10:13] if isinstance(receipt, AppendReceipt)] == [
        2,
        4,
        6,
    ]
    assert outcomes[13:] == [at[2], AppendReceipt(first_position=2, last_position=2, replayed=True)]
    nine = [message.message_id for message in await elsewhere.read_messages("9", MessageRange())]
    assert nine == ["m1", "a1", "a2", "b1", "b2", "c1", "c2"]


async def test_a_repeated_append_that_was_written_with_others_is_recognised(
    storages: list[MongoDBStorage],
) -> None:
    storage, other, *_ = storages
    await storage.put_session(session_record())
    batches = [message_records(2, prefix=prefix) for prefix in "abcd"]
    receipts = await asyncio.gather(*(storage.append_messages("s", batch) for batch in batches))
    for batch, receipt in zip(batches, receipts, strict=True):
        again = await other.append_messages("s", batch)
        assert (again.first_position, again.last_position, again.replayed) == (
            receipt.first_position,
            receipt.last_position,
            True,
        )
    assert await other.truncate_messages("s", after=5) == 3
    assert await ids(storage) == ["a1", "a2", "b1", "b2", "c1"]


async def test_closing_waits_for_all_that_were_asked_for(place: MongoPlace) -> None:
    storage = place.storage()
    names = [f"{number}" for number in range(30)]
    for name in names:
        await storage.put_session(session_record(name))
    asked = [asyncio.ensure_future(storage.append_messages(name, [message_record("m1")])) for name in names]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await storage.close()
    outcomes = await asyncio.gather(*asked, return_exceptions=True)
    kept = place.messages.count_documents({})
    assert kept == sum(isinstance(outcome, AppendReceipt) for outcome in outcomes) == 30


async def test_a_header_damaged_after_the_insert_fails_its_own_append_alone(place: MongoPlace) -> None:
    names = [f"{number}" for number in range(6)]
    async with place.interrupted() as (storage, moments):
        for name in names:
            await storage.put_session(session_record(name))

        async def damage() -> None:
            place.sessions.update_one({"_id": "4"}, {"$set": {"sealed": "rubbish", "epoch": "x"}})

        moments.after("messages", "insert", damage)
        outcomes = await asyncio.gather(
            *(storage.append_messages(name, [message_record("new")]) for name in names), return_exceptions=True
        )
    assert isinstance(outcomes.pop(4), CorruptRecordError)
    assert outcomes == [AppendReceipt(first_position=1, last_position=1)] * 5


async def test_sessions_truncated_after_the_insert_get_their_messages_again(
    place: MongoPlace, other: MongoDBStorage
) -> None:
    names = [f"{number}" for number in range(6)]
    async with place.interrupted() as (storage, moments):
        for name in names:
            await storage.put_session(session_record(name, ttl_us=10**9 if name == "4" else None))
            await storage.append_messages(name, message_records(2))

        async def overtake() -> None:
            for name in ("3", "4"):
                await other.truncate_messages(name, after=1)
            await other.delete_session("5")

        moments.after("messages", "insert", overtake)
        outcomes = await asyncio.gather(
            *(storage.append_messages(name, [message_record("new")]) for name in names), return_exceptions=True
        )
        assert isinstance(outcomes.pop(), SessionNotFoundError)
        assert [outcome.first_position for outcome in outcomes if isinstance(outcome, AppendReceipt)] == [3, 3, 3, 2, 2]
        for name in ("3", "4"):
            read = await other.read_messages(name, MessageRange())
            assert [message.message_id for message in read] == ["m1", "new"]
