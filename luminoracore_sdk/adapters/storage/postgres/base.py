"""The life of the PostgreSQL backend: options, pool, tables."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.storage.base import BaseStorage
from luminoracore_sdk.adapters.storage.postgres.errors import BACKEND
from luminoracore_sdk.adapters.storage.postgres.url import (
    DEFAULT_POOL_SIZE,
    Address,
    Place,
    checked_place,
    checked_pool_size,
)
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.domain.errors import ConfigurationError, StorageClosedError, WrongEventLoopError

if TYPE_CHECKING:
    from luminoracore_sdk.adapters.storage.postgres.call import Call
    from luminoracore_sdk.adapters.storage.postgres.compiled import Statement
    from luminoracore_sdk.adapters.storage.postgres.driver import Pool, Row
    from luminoracore_sdk.adapters.storage.postgres.pool import PostgresPool

__all__ = ["PostgreSQLBase"]

T = TypeVar("T")

_MIGRATION_SECONDS = 3600.0


class PostgreSQLBase(BaseStorage):
    """Opens and closes; runs calls on the pool."""

    backend_name = BACKEND
    loop_bound = True

    def __init__(
        self,
        url: str | None = None,
        *,
        pool: "Pool | None" = None,
        schema: str | None = None,
        table_prefix: str = "",
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
            raise ConfigurationError(f"url is a text, not {type(url).__name__}; give a pool as pool=…")
        for name, seconds in (("connect_timeout", connect_timeout), ("timeout", timeout)):
            if not (math.isfinite(seconds) and seconds > 0):
                raise ConfigurationError(f"{name} is a number of seconds above 0, not {seconds!r}")
        self._address = None if url is None else Address.of(url)
        self._foreign_pool = pool
        self._foreign_loop: asyncio.AbstractEventLoop | None = None
        self._auto_create = auto_create
        place = _place(self._address, schema, table_prefix)
        self._load(place)
        size = self._address.pool_size if self._address and self._address.pool_size else pool_size
        self._limits = self._pools.Limits(
            pool_size=checked_pool_size(size), connect_seconds=connect_timeout, call_seconds=timeout
        )
        self._pool: PostgresPool | None = None

    def _load(self, place: Place) -> None:
        for module in ("asyncpg", "sqlalchemy"):
            import_extra(module, needed_by="PostgreSQLStorage", extra="postgres")
        from luminoracore_sdk.adapters.storage.postgres import layout as postgres_layout  # noqa: PLC0415 - imports the driver
        from luminoracore_sdk.adapters.storage.postgres import pool as postgres_pool  # noqa: PLC0415 - imports the driver
        from luminoracore_sdk.adapters.storage.postgres import statements as postgres_statements  # noqa: PLC0415 - imports the driver

        self._sql = postgres_statements.statements(place)
        self._layout = postgres_layout
        self._pools = postgres_pool

    @property
    def _shown(self) -> str:
        return self._address.shown if self._address else "postgresql://…"

    async def migrate(self) -> int:
        """Make the tables or bring them up to date, whatever ``auto_create`` says.

        Any number of processes may do so at once. It may take up to an hour, whatever ``timeout`` says, and
        waits so long for a server that does not answer any more.

        Returns:
            The version of the layout.

        Raises:
            SchemaVersionError: The tables are of a newer version, or tables of others are in the way.
            StorageAccessError: The role may not make tables.
        """
        if self._is_open:
            self._check_loop()
        pool = self._pool or await self._make_pool()
        try:
            return await self._migrate(pool, _MIGRATION_SECONDS)
        finally:
            if pool is not self._pool:
                await pool.close()

    async def _open(self) -> None:
        pool = await self._make_pool()
        try:
            await self._prepare(pool)
        except BaseException:
            await pool.close()
            raise
        self._pool = pool

    async def _prepare(self, pool: "PostgresPool") -> None:
        async def version(call: "Call") -> int | None:
            self._layout.check_encoding(call, shown=self._shown)
            found: int | None = await self._layout.stored_version(call, self._sql)
            return found

        found = await pool.run(version)
        if self._layout.is_current(found):
            return
        if not self._auto_create:
            raise self._layout.refused(found, self._sql, shown=self._shown)
        await self._migrate(pool, None)

    async def _migrate(self, pool: "PostgresPool", seconds: float | None) -> int:
        async def work(call: "Call") -> int | None:
            self._layout.check_encoding(call, shown=self._shown)
            await self._layout.migrate(call, self._sql)
            found: int | None = await self._layout.stored_version(call, self._sql)
            return found

        return await pool.run(work, seconds=seconds) or 0

    async def _make_pool(self) -> "PostgresPool":
        if self._address is not None:
            return await self._pools.PostgresPool.make(self._address, self._limits)
        loop = asyncio.get_running_loop()
        if self._foreign_loop not in (None, loop):  # asyncpg's pools cannot move
            raise WrongEventLoopError(self.backend_name)
        self._foreign_loop = loop
        pool: Any = self._foreign_pool
        return self._pools.PostgresPool(pool, self._limits, shown=self._shown, owned=False)

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def _abandon(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.abandon()

    async def _run(self, work: "Callable[[Call], Awaitable[T]]", deadline: float | None = None) -> T:
        """Do a piece of work on a connection; see ``PostgresPool.run``."""
        if self._pool is None:
            raise StorageClosedError(self.backend_name)
        return await self._pool.run(work, deadline=deadline)

    async def _rows(
        self, statement: "Statement", given: Mapping[str, Any], deadline: float | None = None
    ) -> "list[Row]":
        """Run one statement; see ``PostgresPool.rows``."""
        if self._pool is None:
            raise StorageClosedError(self.backend_name)
        return await self._pool.rows(statement, given, deadline)


def _place(address: Address | None, schema: str | None, table_prefix: str) -> Place:
    """Return the place that the URL or the arguments name."""
    if address is not None:
        schema = _the_one("schema", schema, address.schema)
        table_prefix = _the_one("table_prefix", table_prefix or None, address.table_prefix) or ""
    return checked_place(schema, table_prefix)


def _the_one(name: str, argument: str | None, of_url: str | None) -> str | None:
    if argument is not None and of_url is not None and argument != of_url:
        raise ConfigurationError(f"{name} is not the same in the URL and in the arguments")
    return of_url if argument is None else argument
