"""PostgreSQL, and asyncpg alone."""

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.speed_parts.backends.server import ServerBackend
from benchmarks.speed_parts.contender import Contender
from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.postgres.options import DEFAULT_POOL_SIZE
from tests.support.servers.postgres import PostgresServer

__all__ = ["Postgres"]

_TABLES = """
CREATE SCHEMA raw;
CREATE TABLE raw.s (id text PRIMARY KEY, last bigint NOT NULL);
CREATE TABLE raw.m (
    session text, position bigint, role text NOT NULL, text text NOT NULL, PRIMARY KEY (session, position)
)
"""
_APPEND = """
WITH h AS (UPDATE raw.s SET last = last + 1 WHERE id = $1 RETURNING last)
INSERT INTO raw.m SELECT $1, h.last, $2, $3 FROM h
"""
_NEWEST = "SELECT text FROM raw.m WHERE session = $1 ORDER BY position DESC LIMIT $2"
_PAGE = "SELECT text FROM raw.m WHERE session = $1 AND position > $2 ORDER BY position LIMIT $3"


class Floor(Contender):
    system = layer = "floor"

    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        # a pool of the same size as ours, and like ours without the query that resets a connection
        self._pool = await asyncpg.create_pool(
            self._url, min_size=1, max_size=DEFAULT_POOL_SIZE, connection_class=_Unreset
        )
        if await self._pool.fetchval("SELECT to_regclass('raw.m')") is None:
            await self._pool.execute(_TABLES)

    async def close(self) -> None:
        await self._pool.close()

    async def begin(self, session: str) -> None:
        await self._pool.execute("INSERT INTO raw.s VALUES ($1, 0)", session)

    async def append(self, session: str, text: str) -> None:
        await self._pool.execute(_APPEND, session, "user", json.dumps(text))

    async def fill(self, session: str, texts: Sequence[str]) -> None:
        rows = [(session, position, "user", json.dumps(text)) for position, text in enumerate(texts, 1)]
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.copy_records_to_table("m", schema_name="raw", records=rows)
            await connection.execute("UPDATE raw.s SET last = $2 WHERE id = $1", session, len(texts))

    async def newest(self, session: str, count: int) -> list[Any]:
        return [json.loads(row[0]) for row in await self._pool.fetch(_NEWEST, session, count)]

    async def page(self, session: str, after: int, count: int) -> list[Any]:
        return [json.loads(row[0]) for row in await self._pool.fetch(_PAGE, session, after, count)]


class _Unreset(asyncpg.Connection):
    def get_reset_query(self) -> str:
        return ""


class Postgres(ServerBackend):
    name = "postgres"
    title = "PostgreSQL"
    durability = "fsync and synchronous_commit on"

    def _make(self, folder: Path) -> PostgresServer:
        self.server = PostgresServer(folder)
        return self.server

    @property
    def place(self) -> str:
        return self.server.url

    @staticmethod
    def storage_at(place: str) -> PostgreSQLStorage:
        return PostgreSQLStorage(place, schema="ours")

    def floor(self) -> Floor:
        return Floor(self.server.url)

    def versions(self) -> str:
        server = str(self._ask("SHOW server_version")).split()[0]
        return f"PostgreSQL {server}, asyncpg {version('asyncpg')}"

    def bytes_used(self, of: str) -> int:
        schema = "raw" if of == "floor" else of
        return int(
            self._ask(
                "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0) FROM pg_class c "
                "JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' AND nspname = $1",
                schema,
            )
        )

    def settle(self) -> None:
        self._ask("VACUUM")

    def count_calls(self, *, on: bool) -> None:
        # the wheel has no pg_stat_statements; the server's log has every statement too
        wanted = "ALL" if on else "NONE"
        self._ask(f"ALTER SYSTEM SET log_statement = '{wanted}'")
        self._ask("SELECT pg_reload_conf()")
        time.sleep(0.5)  # until every process of the server has read it

    def calls(self) -> int:
        log = self.server.log.read_text("utf-8", errors="replace")
        return log.count("LOG:  execute ") + log.count("LOG:  statement: ")

    def _ask(self, query: str, *args: object) -> Any:
        async def ask() -> Any:
            connection = await asyncpg.connect(self.server.url)
            try:
                return await connection.fetchval(query, *args)
            finally:
                await connection.close()

        return _apart(ask())


def _apart(work: Coroutine[Any, Any, Any]) -> Any:
    with ThreadPoolExecutor(1) as thread:  # from the event loop of the benchmark
        return thread.submit(asyncio.run, work).result()
