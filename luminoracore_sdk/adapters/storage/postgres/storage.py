"""The PostgreSQL backend."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from luminoracore_sdk.adapters.optional import import_extra
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
from luminoracore_sdk.adapters.storage.postgres.errors import BACKEND, ContendedError, DuplicateKeyError
from luminoracore_sdk.adapters.storage.postgres.options import DEFAULT_POOL_SIZE, Address, Limits, Namespace
from luminoracore_sdk.adapters.storage.postgres.rows import (
    MAX_BATCH_BYTES,
    batch_values,
    clamped,
    cut_values,
    fork_header,
    found_session,
    group_receipts,
    group_values,
    index_records,
    index_rewrite_values,
    insert_batches,
    is_plain,
    light_session,
    listed_session,
    memory_batches,
    memory_group,
    memory_group_values,
    memory_page_values,
    memory_record,
    message_records,
    message_values,
    query_values,
    rewrite_batches,
    rewrite_values,
    session_values,
    span_values,
    stored_lease,
    texts_values,
    turn_records,
    update_values,
)
from luminoracore_sdk.adapters.storage.sql import DEFAULT_PREFIX, narrowed, without_texts
from luminoracore_sdk.adapters.storage.wakeups import Listener
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    HeaderTexts,
    IndexRecord,
    IndexRewrite,
    Lease,
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
    TailReceipt,
    TurnRecords,
    with_indexes,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    StorageClosedError,
    StorageUnavailableError,
)

if TYPE_CHECKING:
    import asyncpg

    from luminoracore_sdk.adapters.storage.postgres.pool import Call, PostgresPool, Record

__all__ = ["PURGE_SIZE", "PostgreSQLStorage"]

T = TypeVar("T")

PURGE_SIZE = 1000
"""Most sessions or memories that one transaction of a purge removes."""

_MIGRATION_SECONDS = 3600.0

_CHANNEL = "luminoracore_changes"

_MARK_SECONDS = 15.0
"""Sessions are marked as watched, which lasts for a minute, after one to two times so long."""

_FORKED_AT_ONCE = 500
"""Messages that a fork rewrites at a time."""

_MOST_REQUESTS = 2
"""More are no faster: 64 writers with 1, 2, 3 and 4 reached 3.8-4.6, 3.2-5.5, 4.1 and 3.3-4.3 times the rate
of the bare driver (PostgreSQL 18, two shared cores). With 1, a second writer always has to wait."""


class PostgreSQLStorage(BaseStorage):
    """Keep sessions in PostgreSQL, shared by any number of processes.

    An acknowledged write is as durable as the server's ``synchronous_commit`` makes it. An append is one
    statement, one round trip, and its cost does not depend on the length of the history; appends to one session
    wait for each other. Appends that arrive while two requests are in progress are written together in one
    statement: each caller gets its own result, and none waits for a session that another transaction has locked.

    Works through PgBouncer in transaction mode with ``prepared_statements=false`` in the URL, at the price
    of a second round trip for each statement.

    Belongs to the event loop it was opened on. Needs the ``postgres`` extra.

    Args:
        url: ``postgresql://user:password@host:port/database?sslmode=verify-full`` …: everything that asyncpg
            takes, and ``schema``, ``table_prefix``, ``pool_size``, and ``prepared_statements`` (false behind
            a pooler that shares connections; ``pgbouncer=true`` means the same).
        pool: An ``asyncpg.Pool`` in place of a URL; it is never closed. ``timeout`` applies to it too, but
            give it a ``command_timeout`` and leave no session state on its connections.
        schema: Where the tables are, created when it is missing; None: where the role's ``search_path`` leads.
        table_prefix: Beginning of the table names.
        auto_create: Whether to create and migrate the tables; if not, ``SchemaVersionError`` names the command
            that does. The role then needs no more than SELECT, INSERT, UPDATE and DELETE.
        pool_size: Most connections; ``pool_size`` in the URL takes precedence.
        connect_timeout: Seconds to establish a connection.
        timeout: Seconds for one call, the wait for a free connection included. ``purge_expired`` works in
            steps of 1,000, each with this limit.
        clock: Tells the time; the system clock when None.

    Raises:
        ConfigurationError: An option cannot work.
        MissingDependencyError: The extra is not installed.
    """

    backend_name = BACKEND
    loop_bound = True

    def __init__(
        self,
        url: str | None = None,
        *,
        pool: "asyncpg.Pool[Any] | None" = None,
        schema: str | None = None,
        table_prefix: str = DEFAULT_PREFIX,
        auto_create: bool = True,
        pool_size: int = DEFAULT_POOL_SIZE,
        connect_timeout: float = 5.0,
        timeout: float = 30.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(clock=clock)
        if (url is None) == (pool is None):
            raise ConfigurationError("PostgreSQLStorage takes a url or a pool, one of the two")
        if not isinstance(url, str | None):
            raise ConfigurationError(f"url is a string, not {type(url).__name__}; pass a pool as pool=…")
        address = None if url is None else Address.of(url)
        size = address.pool_size if address and address.pool_size else pool_size
        self._limits = Limits(pool_size=size, connect_seconds=connect_timeout, call_seconds=timeout)
        self._auto_create = auto_create
        self._appends: GroupCommit[Append, AppendReceipt] | None = None
        self._puts: GroupCommit[MemoryChange, list[MemoryRecord]] | None = None
        namespace = Namespace.of(address, schema, table_prefix)

        for module in ("asyncpg", "sqlalchemy"):
            import_extra(module, needed_by="PostgreSQLStorage", extra="postgres")
        from luminoracore_sdk.adapters.storage.postgres.migrate import migrator  # noqa: PLC0415  # imports drivers
        from luminoracore_sdk.adapters.storage.postgres.pool import PostgresPool  # noqa: PLC0415  # imports drivers

        self._migrator = migrator(namespace)
        self._sql = self._migrator.sql
        self._new_pool = partial(PostgresPool, self._limits, address=address, pool=pool)
        self._pool = self._new_pool()

    # -- lifecycle -------------------------------------------------------------------------------

    async def migrate(self) -> int:
        """Create the tables or bring them up to date, whatever ``auto_create`` says.

        Any number of processes may do so at once. It may take up to an hour, whatever ``timeout`` says, and
        waits as long for a server that does not answer any more.

        Returns:
            The version of the layout.

        Raises:
            SchemaVersionError: The tables are of a newer version, or a foreign table has one of their names.
            StorageAccessError: The role may not create tables.
        """
        deadline = asyncio.get_running_loop().time() + _MIGRATION_SECONDS
        if self._is_open:
            self._check_loop()
            return await self._migrate(self._pool, deadline)
        pool = self._new_pool()
        await pool.open()
        try:
            return await self._migrate(pool, deadline)
        finally:
            await pool.close()

    async def _migrate(self, pool: "PostgresPool", deadline: float | None = None) -> int:
        return await pool.run(lambda call: self._migrator.migrate(call, shown=pool.shown), deadline)

    async def _open(self) -> None:
        pool = self._pool
        await pool.open()
        try:
            current = await pool.run(
                lambda call: self._migrator.is_current(call, shown=pool.shown, auto_create=self._auto_create)
            )
            if not current:
                await self._migrate(pool)
        except BaseException:
            await pool.close()
            raise
        self._appends = GroupCommit(
            self.backend_name,
            alone=self._append_alone,
            together=self._append_group,
            most_requests=_MOST_REQUESTS,
            timeout=self._limits.call_seconds,
        )
        self._puts = GroupCommit(
            self.backend_name,
            alone=self._put_alone,
            together=self._put_group,
            most_requests=_MOST_REQUESTS,
            timeout=self._limits.call_seconds,
        )

    async def _close(self) -> None:
        appends, self._appends, puts, self._puts = self._appends, None, self._puts, None
        try:
            if appends is not None and puts is not None:
                await appends.drain()
                await puts.drain()
        except BaseException:
            self._pool.terminate()
            raise
        await self._pool.close()

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._limits.call_seconds

    async def _ping(self) -> None:
        await self._pool.rows(self._sql.ping)

    async def _schema_version(self) -> int:
        return await self._pool.run(self._migrator.stored_version) or 0

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        put = self._sql.update_session if expected_version else self._sql.create_session
        put = self._sql.put_session if expected_version is None else put
        given = {**session_values(record, now_us), "last": 0, "expected_version": clamped(expected_version or 0)}

        async def work(call: "Call") -> "Record":
            row = await call.row(put, **given)
            if row is None:
                async with call.transaction():
                    await self._delete_expired(call, record.session_id, expected_version, now_us)
                    row = await call.row(put, **given)
                    if row is None:
                        raise ContendedError
            return row

        return found_session(await self._pool.run(work), record.payload)

    async def _delete_expired(self, call: "Call", session_id: str, expected_version: int | None, now_us: int) -> None:
        """Find out why a put did not apply, and delete an expired session that has the id."""
        stored = await call.row(self._sql.lock_session, session=session_id, now=now_us)
        live_version = stored["version"] if stored and stored["is_live"] else 0
        if expected_version not in (None, live_version):
            raise self._version_conflict(session_id, expected_version or 0, live_version)
        if stored and not stored["is_live"]:
            await call.rows(self._sql.delete_session, session=session_id, now=now_us)
            await call.rows(self._sql.delete_messages, sids=[stored["sid"]])

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        row = await self._pool.row(self._sql.find_session, session=session_id, now=now_us)
        return found_session(row) if row else None

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        async def work(call: "Call") -> bool:
            async with call.transaction():
                row = await call.row(self._sql.delete_session, session=session_id, now=now_us)
                if row is None:
                    return False
                # a statement of its own: it sees what an append wrote that the first one waited for
                await call.rows(self._sql.delete_messages, sids=[row["sid"]])
            return bool(row["is_live"])

        return await self._pool.run(work)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        given = {"now": now_us, **query_values(query)}
        listing = "list_active_sessions" if query.by_activity else "list_sessions"
        statement = self._sql[f"{listing}_newest_first" if query.newest_first else listing]
        statement, record = (statement, listed_session) if query.texts else (without_texts(statement), light_session)
        rows = await self._pool.rows(narrowed(statement, frozenset(given)), **given)
        found = [record(row) for row in rows[: query.limit]]
        return Page(sessions=tuple(found), next_cursor=query.key(found[-1]) if len(rows) > query.limit else None)

    async def _fork_session(
        self, source_id: str, record: SessionRecord, at: int, rewrite: RewriteMessage | None, now_us: int
    ) -> SessionRecord:
        given = {"session": source_id, "now": now_us, "at": clamped(at)}

        async def work(call: "Call") -> SessionRecord:
            # all statements see the source as of one moment, and its writers do not wait as they would for a lock
            async with call.transaction(isolation="repeatable_read"):
                rows = await call.rows(self._sql.fork_source, **given)
                if not rows:
                    raise self._not_found(source_id)
                source, last, *_ = rows[0]
                check_fork(BACKEND, source_id, at, last)
                await self._delete_expired(call, record.session_id, 0, now_us)
                header = fork_header(source_id, rows, record, at)
                row = await call.row(self._sql.create_session, **session_values(header, now_us))
                if row is None:
                    raise ContendedError
                if rewrite is None:
                    await call.rows(self._sql.copy_messages, sid=row["sid"], source=source, at=at)
                else:
                    await self._copy_rewritten(call, row["sid"], given, last, rewrite)
            return found_session(row, record.payload)

        return await self._pool.run(work)

    async def _copy_rewritten(
        self, call: "Call", sid: int, source: Mapping[str, Any], last: int, rewrite: RewriteMessage
    ) -> None:
        """Copy the messages of a fork through a function, which runs in a thread."""
        at, session_id = source["at"], source["session"]
        for after in range(0, at, _FORKED_AT_ONCE):
            span = MessageRange(after=after, before=at + 1, limit=_FORKED_AT_ONCE)
            read = self._sql.read_oldest_messages
            rows = await call.rows(read, session=session_id, now=source["now"], **span_values(span))
            indexes = await call.rows(
                self._sql.read_oldest_index, session=session_id, now=source["now"], **span_values(span)
            )
            messages = with_indexes(
                message_records(session_id, rows, span, last=last), index_records(session_id, indexes, span, last=last)
            )
            rewritten = await asyncio.to_thread(lambda found: [rewrite(message) for message in found], messages)
            self._check_batch(rewritten)
            for batch in insert_batches(rewritten):
                await call.rows(self._sql.insert_messages, sid=sid, **batch)

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        values = rewrite_values(old, new)
        return await self._pool.row(self._sql.rewrite_session, session=session_id, now=now_us, **values) is not None

    async def _rewrite_texts(self, session_id: str, old: HeaderTexts, new: HeaderTexts, now_us: int) -> bool:
        before = {f"old_{name}": value for name, value in texts_values(old).items()}
        given = {"session": session_id, "now": now_us, **before, **texts_values(new)}
        return await self._pool.row(self._sql.rewrite_texts, **given) is not None

    # -- leases ----------------------------------------------------------------------------------

    async def _acquire_lease(self, session_id: str, holder: str, ttl_us: int, now_us: int) -> Lease:
        given = {"session": session_id, "holder": holder, "until": now_us + ttl_us, "now": now_us}

        async def work(call: "Call") -> Lease:
            row = await call.row(self._sql.acquire_lease, **given)
            if row is not None:
                return Lease(fence=row[0], holder=holder, until_us=now_us + ttl_us)
            header = await call.row(self._sql.lock_session, session=session_id, now=now_us)
            if header is None or not header["is_live"]:
                raise self._not_found(session_id)
            lease = stored_lease(header["fence"], header["holder"], header["lease_until_us"], f"session {session_id!a}")
            granted(BACKEND, session_id, lease, holder=holder, ttl_us=ttl_us, now_us=now_us)
            raise ContendedError  # the lease has ended or was released meanwhile

        return await self._pool.run(work)

    async def _release_lease(self, session_id: str, fence: int, now_us: int) -> bool:
        given = {"session": session_id, "fence": clamped(fence), "now": now_us}
        return await self._pool.row(self._sql.release_lease, **given) is not None

    # -- appends ---------------------------------------------------------------------------------

    async def _append_messages(self, append: Append) -> AppendReceipt:
        if self._appends is None:
            raise StorageClosedError(self.backend_name)
        if append.fence is not None:  # rare, and a group has no place for it
            return await self._append_alone(append)
        return await self._appends.write(append)

    async def _append_alone(self, append: Append) -> AppendReceipt:
        size = len(append.messages)
        if is_plain(append):
            given = message_values(append)
            statement = narrowed(self._sql.append_message, frozenset(given))
        else:
            statement, given = self._sql.append_messages, batch_values(append)

        async def work(call: "Call") -> AppendReceipt:
            try:
                row = await call.row(statement, **given)
            except DuplicateKeyError:
                row = None
            if row is None:
                async with call.transaction():
                    if receipt := await self._replayed(call, append):
                        return receipt
                    try:
                        row = await call.row(statement, **given)
                    except DuplicateKeyError as exc:  # no id of the batch is stored, so it is a position
                        key = f"session {append.session_id!a}"
                        reason = "there are messages above its last position"
                        raise CorruptRecordError(backend=BACKEND, key=key, reason=reason) from exc
                if row is None:
                    raise ContendedError
            last: int = row[0]
            return AppendReceipt(first_position=last - size + 1, last_position=last)

        return await self._pool.run(work, append.deadline)

    async def _replayed(self, call: "Call", append: Append) -> AppendReceipt | None:
        """Find out why an append wrote nothing, under a lock; None: the reason is gone.

        Returns:
            The first receipt, if the batch is stored already.
        """
        session_id, expected_last = append.session_id, append.expected_last
        stored = await call.row(self._sql.lock_session, session=session_id, now=append.now_us)
        if stored is None or not stored["is_live"]:
            raise self._not_found(session_id)
        ids = [message.message_id for message in append.messages]
        rows = await call.rows(self._sql.stored_positions, sid=stored["sid"], ids=ids)
        if receipt := replay_receipt(self.backend_name, append.messages, {row[0]: row[1] for row in rows}):
            return receipt
        check_fence(BACKEND, session_id, append.fence, stored["fence"] or 0)
        last = stored["last_position"]
        if expected_last not in (None, last):
            raise self._position_conflict(session_id, expected_last or 0, last)
        return None

    async def _append_group(self, appends: Sequence[Append]) -> Sequence[AppendReceipt | None]:
        """Append to many sessions in one statement; None: not written, to be tried alone."""
        given = group_values(appends)

        async def work(call: "Call") -> "list[Record]":
            try:
                return await call.rows(self._sql.append_group, **given)
            except DuplicateKeyError:  # a message of one append is stored already, and nothing was written
                return []

        deadline = max(append.deadline for append in appends)
        return group_receipts(appends, await self._pool.run(work, deadline))

    # -- messages --------------------------------------------------------------------------------

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        newest = span.newest and span.limit is not None
        read = self._sql.read_newest_messages if newest else self._sql.read_oldest_messages
        rows = await self._pool.rows(read, session=session_id, now=now_us, **span_values(span))
        if not rows:
            raise self._not_found(session_id)
        return message_records(session_id, rows, span, last=rows[0][0])

    async def _find_message(self, session_id: str, message_id: str, now_us: int) -> MessageRecord | None:
        row = await self._pool.row(self._sql.find_message, session=session_id, id=message_id, now=now_us)
        if row is None:
            return None
        (found,) = message_records(session_id, [row], MessageRange(after=row[1] - 1, limit=1), last=row[0])
        return found

    async def _replace_tail(self, tail: Tail) -> TailReceipt:
        append = Append(tail.session_id, tail.messages, None, tail.now_us)
        given = batch_values(append) if tail.messages else {}
        span = MessageRange(after=tail.after)
        place = {"session": tail.session_id, "now": tail.now_us}

        async def work(call: "Call") -> TailReceipt:
            async with call.transaction():
                header = await call.row(self._sql.lock_session, **place)
                if header is None or not header["is_live"]:
                    raise self._not_found(tail.session_id)
                sid, last = header["sid"], header["last_position"]
                ids = [message.message_id for message in tail.messages]
                rows = await call.rows(self._sql.stored_positions, sid=sid, ids=ids)
                stored = {row[0]: row[1] for row in rows}
                change, fence = header["last_change"] or 0, header["fence"] or 0
                if receipt := tail.replayed(BACKEND, last, stored, latest_change=change, latest_fence=fence):
                    return receipt
                rows = await call.rows(self._sql.read_oldest_messages, **place, **span_values(span))
                removed = message_records(tail.session_id, rows, span, last=last)
                await call.row(self._sql.cut_messages, sid=sid, now=tail.now_us, **cut_values(tail.after))
                if tail.messages:
                    await call.row(self._sql.append_messages, **given)
                return TailReceipt(removed=removed, last_position=tail.after + len(ids))

        return await self._pool.run(work)

    async def _update_message(self, update: MessageUpdate) -> bool:
        return await self._pool.row(self._sql.update_message, **update_values(update)) is not None

    async def _read_index(self, session_id: str, span: MessageRange, now_us: int) -> list[IndexRecord]:
        newest = span.newest and span.limit is not None
        read = self._sql.read_newest_index if newest else self._sql.read_oldest_index
        rows = await self._pool.rows(read, session=session_id, now=now_us, **span_values(span))
        if not rows:
            raise self._not_found(session_id)
        return index_records(session_id, rows, span, last=rows[0][0])

    async def _rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite], now_us: int) -> int:
        given = {"session": session_id, "now": now_us, **index_rewrite_values(changes)}
        rows = await self._pool.rows(self._sql.rewrite_index, **given)
        return int(rows[0][0])

    async def _read_turn(self, session_id: str, newest: int, now_us: int) -> TurnRecords | None:
        rows = await self._pool.rows(self._sql.read_turn, session=session_id, now=now_us, count=clamped(newest))
        return turn_records(rows, newest)

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        given = cut_values(after)

        async def work(call: "Call") -> int:
            async with call.transaction():
                header = await call.row(self._sql.lock_session, session=session_id, now=now_us)
                if header is None or not header["is_live"]:
                    raise self._not_found(session_id)
                return int(await call.value(self._sql.cut_messages, sid=header["sid"], now=now_us, **given))

        return await self._pool.run(work)

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        rewritten = 0
        for batch in rewrite_batches(changes):
            rows = await self._pool.rows(self._sql.rewrite_messages, session=session_id, now=now_us, **batch)
            rewritten += rows[0][0]
        return rewritten

    # -- wake-ups --------------------------------------------------------------------------------

    async def _listen(self, listener: Listener) -> None:
        """Listen on one connection, and mark the watched sessions: writers notify for those only."""
        if not self._pool.can_listen:
            return
        time = asyncio.get_running_loop().time
        marked: dict[str, float] = {}
        names: dict[str, str] = {}
        is_lost = asyncio.Event()

        def heard(digest: str) -> None:
            if digest in names:
                listener.heard(names[digest])

        def lost() -> None:
            is_lost.set()
            listener.changed.set()

        async with self._pool.listening(_CHANNEL, heard, lost):
            while not is_lost.is_set():
                listener.changed.clear()
                marked = {session_id: marked.get(session_id, -math.inf) for session_id in listener.sessions}
                due = [session_id for session_id, at in marked.items() if time() - at >= _MARK_SECONDS]
                names = {sha256(session_id.encode()).hexdigest(): session_id for session_id in marked}
                if due:
                    await self._pool.rows(self._sql.mark_watched, sessions=due)
                for session_id in due:
                    listener.heard(session_id)  # it may have changed since
                    marked[session_id] = time()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_MARK_SECONDS):
                        await listener.changed.wait()
        raise StorageUnavailableError(BACKEND, "the connection that listened is lost")

    # -- memory ----------------------------------------------------------------------------------

    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]:
        if self._puts is None:
            raise StorageClosedError(self.backend_name)
        is_plain = not change.deletes and change.max_entries is None and change.size_bytes <= MAX_BATCH_BYTES
        # of several puts, one whose version is not the expected one would leave the others written
        is_whole = len(change.puts) == 1 or all(put.expected_version is None for put in change.puts)
        if change.scope.kind == "session" and is_plain and is_whole:
            return await self._puts.write(change)
        return await self._change(change)

    async def _put_alone(self, change: MemoryChange) -> list[MemoryRecord]:
        if len(change.puts) > 1:
            [stored] = await self._put_group([change])
            if stored is not None:
                return stored
        return await self._change(change)

    async def _put_group(self, changes: Sequence[MemoryChange]) -> Sequence[list[MemoryRecord] | None]:
        """Put memories of many sessions in one statement; None: not written, to be tried alone."""
        written = dict[int, MemoryChange]()
        seen = set[tuple[MemoryScope, str]]()
        for number, change in enumerate(changes):
            keys = {(change.scope, key) for key in change.keys}
            if seen.isdisjoint(keys):  # a statement cannot put a memory twice
                written[number] = change
            seen |= keys
        group = list(written.values())
        given = memory_group_values(group)
        deadline = max(change.deadline for change in group)
        rows = await self._pool.run(lambda call: call.rows(self._sql.put_group_memories, **given), deadline)
        stored = dict(zip(written, memory_group(group, rows), strict=True))
        return [stored.get(number) for number in range(len(changes))]

    async def _change(self, change: MemoryChange) -> list[MemoryRecord]:
        scope, now_us = change.scope, change.now_us
        if len(change.keys) == len(change.puts) == 1 and change.max_entries is None:
            return await self._pool.run(partial(self._put_memories, change), change.deadline)

        async def work(call: "Call") -> list[MemoryRecord]:
            if not await self._lock_memories(call, scope, now_us):
                raise self._not_found(scope.owner_id)
            given = {"owner": scope.owner_id, "now": now_us}
            stored = await self._put_memories(change, call)
            if change.deletes:
                await call.rows(self._sql[f"delete_{scope.kind}_memories"], keys=list(change.deletes), **given)
            if change.max_entries is not None:
                keys = [record.key for record in stored]
                kept = clamped(change.places(change.max_entries))
                await call.rows(self._sql[f"evict_{scope.kind}_memories"], keys=keys, kept=kept, **given)
            return stored

        return await self._pool.run(partial(self._in_transaction, work), change.deadline)

    @staticmethod
    async def _in_transaction(work: "Callable[[Call], Awaitable[T]]", call: "Call") -> T:
        async with call.transaction():
            return await work(call)

    async def _lock_memories(self, call: "Call", scope: MemoryScope, now_us: int) -> bool:
        """Lock a scope until the end of the transaction; False: no such session."""
        lock = self._migrator.lock_number(f"user {scope.owner_id}")
        statement = self._sql[f"lock_{scope.kind}_memories"]
        return await call.row(statement, owner=scope.owner_id, lock=lock, now=now_us) is not None

    async def _put_memories(self, change: MemoryChange, call: "Call") -> list[MemoryRecord]:
        scope, now_us = change.scope, change.now_us
        put = self._sql[f"put_{scope.kind}_memories"]
        rows: dict[str, tuple[int, int]] = {}
        for values in memory_batches(change.puts, now_us) if change.puts else ():
            found = await call.rows(put, owner=scope.owner_id, **values)
            rows |= {key: (created, version) for key, created, version in found}
        stored = []
        for one in change.puts:
            if one.record.key not in rows:
                find = self._sql[f"find_{scope.kind}_memory_version"]
                row = await call.row(find, owner=scope.owner_id, key=one.record.key, now=now_us)
                # without an expected version, only a session that was created since the put was missing
                if row is None or one.expected_version is None:
                    raise self._not_found(scope.owner_id)
                raise memory_conflict(BACKEND, one, row[0])
            created, version = rows[one.record.key]
            stored.append(attrs.evolve(one.record, created_at_us=created, updated_at_us=now_us, version=version))
        return stored

    async def _touch_memories(
        self, scope: MemoryScope, keys: Sequence[str], expires_at_us: int | None, now_us: int
    ) -> int:
        async def work(call: "Call") -> int:
            await self._lock_memories(call, scope, now_us)
            touch = self._sql[f"touch_{scope.kind}_memories"]
            return len(await call.rows(touch, owner=scope.owner_id, keys=keys, expires_at=expires_at_us, now=now_us))

        return await self._pool.run(partial(self._in_transaction, work))

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        find = self._sql[f"find_{scope.kind}_memory"]
        row = await self._pool.row(find, owner=scope.owner_id, key=key, now=now_us)
        return memory_record(scope, row) if row else None

    async def _list_memories(self, scope: MemoryScope, query: MemoryQuery | None, now_us: int) -> list[MemoryRecord]:
        if query is None:
            listing = self._sql[f"list_{scope.kind}_memories"]
            rows = await self._pool.rows(listing, owner=scope.owner_id, now=now_us)
            return [memory_record(scope, row) for row in rows]
        page = self._sql[f"page_{'backwards_' if query.descending else ''}of_{scope.kind}_memories"]
        rows = await self._pool.rows(page, owner=scope.owner_id, now=now_us, **memory_page_values(query))
        return query.intact(lambda row: memory_record(scope, row, whole=query.with_payload), rows)

    async def _list_memory_owners(self, prefix: str, after: str | None, limit: int, now_us: int) -> list[str]:
        low, high = key_bounds(prefix, after)
        given = {"low": low, "high": high, "after": after or "", "count": limit, "now": now_us}
        return [row[0] for row in await self._pool.rows(self._sql.list_memory_owners, **given)]

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        rewrite = self._sql[f"rewrite_{scope.kind}_memory"]
        values = rewrite_values(old, new)
        return await self._pool.row(rewrite, owner=scope.owner_id, key=key, now=now_us, **values) is not None

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        delete = self._sql[f"delete_{scope.kind}_memories"]
        return await self._pool.row(delete, owner=scope.owner_id, keys=[key], now=now_us) is not None

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        async def work(call: "Call") -> int:
            await self._lock_memories(call, scope, now_us)
            clear = self._sql[f"clear_{scope.kind}_memories"]
            return int(await call.value(clear, owner=scope.owner_id, now=now_us))

        return await self._pool.run(partial(self._in_transaction, work))

    # -- purge -----------------------------------------------------------------------------------

    async def _purge_expired(self, now_us: int) -> Purged:
        async def purge_sessions(call: "Call") -> int:
            async with call.transaction():
                rows = await call.rows(self._sql.purge_sessions, now=now_us, count=PURGE_SIZE)
                await call.rows(self._sql.delete_messages, sids=[row["sid"] for row in rows])
            return len(rows)

        async def purge_session_memories(call: "Call") -> int:
            return int(await call.value(self._sql.purge_session_memories, now=now_us, count=PURGE_SIZE))

        async def purge_user_memories(call: "Call") -> int:
            return int(await call.value(self._sql.purge_user_memories, now=now_us, count=PURGE_SIZE))

        sessions = await self._until_done(purge_sessions)
        memories = await self._until_done(purge_session_memories) + await self._until_done(purge_user_memories)
        return Purged(sessions=sessions, memories=memories)

    async def _until_done(self, purge: "Callable[[Call], Awaitable[int]]") -> int:
        """Purge in steps, each a call of its own, until one is not full; return the total."""
        total = 0
        while True:
            removed = await self._pool.run(purge)
            total += removed
            if removed < PURGE_SIZE:
                return total
