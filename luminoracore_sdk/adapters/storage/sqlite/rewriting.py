"""Replacing payloads in SQLite: each record is read and written under the lock of one transaction."""

import json
import sqlite3
from collections.abc import Sequence

import attrs

from luminoracore_sdk.adapters.storage.sqlite.base import SQLiteBase
from luminoracore_sdk.adapters.storage.sqlite.file import transaction
from luminoracore_sdk.adapters.storage.sqlite.rows import (
    memory_record,
    message_record,
    rewritten_memory,
    rewritten_message,
    rewritten_session,
    session_record,
)
from luminoracore_sdk.application.ports.records import MemoryScope, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite

__all__ = ["SQLiteRewriting"]


class SQLiteRewriting(SQLiteBase):
    """The primitives that replace payloads.

    A row's checksum covers its other columns too, so it is made from the whole record; a row that is
    damaged raises ``CorruptRecordError`` instead of getting a checksum that fits.
    """

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                row = self._sql.header.row(connection, session=session_id, now=now_us)
                record = session_record(row) if row else None
                if record is None or record.payload != old:
                    return False
                rewritten = rewritten_session(attrs.evolve(record, payload=new))
                return self._rewriting.session.change(connection, **rewritten) == 1

        return await self._write(work)

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        wanted = {change.position: change for change in changes}

        def work(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                if self._sql.standing.row(connection, session=session_id, now=now_us) is None:
                    return 0
                places = json.dumps(sorted(wanted))
                rows = self._rewriting.messages_at.rows(connection, session=session_id, places=places)
                messages = [message_record(session_id, row) for row in rows]
                fitting = [message for message in messages if wanted[message.position].fits(message)]
                rewritten = [
                    rewritten_message(session_id, attrs.evolve(message, payload=wanted[message.position].new))
                    for message in fitting
                ]
                return self._rewriting.message.change_each(connection, rewritten)

        return await self._write(work)

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        place = {"kind": scope.kind, "owner": scope.owner_id, "name": key}

        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                row = self._sql.memory.row(connection, now=now_us, **place)
                record = memory_record(scope, row) if row else None
                if record is None or record.payload != old:
                    return False
                rewritten = rewritten_memory(attrs.evolve(record, payload=new))
                return self._rewriting.memory.change(connection, **rewritten) == 1

        return await self._write(work)
