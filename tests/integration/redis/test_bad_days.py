"""A Redis server that is away, killed or frozen."""

import time
from collections.abc import Callable, Iterator
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
from tests.support.redis_calls import ALL, CALLS, WRITES, Call, assert_free, fill
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


async def test_no_server_is_an_error_at_once_without_the_password() -> None:
    storage = RedisStorage(f"redis://:s3cret@127.0.0.1:{free_port()}/0")
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError) as caught:
        await storage.put_session(session_record())
    assert time.monotonic() - started < 2
    assert caught.value.in_doubt is False
    assert "s3cret" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RedisConnectionError)
    await storage.close()


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_to_a_server_that_was_killed_is_not_in_doubt(tmp_path: Path, name: str) -> None:
    with ValkeyServer(tmp_path, durable=True) as server:
        async with RedisStorage(server.url, connect_timeout=1, timeout=1, max_connections=1) as storage:
            await fill(storage)
            server.kill()
            with pytest.raises(StorageUnavailableError) as caught:
                await until_closed(storage, CALLS[name])
            assert caught.value.in_doubt is False
            server.start()
            assert len(await storage.read_messages("s", ALL)) == 3
            await CALLS[name](storage)


async def until_closed(storage: RedisStorage, call: Call) -> None:
    """Make a call once the event loop has noticed that the server closed its connections."""
    with pytest.raises(StorageUnavailableError):
        await storage.ping()  # which may find the connection still open
    await call(storage)


@pytest.fixture
def frozen(server: ValkeyServer) -> Iterator[Callable[[], None]]:
    yield server.freeze
    server.thaw()


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_to_a_frozen_server_ends_in_time(
    server: ValkeyServer, frozen: Callable[[], None], name: str
) -> None:
    async with RedisStorage(server.url, connect_timeout=0.2, timeout=0.2, max_connections=1) as storage:
        await fill(storage)
        frozen()
        started = time.monotonic()
        with pytest.raises(StorageTimeoutError) as caught:
            await CALLS[name](storage)
        assert 0.15 < time.monotonic() - started < 2
        assert caught.value.in_doubt is (name in WRITES)
        with pytest.raises(StorageUnavailableError) as again:  # no new connection is answered
            await CALLS[name](storage)
        assert again.value.in_doubt is False
        server.thaw()
        await assert_free(storage)


async def test_a_late_answer_is_not_taken_for_another_one(server: ValkeyServer, frozen: Callable[[], None]) -> None:
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


async def test_opening_on_a_frozen_server_ends_in_time(server: ValkeyServer, frozen: Callable[[], None]) -> None:
    storage = RedisStorage(server.url, connect_timeout=0.2, timeout=0.2)
    frozen()
    started = time.monotonic()
    with pytest.raises(StorageUnavailableError) as caught:
        await storage.open()
    assert time.monotonic() - started < 2
    assert caught.value.in_doubt is False
    await storage.close()
