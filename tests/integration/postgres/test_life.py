"""The connection pool and cancelled calls."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.application.ports.records import (
    MemoryScope,
)
from luminoracore_sdk.domain.errors import (
    SessionNotFoundError,
    StorageBusyError,
    StorageClosedError,
    StorageTimeoutError,
    StorageUnavailableError,
    WrongEventLoopError,
)
from luminoracore_sdk.testing import CancelAt
from luminoracore_sdk.testing.records import (
    memory_record,
    message_records,
    session_record,
)
from tests.support.postgres import ENOUGH_STEPS, Schema, positions

# -- the pool --------------------------------------------------------------------------------------


async def test_an_exhausted_pool_is_an_error_in_time(schema: Schema) -> None:
    async with schema.storage(pool_size=2, timeout=1) as storage, schema.connection() as other:
        await storage.put_session(session_record())
        await asyncio.gather(*(storage.list_sessions() for _ in range(2)))  # both connections are there
        block = other.transaction()
        await block.start()
        await other.execute("SELECT 1 FROM luminora_sessions FOR UPDATE")
        begin = time.monotonic()
        outcomes = await asyncio.gather(
            *(storage.put_session(session_record()) for _ in range(4)),
            return_exceptions=True,
        )
        assert time.monotonic() - begin < 3
        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds == ["StorageBusyError"] * 2 + ["StorageTimeoutError"] * 2
        assert {outcome.in_doubt for outcome in outcomes if isinstance(outcome, StorageTimeoutError)} == {True}
        busy = next(outcome for outcome in outcomes if isinstance(outcome, StorageBusyError))
        assert (busy.in_doubt, "all 2 connections" in str(busy)) == (False, True)
        await block.rollback()
        await schema.assert_connections_free(storage, 2)
        assert (await storage.append_messages("s", message_records(1))).first_position == 1


async def test_a_pool_that_was_passed_in_stays_open(schema: Schema) -> None:
    async with asyncpg.create_pool(schema.url, min_size=1, max_size=2, command_timeout=10) as pool:
        for expected in (1, 2):
            async with PostgreSQLStorage(pool=pool, schema=schema.name) as storage:
                assert (await storage.put_session(session_record())).version == expected
                await storage.append_messages("s", message_records(2, prefix=f"run{expected}-"))
            with pytest.raises(StorageClosedError):
                await storage.ping()
        assert await pool.fetchval("SELECT 1") == 1
        assert pool.get_idle_size() == pool.get_size()


async def test_closing_waits_for_calls_on_a_foreign_pool(schema: Schema) -> None:
    async with asyncpg.create_pool(schema.url, min_size=1, max_size=8) as pool:
        storage = PostgreSQLStorage(pool=pool, schema=schema.name)
        await storage.put_session(session_record())
        appends = [
            asyncio.ensure_future(storage.append_messages("s", message_records(1, prefix=f"{task}-")))
            for task in range(20)
        ]
        await asyncio.sleep(0)
        await storage.close()
        assert [append.done() for append in appends] == [True] * 20
        assert sorted([(await append).first_position for append in appends]) == list(range(1, 21))


async def test_a_cancelled_close_leaves_no_connection(schema: Schema) -> None:
    url = f"{schema.url}{'&' if '?' in schema.url else '?'}application_name=closes"
    storage = schema.storage(url=url)
    await storage.put_session(session_record())
    async with schema.connection() as other, other.transaction():
        await other.execute("SELECT 1 FROM luminora_sessions FOR UPDATE")
        append = asyncio.create_task(storage.append_messages("s", message_records(1)))
        query = "SELECT wait_event_type FROM pg_stat_activity WHERE application_name = 'closes'"
        await schema.until(query, lambda found: found == "Lock")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(storage.close(), 0.1)
        with pytest.raises(StorageUnavailableError) as caught:
            await append
    assert caught.value.in_doubt is True
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closes'"
    await schema.until(count, lambda found: found == 0)


async def test_a_pool_of_another_event_loop_is_refused(schema: Schema) -> None:
    async with asyncpg.create_pool(schema.url, min_size=0, max_size=1) as pool:
        storage = PostgreSQLStorage(pool=pool, schema=schema.name)
        await storage.put_session(session_record())

        async def elsewhere() -> None:
            with pytest.raises(WrongEventLoopError):
                await storage.ping()

        await asyncio.to_thread(lambda: asyncio.run(elsewhere()))
        await storage.ping()


def test_a_pool_of_a_closed_event_loop_is_refused(schema: Schema) -> None:
    async def first() -> PostgreSQLStorage:
        pool = await asyncpg.create_pool(schema.url, min_size=0, max_size=1)
        storage = PostgreSQLStorage(pool=pool, schema=schema.name)
        await storage.put_session(session_record())
        await pool.close()
        return storage

    storage = asyncio.run(first())
    with pytest.raises(WrongEventLoopError):
        asyncio.run(storage.ping())


# -- cancelled calls -------------------------------------------------------------------------------

Work = Callable[[PostgreSQLStorage], Awaitable[object]]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("work", "left"),
    [
        pytest.param(lambda storage: storage.truncate_messages("s", after=1), 1, id="truncate"),
        pytest.param(lambda storage: storage.delete_session("s"), 0, id="delete"),
        pytest.param(lambda storage: storage.append_messages("s", message_records(3)), 3, id="replay"),
        pytest.param(lambda storage: storage.put_memory(memory_record("new"), max_entries=1), 3, id="memory"),
    ],
)
async def test_a_cancelled_transaction_is_whole_or_absent(
    schema: Schema, storage: PostgreSQLStorage, work: Work, left: int, *, late: bool
) -> None:
    for step in range(ENOUGH_STEPS):
        await storage.delete_session("s")
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(3))
        await storage.put_memory(memory_record("old"))
        call = CancelAt(work(storage), step, late=late)
        await asyncio.wait([asyncio.ensure_future(call)])
        assert len(await _messages(storage)) in (3, left)
        keys = [memory.key for memory in await storage.list_memories(MemoryScope("session", "s"))]
        assert keys in (["old"], ["new"], [])
        await work(storage)
        assert len(await _messages(storage)) == left
        if not call.reached:
            await schema.assert_connections_free(storage, 4)
            return
    raise AssertionError(f"it still waits after {ENOUGH_STEPS} steps")


async def _messages(storage: PostgreSQLStorage) -> list[int]:
    try:
        return await positions(storage)
    except SessionNotFoundError:
        return []


async def test_a_cancelled_wait_for_a_lock_ends_on_the_server(schema: Schema, storage: PostgreSQLStorage) -> None:
    async with schema.connection() as other:
        block = other.transaction()
        await block.start()
        await other.execute("SELECT 1 FROM luminora_sessions FOR UPDATE")
        append = asyncio.ensure_future(storage.append_messages("s", message_records(1)))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        await schema.until(waiting, lambda count: count == 1)
        append.cancel()
        with pytest.raises(asyncio.CancelledError):
            await append
        await schema.until(waiting, lambda count: count == 0)
        await block.rollback()
    assert await positions(storage) == []
