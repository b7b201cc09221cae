"""Through PgBouncer in transaction mode: every statement may be on another connection of the server."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.postgres.options import Address, Limits
from luminoracore_sdk.adapters.storage.postgres.pool import PostgresPool
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange
from luminoracore_sdk.domain.errors import ConfigurationError, LuminoraCoreSDKError
from luminoracore_sdk.testing import CancelAt
from luminoracore_sdk.testing.records import memory_record, message_records, session_record
from tests.support.pgbouncer import PgBouncer, binary
from tests.support.postgres import Schema
from tests.support.servers import postgres_url
from tests.support.servers.places import clear_postgres, place_name

_ALL = MessageRange()
_ENOUGH_STEPS = 100


@pytest.fixture(scope="module")
def pooler() -> Iterator[PgBouncer]:
    if binary() is None:
        reason = "no pgbouncer: apt-get install pgbouncer"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="luminora-pgbouncer-"))  # pytest's own are not for other users
    try:
        with PgBouncer(folder, postgres_url()) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def schema(tmp_path: Path, pooler: PgBouncer) -> Iterator[Schema]:
    made = Schema(f"{pooler.url}?prepared_statements=false", place_name(tmp_path))
    yield made
    clear_postgres(postgres_url(), made.name)


@pytest.fixture
async def storage(schema: Schema) -> AsyncIterator[PostgreSQLStorage]:
    async with schema.storage(pool_size=20) as opened:
        await opened.put_session(session_record())
        yield opened


async def test_20_storages_create_the_tables_at_once(schema: Schema) -> None:
    storages = [schema.storage() for _ in range(20)]
    try:
        await asyncio.gather(*(storage.open() for storage in storages))
        assert [await storage.schema_version() for storage in storages] == [1] * 20
    finally:
        for storage in storages:
            await storage.close()


async def test_every_call_works_on_shared_connections(
    storage: PostgreSQLStorage,
) -> None:
    async def use(name: str) -> None:
        await storage.put_session(session_record(name, tags=(name,)), expected_version=0)
        await storage.append_messages(name, message_records(3), expected_last=0)
        assert (await storage.append_messages(name, message_records(3))).replayed is True
        await storage.put_memory(memory_record("old", owner=name))
        await storage.put_memory(memory_record("new", owner=name), max_entries=1)
        await storage.put_memory(memory_record("new", owner=name, kind="user"), max_entries=1)
        for kind in ("session", "user"):
            found = await storage.list_memories(MemoryScope(kind, name))
            assert [memory.key for memory in found] == ["new"]
        assert await storage.truncate_messages(name, after=1) == 2
        assert [message.message_id for message in await storage.read_messages(name, _ALL)] == ["m1"]
        assert await storage.delete_session(name) is True

    await asyncio.gather(*(use(f"task{task}") for task in range(30)))
    assert await storage.list_sessions() == ["s"]


async def test_50_writers_of_one_session_lose_nothing(storage: PostgreSQLStorage) -> None:
    await asyncio.gather(*(storage.append_messages("s", message_records(2, prefix=f"{task}-")) for task in range(50)))
    found = await storage.read_messages("s", _ALL)
    assert [message.position for message in found] == list(range(1, 101))


@pytest.mark.parametrize("late", [False, True])
async def test_a_cancelled_append_is_whole_or_absent(storage: PostgreSQLStorage, *, late: bool) -> None:
    for step in range(_ENOUGH_STEPS):
        batch = message_records(3, prefix=f"step{step}-")
        call = CancelAt(storage.append_messages("s", batch), step, late=late)
        await asyncio.wait([asyncio.ensure_future(call)])
        assert len(await storage.read_messages("s", _ALL)) in (3 * step, 3 * step + 3)
        assert (await storage.append_messages("s", batch)).last_position == 3 * step + 3
        if not call.reached:
            return
    raise AssertionError(f"an append still waits after {_ENOUGH_STEPS} steps")


async def test_without_the_option_the_error_names_it(schema: Schema, pooler: PgBouncer) -> None:
    async with schema.storage() as storage:
        await storage.put_session(session_record())
    async with schema.storage(url=pooler.url, pool_size=20) as unaware:
        outcomes = await asyncio.gather(
            *(unaware.find_session(f"s{task}") for task in range(50)),
            return_exceptions=True,
        )
    refused = [outcome for outcome in outcomes if isinstance(outcome, LuminoraCoreSDKError)]
    assert {type(error) for error in refused} == {ConfigurationError}
    assert {"prepared_statements=false" in str(error) for error in refused} == {True}


async def test_snapshots_of_many_clients_share_connections(schema: Schema, storage: PostgreSQLStorage) -> None:
    await storage.append_messages("s", message_records(120))

    async def read() -> list[int]:
        limits = Limits(pool_size=1, connect_seconds=5, call_seconds=20)
        pool = PostgresPool(limits, address=Address.of(schema.url), pool=None)
        await pool.open()
        try:
            async with pool.snapshot(schema.name) as snapshot:
                statement = "SELECT position FROM luminora_messages ORDER BY position"
                return [position async for (position,) in snapshot.rows(statement)]
        finally:
            await pool.close()

    assert await asyncio.gather(*(read() for _ in range(20))) == [list(range(1, 121))] * 20
