"""A Redis server that is away, killed, cut off or frozen."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.domain.errors import (
    StorageTimeoutError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing.records import (
    message_record,
    session_record,
)
from tests.support.redis_calls import ALL, CALLS, WRITES, fill, in_use
from tests.support.servers.process import free_port
from tests.support.servers.valkey import ValkeyServer


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path_factory.mktemp("valkey"), durable=True) as server:
        yield server


@pytest.fixture
def server(shared: ValkeyServer) -> ValkeyServer:
    shared.command("FLUSHALL")
    return shared


@pytest.fixture
async def storage(server: ValkeyServer) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(server.url, connect_timeout=1, timeout=1) as storage:
        yield storage


async def test_a_server_that_is_not_there_is_told_at_once_and_nothing_is_in_doubt() -> None:
    storage = RedisStorage(f"redis://:s3cret@127.0.0.1:{free_port()}/0")
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError) as caught:
        await storage.put_session(session_record())
    assert time.monotonic() - started < 2
    assert caught.value.in_doubt is False
    assert "s3cret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RedisConnectionError)
    await storage.close()


async def test_a_server_that_comes_later_is_used_then(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)
    storage = RedisStorage(server.url)
    with pytest.raises(StorageUnavailableError):
        await storage.put_session(session_record())
    with server:
        assert (await storage.put_session(session_record())).version == 1
        await storage.close()


@pytest.mark.parametrize("name", CALLS)
async def test_a_server_killed_between_two_calls_is_noticed_and_nothing_is_in_doubt(tmp_path: Path, name: str) -> None:
    with ValkeyServer(tmp_path, durable=True) as server:
        async with RedisStorage(server.url, connect_timeout=1, timeout=1) as storage:
            await fill(storage)
            server.kill()
            await asyncio.sleep(0.05)  # the event loop hears of it
            with pytest.raises(StorageUnavailableError) as caught:
                await CALLS[name](storage)
            assert (caught.value.in_doubt, in_use(storage)) == (False, 0)
            server.start()
            assert len(await storage.read_messages("s", ALL)) == 3
            await CALLS[name](storage)


async def test_a_server_killed_under_many_writers_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, durable=True) as server:
        storage = RedisStorage(server.url, connect_timeout=1, timeout=1, max_connections=20)
        await storage.put_session(session_record())
        acknowledged: list[str] = []
        failures: list[StorageUnavailableError] = []
        enough = asyncio.Event()

        async def write(writer: int) -> None:
            for number in range(100_000):
                name = f"{writer}-{number}"
                try:
                    await storage.append_messages("s", [message_record(name)])
                except StorageUnavailableError as exc:
                    failures.append(exc)
                    return
                acknowledged.append(name)
                if len(acknowledged) == 200:
                    enough.set()

        writing = [asyncio.ensure_future(write(writer)) for writer in range(20)]
        await enough.wait()
        server.kill()
        await asyncio.gather(*writing)
        assert (len(failures), in_use(storage)) == (20, 0)
        server.start()
        read = {message.message_id for message in await storage.read_messages("s", ALL)}
        assert set(acknowledged) - read == set()
        unknown = read - set(acknowledged)
        assert len(unknown) <= sum(failure.in_doubt for failure in failures)
        await storage.close()


async def test_connections_that_the_server_cuts_are_made_again(storage: RedisStorage, server: ValkeyServer) -> None:
    await fill(storage)
    for _ in range(3):
        server.command("CLIENT", "KILL", "TYPE", "normal")
        await asyncio.sleep(0.05)
        assert len(await storage.read_messages("s", ALL)) == 3
    assert in_use(storage) == 0


@pytest.fixture
def frozen(server: ValkeyServer) -> Iterator[Callable[[], None]]:
    yield server.freeze
    server.thaw()


@pytest.mark.parametrize("name", CALLS)
async def test_a_frozen_server_ends_a_call_in_time_and_leaves_a_write_in_doubt(
    server: ValkeyServer, frozen: Callable[[], None], name: str
) -> None:
    async with RedisStorage(server.url, connect_timeout=0.2, timeout=0.2) as storage:
        await fill(storage)
        frozen()
        started = time.monotonic()
        with pytest.raises(StorageTimeoutError) as caught:
            await CALLS[name](storage)
        assert 0.15 < time.monotonic() - started < 2
        assert (caught.value.in_doubt, in_use(storage)) == (name in WRITES, 0)
        with pytest.raises(StorageUnavailableError) as again:  # it does not even take a connection
            await CALLS[name](storage)
        assert again.value.in_doubt is False
        server.thaw()
        await storage.ping()


async def test_an_answer_that_comes_too_late_is_not_taken_for_another_one(
    server: ValkeyServer, frozen: Callable[[], None]
) -> None:
    async with RedisStorage(server.url, connect_timeout=0.2, timeout=0.2, max_connections=1) as storage:
        await fill(storage)
        frozen()
        with pytest.raises(StorageTimeoutError):
            await storage.append_messages("s", [message_record("late")])
        server.thaw()
        retried = await storage.append_messages("s", [message_record("late")])
        assert (retried.first_position, retried.last_position) == (4, 4)
        found = await storage.find_session("s")
        assert found is not None
        assert found.last_position == 4


async def test_a_frozen_server_at_the_beginning_is_told_in_time(
    server: ValkeyServer, frozen: Callable[[], None]
) -> None:
    storage = RedisStorage(server.url, connect_timeout=0.2, timeout=0.2)
    frozen()
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError) as caught:
        await storage.open()
    assert time.monotonic() - started < 2
    assert caught.value.in_doubt is False
    await storage.close()
