"""A PostgreSQL schema for each test, and what tests do in it without the storage."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import attrs

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.testing.records import session_record

__all__ = ["ALL", "ENOUGH_STEPS", "Schema", "positions"]

ALL = MessageRange()

ENOUGH_STEPS = 200
"""More steps of the event loop than any call of the storage takes."""


@attrs.define
class Schema:
    """A schema, empty at first.

    Attributes:
        url: Of the database.
        name: Of the schema.
    """

    url: str
    name: str

    def storage(self, clock: Clock | None = None, **options: Any) -> PostgreSQLStorage:
        """Return a storage in this schema that is not open."""
        return PostgreSQLStorage(options.pop("url", self.url), schema=self.name, clock=clock, **options)

    @asynccontextmanager
    async def connection(self, **options: Any) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """Open a connection of asyncpg whose ``search_path`` is this schema."""
        options.setdefault("server_settings", {"search_path": self.name})
        connection = await asyncpg.connect(options.pop("url", self.url), **options)
        try:
            yield connection
        finally:
            await connection.close()

    async def rows(self, query: str, *args: object) -> list[tuple[Any, ...]]:
        """Run one statement in this schema on a connection of its own."""
        async with self.connection() as connection:
            return [tuple(row) for row in await connection.fetch(query, *args)]

    async def until(self, query: str, holds: Callable[[Any], bool]) -> None:
        """Wait until the value of a query is as expected."""
        async with asyncio.timeout(20), self.connection() as connection:
            while not holds(await connection.fetchval(query)):  # noqa: ASYNC110  # the server does not call back
                await asyncio.sleep(0.01)

    async def until_waiting(self, count: int) -> None:
        """Wait until so many statements on tables of this schema, or for advisory locks, wait for a lock."""
        async with asyncio.timeout(20), self.connection() as connection:
            query = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                " AND (query LIKE $1 OR query LIKE 'SELECT pg_advisory_xact_lock%')"
            )
            while await connection.fetchval(query, f"%{self.name}%") != count:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.01)

    async def assert_connections_free(self, storage: PostgreSQLStorage, size: int) -> None:
        """Check that ``size`` calls of a storage get a connection at the same time: they wait for one lock."""
        await storage.put_session(session_record())
        async with self.connection() as other:
            async with other.transaction():
                await other.execute("SELECT 1 FROM luminora_sessions WHERE session_id = 's' FOR UPDATE")
                calls = [asyncio.ensure_future(storage.put_session(session_record())) for _ in range(size)]
                await self.until_waiting(size)
            await asyncio.gather(*calls)


async def positions(storage: PostgreSQLStorage) -> list[int]:
    """Return the positions of all messages of the session ``s``."""
    return [message.position for message in await storage.read_messages("s", ALL)]
