"""The SQLite backend: one file, safe between tasks and processes."""

import asyncio
import json
import math
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar, cast

import attrs

from luminoracore_sdk.adapters.storage.base import (
    Append,
    BaseStorage,
    MemoryChange,
    MessageUpdate,
    Tail,
    check_fence,
    check_fork,
    granted,
    key_bounds,
    memory_conflict,
    replay_receipt,
)
from luminoracore_sdk.adapters.storage.group_commit import GroupCommit
from luminoracore_sdk.adapters.storage.sql import DEFAULT_PREFIX, narrowed, without_texts
from luminoracore_sdk.adapters.storage.sqlite.connection import (
    SQLiteConnection,
    change,
    change_many,
    fetch,
    fetch_row,
    snapshot,
    transaction,
)
from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND, Translation
from luminoracore_sdk.adapters.storage.sqlite.migrate import Database, load, stored_version
from luminoracore_sdk.adapters.storage.sqlite.rows import (
    activity_values,
    damaged,
    folded,
    history,
    history_values,
    index_records,
    index_value,
    indexes_of_range,
    light_records,
    listed_records,
    memory_owner,
    memory_owners,
    memory_page_values,
    memory_record,
    memory_values,
    message_records,
    message_seed,
    message_values,
    messages_of_range,
    query_values,
    range_values,
    session_record,
    session_values,
    summary,
    summary_value,
    turn_record,
)
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    HeaderTexts,
    HistoryChange,
    IndexRecord,
    IndexRewrite,
    Lease,
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    RewriteMessage,
    SessionQuery,
    SessionRecord,
    SessionSummary,
    TailReceipt,
    TurnRecords,
    noted,
    with_indexes,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    LuminoraCoreSDKError,
    StorageBusyError,
    StorageClosedError,
    StorageUnavailableError,
)

__all__ = ["SQLiteStorage", "Synchronous"]

T = TypeVar("T")

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_OLDEST_SQLITE = (3, 35, 0)  # RETURNING

_COPIED_AT_ONCE = 500
"""Messages that a fork reads at a time, if it rewrites them."""

_Outcome = AppendReceipt | list[MemoryRecord] | LuminoraCoreSDKError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05
"""Seconds between two attempts to get a lock that another process holds."""


class SQLiteStorage(BaseStorage):
    """Keep everything in one SQLite file, in write-ahead mode.

    Every acknowledged write is on the disk (with ``synchronous="FULL"``). An append costs the same whatever
    the history holds; one to a session with a card of kilobytes writes the card again. Any number of processes
    may use one file on a local disk. Within a process, all calls run in one thread, one after the other; a lock
    that another process holds delays writes only. Records have a checksum, so that a flipped bit raises
    ``CorruptRecordError`` instead of being read.

    Bound to the event loop on which it was opened. After a fork, create a new storage in the child process.
    Creating a file needs the ``sqlite`` extra.

    Args:
        path: The file, created when it is missing (mode 0600; folders above it 0700). Not ``:memory:``, for
            which there is ``InMemoryStorage``.
        clock: Tells the time; the system clock when None.
        busy_timeout: Seconds to wait for another process's write before ``StorageBusyError``.
        synchronous: SQLite's pragma. With NORMAL or OFF, a power cut may undo the last acknowledged writes;
            the end of the process does not.
        table_prefix: Beginning of the names of the tables, so that the file may hold others.
        auto_create: Whether to create file and tables; if not, ``SchemaVersionError`` when they are missing.

    Raises:
        ConfigurationError: An option that cannot work; on opening, a folder at the path.
        MissingDependencyError: On opening a new file, the extra is not installed.
    """

    backend_name = BACKEND
    loop_bound = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        busy_timeout: float = 30.0,
        synchronous: Synchronous = "FULL",
        table_prefix: str = DEFAULT_PREFIX,
        auto_create: bool = True,
    ) -> None:
        super().__init__(clock=clock)
        if not (math.isfinite(busy_timeout) and busy_timeout >= 0):
            raise ConfigurationError(f"busy_timeout is a number of seconds from 0, not {busy_timeout!r}")
        if synchronous not in _SYNCHRONOUS:
            raise ConfigurationError(f"synchronous is one of {', '.join(_SYNCHRONOUS)}, not {synchronous!r}")
        if not re.fullmatch(r"[A-Za-z0-9_]{0,64}", table_prefix) or table_prefix.lower().startswith("sqlite_"):
            raise ConfigurationError(
                f"table_prefix {table_prefix!a} is refused: up to 64 letters, digits and _; not sqlite_…"
            )
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise ConfigurationError(
                f"SQLiteStorage needs SQLite 3.35 or newer; this Python has {sqlite3.sqlite_version}"
            )
        self._path = _absolute(path)
        self._translation = Translation(self._path)
        self._busy_timeout = busy_timeout
        self._database = Database(
            path=self._path,
            prefix=table_prefix,
            busy_timeout=busy_timeout,
            synchronous=synchronous,
            auto_create=auto_create,
        )
        self._sql = load(table_prefix)
        self._connection: SQLiteConnection | None = None

    async def _open(self) -> None:
        connection = SQLiteConnection(self._database.open)
        with self._translation:
            await connection.open()
        self._connection = connection
        # One request at a time, as SQLite has one writer. The queue needs no time limit: each request has one.
        self._writes: GroupCommit[Append | MemoryChange, AppendReceipt | list[MemoryRecord]] = GroupCommit(
            BACKEND,
            alone=self._write_alone,
            together=self._write_together,
            most_requests=1,
            timeout=math.inf,
        )

    async def _close(self) -> None:
        try:
            await self._writes.drain()
        finally:
            connection, self._connection = self._connection, None
            if connection is not None:
                with self._translation:
                    await connection.close()

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Return the result of a function of the connection, which runs in the connection's thread.

        A function that finds the database locked has done nothing. It is repeated, for ``busy_timeout`` seconds;
        the pauses are spent here and not in the thread, so that reads are not delayed.
        """
        deadline, pause = time.monotonic() + self._busy_timeout, _FIRST_PAUSE
        while True:
            if self._connection is None:
                raise StorageClosedError(self.backend_name)
            try:
                with self._translation:
                    return await self._connection.run(work)
            except StorageBusyError:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _ping(self) -> None:
        await self._schema_version()

    async def _schema_version(self) -> int:
        return await self._run(lambda connection: stored_version(connection, self._sql))

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        session_id, values = record.session_id, session_values(record)

        def work(connection: sqlite3.Connection) -> SessionRecord:
            with transaction(connection):
                found = self._find_live(connection, session_id, now_us)
                version = found.version if found else 0
                if expected_version not in (None, version):
                    raise self._version_conflict(session_id, expected_version, version)
                if found is None:
                    return self._create(connection, record, now_us)[0]
                _, kept = summary(session_id, found.summary)
                stored = attrs.evolve(
                    record,
                    created_at_us=found.created_at_us,
                    updated_at_us=max(found.updated_at_us, now_us),
                    version=version + 1,
                    last_position=found.last_position,
                    last_change=found.last_change,
                    summary=kept,
                )
                column = summary_value(session_id, record.card, kept)
                given = {"sid": found.sid, "updated": stored.updated_at_us, "summary": column, **values}
                change(connection, self._sql.update_session, **given)
                change(connection, self._sql.put_document, **given)
                return stored

        return await self._run(work)

    def _create(
        self, connection: sqlite3.Connection, record: SessionRecord, now_us: int, *, last: int = 0
    ) -> tuple[SessionRecord, int]:
        """Insert a header, in place of what an expired session has left; return it and its ``sid``."""
        created_at_us = record.created_at_us or now_us
        created = attrs.evolve(
            record, created_at_us=created_at_us, updated_at_us=now_us, version=1, last_position=last, last_change=0
        )
        self._remove(connection, record.session_id)
        values, column = session_values(created), summary_value(record.session_id, record.card, created.summary)
        given = {"created": created_at_us, "now": now_us, "last": last, "summary": column, **values}
        [(sid,)] = fetch(connection, self._sql.insert_session, **given)
        change(connection, self._sql.put_document, sid=sid, **values)
        return created, sid

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        def work(connection: sqlite3.Connection) -> SessionRecord | None:
            row = fetch_row(connection, self._sql.find_session, session=session_id, now=now_us)
            return session_record(row) if row else None

        return await self._run(work)

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                found = self._find_live(connection, session_id, now_us)
                self._remove(connection, session_id)
            return found is not None

        return await self._run(work)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        order = "newest" if query.newest_first else "oldest"
        order = f"active_{order}" if query.by_activity else order
        listing = self._sql[f"list_{order}"]
        listing, records = (listing, listed_records) if query.texts else (without_texts(listing), light_records)
        values = activity_values(query) if query.by_activity else query_values(query)
        given = {"now": now_us, "count": query.limit + 1, **values}
        listing = narrowed(listing, frozenset(given))

        def work(connection: sqlite3.Connection) -> Page:
            rows = fetch(connection, listing, **given)
            sessions = tuple(records(rows[: query.limit]))
            return Page(sessions=sessions, next_cursor=query.key(sessions[-1]) if len(rows) > query.limit else None)

        return await self._run(work)

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                row = fetch_row(connection, self._sql.find_session_of_turn, session=session_id, now=now_us)
                if row is None or (record := turn_record(row)).payload != old:
                    return False
                change(
                    connection, self._sql.put_document, sid=row[11], **session_values(attrs.evolve(record, payload=new))
                )
                return True

        return await self._run(work)

    async def _rewrite_texts(self, session_id: str, old: HeaderTexts, new: HeaderTexts, now_us: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                header = self._find_live(connection, session_id, now_us)
                if header is None:
                    return False
                card, stored = summary(session_id, header.summary)
                if HeaderTexts(card=card, first=stored.first, last=stored.last) != old:
                    return False
                changed = attrs.evolve(stored, first=new.first, last=new.last)
                self._put_summary(connection, session_id, header.sid, new.card, changed)
                return True

        return await self._run(work)

    def _find_live(self, connection: sqlite3.Connection, session_id: str, now_us: int) -> "_Header | None":
        row = fetch_row(connection, self._sql.find_live_session, session=session_id, now=now_us)
        return _Header(*row) if row else None

    def _existing(self, connection: sqlite3.Connection, session_id: str, now_us: int) -> "_Header":
        header = self._find_live(connection, session_id, now_us)
        if header is None:
            raise self._not_found(session_id)
        return header

    def _put_summary(
        self, connection: sqlite3.Connection, session_id: str, sid: int, card: Payload | None, changed: SessionSummary
    ) -> None:
        change(connection, self._sql.put_summary, sid=sid, summary=summary_value(session_id, card, changed))

    def _history(
        self, connection: sqlite3.Connection, session_id: str, sid: int
    ) -> tuple[tuple[HistoryChange, ...], Lease | None]:
        [(data,)] = fetch(connection, self._sql.find_history, sid=sid)
        return history(session_id, data)

    def _latest_fence(self, connection: sqlite3.Connection, session_id: str, sid: int) -> int:
        _, lease = self._history(connection, session_id, sid)
        return lease.fence if lease else 0

    def _put_history(
        self,
        connection: sqlite3.Connection,
        session_id: str,
        sid: int,
        changes: Sequence[HistoryChange],
        lease: Lease | None,
    ) -> None:
        change(connection, self._sql.put_history, sid=sid, **history_values(session_id, changes, lease))

    def _remove(self, connection: sqlite3.Connection, session_id: str) -> None:
        """Delete a session, live or expired, with all it holds."""
        change(connection, self._sql.delete_messages, session=session_id)
        change(connection, self._sql.delete_session, session=session_id)

    async def _fork_session(
        self, source_id: str, record: SessionRecord, at: int, rewrite: RewriteMessage | None, now_us: int
    ) -> SessionRecord:
        def work(connection: sqlite3.Connection) -> SessionRecord:
            with transaction(connection):
                source = self._existing(connection, source_id, now_us)
                check_fork(BACKEND, source_id, at, source.last_position)
                found = self._find_live(connection, record.session_id, now_us)
                if found:
                    raise self._version_conflict(record.session_id, 0, found.version)
                roles = self._roles(connection, source.sid, after=0, last=at)
                new = attrs.evolve(record, summary=record.summary.copied(roles))
                created, sid = self._create(connection, new, now_us, last=at)
                if rewrite is None:
                    seeds = {"seed": message_seed(source_id), "new_seed": message_seed(record.session_id)}
                    numbers = {"sid": source.sid, "new_sid": sid, "last": at}
                    copied = change(connection, self._sql.copy_messages, **numbers, **seeds)
                    if copied != at:
                        raise damaged(f"session {source_id!a}", f"it has {copied} messages up to position {at}")
                else:
                    for after in range(0, at, _COPIED_AT_ONCE):
                        span = MessageRange(after=after, before=at + 1, limit=_COPIED_AT_ONCE)
                        given = {"session": source_id, "now": now_us, **range_values(span)}
                        rows = fetch(connection, self._sql.read_messages, **given)
                        indexes = fetch(connection, self._sql.read_index, **given)
                        messages = with_indexes(
                            messages_of_range(source_id, span, rows), indexes_of_range(source_id, span, indexes)
                        )
                        messages = [rewrite(message) for message in messages]
                        self._check_batch(messages)
                        self._insert(connection, record.session_id, sid, after, messages)
                return created

        return await self._run(work)

    def _roles(self, connection: sqlite3.Connection, sid: int, *, after: int, last: int) -> list[str]:
        """Return the role of each message above a position and up to another."""
        rows = fetch(connection, self._sql.count_roles, sid=sid, after=after, last=last)
        return [role.decode() for role, number in rows for _ in range(number)]

    # -- leases ----------------------------------------------------------------------------------

    async def _acquire_lease(self, session_id: str, holder: str, ttl_us: int, now_us: int) -> Lease:
        def work(connection: sqlite3.Connection) -> Lease:
            with transaction(connection):
                sid = self._existing(connection, session_id, now_us).sid
                changes, latest = self._history(connection, session_id, sid)
                lease = granted(BACKEND, session_id, latest, holder=holder, ttl_us=ttl_us, now_us=now_us)
                self._put_history(connection, session_id, sid, changes, lease)
                return lease

        return await self._run(work)

    async def _release_lease(self, session_id: str, fence: int, now_us: int) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                header = self._find_live(connection, session_id, now_us)
                if header is None:
                    return False
                changes, lease = self._history(connection, session_id, header.sid)
                if lease is None or lease.fence != fence:
                    return False
                ended = attrs.evolve(lease, until_us=now_us)
                self._put_history(connection, session_id, header.sid, changes, ended)
                return True

        return await self._run(work)

    # -- messages --------------------------------------------------------------------------------

    async def _append_messages(self, append: Append) -> AppendReceipt:
        return cast("AppendReceipt", await self._writes.write(append))

    async def _write_alone(self, write: Append | MemoryChange) -> AppendReceipt | list[MemoryRecord]:
        [outcome] = await self._run(partial(self._write_all, [write]))
        if isinstance(outcome, LuminoraCoreSDKError):
            raise outcome
        return outcome

    async def _write_together(self, writes: Sequence[Append | MemoryChange]) -> Sequence[_Outcome | None]:
        try:
            return await self._run(partial(self._write_all, writes))
        except StorageBusyError:
            raise
        except StorageUnavailableError:  # a full disk may have room for some of them
            return [None] * len(writes)

    def _write_all(self, writes: Sequence[Append | MemoryChange], connection: sqlite3.Connection) -> list[_Outcome]:
        """Do writes in one transaction; a write that is refused does not concern the others."""
        try:
            return self._write_each(connection, writes, check_ids=False)
        except sqlite3.IntegrityError:  # the id of a message is stored already, and all was rolled back
            return self._write_each(connection, writes, check_ids=True)

    def _write_each(
        self, connection: sqlite3.Connection, writes: Sequence[Append | MemoryChange], *, check_ids: bool
    ) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        with transaction(connection):
            for write in writes:
                before = connection.total_changes
                try:
                    if isinstance(write, Append):
                        outcomes.append(self._append(connection, write, check_ids=check_ids))
                    else:
                        outcomes.append(self._change(connection, write))
                except LuminoraCoreSDKError as exc:
                    if connection.total_changes != before:  # all is rolled back
                        raise
                    outcomes.append(exc)
        return outcomes

    def _append(self, connection: sqlite3.Connection, append: Append, *, check_ids: bool) -> AppendReceipt:
        session_id, messages = append.session_id, append.messages
        header = self._existing(connection, session_id, append.now_us)
        sid, last = header.sid, header.last_position
        fence = 0 if append.fence is None else self._latest_fence(connection, session_id, sid)
        is_expected = append.expected_last in (None, last) and append.fence in (None, fence)
        if check_ids or not is_expected:
            stored = self._positions(connection, sid, messages)
            if receipt := replay_receipt(self.backend_name, messages, stored):
                return receipt
        check_fence(self.backend_name, session_id, append.fence, fence)
        if append.expected_last is not None and not is_expected:
            raise self._position_conflict(session_id, append.expected_last, last)
        given = {
            "sid": sid,
            "last": last + len(messages),
            "updated": max(header.updated_at_us, append.now_us),
            "summary": folded(session_id, header.summary, last + 1, messages),
        }
        try:
            self._insert(connection, session_id, sid, last, messages)
        except sqlite3.IntegrityError as exc:
            if not check_ids:
                raise
            raise damaged(f"session {session_id!a}", f"messages follow on its last position, {last}") from exc
        change(connection, self._sql.advance_session, **given)
        return AppendReceipt(first_position=last + 1, last_position=last + len(messages))

    def _positions(self, connection: sqlite3.Connection, sid: int, messages: Sequence[MessageRecord]) -> dict[str, int]:
        """Return the positions of those messages whose ids are stored."""
        ids = json.dumps([message.message_id for message in messages])
        rows = fetch(connection, self._sql.find_positions, sid=sid, ids=ids)
        return {message_id.decode(): position for message_id, position in rows}

    def _insert(
        self, connection: sqlite3.Connection, session_id: str, sid: int, last: int, messages: Sequence[MessageRecord]
    ) -> int:
        """Insert messages behind a position; return the position of the last one."""
        values = [message_values(session_id, sid, last + n, message) for n, message in enumerate(messages, 1)]
        change_many(connection, self._sql.insert_message, values)
        return last + len(messages)

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        given = {"session": session_id, "now": now_us, **range_values(span)}

        def work(connection: sqlite3.Connection) -> list[MessageRecord]:
            rows = fetch(connection, self._sql.read_messages, **given)
            if not rows:
                raise self._not_found(session_id)
            return messages_of_range(session_id, span, rows)

        return await self._run(work)

    async def _find_message(self, session_id: str, message_id: str, now_us: int) -> MessageRecord | None:
        def work(connection: sqlite3.Connection) -> MessageRecord | None:
            given = {"session": session_id, "message_id": message_id, "now": now_us}
            rows = fetch(connection, self._sql.find_message, **given)
            return next(iter(message_records(session_id, rows)), None)

        return await self._run(work)

    async def _replace_tail(self, tail: Tail) -> TailReceipt:
        session_id, now_us = tail.session_id, tail.now_us
        span = MessageRange(after=tail.after)

        def work(connection: sqlite3.Connection) -> TailReceipt:
            with transaction(connection):
                header = self._existing(connection, session_id, now_us)
                sid = header.sid
                stored = self._positions(connection, sid, tail.messages)
                fence = 0 if tail.fence is None else self._latest_fence(connection, session_id, sid)
                if receipt := tail.replayed(
                    self.backend_name,
                    header.last_position,
                    stored,
                    latest_change=header.last_change,
                    latest_fence=fence,
                ):
                    return receipt
                rows = fetch(connection, self._sql.read_messages, session=session_id, now=now_us, **range_values(span))
                removed = messages_of_range(session_id, span, rows)
                self._cut(connection, session_id, header, tail.after, [one.role for one in removed], tail.messages)
                last = self._insert(connection, session_id, sid, tail.after, tail.messages)
                self._end_at(connection, header, last, now_us)
                return TailReceipt(removed=removed, last_position=last)

        return await self._run(work)

    def _cut(
        self,
        connection: sqlite3.Connection,
        session_id: str,
        header: "_Header",
        after: int,
        roles: Sequence[str],
        new: Sequence[MessageRecord] = (),
    ) -> None:
        """Remove the messages above a position, which have these roles; count those that take their places."""
        sid = header.sid
        change(connection, self._sql.truncate_messages, sid=sid, after=after)
        card, stored = summary(session_id, header.summary)
        changed = (stored.cut(after, roles) if roles else stored).appended(new, after + 1)
        self._put_summary(connection, session_id, sid, card, changed)
        if roles:
            changes, lease = self._history(connection, session_id, sid)
            self._put_history(connection, session_id, sid, noted(changes, "cut", after), lease)

    def _end_at(self, connection: sqlite3.Connection, header: "_Header", last: int, now_us: int) -> None:
        updated = max(header.updated_at_us, now_us)
        change(connection, self._sql.end_session_at, sid=header.sid, last=last, updated=updated)

    async def _read_turn(self, session_id: str, newest: int, now_us: int) -> TurnRecords | None:
        span, scope = MessageRange(limit=newest, newest=True), MemoryScope("session", session_id)
        given = {"session": session_id, "owner": session_id, "now": now_us, **range_values(span)}

        def work(connection: sqlite3.Connection) -> TurnRecords | None:
            with snapshot(connection):
                header = fetch_row(connection, self._sql.find_session_of_turn, **given)
                if header is None:
                    return None
                memories = fetch(connection, self._sql.list_session_memories, **given)
                messages = fetch(connection, self._sql.read_messages, **given)
            return TurnRecords(
                session=turn_record(header),
                memories=[memory_record(scope, row) for row in memories],
                messages=messages_of_range(session_id, span, messages),
            )

        return await self._run(work)

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                header = self._existing(connection, session_id, now_us)
                last = min(header.last_position, after)
                roles = self._roles(connection, header.sid, after=last, last=header.last_position)
                self._cut(connection, session_id, header, last, roles)
                self._end_at(connection, header, last, now_us)
                return len(roles)

        return await self._run(work)

    async def _update_message(self, update: MessageUpdate) -> bool:
        session_id, message = update.session_id, update.message

        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                header = self._find_live(connection, session_id, update.now_us)
                if header is None:
                    return False
                sid = header.sid
                positions = json.dumps([message.position])
                rows = fetch(connection, self._sql.read_messages_at, sid=sid, positions=positions)
                if message.position > header.last_position or not update.fits(message_records(session_id, rows)):
                    return False
                values = message_values(session_id, sid, message.position, update.updated)
                change(connection, self._sql.rewrite_message, **values)
                change(connection, self._sql.put_index, **values)
                card, stored = summary(session_id, header.summary)
                self._put_summary(connection, session_id, sid, card, stored.updated(message.position, update.brief))
                changes, lease = self._history(connection, session_id, sid)
                self._put_history(connection, session_id, sid, noted(changes, "updated", message.position), lease)
                return True

        return await self._run(work)

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        wanted = {change.position: change for change in changes}

        def work(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                header = self._find_live(connection, session_id, now_us)
                if header is None:
                    return 0
                positions = json.dumps([position for position in wanted if position <= header.last_position])
                rows = fetch(connection, self._sql.read_messages_at, sid=header.sid, positions=positions)
                rewritten = [
                    attrs.evolve(message, payload=wanted[message.position].new)
                    for message in message_records(session_id, rows)
                    if wanted[message.position].fits(message)
                ]
                values = [message_values(session_id, header.sid, message.position, message) for message in rewritten]
                return change_many(connection, self._sql.rewrite_message, values)

        return await self._run(work)

    async def _read_index(self, session_id: str, span: MessageRange, now_us: int) -> list[IndexRecord]:
        given = {"session": session_id, "now": now_us, **range_values(span)}

        def work(connection: sqlite3.Connection) -> list[IndexRecord]:
            rows = fetch(connection, self._sql.read_index, **given)
            if not rows:
                raise self._not_found(session_id)
            return indexes_of_range(session_id, span, rows)

        return await self._run(work)

    async def _rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite], now_us: int) -> int:
        wanted = {change.position: change for change in changes}

        def work(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                header = self._find_live(connection, session_id, now_us)
                if header is None:
                    return 0
                positions = json.dumps([position for position in wanted if position <= header.last_position])
                rows = fetch(connection, self._sql.read_index_at, sid=header.sid, positions=positions)
                values = [
                    {
                        "sid": header.sid,
                        "position": record.position,
                        "index_data": index_value(record, wanted[record.position].new),
                    }
                    for record in index_records(session_id, rows)
                    if wanted[record.position].fits(record)
                ]
                return change_many(connection, self._sql.put_index, values)

        return await self._run(work)

    # -- memory ----------------------------------------------------------------------------------

    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]:
        return cast("list[MemoryRecord]", await self._writes.write(change))

    def _change(self, connection: sqlite3.Connection, change: MemoryChange) -> list[MemoryRecord]:
        scope, now_us, owner = change.scope, change.now_us, memory_owner(change.scope)
        if scope.kind == "session" and not change.puts:
            self._existing(connection, scope.owner_id, now_us)
        stored = [self._put_memory(connection, put, now_us) for put in change.puts]
        deletes = [{"owner": owner, "key": key, "now": now_us} for key in change.deletes]
        change_many(connection, self._sql[f"delete_{scope.kind}_memory"], deletes)
        if change.max_entries is not None:
            keys = json.dumps([record.key for record in stored])
            others = min(change.places(change.max_entries), 2**62)
            evict = self._sql[f"evict_{scope.kind}_memories"]
            change_many(connection, evict, [{"owner": owner, "keys": keys, "now": now_us, "others": others}])
        return stored

    def _put_memory(self, connection: sqlite3.Connection, put: MemoryPut, now_us: int) -> MemoryRecord:
        """Put one memory; the transaction is open."""
        record, scope, values = put.record, put.record.scope, memory_values(put.record)
        expected = None if put.expected_version is None else min(put.expected_version, 2**62)
        given = {"created": record.created_at_us or now_us, "now": now_us, "expected": expected, **values}
        row = fetch_row(connection, self._sql[f"put_{scope.kind}_memory"], **given)
        if row is None:
            if scope.kind == "session":
                self._existing(connection, scope.owner_id, now_us)
            found = fetch_row(connection, self._sql[f"find_{scope.kind}_memory_version"], **given)
            raise memory_conflict(BACKEND, put, found[0] if found else 0)
        created, version = row
        return attrs.evolve(record, created_at_us=created, updated_at_us=now_us, version=version)

    async def _touch_memories(
        self, scope: MemoryScope, keys: Sequence[str], expires_at_us: int | None, now_us: int
    ) -> int:
        find, rewrite = self._sql[f"find_{scope.kind}_memory"], self._sql[f"rewrite_{scope.kind}_memory"]

        def work(connection: sqlite3.Connection) -> int:
            with transaction(connection):
                rows = [fetch_row(connection, find, owner=memory_owner(scope), key=key, now=now_us) for key in keys]
                found = [memory_record(scope, row) for row in rows if row is not None]
                values = [memory_values(attrs.evolve(record, expires_at_us=expires_at_us)) for record in found]
                return change_many(connection, rewrite, values)

        return await self._run(work)

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        find = self._sql[f"find_{scope.kind}_memory"]

        def work(connection: sqlite3.Connection) -> MemoryRecord | None:
            row = fetch_row(connection, find, owner=memory_owner(scope), key=key, now=now_us)
            return memory_record(scope, row) if row else None

        return await self._run(work)

    async def _list_memories(self, scope: MemoryScope, query: MemoryQuery | None, now_us: int) -> list[MemoryRecord]:
        given: dict[str, object] = {"owner": memory_owner(scope), "now": now_us}
        if query is None:
            listing = self._sql[f"list_{scope.kind}_memories"]
        else:
            listing = self._sql[f"page_{'backwards_' if query.descending else ''}of_{scope.kind}_memories"]
            given |= memory_page_values(query)

        def work(connection: sqlite3.Connection) -> list[MemoryRecord]:
            rows = fetch(connection, listing, **given)
            read = partial(memory_record, scope, whole=query is None or query.with_payload)
            return (query or MemoryQuery()).intact(read, rows)

        return await self._run(work)

    async def _list_memory_owners(self, prefix: str, after: str | None, limit: int, now_us: int) -> list[str]:
        low, high = key_bounds(prefix, after)
        given = {"low": low, "high": high, "after": after or "", "now": now_us, "count": limit}
        return await self._run(
            lambda connection: memory_owners(fetch(connection, self._sql.list_memory_owners, **given))
        )

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        delete = self._sql[f"delete_{scope.kind}_memory"]
        given = {"owner": memory_owner(scope), "key": key, "now": now_us}
        return await self._run(lambda connection: change(connection, delete, **given) > 0)

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        clear = self._sql[f"clear_{scope.kind}_memories"]
        given = {"owner": memory_owner(scope), "now": now_us}
        return await self._run(lambda connection: change(connection, clear, **given))

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        find, rewrite = self._sql[f"find_{scope.kind}_memory"], self._sql[f"rewrite_{scope.kind}_memory"]

        def work(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                row = fetch_row(connection, find, owner=memory_owner(scope), key=key, now=now_us)
                if row is None or (record := memory_record(scope, row)).payload != old:
                    return False
                change(connection, rewrite, **memory_values(attrs.evolve(record, payload=new)))
                return True

        return await self._run(work)

    async def _purge_expired(self, now_us: int) -> Purged:
        def work(connection: sqlite3.Connection) -> Purged:
            with transaction(connection):
                change(connection, self._sql.delete_messages_of_expired, now=now_us)
                sessions = change(connection, self._sql.delete_expired_sessions, now=now_us)
                memories = change(connection, self._sql.delete_expired_session_memories, now=now_us)
                memories += change(connection, self._sql.delete_expired_user_memories, now=now_us)
            # The write-ahead log holds pages as they were before deletions. A log that is in use stays as it is.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return Purged(sessions=sessions, memories=memories)

        return await self._run(work)


@attrs.frozen
class _Header:
    """A row of ``find_live_session``."""

    sid: int
    created_at_us: int
    updated_at_us: int
    version: int
    last_position: int
    last_change: int
    summary: bytes | None


def _absolute(path: str | os.PathLike[str]) -> Path:
    name = os.fspath(path)
    if name in ("", ":memory:"):
        raise ConfigurationError("SQLiteStorage keeps a file; to keep nothing, use InMemoryStorage")
    if "\0" in name:
        raise ConfigurationError(f"the path {name!a} holds a NUL character")
    return Path(name).absolute()
