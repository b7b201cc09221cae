"""Appends to a session that expires meanwhile, or that has expired by one clock and not by another."""

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import SessionNotFoundError, StorageUnavailableError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import Moments, MongoPlace, ids

Late = tuple[MongoDBStorage, Moments]


async def test_a_refused_append_to_an_expired_session_is_not_seen(place: MongoPlace) -> None:
    ahead = ManualClock()
    async with place.storage() as punctual, place.interrupted(clock=ahead) as (late, _):
        await punctual.put_session(session_record(ttl_us=10_000_000))
        await late.append_messages("s", message_records(2))
        place.clock.advance(9.999)
        ahead.advance(10.004)
        with pytest.raises(SessionNotFoundError):
            await late.append_messages("s", [message_record("late")])
        assert await ids(punctual) == ["m1", "m2"]
        receipt = await punctual.append_messages("s", [message_record("late"), message_record("next")])
        assert receipt == AppendReceipt(first_position=3, last_position=4)
        assert await ids(late) == ["m1", "m2", "late", "next"]


async def test_an_append_that_began_in_time_prolongs_the_session(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    storage, moments = late
    await storage.put_session(session_record(ttl_us=10_000_000))
    place.clock.advance(9)

    async def overtake() -> None:
        place.clock.advance(2)
        assert await other.find_session("s") is None

    moments.after("messages", "insert_one", overtake)
    await storage.append_messages("s", [message_record("m1")])
    assert await ids(other) == ["m1"]


async def test_an_append_behind_another_prolongs_the_session_too(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    """A truncation seals the batch before it is verified."""
    storage, moments = late
    await storage.put_session(session_record(ttl_us=10_000_000))

    early = place.clock.now()
    place.clock.advance(5)
    present = place.clock.now()

    async def overtake() -> None:
        place.clock.set(early)  # so that the other storage does not prolong it
        await other.append_messages("s", [message_record("other")])
        await other.truncate_messages("s", after=1)
        place.clock.set(present)

    moments.after("messages", "insert_one", overtake)
    await storage.append_messages("s", [message_record("m1")])
    place.clock.advance(9)
    assert await ids(other) == ["m1"]


async def test_a_session_whose_life_was_shortened_meanwhile_leaves_the_append_in_doubt(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    storage, _ = late
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(2))
    await other.put_session(session_record(ttl_us=1_000_000))
    place.clock.advance(2)
    with pytest.raises(StorageUnavailableError, match="expired during the append") as refused:
        await storage.append_messages("s", [message_record("m3")])
    assert refused.value.in_doubt is True
    with pytest.raises(SessionNotFoundError):
        await storage.append_messages("s", [message_record("m3")])
    assert await storage.find_session("s") is None
    await storage.purge_expired()
    assert place.messages.count_documents({}) == 0


async def test_a_time_to_live_that_was_given_meanwhile_is_prolonged(
    place: MongoPlace, late: Late, other: MongoDBStorage
) -> None:
    storage, _ = late
    await storage.put_session(session_record())
    await other.put_session(session_record(ttl_us=3_000_000))
    for number in range(4):
        place.clock.advance(2)
        await storage.append_messages("s", [message_record(f"m{number}")])
    assert len(await ids(other)) == 4
