"""The PostgreSQL backend."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import attrs

from luminoracore_sdk.adapters.storage.postgres.appends import PostgreSQLAppends
from luminoracore_sdk.adapters.storage.postgres.errors import ContendedError
from luminoracore_sdk.adapters.storage.postgres.memory import PURGED_AT_ONCE
from luminoracore_sdk.adapters.storage.postgres.rows import (
    clamped,
    message_records,
    query_values,
    rewrite_batches,
    rewrite_values,
    session_record,
    session_values,
    span_values,
)
from luminoracore_sdk.application.ports.records import (
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite

if TYPE_CHECKING:
    from luminoracore_sdk.adapters.storage.postgres.call import Call

__all__ = ["PostgreSQLStorage"]


class PostgreSQLStorage(PostgreSQLAppends):
    """Keeps everything in a PostgreSQL database, for any number of processes.

    An acknowledged write is as durable as the server's ``synchronous_commit`` makes it. An append is one
    statement, one round trip, and costs the same whatever the history holds; appends to one session wait
    for each other. Those that come while two requests are under way are written together in one statement:
    each is answered for itself, and none waits for a session that somebody else holds.

    Works through PgBouncer in transaction mode with ``prepared_statements=false`` in the URL, at the price
    of a second round trip a statement.

    Belongs to the event loop it was opened on. Needs the ``postgres`` extra.

    Args:
        url: ``postgresql://user:password@host:port/database?sslmode=verify-full`` …: all that asyncpg takes,
            and of ours ``schema``, ``table_prefix``, ``pool_size``, and ``prepared_statements`` (false behind
            a pooler that shares connections; ``pgbouncer=true`` says the same).
        pool: An ``asyncpg.Pool`` in place of a URL; it is never closed. ``timeout`` holds for it too, but
            give it a ``command_timeout`` and leave no session state on its connections.
        schema: Where the tables are, made when it is missing; None: where the role's ``search_path`` leads.
        table_prefix: Begins the names of the tables.
        auto_create: Whether to make and migrate the tables; if not, ``SchemaVersionError`` with the command
            that does. The role then needs no more than SELECT, INSERT, UPDATE and DELETE.
        pool_size: Most connections; ``pool_size`` in the URL comes first.
        connect_timeout: Seconds to make one.
        timeout: Seconds for one call, the wait for a free connection included. ``purge_expired`` works in
            steps of 1,000 and has so long for each.
        clock: Tells the time; the computer's own when None.

    Raises:
        ConfigurationError: An option that cannot work.
        MissingDependencyError: The extra is not installed.
    """

    async def _ping(self) -> None:
        await self._rows(self._sql.ping, {})

    async def _schema_version(self) -> int:
        return await self._run(lambda call: self._layout.stored_version(call, self._sql)) or 0

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        given = session_values(record)
        given.update(now=now_us, created=record.created_at_us or now_us)
        given["expected"] = clamped(expected_version or 0)
        put = self._sql.put_existing if expected_version else self._sql.put_new
        put = self._sql.put if expected_version is None else put

        async def work(call: "Call") -> SessionRecord:
            row = await call.row(put, **given)
            if row is None:
                async with call.transaction():
                    await self._make_way(call, record.session_id, expected_version, now_us)
                    row = await call.row(put, **given)
                    if row is None:
                        raise ContendedError
            _, created_at_us, updated_at_us, version, last_position = row
            return attrs.evolve(
                record,
                created_at_us=created_at_us,
                updated_at_us=updated_at_us,
                version=version,
                last_position=last_position,
            )

        return await self._run(work)

    async def _make_way(self, call: "Call", session_id: str, expected_version: int | None, now_us: int) -> None:
        """Find out why a put did not apply, and remove an expired session that is in its way."""
        standing = await call.row(self._sql.lock, session=session_id, now=now_us)
        sid, version, _, is_live = standing or (None, 0, 0, False)
        if expected_version not in (None, version if is_live else 0):
            raise self._version_conflict(session_id, expected_version or 0, version if is_live else 0)
        if sid is not None and not is_live:
            await call.rows(self._sql.delete_sid, sid_=sid)
            await call.rows(self._sql.messages.drop, sids=[sid])

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        rows = await self._rows(self._sql.header, {"session": session_id, "now": now_us})
        return session_record(rows[0]) if rows else None

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        async def work(call: "Call") -> bool:
            async with call.transaction():
                row = await call.row(self._sql.delete, session=session_id, now=now_us)
                if row is None:
                    return False
                sid, is_live = row
                # a statement of its own: it sees what an append wrote that the first one waited for
                await call.rows(self._sql.messages.drop, sids=[sid])
            return bool(is_live)

        return await self._run(work)

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        listing = self._sql.listing(query)
        rows = await self._rows(listing, {"now": now_us, "count": query.limit + 1, **query_values(query)})
        found = [session_record(row, with_payload=False) for row in rows[: query.limit]]
        more = len(rows) > query.limit
        cursor = (found[-1].created_at_us, found[-1].session_id) if more else None
        return Page(sessions=tuple(found), next_cursor=cursor)

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        given = {"session": session_id, "now": now_us, **rewrite_values(old, new)}
        return await self._run(lambda call: call.row(self._sql.rewrite, **given)) is not None

    # -- messages --------------------------------------------------------------------------------

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        read = (
            self._sql.messages.read_newest if span.newest and span.limit is not None else self._sql.messages.read_oldest
        )
        rows = await self._rows(read, {"session": session_id, "now": now_us, **span_values(span)})
        if not rows:
            raise self._not_found(session_id)
        return message_records(session_id, rows, span)

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        bound = clamped(after)

        async def work(call: "Call") -> int:
            async with call.transaction():
                row = await call.row(self._sql.messages.truncate, session=session_id, after=bound, now=now_us)
                if row is None:
                    raise self._not_found(session_id)
                (removed,) = await call.one(self._sql.messages.drop_above, sid_=row[0], after=bound)
            return int(removed)

        return await self._run(work)

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        replaced = 0
        for batch in rewrite_batches(changes):
            given = {"session": session_id, "now": now_us, **batch}
            replaced += await self._rewrite_batch(given)
        return replaced

    async def _rewrite_batch(self, given: dict[str, Any]) -> int:
        (count,) = await self._run(lambda call: call.one(self._sql.messages.rewrite, **given))
        return int(count)

    # -- what has expired ------------------------------------------------------------------------

    async def _purge_expired(self, now_us: int) -> Purged:
        async def purge_sessions(call: "Call") -> int:
            async with call.transaction():
                rows = await call.rows(self._sql.purge, now=now_us, count=PURGED_AT_ONCE)
                await call.rows(self._sql.messages.drop, sids=[row[0] for row in rows])
            return len(rows)

        sessions = await self._repeated(purge_sessions)
        return Purged(sessions=sessions, memories=await self._purge_memories(now_us))
