"""Migrations at once: of several stores, of one under two names, and longer ones than a call may be."""

import asyncio

import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.postgres.layout import LAYOUT_LOCK
from luminoracore_sdk.domain.errors import SchemaVersionError, StorageTimeoutError
from tests.support.postgres import Schema

TABLES_OF_A_STORE = 6


async def tables(schema: Schema) -> int:
    (row,) = await schema.rows("SELECT count(*) FROM pg_tables WHERE schemaname = $1", schema.name)
    return int(row[0])


async def test_stores_that_need_the_same_new_schema_open_at_once(schema: Schema) -> None:
    storages = [schema.storage(table_prefix=f"t{number}_") for number in range(8)]
    await asyncio.gather(*(storage.open() for storage in storages))
    await asyncio.gather(*(storage.close() for storage in storages))
    assert await tables(schema) == 8 * TABLES_OF_A_STORE


async def test_one_place_under_its_two_names_opens_at_once(schema: Schema) -> None:
    await schema.rows(f"CREATE SCHEMA {schema.name}")
    by_path = f"{schema.url}{'&' if '?' in schema.url else '?'}search_path={schema.name}"
    storages = [schema.storage() if number % 2 else PostgreSQLStorage(by_path) for number in range(8)]
    await asyncio.gather(*(storage.open() for storage in storages))
    await asyncio.gather(*(storage.close() for storage in storages))
    assert await tables(schema) == TABLES_OF_A_STORE


async def test_a_migration_may_take_longer_than_a_call(schema: Schema) -> None:
    async with schema.connection() as other:
        await other.execute(f"SELECT pg_advisory_lock({LAYOUT_LOCK})")
        migration = asyncio.create_task(schema.storage(timeout=0.5).migrate())
        with pytest.raises(StorageTimeoutError):
            await schema.storage(timeout=1).open()
        assert not migration.done()
        await other.execute(f"SELECT pg_advisory_unlock({LAYOUT_LOCK})")
        assert await migration == 1


async def test_an_unknown_older_version_is_told_and_left(schema: Schema) -> None:
    storage = schema.storage()
    assert await storage.migrate() == 1
    await schema.rows("UPDATE luminora_version SET version_num = '0000'")
    with pytest.raises(SchemaVersionError, match=r"has schema version 0; .*no migration leads from there"):
        await storage.migrate()
    assert [tuple(row) for row in await schema.rows("SELECT version_num FROM luminora_version")] == [("0000",)]
