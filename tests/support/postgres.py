"""A PostgreSQL schema of a test's own, and what tests do there past the storage."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import attrs

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import MessageRange

__all__ = ["ALL", "ENOUGH_STEPS", "Schema", "positions", "unused"]

ALL = MessageRange()

ENOUGH_STEPS = 200
"""More turns of the loop than any call of the storage takes."""


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
    async def connection(self, **options: Any) -> AsyncIterator[Any]:
        """Give a connection of asyncpg whose ``search_path`` is this schema."""
        options.setdefault("server_settings", {"search_path": self.name})
        connection = await asyncpg.connect(options.pop("url", self.url), **options)
        try:
            yield connection
        finally:
            await connection.close()

    async def rows(self, query: str, *args: object) -> list[Any]:
        """Run one statement in this schema, for itself."""
        async with self.connection() as connection:
            found: list[Any] = await connection.fetch(query, *args)
            return found

    async def until(self, query: str, holds: Callable[[Any], bool]) -> None:
        """Wait until the value of a query is as it should be."""
        async with asyncio.timeout(20), self.connection() as connection:
            while not holds(await connection.fetchval(query)):  # noqa: ASYNC110  # the server does not call back
                await asyncio.sleep(0.01)


async def positions(storage: PostgreSQLStorage) -> list[int]:
    """Return the positions of all messages of the session ``s``."""
    return [message.position for message in await storage.read_messages("s", ALL)]


def unused(storage: PostgreSQLStorage) -> bool:
    """Tell whether no connection is checked out."""
    assert storage._pool is not None
    pool: Any = storage._pool._pool
    return bool(pool.get_idle_size() + len(storage._pool._kept) == pool.get_size())
