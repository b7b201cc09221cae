"""Tails that are replaced while other storages write, and by processes that are killed between two commands."""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange, Payload, TailReceipt
from luminoracore_sdk.domain.errors import ConflictError
from luminoracore_sdk.testing.records import json_payload, message_record, message_records, session_record
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


async def payloads(storage: MongoDBStorage) -> set[Payload]:
    return {message.payload for message in await storage.read_messages("s", MessageRange())}


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


async def test_an_opened_tail_is_not_taken_for_a_prepared_one_by_an_append(late: Late, place: MongoPlace) -> None:
    """The append sees the prepared batch and the mark; before it removes the mark, the batch is opened."""
    storage, moments = late
    await begin(storage)
    async with place.interrupted() as (other, its):
        await ids(other)
        prepared, may_open = asyncio.Event(), asyncio.Event()

        async def pause() -> None:
            prepared.set()
            await may_open.wait()

        async def open_it() -> None:
            may_open.set()
            await replacing

        async def open_before_the_release() -> None:
            its.before("sessions", "update_one", open_it)

        moments.after("messages", "insert_one", pause)
        replacing = asyncio.create_task(storage.replace_tail("s", after=1, messages=message_records(2, prefix="new")))
        await prepared.wait()
        its.after("sessions", "aggregate", open_before_the_release)
        with pytest.raises(ConflictError):
            await other.append_messages("s", [message_record("x"), message_record("new1")])
        assert await other.append_messages("s", [message_record("new1")]) == AppendReceipt(
            first_position=2, last_position=2, replayed=True
        )
        assert await ids(other) == ["m1", "new1", "new2"]


async def test_an_opened_tail_is_not_taken_for_a_prepared_one_by_another_replacement(
    late: Late, place: MongoPlace
) -> None:
    storage, moments = late
    await begin(storage)
    async with place.interrupted() as (other, its):
        prepared, may_open = asyncio.Event(), asyncio.Event()
        tasks: list[asyncio.Task[TailReceipt]] = []

        async def pause() -> None:
            prepared.set()
            await may_open.wait()

        async def prepare() -> None:
            moments.after("messages", "insert_one", pause)
            new = message_records(2, prefix="new")
            tasks.append(asyncio.create_task(storage.replace_tail("s", after=1, messages=new)))
            await prepared.wait()
            its.before("sessions", "update_one", open_it)

        async def open_it() -> None:
            may_open.set()
            await tasks[0]

        its.after("sessions", "aggregate", prepare)
        with pytest.raises(ConflictError):
            await other.replace_tail("s", after=3, messages=[message_record("new1")])
        assert await ids(other) == ["m1", "new1", "new2"]


async def test_many_replacements_at_once_all_end(place: MongoPlace) -> None:
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(place.storage()) for _ in range(16)]
        await begin(writers[0])
        began = time.monotonic()
        receipts = await asyncio.gather(
            *(one.replace_tail("s", after=1, messages=[message_record(f"new{n}")]) for n, one in enumerate(writers))
        )
        assert time.monotonic() - began < 15
        removed = [message.message_id for receipt in receipts for message in receipt.removed]
        assert sorted([*await ids(writers[0]), *removed]) == sorted(["m1", "m2", "m3", *(f"new{n}" for n in range(16))])


@pytest.mark.parametrize("expects", [True, False])
@pytest.mark.parametrize("moment", ["at the end", *(name for name in MOMENTS if name != "before the end")])
async def test_an_update_during_a_replacement_is_known_or_refused(
    place: MongoPlace, late: Late, other: MongoDBStorage, moment: str, *, expects: bool
) -> None:
    """The update is noted; the tail is read; the batch is changed while it is replaced; the update ends afterwards."""
    storage, moments = late
    await begin(storage)
    payload, old = json_payload({"content": "new"}), message_record("m2").payload
    noted, changed, may_change, may_end = (asyncio.Event() for _ in range(4))

    async def pause(reached: asyncio.Event, may_go_on: asyncio.Event) -> None:
        reached.set()
        await may_go_on.wait()

    async with place.interrupted() as (updating, moments_of_update):
        moments_of_update.after("sessions", "update_one", lambda: pause(noted, may_change))
        moments_of_update.after("messages", "update_one", lambda: pause(changed, may_end))
        update = asyncio.create_task(updating.update_message("s", 2, payload=payload, expected=old))
        await noted.wait()

        async def change() -> None:
            may_change.set()
            await changed.wait()

        async def replace(name: str) -> TailReceipt:
            header = await other.find_session("s")
            assert header is not None
            seen, expected = await other.read_messages("s", MessageRange(after=1)), header.last_change
            if moment == "at the end" and name == "late":
                await change()
            receipt = await storage.replace_tail(
                "s", after=1, messages=[message_record(name)], expected_change=expected if expects else None
            )
            if expects:
                assert receipt.removed == seen
            return receipt

        if moment != "at the end":
            MOMENTS[moment](moments, change)
        try:
            receipt = await replace("late")
        except ConflictError:
            receipt = await replace("again")
        may_change.set()
        may_end.set()
        await asyncio.wait([update])
    removed = {message.payload for message in receipt.removed}
    assert (payload in removed, payload in await payloads(other)) == (update.exception() is None, False)
    assert update.exception() is None or isinstance(update.exception(), ConflictError)
