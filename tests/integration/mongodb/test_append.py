"""Appends of several processes to one session, while others truncate, delete and put it again."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace, ids

Change = Callable[[MongoDBStorage, MongoPlace], Awaitable[object]]


async def put_again(storage: MongoDBStorage, _: MongoPlace) -> None:
    await storage.delete_session("s")
    await storage.put_session(session_record())


async def append(storage: MongoDBStorage, _: MongoPlace) -> None:
    await storage.append_messages("s", message_records(2, prefix="other"))


async def truncate_and_append(storage: MongoDBStorage, place: MongoPlace) -> None:
    await storage.truncate_messages("s", after=2)
    await append(storage, place)


async def put_over_expired(storage: MongoDBStorage, place: MongoPlace) -> None:
    await storage.put_session(session_record(ttl_us=1_000_000))
    place.clock.advance(2)
    await storage.put_session(session_record())


STALE: dict[str, tuple[Change, list[str]]] = {
    "appended": (append, ["m1", "m2", "m3", "other1", "other2"]),
    "truncated": (lambda storage, _: storage.truncate_messages("s", after=2), ["m1", "m2"]),
    "emptied": (lambda storage, _: storage.truncate_messages("s", after=0), []),
    "truncated and appended": (truncate_and_append, ["m1", "m2", "other1", "other2"]),
    "deleted and put again": (put_again, []),
    "expired and put again": (put_over_expired, []),
}


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("change", STALE)
async def test_what_is_stored_counts_not_what_a_process_remembers(
    place: MongoPlace, storages: list[MongoDBStorage], change: str, conditional: bool
) -> None:
    writer, other, *_ = storages
    make, left = STALE[change]
    await writer.put_session(session_record())
    await writer.append_messages("s", message_records(3))
    await make(other, place)
    if conditional:
        with pytest.raises(ConflictError):
            await writer.append_messages("s", [message_record("next")], expected_last=3)
        assert await ids(other) == left
    receipt = await writer.append_messages(
        "s", [message_record("next")], expected_last=len(left) if conditional else None
    )
    assert receipt == AppendReceipt(first_position=len(left) + 1, last_position=len(left) + 1)
    assert await ids(other) == [*left, "next"]


@pytest.mark.parametrize("change", ["deleted", "expired"])
async def test_a_remembered_session_that_is_gone_keeps_nothing(
    place: MongoPlace, storages: list[MongoDBStorage], change: str
) -> None:
    writer, other, *_ = storages
    await writer.put_session(session_record(ttl_us=1_000_000))
    await writer.append_messages("s", message_records(3))
    if change == "deleted":
        await other.delete_session("s")
    else:
        place.clock.advance(2)
    before = place.messages.count_documents({})
    with pytest.raises(SessionNotFoundError):
        await writer.append_messages("s", [message_record("next")])
    assert place.messages.count_documents({}) == before


async def test_a_replay_of_another_process_is_recognised(
    storages: list[MongoDBStorage],
) -> None:
    writer, other, *_ = storages
    await writer.put_session(session_record())
    await writer.append_messages("s", message_records(3))
    batch = message_records(2, prefix="other")
    await other.append_messages("s", batch)
    again = await writer.append_messages("s", batch, expected_last=3)
    assert again == AppendReceipt(first_position=4, last_position=5, replayed=True)


async def test_an_id_from_before_a_truncation_is_recognised_after_it(
    storages: list[MongoDBStorage],
) -> None:
    writer, other, *_ = storages
    await writer.put_session(session_record())
    await writer.append_messages("s", message_records(4))
    await other.truncate_messages("s", after=3)
    await writer.append_messages("s", [message_record("new")])
    replay = await writer.append_messages("s", [message_record("m2"), message_record("m3")])
    assert replay == AppendReceipt(first_position=2, last_position=3, replayed=True)
    across = await other.append_messages("s", [message_record("m3"), message_record("new")])
    assert across == AppendReceipt(first_position=3, last_position=4, replayed=True)
    assert (await other.append_messages("s", [message_record("m4")])).first_position == 5


async def test_a_history_of_many_truncations_is_read_in_any_range(
    storages: list[MongoDBStorage],
) -> None:
    writer, *_ = storages
    await writer.put_session(session_record())
    for number in range(220):
        await writer.append_messages("s", message_records(2, prefix=f"{number}-"))
        await writer.truncate_messages("s", after=number + 1)
    expected = [f"{number}-1" for number in range(220)]
    assert await ids(writer) == expected
    middle = await writer.read_messages("s", MessageRange(after=50, before=180))
    assert [message.message_id for message in middle] == expected[50:179]
    newest = await writer.read_messages("s", MessageRange(limit=3, newest=True))
    assert [message.message_id for message in newest] == expected[-3:]


async def test_appends_that_race_truncations_leave_no_gap(
    storages: list[MongoDBStorage],
) -> None:
    random = Random(7)  # noqa: S311  # no secret
    await storages[0].put_session(session_record())
    for number in range(40):
        keep = random.randrange(6)
        batches = [message_records(2, prefix=f"{number}-{writer}-") for writer in range(3)]
        receipts = await asyncio.gather(
            *(writer.append_messages("s", batch) for writer, batch in zip(storages, batches, strict=False)),
            storages[3].truncate_messages("s", after=keep),
        )
        present = await ids(storages[3])
        for batch, receipt in zip(batches, receipts, strict=False):
            assert isinstance(receipt, AppendReceipt)
            if batch[0].message_id in present:
                assert present.index(batch[0].message_id) + 1 == receipt.first_position
        for writer, storage in enumerate(storages):
            await storage.append_messages("s", [message_record(f"{number}-after-{writer}")])
        assert (await ids(storages[0]))[-4:] == [f"{number}-after-{writer}" for writer in range(4)]


async def test_appends_that_race_a_deletion_are_gone_or_new(place: MongoPlace, storages: list[MongoDBStorage]) -> None:
    await storages[0].put_session(session_record())
    for number in range(40):
        batches = [message_records(2, prefix=f"{number}-{writer}-") for writer in range(3)]
        outcomes = await asyncio.gather(
            *(writer.append_messages("s", batch) for writer, batch in zip(storages, batches, strict=False)),
            put_again(storages[3], place),
            return_exceptions=True,
        )
        present = await ids(storages[3])
        for batch, outcome in zip(batches, outcomes, strict=False):
            assert isinstance(outcome, (AppendReceipt, SessionNotFoundError))
            if batch[0].message_id in present:
                assert isinstance(outcome, AppendReceipt)
                assert present.index(batch[0].message_id) + 1 == outcome.first_position
        receipts = [await storage.append_messages("s", [message_record(f"{number}")]) for storage in storages]
        assert [receipt.replayed for receipt in receipts] == [False, True, True, True]
    await storages[0].purge_expired()
    (header,) = place.sessions.find({})
    assert place.messages.distinct("inc") == [header["inc"]]


async def test_50_writers_of_four_storages_leave_no_gap(
    storages: list[MongoDBStorage],
) -> None:
    await storages[0].put_session(session_record())
    batches = [message_records(2, prefix=f"{writer}-") for writer in range(50)]
    receipts = await asyncio.gather(
        *(storages[number % 4].append_messages("s", batch) for number, batch in enumerate(batches))
    )
    present = await ids(storages[0])
    assert len(present) == 100
    for batch, receipt in zip(batches, receipts, strict=True):
        stored = present[receipt.first_position - 1 : receipt.last_position]
        assert stored == [message.message_id for message in batch]
