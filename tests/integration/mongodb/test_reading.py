"""How often a read asks the server."""

from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb_driver import Document
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.testing.builders import message_records, session_record


@pytest.mark.parametrize("limit", [None, 4, 2])
async def test_a_session_that_was_truncated_is_read_once_each_time(
    storages: list[MongoDBStorage], monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    storage, *_ = storages
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(4))
    await storage.truncate_messages("s", after=3)
    await storage.append_messages("s", message_records(2, prefix="new"))
    messages = storage._store.messages._store.messages
    find, count = messages.find, 0

    async def counted(*args: Any, **options: Any) -> list[Document]:
        nonlocal count
        count += 1
        return await find(*args, **options)

    monkeypatch.setattr(messages, "find", counted)
    for reads in (1, 2, 3):
        found = await storage.read_messages("s", MessageRange(limit=limit, newest=limit is not None))
        assert [message.message_id for message in found] == ["m1", "m2", "m3", "new1", "new2"][
            -(limit or 5) :
        ]
        assert count == reads
