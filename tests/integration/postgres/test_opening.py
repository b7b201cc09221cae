"""Creating, migrating and refusing tables."""

import asyncio
import multiprocessing
import subprocess
import sys
from collections.abc import Callable

import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.postgres.migrate import MIGRATION_LOCK
from luminoracore_sdk.adapters.storage.postgres.options import Address
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange
from luminoracore_sdk.bootstrap.factory import create_storage
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    SchemaVersionError,
    StorageAccessError,
    StorageTimeoutError,
)
from luminoracore_sdk.testing.records import memory_record, message_records, session_record
from tests.support.postgres import Schema

OPENERS = 20

TABLES = [
    "luminora_documents",
    "luminora_messages",
    "luminora_session_memories",
    "luminora_sessions",
    "luminora_user_memories",
    "luminora_version",
]


async def tables(schema: Schema) -> list[str]:
    found = await schema.rows(
        'SELECT tablename FROM pg_tables WHERE schemaname = $1 ORDER BY tablename COLLATE "C"', schema.name
    )
    return [row[0] for row in found]


def open_and_put(schema: Schema, number: int, start: Callable[[], object]) -> None:
    async def run() -> None:
        start()
        async with schema.storage() as storage:
            await storage.put_session(session_record(f"s{number:02}"))

    asyncio.run(run())


async def test_20_processes_open_an_empty_database_at_once(schema: Schema) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.postgres", "luminoracore_sdk.testing.records", "alembic.script"])
    barrier = context.Barrier(OPENERS, timeout=60)
    children = [context.Process(target=open_and_put, args=(schema, number, barrier.wait)) for number in range(OPENERS)]
    for child in children:
        child.start()
    for child in children:
        await asyncio.to_thread(child.join, 120)
    assert [child.exitcode for child in children] == [0] * OPENERS
    async with schema.storage(auto_create=False) as storage:
        assert sorted(await storage.list_sessions()) == [f"s{number:02}" for number in range(OPENERS)]
        assert await storage.schema_version() == 1


async def test_without_auto_create_missing_tables_name_the_command(
    schema: Schema,
) -> None:
    storage = schema.storage(url=schema.url.replace("@", ":s3cret@", 1), auto_create=False, table_prefix="app_")
    with pytest.raises(SchemaVersionError) as caught:
        await storage.open()
    command = f"run: luminora migrate --store '{schema.url}?schema={schema.name}&table_prefix=app_'"
    assert str(caught.value).endswith(command)
    assert caught.value.found == "no tables"
    assert await tables(schema) == []


async def test_migrate_ignores_auto_create(schema: Schema) -> None:
    storage = schema.storage(auto_create=False)
    assert [await storage.migrate() for _ in range(2)] == [1, 1]
    assert await tables(schema) == TABLES
    async with storage:
        assert await storage.migrate() == 1
        assert (await storage.put_session(session_record())).version == 1


async def test_newer_tables_are_refused_and_kept(schema: Schema) -> None:
    async with schema.storage() as storage:
        await storage.put_session(session_record())
    await schema.rows("UPDATE luminora_version SET version_num = '2'")
    for attempt in (schema.storage().open, schema.storage().migrate):
        with pytest.raises(SchemaVersionError) as caught:
            await attempt()
        assert (caught.value.found, caught.value.supported) == (2, 1)
    assert await schema.rows("SELECT session_id, version FROM luminora_sessions") == [("s", 1)]


async def test_older_tables_are_refused_without_auto_create(schema: Schema) -> None:
    async with schema.storage():
        pass
    await schema.rows("UPDATE luminora_version SET version_num = '0'")
    with pytest.raises(SchemaVersionError, match="luminora migrate") as caught:
        await schema.storage(auto_create=False).open()
    assert caught.value.found == 0


@pytest.mark.parametrize("damage", ["DELETE FROM luminora_version", "UPDATE luminora_version SET version_num = 'x'"])
async def test_a_version_table_without_one_number_is_damage(schema: Schema, damage: str) -> None:
    async with schema.storage():
        pass
    await schema.rows(damage)
    with pytest.raises(CorruptRecordError, match="luminora_version"):
        await schema.storage().open()


@pytest.mark.parametrize(
    "foreign", ["luminora_sessions", "luminora_user_memories", "luminora_version", "luminora_sessions_tags"]
)
async def test_a_foreign_table_in_the_way_is_named_and_kept(schema: Schema, foreign: str) -> None:
    async with schema.connection() as connection:
        await connection.execute(f"CREATE SCHEMA {schema.name}; CREATE TABLE {foreign} AS SELECT 7 AS mine")
    for attempt in (schema.storage().open, schema.storage().migrate):
        with pytest.raises(SchemaVersionError, match=f"{foreign}.*use another table_name"):
            await attempt()
    assert await tables(schema) == [foreign]
    assert await schema.rows(f"TABLE {foreign}") == [(7,)]
    async with schema.storage(table_prefix="ours_") as storage:
        assert (await storage.put_session(session_record())).version == 1


async def test_foreign_tables_with_common_names_do_not_disturb(schema: Schema) -> None:
    async with schema.connection() as connection:
        await connection.execute(
            f"CREATE SCHEMA {schema.name}; CREATE TABLE sessions (mine int); CREATE TABLE messages (mine int)"
        )
    async with schema.storage() as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(1))
    assert await tables(schema) == [*TABLES, "messages", "sessions"]
    for name in ("sessions", "messages"):
        assert await schema.rows(f"TABLE {name}") == []


async def test_prefixes_and_schemas_keep_stores_apart(schema: Schema) -> None:
    odd = Schema(schema.url, f"{schema.name} \"Ünï.1%:now '$1")
    places = [(schema, ""), (schema, "A_"), (schema, "a_"), (odd, "")]
    try:
        for place, prefix in places:
            async with place.storage(table_prefix=prefix) as storage:
                await storage.put_session(session_record("s", text=f"{place.name}{prefix}"))
                await storage.append_messages("s", message_records(2, prefix=prefix or "m"))
                await storage.put_memory(memory_record("k", owner="u", kind="user", value=prefix), max_entries=1)
        for place, prefix in places:
            async with place.storage(table_prefix=prefix, auto_create=False) as storage:
                assert await storage.load_session("s") == {"text": f"{place.name}{prefix}"}
                ids = [message.message_id for message in await storage.read_messages("s", MessageRange())]
                assert ids == [f"{prefix or 'm'}1", f"{prefix or 'm'}2"]
                (memory,) = await storage.list_memories(MemoryScope("user", "u"))
                assert memory.payload.data == f'"{prefix}"'.encode()
    finally:
        async with schema.connection() as connection:
            quoted = odd.name.replace('"', '""')
            await connection.execute(f'DROP SCHEMA "{quoted}" CASCADE')


async def test_without_a_schema_the_search_path_decides(schema: Schema) -> None:
    async with schema.connection() as connection:
        await connection.execute(f"CREATE SCHEMA {schema.name}")
    url = f"{schema.url}?search_path={schema.name},public"
    async with PostgreSQLStorage(url) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(1))
    assert await tables(schema) == TABLES
    async with schema.storage(auto_create=False) as storage:
        assert await storage.list_sessions() == ["s"]


async def test_a_search_path_that_leads_nowhere_is_an_access_error(schema: Schema) -> None:
    with pytest.raises(StorageAccessError, match="no schema has been selected"):
        await PostgreSQLStorage(f"{schema.url}?search_path=nowhere").open()


async def test_a_role_without_create_is_enough_to_use_the_tables(schema: Schema) -> None:
    role = f"{schema.name}_role"
    async with schema.storage():
        pass
    async with schema.connection() as connection:
        await connection.execute(
            f"CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA {schema.name} TO {role};"
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema.name} TO {role}"
        )
    url = schema.url.replace("postgres@", f"{role}@", 1)
    try:
        async with schema.storage(url=url, auto_create=False) as storage:
            await storage.put_session(session_record(ttl_us=1))
            await storage.put_session(session_record(), expected_version=0)
            await storage.append_messages("s", message_records(3))
            assert (await storage.append_messages("s", message_records(3))).replayed is True
            await storage.put_memory(memory_record("k"), max_entries=1)
            await storage.put_memory(memory_record("k", owner="u", kind="user"), max_entries=1)
            assert await storage.truncate_messages("s", after=1) == 2
            await storage.purge_expired()
            assert await storage.delete_session("s") is True
        with pytest.raises(StorageAccessError, match="permission denied"):
            await schema.storage(url=url, table_prefix="new_").open()
    finally:
        async with schema.connection() as connection:
            await connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_opening_current_tables_does_not_import_alembic(schema: Schema) -> None:
    async with schema.storage():
        pass
    code = (
        "import asyncio, sys\n"
        "from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage\n"
        "async def run():\n"
        f"    async with PostgreSQLStorage({schema.url!r}, schema={schema.name!r}) as storage:\n"
        "        pass\n"
        "asyncio.run(run())\n"
        "print('alembic' in sys.modules, 'greenlet' in sys.modules)\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("False False\n", "")


async def test_a_database_in_another_encoding_is_refused(schema: Schema) -> None:
    database = f"{schema.name}_latin1"
    async with schema.connection() as connection:
        await connection.execute(
            f"CREATE DATABASE {database} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    try:
        url = schema.url.rpartition("/")[0] + f"/{database}"
        with pytest.raises(ConfigurationError, match="LATIN1"):
            await PostgreSQLStorage(url).open()
    finally:
        async with schema.connection() as connection:
            await connection.execute(f"DROP DATABASE {database} WITH (FORCE)")


async def test_stores_that_need_the_same_new_schema_open_at_once(schema: Schema) -> None:
    storages = [schema.storage(table_prefix=f"t{number}_") for number in range(8)]
    await asyncio.gather(*(storage.open() for storage in storages))
    await asyncio.gather(*(storage.close() for storage in storages))
    assert len(await tables(schema)) == 8 * len(TABLES)


async def test_one_namespace_with_two_names_opens_at_once(schema: Schema) -> None:
    await schema.rows(f"CREATE SCHEMA {schema.name}")
    by_path = f"{schema.url}{'&' if '?' in schema.url else '?'}search_path={schema.name}"
    storages = [schema.storage() if number % 2 else PostgreSQLStorage(by_path) for number in range(8)]
    await asyncio.gather(*(storage.open() for storage in storages))
    await asyncio.gather(*(storage.close() for storage in storages))
    assert await tables(schema) == TABLES


async def test_a_migration_may_take_longer_than_a_call(schema: Schema) -> None:
    async with schema.connection() as other:
        await other.execute(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")
        migration = asyncio.create_task(schema.storage(timeout=0.5).migrate())
        with pytest.raises(StorageTimeoutError):
            await schema.storage(timeout=1).open()
        assert not migration.done()
        await other.execute(f"SELECT pg_advisory_unlock({MIGRATION_LOCK})")
        assert await migration == 1


async def test_an_unknown_older_version_is_refused_and_kept(schema: Schema) -> None:
    storage = schema.storage()
    assert await storage.migrate() == 1
    await schema.rows("UPDATE luminora_version SET version_num = '0000'")
    with pytest.raises(SchemaVersionError, match=r"has schema version 0; .*no migration leads from there"):
        await storage.migrate()
    assert await schema.rows("SELECT version_num FROM luminora_version") == [("0000",)]


async def test_parameters_of_libpq_and_sqlalchemy_reach_the_server(schema: Schema) -> None:
    mark = "&" if "?" in schema.url else "?"
    pasted = f"{schema.url.replace('postgresql://', 'postgresql+asyncpg://')}{mark}schema={schema.name}"
    pasted += "&ssl=disable&channel_binding=prefer&connect_timeout=7&application_name=as%20pasted"
    async with create_storage(
        f" {pasted}&options=-c%20lock_timeout%3D4321%20-c%20statement_timeout%3D54321\n"
    ) as storage:
        await storage.put_session(session_record())
        connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'as pasted'"
        assert await schema.rows(connections) == [(1,)]
        assert await schema.rows("SELECT count(*) FROM luminora_sessions") == [(1,)]


async def test_the_options_of_a_url_are_settings_of_its_connections(schema: Schema) -> None:
    mark = "&" if "?" in schema.url else "?"
    dsn = Address.of(f"{schema.url}{mark}options=-c%20lock_timeout%3D4321").dsn
    async with schema.connection(url=dsn) as connection:
        assert await connection.fetchval("SHOW lock_timeout") == "4321ms"
