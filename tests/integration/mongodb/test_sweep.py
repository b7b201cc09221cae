"""What ``purge_expired`` takes of messages, and what it leaves to those who write meanwhile."""

from collections.abc import Mapping
from datetime import timedelta

import pytest
from bson import ObjectId

from luminoracore_sdk.adapters.storage import mongodb_sweep
from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb_driver import Document
from luminoracore_sdk.adapters.storage.mongodb_schema import Collections
from luminoracore_sdk.testing.builders import message_records, session_record
from tests.support.mongodb import MongoPlace, ids


async def test_what_truncations_hid_is_removed_and_what_counts_stays(
    place: MongoPlace, storages: list[MongoDBStorage]
) -> None:
    storage, *_ = storages
    left = {}
    for number in range(250):  # more than are looked at together
        session_id = f"{number:03}"
        await storage.put_session(session_record(session_id))
        await storage.append_messages(session_id, message_records(2, prefix="a"))
        if number % 5 == 0:
            await storage.append_messages(session_id, message_records(2, prefix="b"))
            after = number % 4
            await storage.truncate_messages(session_id, after=after)
            await storage.append_messages(session_id, message_records(1, prefix="c"))
            left[session_id] = 1 + (after + 1) // 2  # batches, one of them cut
    hidden = place.database["messages"].count_documents({"items": [], "closed": {"$exists": False}})
    assert hidden == 50 * 2 - (sum(left.values()) - 50)
    assert place.database["messages"].count_documents({"closed": {"$exists": True}}) == 50
    place.clock.advance(24 * 3600)
    await storage.purge_expired()
    assert place.database["messages"].count_documents({"items": []}) == 0
    stored = {name: place.database["messages"].count_documents({"s": name}) for name in left}
    assert stored == left
    assert place.database["messages"].count_documents({}) == 200 + sum(left.values())


async def test_a_history_that_begins_during_a_purge_stays_whatever_its_writers_clock_says(
    place: MongoPlace, storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The headers are read; a truncation begins a history and an append goes there; then comes the rest."""
    purging, other, *_ = storages
    await other.put_session(session_record())
    await other.append_messages("s", message_records(4))
    headers = mongodb_sweep._headers

    async def overtaken(store: Collections, sessions: Mapping[ObjectId, str]) -> list[Document]:
        found = await headers(store, sessions)
        monkeypatch.undo()
        now = place.clock.now()
        place.clock.set(now - timedelta(hours=2))
        await other.truncate_messages("s", after=2)
        await other.append_messages("s", message_records(2, prefix="new"))
        place.clock.set(now)
        return found

    monkeypatch.setattr(mongodb_sweep, "_headers", overtaken)
    await purging.purge_expired()
    assert await ids(other) == ["m1", "m2", "new1", "new2"]
