"""What a read brings, and damage that it finds."""

from typing import Any

import pytest

from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace


@pytest.mark.parametrize(("after", "limit"), [(500, 100), (1, 1), (899, 101), (999, 300), (1100, 900)])
async def test_a_page_out_of_a_large_batch_brings_no_more_than_the_page(
    place: MongoPlace, after: int, limit: int
) -> None:
    async with place.recorded() as (storage, commands):
        await storage.put_session(session_record())
        for prefix in ("a", "b"):
            await storage.append_messages("s", message_records(1000, prefix=prefix))
        commands.clear()
        read = await storage.read_messages("s", MessageRange(after=after, limit=limit))
        brought = place.database.command({**commands[-1], "cursor": {}})["cursor"]["firstBatch"]
    assert [message.position for message in read] == list(range(after + 1, after + 1 + limit))
    names = [f"{'a' if position <= 1000 else 'b'}{(position - 1) % 1000 + 1}" for position in range(1, 2001)]
    assert [message.message_id for message in read] == names[after : after + limit]
    assert sum(len(batch.get("items", ())) for batch in brought) == limit


async def test_a_range_that_begins_within_a_batch_goes_on_through_single_messages(place: MongoPlace) -> None:
    async with place.storage() as storage:
        await storage.put_session(session_record())
        for number, size in enumerate((3, 1, 1, 2, 1)):
            await storage.append_messages("s", message_records(size, prefix=f"{number}-"))
        names = ["0-1", "0-2", "0-3", "1-1", "2-1", "3-1", "3-2", "4-1"]
        for after in range(9):
            for limit in range(9):
                read = await storage.read_messages("s", MessageRange(after=after, limit=limit))
                assert [message.message_id for message in read] == names[after : after + limit]
                assert [message.position for message in read] == list(range(after + 1, after + 1 + len(read)))


@pytest.mark.parametrize(
    "damage",
    [
        {"ids": "text"},
        {"ids": ["one"]},
        {"ids": [f"m{number}" for number in range(1, 9)]},
        {"items": "text"},
        {"items": [{"role": "user"}]},
        {"items.5.created": float("inf")},
        {"items.5.payload": 7},
    ],
)
@pytest.mark.parametrize("after", [0, 3])
async def test_a_damaged_batch_is_told_as_such_wherever_a_range_begins(
    place: MongoPlace, damage: dict[str, Any], after: int
) -> None:
    async with place.storage() as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(9))
        await storage.append_messages("s", [message_record("last")])
        place.messages.update_one({"first": 1}, {"$set": damage})
        with pytest.raises(CorruptRecordError, match="session 's' is damaged"):
            await storage.read_messages("s", MessageRange(after=after, limit=3))
