"""Snapshots: what is read, what is not, and what comes of failures."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from urllib.parse import urlsplit

import pytest

from luminoracore_sdk.adapters.storage.postgres.options import Address, Limits
from luminoracore_sdk.adapters.storage.postgres.pool import PostgresPool, Snapshot
from luminoracore_sdk.domain.errors import (
    StorageAccessError,
    StorageClosedError,
    StorageReadOnlyError,
    StorageUnavailableError,
)
from tests.support.postgres import Schema

NUMBERS = "SELECT n FROM numbers ORDER BY n"


@asynccontextmanager
async def pool_of(url: str) -> AsyncIterator[PostgresPool]:
    limits = Limits(pool_size=1, connect_seconds=5, call_seconds=10)
    pool = PostgresPool(limits, address=Address.of(url), pool=None)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


async def numbers(snapshot: Snapshot) -> list[int]:
    return [n async for (n,) in snapshot.rows(NUMBERS)]


async def with_numbers(schema: Schema, count: int = 3) -> None:
    async with schema.connection() as other:
        await other.execute(f"CREATE SCHEMA {schema.name}")
        await other.execute("CREATE TABLE numbers (n int)")
        await other.execute("INSERT INTO numbers SELECT generate_series(1, $1)", count)


async def test_what_is_written_meanwhile_is_not_read(schema: Schema) -> None:
    await with_numbers(schema)
    async with pool_of(schema.url) as pool, pool.snapshot(schema.name) as snapshot:
        assert await numbers(snapshot) == [1, 2, 3]
        async with schema.connection() as other:
            await other.execute("INSERT INTO numbers VALUES (4)")
            await other.execute("DELETE FROM numbers WHERE n = 1")
        assert await numbers(snapshot) == [1, 2, 3]


async def test_a_snapshot_changes_nothing(schema: Schema) -> None:
    await with_numbers(schema)
    async with pool_of(schema.url) as pool:
        async with pool.snapshot(schema.name) as snapshot:
            with pytest.raises(StorageReadOnlyError):
                await anext(snapshot.rows("DELETE FROM numbers RETURNING n"))
        async with pool.snapshot(schema.name) as snapshot:
            assert await numbers(snapshot) == [1, 2, 3]


async def test_other_statements_run_between_the_rows(schema: Schema) -> None:
    await with_numbers(schema, 200)
    async with pool_of(schema.url) as pool, pool.snapshot(schema.name) as snapshot:
        found = []
        async for (n,) in snapshot.rows(NUMBERS):
            (square,) = [one async for (one,) in snapshot.rows("SELECT $1::int * $1::int", n)]
            found.append(square)
    assert found == [n * n for n in range(1, 201)]


async def test_a_name_of_a_schema_that_must_be_quoted(schema: Schema) -> None:
    name = 'Other "schema", public'
    async with schema.connection() as other:
        quoted = name.replace('"', '""')
        await other.execute(f'CREATE SCHEMA "{quoted}"')
        try:
            await other.execute(f'CREATE TABLE "{quoted}".numbers AS SELECT 7 AS n')
            async with pool_of(schema.url) as pool, pool.snapshot(name) as snapshot:
                assert await numbers(snapshot) == [7]
        finally:
            await other.execute(f'DROP SCHEMA "{quoted}" CASCADE')


async def test_a_server_that_goes_away_is_unavailable(schema: Schema) -> None:
    await with_numbers(schema, 200)
    async with pool_of(schema.url) as pool, pool.snapshot(schema.name) as snapshot:
        (process,) = [one async for (one,) in snapshot.rows("SELECT pg_backend_pid()")]
        async with aclosing(snapshot.rows(NUMBERS)) as rows:
            await anext(rows)
            await schema.rows("SELECT pg_terminate_backend($1)", process)
            with pytest.raises(StorageUnavailableError):
                [row async for row in rows]


async def test_a_server_that_takes_the_snapshot_away_is_unavailable(schema: Schema) -> None:
    await with_numbers(schema)
    async with schema.connection() as other:  # a standby does this while it replays
        body = "BEGIN RAISE 'conflict with recovery' USING ERRCODE = 'serialization_failure'; END"
        await other.execute(f"CREATE FUNCTION fail() RETURNS int LANGUAGE plpgsql AS $${body}$$")
    async with pool_of(schema.url) as pool, pool.snapshot(schema.name) as snapshot:
        with pytest.raises(StorageUnavailableError, match="conflict with recovery"):
            await anext(snapshot.rows("SELECT fail()"))


async def test_a_refused_login_is_an_error_of_access(schema: Schema) -> None:
    missing = urlsplit(schema.url)._replace(path="/absent").geturl()
    async with pool_of(missing) as pool:
        with pytest.raises(StorageAccessError):
            await pool.snapshot().__aenter__()


async def test_the_connection_comes_back_clean(schema: Schema) -> None:
    await with_numbers(schema)
    async with pool_of(schema.url) as pool:
        async with pool.snapshot(schema.name) as snapshot:
            await anext(snapshot.rows(NUMBERS))
        async with pool.snapshot() as snapshot:
            (path,) = [one async for (one,) in snapshot.rows("SELECT current_setting('search_path')")]
    assert schema.name not in path


async def test_a_closed_pool_has_no_snapshot(schema: Schema) -> None:
    async with pool_of(schema.url) as pool:
        pass
    with pytest.raises(StorageClosedError):
        await pool.snapshot().__aenter__()
