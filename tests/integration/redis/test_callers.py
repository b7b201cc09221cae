"""Calls to the Redis backend that are cancelled, closing, and clients that the caller passes in."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import (
    StorageBusyError,
    StorageError,
    StorageTimeoutError,
    StorageUnavailableError,
    WrongEventLoopError,
)
from luminoracore_sdk.testing.cancellation import CancelAt
from luminoracore_sdk.testing.records import memory_record, message_record, session_record
from tests.support.redis_calls import ALL, CALLS, SCOPE, assert_free, connected, fill
from tests.support.servers.process import wait_until
from tests.support.servers.valkey import ValkeyServer


@pytest.fixture
async def storage(server: ValkeyServer) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(server.url, max_connections=1) as storage:
        yield storage


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_cancelled_at_any_step_holds_no_connection(storage: RedisStorage, name: str, late: bool) -> None:
    for step in range(200):
        await fill(storage)
        call: CancelAt[Any] = CancelAt(CALLS[name](storage), step, late=late)
        await asyncio.wait([asyncio.ensure_future(call)])
        await assert_free(storage)
        await storage.delete_session("s")
        if not call.reached:
            return
    raise AssertionError("it still waits after 200 steps")


@pytest.mark.parametrize("late", [False, True])
async def test_a_first_call_cancelled_at_any_step_can_be_closed(server: ValkeyServer, late: bool) -> None:
    for step in range(200):
        storage = RedisStorage(server.url)
        call: CancelAt[Any] = CancelAt(storage.find_session("s"), step, late=late)
        await asyncio.wait([asyncio.ensure_future(call)])
        await storage.close()
        await asyncio.to_thread(wait_until, lambda: connected(server) == 0, "closed connections")
        if not call.reached:
            return
    raise AssertionError("it still waits after 200 steps")


async def test_closing_waits_for_requests_under_way(server: ValkeyServer) -> None:
    storage = RedisStorage(server.url)
    await storage.put_session(session_record())
    tasks = [
        asyncio.ensure_future(storage.append_messages("s", [message_record(f"m{number}")])) for number in range(30)
    ]
    await asyncio.sleep(0)
    await storage.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [outcome for outcome in outcomes if isinstance(outcome, StorageError)] == []
    await storage.open()
    assert len(await storage.read_messages("s", ALL)) == 30
    await storage.close()


@pytest.mark.parametrize("late", [False, True])
async def test_a_close_cancelled_at_any_step_leaves_nothing_open(server: ValkeyServer, late: bool) -> None:
    for step in range(50):
        storage = RedisStorage(server.url)
        await fill(storage)
        await asyncio.gather(*(storage.ping() for _ in range(3)))
        under_way = asyncio.ensure_future(storage.find_session("s"))
        await asyncio.sleep(0)
        call = CancelAt(storage.close(), step, late=late)
        await asyncio.wait([asyncio.ensure_future(call)])
        await asyncio.wait([under_way], timeout=5)
        await asyncio.to_thread(wait_until, lambda: connected(server) == 0, "closed connections")
        outcome = under_way.exception()
        assert outcome is None or isinstance(outcome, StorageUnavailableError)
        if not call.reached:
            return
    raise AssertionError("it still waits after 50 steps")


def test_a_client_of_another_event_loop_is_an_error(server: ValkeyServer) -> None:
    async def use() -> None:
        async with RedisStorage(client=client) as storage:
            await fill(storage)

    with asyncio.Runner() as first:
        client = Redis(port=server.port)
        first.run(use())
        with pytest.raises((StorageUnavailableError, WrongEventLoopError), match=r"event loop|different loop"):
            asyncio.run(use())
        first.run(client.aclose())


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_client_passed_in_is_used_and_left_open(server: ValkeyServer, decode: bool, protocol: int) -> None:
    async with Redis(port=server.port, decode_responses=decode, protocol=protocol) as client:
        async with RedisStorage(client=client) as storage:
            await fill(storage)
            binary = Payload("json+zstd", bytes(range(256)))
            await storage.put_memory(attrs.evolve(memory_record("z"), payload=binary))
            listed = await storage.list_memories(SCOPE)
            assert [memory.key for memory in listed] == ["k", "z"]
            assert listed[1].payload == binary
            assert await storage.list_sessions() == ["s"]
            assert len(await storage.read_messages("s", ALL)) == 3
        assert connected(server) == 1
        assert await client.ping() is True


@pytest.mark.parametrize("blocking", [False, True])
async def test_an_exhausted_pool_of_the_caller_is_busy(server: ValkeyServer, blocking: bool) -> None:
    pool: ConnectionPool
    if blocking:
        pool = BlockingConnectionPool(port=server.port, max_connections=1, timeout=0.1)
    else:
        pool = ConnectionPool(port=server.port, max_connections=1)
    client = Redis.from_pool(pool)
    try:
        async with RedisStorage(client=client) as storage:
            held = await pool.get_connection()  # type: ignore[no-untyped-call]
            with pytest.raises(StorageBusyError) as caught:
                await storage.ping()
            assert caught.value.in_doubt is False
            await pool.release(held)
            await storage.ping()
    finally:
        await client.aclose()


async def test_a_client_without_time_limits_gets_ours(server: ValkeyServer) -> None:
    async with (
        Redis(port=server.port, socket_timeout=None) as client,
        RedisStorage(client=client, timeout=0.2, connect_timeout=0.2) as storage,
    ):
        await fill(storage)
        server.freeze()
        try:
            with pytest.raises(StorageTimeoutError):
                await storage.find_session("s")
        finally:
            server.thaw()
        await storage.ping()
