"""Storages with one fault each, to see that the tools which look for faults find them."""

import asyncio
from collections.abc import Sequence

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord


class TornTurns(SQLiteStorage):
    """Writes a batch message by message."""

    async def append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], *, expected_last: int | None = None
    ) -> AppendReceipt:
        receipts = []
        for message in messages:
            receipts.append(await super().append_messages(session_id, [message]))
            await asyncio.sleep(0.005)  # so that nearly every kill comes between
        return AppendReceipt(first_position=receipts[0].first_position, last_position=receipts[-1].last_position)


class LostTurns(SQLiteStorage):
    """Says of every second turn that it is stored, and does not store it."""

    async def append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], *, expected_last: int | None = None
    ) -> AppendReceipt:
        if messages[0].message_id.split("-")[1] in "2468":
            return AppendReceipt(first_position=1, last_position=2)
        return await super().append_messages(session_id, messages, expected_last=expected_last)
