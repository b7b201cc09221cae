"""The SQLite backend: one file, safe between tasks, threads and processes."""

import json
import sqlite3
from collections.abc import Sequence

import attrs

from luminoracore_sdk.adapters.storage.base import replay_receipt
from luminoracore_sdk.adapters.storage.sqlite.errors import is_duplicate
from luminoracore_sdk.adapters.storage.sqlite.file import transaction, under_lock
from luminoracore_sdk.adapters.storage.sqlite.messages import message_records
from luminoracore_sdk.adapters.storage.sqlite.rewriting import SQLiteRewriting
from luminoracore_sdk.adapters.storage.sqlite.rows import (
    append_values,
    clamped,
    memory_record,
    memory_values,
    query_values,
    session_record,
    session_values,
    without_gaps,
)
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Purged,
    SessionQuery,
    SessionRecord,
)

__all__ = ["SQLiteStorage"]

_NO_BOUND = 2**63 - 1
_NO_LIMIT = -1


class SQLiteStorage(SQLiteRewriting):
    """Keeps everything in one SQLite file, in write-ahead mode.

    Every acknowledged write is on the disk (with ``synchronous="FULL"``). An append is one statement
    and costs the same whatever the history holds. Any number of processes may use one file on a
    local disk; writers wait for each other, readers for nobody. Records carry a checksum, so that a
    flipped bit raises ``CorruptRecordError`` instead of being read.

    Belongs to the event loop it was opened on. Needs the ``sqlite`` extra.

    Args:
        path: The file, made when it is missing (mode 0600; folders above it 0700). Not ``:memory:``,
            which ``InMemoryStorage`` is for.
        clock: Tells the time; the computer's own when None.
        busy_timeout: Seconds to wait for another process's write before ``StorageBusyError``.
        synchronous: SQLite's pragma. With NORMAL or OFF, a power cut may take the last acknowledged
            writes away; the end of the process does not.
        table_prefix: Begins the names of the tables, so that the file may hold others.
        auto_create: Whether to make file and tables; if not, ``SchemaVersionError`` when missing.

    Raises:
        ConfigurationError: An option that cannot work; on opening, a folder at the path.
        MissingDependencyError: The extra is not installed.
    """

    async def _ping(self) -> None:
        await self._schema_version()

    async def _schema_version(self) -> int:
        return await self._read(lambda connection: self._layout.stored_version(connection, self._sql))

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        given = session_values(record)

        def work(connection: sqlite3.Connection) -> SessionRecord:
            with transaction(connection):
                created_at_us, version, active_at_us, last = record.created_at_us or now_us, 0, 0, 0
                if before := self._standing(connection, record.session_id, now_us):
                    created_at_us, version, active_at_us, last = before
                if expected_version not in (None, version):
                    raise self._version_conflict(record.session_id, expected_version, version)
                if before:
                    self._sql.update_session.change(connection, now=now_us, **given)
                else:
                    self._drop(connection, record.session_id)  # what an expired one left
                    self._sql.insert_session.change(connection, now=now_us, created=created_at_us, **given)
            return attrs.evolve(
                record,
                created_at_us=created_at_us,
                updated_at_us=max(active_at_us, now_us),
                version=version + 1,
                last_position=last,
            )

        return await self._write(work)

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        def work(connection: sqlite3.Connection) -> SessionRecord | None:
            row = self._sql.header.row(connection, session=session_id, now=now_us)
            return session_record(row) if row else None

        return await self._read(work)

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                there = self._standing(connection, session_id, now_us) is not None
                self._drop(connection, session_id)
                return there

        return await self._write(work)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        def work(connection: sqlite3.Connection) -> Page:
            listing = self._sql.listing(query)
            rows = listing.rows(connection, now=now_us, count=query.limit + 1, **query_values(query))
            found = [session_record(row, with_payload=False) for row in rows[: query.limit]]
            more = len(rows) > query.limit
            cursor = (found[-1].created_at_us, found[-1].session_id) if more else None
            return Page(sessions=tuple(found), next_cursor=cursor)

        return await self._read(work)

    def _standing(
        self, connection: sqlite3.Connection, session_id: str, now_us: int
    ) -> tuple[int, int, int, int] | None:
        """Return creation time, version, last activity and last position of a live session, or None."""
        row = self._sql.standing.row(connection, session=session_id, now=now_us)
        return (row[0], row[1], row[2], row[3]) if row else None

    def _existing(self, connection: sqlite3.Connection, session_id: str, now_us: int) -> tuple[int, int, int, int]:
        standing = self._standing(connection, session_id, now_us)
        if standing is None:
            raise self._not_found(session_id)
        return standing

    def _drop(self, connection: sqlite3.Connection, session_id: str) -> None:
        """Delete a session, expired or not; its messages go with it by their foreign key."""
        self._sql.drop_memories.change(connection, kind="session", owner=session_id)
        self._sql.delete_session.change(connection, session=session_id)

    # -- messages --------------------------------------------------------------------------------

    async def _append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        expected_last: int | None,
        now_us: int,
    ) -> AppendReceipt:
        append = self._sql.append(len(messages), conditional=expected_last is not None)
        given = append_values(session_id, messages)
        given.update(now=now_us, expected=expected_last)

        def work(connection: sqlite3.Connection) -> AppendReceipt:
            try:
                positions = [row[0] for row in append.rows(connection, **given)]
            except sqlite3.IntegrityError as exc:
                if not is_duplicate(exc):
                    raise
                positions = []
            if not positions:
                with under_lock(connection):  # where the reason cannot go away
                    if receipt := self._refused(connection, session_id, messages, expected_last, now_us):
                        return receipt
                    positions = [row[0] for row in append.rows(connection, **given)]
            return AppendReceipt(first_position=min(positions), last_position=max(positions))

        size_bytes = sum(len(message.payload.data) for message in messages)
        return await self._write_with_others(work, messages=len(messages), size_bytes=size_bytes)

    def _refused(
        self,
        connection: sqlite3.Connection,
        session_id: str,
        messages: Sequence[MessageRecord],
        expected_last: int | None,
        now_us: int,
    ) -> AppendReceipt | None:
        """Find out why an append wrote nothing; None: the reason is gone.

        Returns:
            The first receipt, if it was a repetition.
        """
        *_, last = self._existing(connection, session_id, now_us)
        ids = json.dumps([message.message_id for message in messages])
        rows = self._sql.known.rows(connection, session=session_id, ids=ids)
        stored = {str(row[0], "utf-8"): row[1] for row in rows if row[1] is not None}
        if receipt := replay_receipt(self.backend_name, messages, stored):
            return receipt
        if expected_last not in (None, last):
            raise self._position_conflict(session_id, expected_last, last)
        return None

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        read = self._sql.read_newest if span.newest and span.limit is not None else self._sql.read_oldest
        given = {
            "session": session_id,
            "now": now_us,
            "after": clamped(span.after),
            "before": _NO_BOUND if span.before is None else clamped(span.before),
            # one row tells that the session is there, even if none is wanted
            "count": _NO_LIMIT if span.limit is None else clamped(max(span.limit, 1)),
        }

        def work(connection: sqlite3.Connection) -> list[MessageRecord]:
            rows = read.rows(connection, **given)
            if not rows:
                raise self._not_found(session_id)
            # a session with nothing in the range is one row without a message
            found = message_records(session_id, [row for row in rows[: span.limit] if row[0] is not None])
            if read is self._sql.read_newest:
                found.reverse()
            return without_gaps(session_id, found)

        return await self._read(work)

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                self._existing(connection, session_id, now_us)
                removed = self._sql.truncate.change(connection, session=session_id, after=clamped(after))
                self._sql.touch.change(connection, session=session_id, now=now_us)
                return removed

        return await self._write(work)

    # -- memory ----------------------------------------------------------------------------------

    async def _put_memory(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        scope = record.scope
        place = {"kind": scope.kind, "owner": scope.owner_id, "name": record.key}

        def work(connection: sqlite3.Connection) -> MemoryRecord:
            with transaction(connection):
                if scope.kind == "session":
                    self._existing(connection, scope.owner_id, now_us)
                [(created_at_us,)] = self._sql.put_memory.rows(
                    connection,
                    created_at_us=record.created_at_us or now_us,
                    updated_at_us=now_us,
                    **memory_values(record),
                )
                if max_entries is not None:
                    self._sql.drop_gone.change(connection, now=now_us, **place)
                    self._sql.evict.change(connection, others=clamped(max_entries - 1), **place)
            return attrs.evolve(record, created_at_us=created_at_us, updated_at_us=now_us)

        return await self._write(work)

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        def work(connection: sqlite3.Connection) -> MemoryRecord | None:
            row = self._sql.memory.row(connection, kind=scope.kind, owner=scope.owner_id, name=key, now=now_us)
            return memory_record(scope, row) if row else None

        return await self._read(work)

    async def _list_memories(self, scope: MemoryScope, now_us: int) -> list[MemoryRecord]:
        def work(connection: sqlite3.Connection) -> list[MemoryRecord]:
            rows = self._sql.list_memories.rows(connection, kind=scope.kind, owner=scope.owner_id, now=now_us)
            return [memory_record(scope, row) for row in rows]

        return await self._read(work)

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        given = {"kind": scope.kind, "owner": scope.owner_id, "name": key, "now": now_us}
        delete = self._sql.delete_memory
        return await self._write(lambda connection: delete.change(connection, **given) > 0)

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        given = {"kind": scope.kind, "owner": scope.owner_id, "now": now_us}
        return await self._write(lambda connection: self._sql.clear_memories.change(connection, **given))

    async def _purge_expired(self, now_us: int) -> Purged:
        def work(connection: sqlite3.Connection) -> Purged:
            with transaction(connection):
                expired = self._sql.expired.rows(connection, now=now_us)
                for row in expired:
                    self._drop(connection, str(row[0], "utf-8"))
                memories = self._sql.drop_expired.change(connection, now=now_us)
                return Purged(sessions=len(expired), memories=memories)

        return await self._write(work)
