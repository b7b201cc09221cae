"""What is remembered for too long does not count; who gives a time to live closes the history first."""

import asyncio
import time
from typing import Any

import pytest
from bson import ObjectId
from luminoracore_sdk.adapters.storage.mongodb.hints import Hint, Hints

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb import hints as mongodb_hints
from luminoracore_sdk.adapters.storage.mongodb.documents import End
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.domain.errors import SessionNotFoundError
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace


@pytest.mark.parametrize(("seconds", "storage_seconds", "is_good"), [(0, 59, True), (61, 0, False), (0, 60, False)])
async def test_a_hint_is_good_for_a_minute_by_both_clocks(seconds: int, storage_seconds: int, *, is_good: bool) -> None:
    hints, end = Hints(), End(ObjectId(), ObjectId(), 3)
    hints.put("s", Hint(end, None, time.monotonic() - seconds, 0))
    assert (hints.take("s", storage_seconds * 1_000_000) is not None) is is_good


async def test_a_group_whose_answer_comes_too_late_looks_at_the_headers(
    place: MongoPlace, storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its session was deleted, and what kept its position taken is gone by now."""
    writer, *_ = storages
    for name in ("s", "x", "y", "z"):
        await writer.put_session(session_record(name))
    await writer.append_messages("s", message_records(3))
    messages = writer._store.appends._store.messages
    insert_all = messages.insert_all

    async def slow(documents: list[Document]) -> set[int]:
        place.database["sessions"].delete_one({"_id": "s"})
        refused = await insert_all(documents)
        monkeypatch.setattr(mongodb_hints, "_SECONDS", 0)
        return refused

    monkeypatch.setattr(messages, "insert_all", slow)
    outcomes = await asyncio.gather(
        *(writer.append_messages(name, [message_record("late")]) for name in ("x", "y", "z", "s")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[3], SessionNotFoundError)
    assert mongodb_hints._SECONDS == 0


async def test_a_reader_whose_answer_comes_too_late_looks_at_the_header(
    place: MongoPlace, storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, *_ = storages
    await reader.put_session(session_record())
    await reader.append_messages("s", message_records(3))
    tail = MessageRange(limit=2, newest=True)
    await reader.read_messages("s", tail)
    messages = reader._store.messages._store.messages
    find = messages.find

    async def slow(*args: Any, **options: Any) -> list[Document]:
        place.database["sessions"].delete_one({"_id": "s"})
        found = await find(*args, **options)
        monkeypatch.setattr(mongodb_hints, "_SECONDS", 0)
        return found

    monkeypatch.setattr(messages, "find", slow)
    with pytest.raises(SessionNotFoundError):
        await reader.read_messages("s", tail)
    assert mongodb_hints._SECONDS == 0


async def test_who_changes_a_time_to_live_that_is_taken_away_meanwhile_closes_the_history(
    place: MongoPlace, storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, other, *_ = storages
    await writer.put_session(session_record(ttl_us=3_000_000))
    before = place.database["sessions"].find_one({"_id": "s"}) or {}
    sessions = writer._store.messages._store.sessions
    update = sessions.find_and_update

    async def late(*args: Any, **options: Any) -> Document | None:
        monkeypatch.setattr(sessions, "find_and_update", update)
        await other.put_session(session_record())
        return await update(*args, **options)

    monkeypatch.setattr(sessions, "find_and_update", late)
    await writer.put_session(session_record(ttl_us=5_000_000))
    after = place.database["sessions"].find_one({"_id": "s"}) or {}
    assert after["ttl"] == 5_000_000
    assert after["open"] != before["open"]
