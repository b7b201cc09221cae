"""Replacing payloads in SQLite: each record is read and written under the lock of one transaction."""

import json
import sqlite3
from collections.abc import Sequence

import attrs

from luminoracore_sdk.adapters.storage.sqlite_base import SQLiteBase
from luminoracore_sdk.adapters.storage.sqlite_file import transaction
from luminoracore_sdk.adapters.storage.sqlite_rows import (
    memory_record,
    message_record,
    recoded_memory,
    recoded_message,
    recoded_session,
    session_record,
)
from luminoracore_sdk.application.ports.recoding import PayloadChange
from luminoracore_sdk.application.ports.records import MemoryScope, Payload

__all__ = ["SQLiteRecoding"]


class SQLiteRecoding(SQLiteBase):
    """The primitives that replace payloads.

    A row's checksum covers its other columns too, so it is made from the whole record; a row that is
    damaged raises ``CorruptRecordError`` instead of getting a checksum that fits.
    """

    async def _recode_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                row = self._sql.header.row(connection, session=session_id, now=now_us)
                record = session_record(row) if row else None
                if record is None or record.payload != old:
                    return False
                recoded = recoded_session(attrs.evolve(record, payload=new))
                return self._recoding.session.change(connection, **recoded) == 1

        return await self._write(work)

    async def _recode_messages(self, session_id: str, changes: Sequence[PayloadChange], now_us: int) -> int:
        wanted = {change.position: change for change in changes}

        def work(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                if self._sql.standing.row(connection, session=session_id, now=now_us) is None:
                    return 0
                places = json.dumps(sorted(wanted))
                rows = self._recoding.messages_at.rows(connection, session=session_id, places=places)
                messages = [message_record(session_id, row) for row in rows]
                fitting = [message for message in messages if wanted[message.position].fits(message)]
                recoded = [
                    recoded_message(session_id, attrs.evolve(message, payload=wanted[message.position].new))
                    for message in fitting
                ]
                return self._recoding.message.change_each(connection, recoded)

        return await self._write(work)

    async def _recode_memory(
        self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int
    ) -> bool:
        place = {"kind": scope.kind, "owner": scope.owner_id, "name": key}

        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                row = self._sql.memory.row(connection, now=now_us, **place)
                record = memory_record(scope, row) if row else None
                if record is None or record.payload != old:
                    return False
                recoded = recoded_memory(attrs.evolve(record, payload=new))
                return self._recoding.memory.change(connection, **recoded) == 1

        return await self._write(work)
