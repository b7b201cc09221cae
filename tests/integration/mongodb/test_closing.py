"""What changes a session closes its history first; who remembers where it went on comes too late then."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from luminoracore_sdk.adapters.storage.mongodb.closing import close

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb import append as mongodb_append
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange
from luminoracore_sdk.domain.errors import SessionNotFoundError
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace, ids

_TAIL = MessageRange(limit=2, newest=True)


async def give_ttl(storage: MongoDBStorage) -> None:
    await storage.put_session(session_record(ttl_us=3_000_000))


async def put_again(storage: MongoDBStorage) -> None:
    await storage.delete_session("s")
    await storage.put_session(session_record())


CHANGES: dict[str, tuple[Callable[[MongoDBStorage], Awaitable[object]], list[str] | None]] = {
    "truncated": (lambda storage: storage.truncate_messages("s", after=2), ["m1", "m2"]),
    "emptied": (lambda storage: storage.truncate_messages("s", after=0), []),
    "deleted": (lambda storage: storage.delete_session("s"), None),
    "put again": (put_again, []),
    "given a time to live": (give_ttl, ["m1", "m2", "m3"]),
}


async def hinted(*storages: MongoDBStorage) -> None:
    """Make a session of three messages; each storage remembers where it went on behind one of its own."""
    await storages[0].put_session(session_record())
    for number, storage in enumerate(storages, start=1):
        await storage.append_messages("s", message_records(3, prefix="m" if number == 1 else f"{number}-"))


def just_before_the_insert(
    monkeypatch: pytest.MonkeyPatch, storage: MongoDBStorage, change: Callable[[], Awaitable[object]]
) -> None:
    messages = storage._store.appends._store.messages
    insert = messages.insert

    async def late(document: Document) -> None:
        monkeypatch.setattr(messages, "insert", insert)
        await change()
        await insert(document)

    monkeypatch.setattr(messages, "insert", late)


@pytest.mark.parametrize("change", CHANGES)
async def test_an_append_whose_insert_comes_after_a_change_counts_in_what_the_change_has_left(
    place: MongoPlace, storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    writer, other, *_ = storages
    make, left = CHANGES[change]
    await hinted(writer)
    just_before_the_insert(monkeypatch, writer, lambda: make(other))
    if left is None:
        with pytest.raises(SessionNotFoundError):
            await writer.append_messages("s", [message_record("late")])
        assert place.database["messages"].count_documents({"items": {"$ne": []}}) == 0
        return
    receipt = await writer.append_messages("s", [message_record("late")])
    assert receipt == AppendReceipt(first_position=len(left) + 1, last_position=len(left) + 1)
    assert await ids(other) == [*left, "late"]
    assert await ids(writer) == [*left, "late"]


@pytest.mark.parametrize("change", ["deleted", "put again"])
@pytest.mark.parametrize("cut", [None, 5, 4, 2])
async def test_a_writer_whom_others_followed_finds_its_place_taken_when_all_is_deleted(
    place: MongoPlace, storages: list[MongoDBStorage], change: str, cut: int | None
) -> None:
    first, second, third, _ = storages
    make, left = CHANGES[change]
    await hinted(first, second, third)
    if cut is not None:
        await third.truncate_messages("s", after=cut)
    await make(third)
    place.clock.advance(30)
    for number, writer in enumerate((first, second)):
        message = [message_record(f"late{number}")]
        if left is None:
            with pytest.raises(SessionNotFoundError):
                await writer.append_messages("s", message)
            assert place.database["messages"].count_documents({"items": {"$ne": []}}) == 0
        else:
            receipt = await writer.append_messages("s", message)
            assert receipt == AppendReceipt(first_position=number + 1, last_position=number + 1)
    place.clock.advance(24 * 3600)
    await third.purge_expired()
    assert place.database["messages"].count_documents({}) == (0 if left is None else 2)


async def test_a_session_that_was_given_a_time_to_live_is_prolonged_by_those_who_do_not_know(
    place: MongoPlace, storages: list[MongoDBStorage]
) -> None:
    writer, other, reader, _ = storages
    await hinted(writer)
    await reader.read_messages("s", _TAIL)
    await give_ttl(other)
    place.clock.advance(2)
    await writer.append_messages("s", [message_record("m4")])
    place.clock.advance(2)
    assert len(await ids(reader)) == 4
    place.clock.advance(2)
    for storage in (writer, reader):
        with pytest.raises(SessionNotFoundError):
            await storage.read_messages("s", _TAIL)
        with pytest.raises(SessionNotFoundError):
            await storage.append_messages("s", [message_record("m5")])
    await other.purge_expired()
    with pytest.raises(SessionNotFoundError):
        await writer.append_messages("s", [message_record("m5")])


async def test_a_time_to_live_taken_away_and_given_again_is_kept_by_all(
    place: MongoPlace, storages: list[MongoDBStorage]
) -> None:
    writer, other, *_ = storages
    await hinted(writer)
    for number in range(4):
        await other.put_session(session_record(ttl_us=None if number % 2 else 3_000_000))
        await writer.append_messages("s", [message_record(f"{number}a")])
        await writer.append_messages("s", [message_record(f"{number}b")])
    await give_ttl(other)
    place.clock.advance(4)
    with pytest.raises(SessionNotFoundError):
        await writer.append_messages("s", [message_record("late")])


@pytest.mark.parametrize("change", CHANGES)
async def test_a_reader_who_remembers_the_history_sees_every_change(
    storages: list[MongoDBStorage], change: str
) -> None:
    reader, other, *_ = storages
    make, left = CHANGES[change]
    await hinted(other)
    for span in (MessageRange(), _TAIL):
        await reader.read_messages("s", span)
    await make(other)
    if left is None:
        with pytest.raises(SessionNotFoundError):
            await reader.read_messages("s", _TAIL)
    else:
        tail = await reader.read_messages("s", _TAIL)
        assert [message.message_id for message in tail] == left[-2:]
        assert await ids(reader) == left


async def closed_by_one_who_died(storage: MongoDBStorage, place: MongoPlace) -> None:
    place.clock.advance(5)
    header = await storage._store.sessions.header("s")
    assert header is not None
    assert await close(storage._store.appends._store, header, place.clock.now_us) is True


@pytest.mark.parametrize("messages", [0, 3])
async def test_a_history_that_somebody_closed_and_died_is_as_it_was_and_goes_on(
    place: MongoPlace, storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch, messages: int
) -> None:
    writer, other, reader, _ = storages
    monkeypatch.setattr(mongodb_append, "_CLOSING_SECONDS", 0.01)
    await writer.put_session(session_record())
    if messages:
        await writer.append_messages("s", message_records(messages))
    before = await reader.find_session("s")
    await closed_by_one_who_died(other, place)
    assert await reader.find_session("s") == before
    present = [f"m{number}" for number in range(1, messages + 1)]
    assert await ids(reader) == present
    receipt = await writer.append_messages("s", [message_record("next")], expected_last=messages)
    assert receipt == AppendReceipt(first_position=messages + 1, last_position=messages + 1)
    await other.append_messages("s", [message_record("after")])
    assert await ids(reader) == [*present, "next", "after"]
    place.clock.advance(24 * 3600)
    await other.purge_expired()
    assert await ids(reader) == [*present, "next", "after"]
    assert place.database["messages"].count_documents({"items": []}) == 0


@pytest.mark.parametrize("change", CHANGES)
async def test_a_history_that_somebody_closed_and_died_takes_every_change(
    place: MongoPlace, storages: list[MongoDBStorage], change: str
) -> None:
    writer, other, *_ = storages
    make, left = CHANGES[change]
    await hinted(writer)
    await closed_by_one_who_died(other, place)
    await make(writer)
    if left is None:
        assert await other.find_session("s") is None
    else:
        await other.append_messages("s", [message_record("next")])
        assert await ids(writer) == [*left, "next"]


async def test_a_closer_that_was_given_up_and_went_on_all_the_same_begins_again(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history is closed; others wait for long, begin a new one and append; only then comes the change."""
    closer, other, *_ = storages
    monkeypatch.setattr(mongodb_append, "_CLOSING_SECONDS", 0)
    await hinted(other)
    sessions = closer._store.messages._store.sessions
    update = sessions.update

    async def late(*args: Any, **options: Any) -> bool:
        monkeypatch.setattr(sessions, "update", update)
        await other.append_messages("s", [message_record("m4")])
        return await update(*args, **options)

    monkeypatch.setattr(sessions, "update", late)
    assert await closer.truncate_messages("s", after=1) == 3
    assert await ids(other) == ["m1"]


async def test_a_hint_that_is_a_minute_old_is_not_used(place: MongoPlace, storages: list[MongoDBStorage]) -> None:
    """A day later nothing keeps the positions of a deleted session taken any more."""
    writer, other, *_ = storages
    await hinted(writer)
    await other.delete_session("s")
    place.clock.advance(24 * 3600)
    await other.purge_expired()
    assert place.database["messages"].count_documents({}) == 0
    with pytest.raises(SessionNotFoundError):
        await writer.append_messages("s", [message_record("late")])
    assert place.database["messages"].count_documents({}) == 0


async def test_a_closer_comes_through_while_others_append_all_the_time(
    storages: list[MongoDBStorage],
) -> None:
    closer, *writers = storages
    await hinted(*writers)
    is_over = False

    async def append_on(number: int, writer: MongoDBStorage) -> list[str]:
        appended = list[str]()
        while not is_over:
            message_id = f"{number}-{len(appended)}"
            await writer.append_messages("s", [message_record(message_id)])
            appended.append(message_id)
        return appended

    appending = [asyncio.ensure_future(append_on(*numbered)) for numbered in enumerate(writers)]
    try:
        for after in (5, 3, 4, 2):
            await closer.truncate_messages("s", after=after)
            while len(await ids(closer)) < 10:  # noqa: ASYNC110  # all have to come in again
                await asyncio.sleep(0)
    finally:
        is_over = True
        appended = await asyncio.gather(*appending)
    present = await ids(closer)
    for mine in appended:
        assert mine[-1] in present
        assert [one for one in present if one in set(mine)] == [one for one in mine if one in set(present)]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_group_whose_insert_comes_after_a_change_counts_in_what_the_change_has_left(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    writer, other, *_ = storages
    make, left = CHANGES[change]
    await hinted(writer)
    for name in ("x", "y", "z"):
        await writer.put_session(session_record(name))
    messages = writer._store.appends._store.messages
    insert_all = messages.insert_all

    async def late(documents: list[Document]) -> set[int]:
        monkeypatch.setattr(messages, "insert_all", insert_all)
        await make(other)
        return await insert_all(documents)

    monkeypatch.setattr(messages, "insert_all", late)
    outcomes = await asyncio.gather(
        *(writer.append_messages(name, [message_record("late")]) for name in ("x", "y", "z", "s")),
        return_exceptions=True,
    )
    assert outcomes[:3] == [AppendReceipt(first_position=1, last_position=1)] * 3
    if left is None:
        assert isinstance(outcomes[3], SessionNotFoundError)
    else:
        assert outcomes[3] == AppendReceipt(first_position=len(left) + 1, last_position=len(left) + 1)
        assert await ids(other) == [*left, "late"]
