"""Tails that are replaced while other storages write, and by processes that are killed between two commands."""

from collections.abc import Callable

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.domain.errors import ConflictError
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import Action, Moments, MongoPlace, ids

Late = tuple[MongoDBStorage, Moments]

MOMENTS: dict[str, Callable[[Moments, Action], None]] = {
    "before the mark": lambda moments, action: moments.before("sessions", "update_one", action),
    "behind the mark": lambda moments, action: moments.after("sessions", "update_one", action),
    "before the header": lambda moments, action: moments.before("sessions", "aggregate", action),
    "behind the header": lambda moments, action: moments.after("sessions", "aggregate", action),
    "before the tail": lambda moments, action: moments.before("messages", "aggregate", action),
    "behind the tail": lambda moments, action: moments.after("messages", "aggregate", action),
    "before the batch": lambda moments, action: moments.before("messages", "insert_one", action),
    "behind the batch": lambda moments, action: moments.after("messages", "insert_one", action),
    "before the end": lambda moments, action: moments.before("messages", "delete_many", action),
}


class Killed(Exception):  # noqa: N818  # not an error: the process has ended
    """The process that made the call was killed."""


async def kill() -> None:
    raise Killed


async def begin(storage: MongoDBStorage) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_acknowledged_append_stays_or_is_returned(late: Late, other: MongoDBStorage, moment: str) -> None:
    storage, moments = late
    await begin(storage)

    async def overtake() -> None:
        await other.append_messages("s", [message_record("other")])

    MOMENTS[moment](moments, overtake)
    receipt = await storage.replace_tail("s", after=1, messages=[message_record("late")])
    removed = [message.message_id for message in receipt.removed]
    left = await ids(other)
    assert (left, removed) in [
        (["m1", "late", "other"], ["m2", "m3"]),
        (["m1", "late"], ["m2", "m3", "other"]),
    ]
    assert await ids(storage) == left


@pytest.mark.parametrize("moment", MOMENTS)
async def test_an_expected_end_is_the_end(late: Late, other: MongoDBStorage, moment: str) -> None:
    storage, moments = late
    await begin(storage)

    async def overtake() -> None:
        await other.append_messages("s", [message_record("other")])

    MOMENTS[moment](moments, overtake)
    try:
        receipt = await storage.replace_tail("s", after=1, messages=[message_record("late")], expected_last=3)
    except ConflictError:
        assert await ids(other) == ["m1", "m2", "m3", "other"]
    else:
        assert [message.message_id for message in receipt.removed] == ["m2", "m3"]
        assert await ids(other) == ["m1", "late", "other"]


@pytest.mark.parametrize("moment", MOMENTS)
async def test_each_of_two_replacements_returns_what_it_removed(late: Late, other: MongoDBStorage, moment: str) -> None:
    storage, moments = late
    await begin(storage)
    removed: list[str] = []

    async def replace(writer: MongoDBStorage, name: str) -> None:
        receipt = await writer.replace_tail("s", after=1, messages=[message_record(name)])
        removed.extend(message.message_id for message in receipt.removed)

    MOMENTS[moment](moments, lambda: replace(other, "other"))
    await replace(storage, "late")
    left = await ids(other)
    assert sorted([*left, *removed]) == ["late", "m1", "m2", "m3", "other"]
    assert left in (["m1", "late"], ["m1", "other"])


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_killed_replacement_is_whole_or_absent_and_stops_nobody(
    place: MongoPlace, late: Late, other: MongoDBStorage, moment: str
) -> None:
    storage, moments = late
    await begin(storage)
    MOMENTS[moment](moments, kill)
    new = message_records(2, prefix="new")
    with pytest.raises(Killed):
        await storage.replace_tail("s", after=1, messages=new)
    place.sessions.update_one({"_id": "s", "frozen": {"$exists": False}}, {"$set": {"frozen": "of a killed one"}})
    before = await ids(other)
    assert before in (["m1", "m2", "m3"], ["m1", "new1", "new2"])
    await other.append_messages("s", [message_record("next")])
    assert await ids(other) == [*before, "next"]
    await other.purge_expired()
    assert await ids(other) == [*before, "next"]
    await other.truncate_messages("s", after=1)
    receipt = await other.replace_tail("s", after=1, messages=new)
    assert (receipt.removed, receipt.replayed) == ([], False)
    assert await ids(other) == ["m1", "new1", "new2"]
    assert await other.delete_session("s") is True
    assert place.messages.count_documents({}) == 0


async def test_ids_that_a_killed_replacement_prepared_are_free(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await begin(storage)
    moments.after("messages", "insert_one", kill)
    with pytest.raises(Killed):
        await storage.replace_tail("s", after=1, messages=message_records(2, prefix="new"))
    assert await other.find_message("s", "new1") is None
    await other.append_messages("s", [message_record("new1")])
    assert await ids(other) == ["m1", "m2", "m3", "new1"]


async def test_ids_taken_from_a_slow_replacement_conflict(late: Late, other: MongoDBStorage) -> None:
    """The batch is prepared; another append takes its id; then the epoch cannot be opened any more."""
    storage, moments = late
    await begin(storage)

    async def overtake() -> None:
        await other.append_messages("s", [message_record("new2")])

    moments.after("messages", "insert_one", overtake)
    with pytest.raises(ConflictError):
        await storage.replace_tail("s", after=1, messages=message_records(2, prefix="new"))
    assert await ids(other) == ["m1", "m2", "m3", "new2"]
    assert [message.position for message in await storage.read_messages("s", MessageRange())] == [1, 2, 3, 4]


async def test_a_session_that_is_deleted_and_put_again_is_not_mistaken(late: Late, other: MongoDBStorage) -> None:
    storage, moments = late
    await begin(storage)

    async def overtake() -> None:
        await other.delete_session("s")
        await begin(other)

    moments.after("messages", "insert_one", overtake)
    receipt = await storage.replace_tail("s", after=2, messages=[message_record("new")])
    assert [message.message_id for message in receipt.removed] == ["m3"]
    assert await ids(other) == ["m1", "m2", "new"]
