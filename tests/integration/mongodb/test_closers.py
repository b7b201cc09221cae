"""Who closes a history comes through, and is not waited for without end."""

import asyncio
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.mongodb_closing import close
from luminoracore_sdk.adapters.storage.mongodb_driver import Document
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import StorageBusyError
from luminoracore_sdk.testing.builders import message_record, message_records, session_record
from tests.support.mongodb import MongoPlace, ids


async def test_appends_that_may_not_wait_for_a_closer_wait_together(place: MongoPlace) -> None:
    """Each of them gives up sooner than one who closed and died is given up."""
    async with place.storage(timeout=0.3) as writer, place.storage() as other:
        await writer.put_session(session_record())
        await writer.append_messages("s", message_records(3))
        header = await other._store.sessions.header("s")
        assert header is not None
        assert await close(other._store.appends._store, header, place.clock.now_us) is True
        refused, receipt = 0, None
        while receipt is None and refused < 20:
            try:
                receipt = await writer.append_messages("s", [message_record("next")])
            except StorageBusyError:
                refused += 1
        assert receipt == AppendReceipt(first_position=4, last_position=4)
        assert refused > 0
        assert await ids(other) == ["m1", "m2", "m3", "next"]
