"""A Redis server that is busy, full or read-only, or that refuses access."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import MemoryScope, Payload
from luminoracore_sdk.domain.errors import (
    StorageAccessError,
    StorageBusyError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing.records import (
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.redis_calls import ALL, CALLS, WRITES, Call, connected, fill
from tests.support.servers.process import wait_until
from tests.support.servers.valkey import ValkeyServer


@pytest.fixture
async def storage(server: ValkeyServer) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(server.url, connect_timeout=2, timeout=2) as storage:
        yield storage


# -- busy ----------------------------------------------------------------------------------------


async def test_more_calls_than_connections_wait_for_each_other(server: ValkeyServer) -> None:
    async with RedisStorage(server.url, max_connections=3) as storage:
        names = [f"s{number}" for number in range(50)]
        await asyncio.gather(*(storage.put_session(session_record(name)) for name in names))
        assert len(await storage.list_sessions()) == 50
        assert connected(server) == 3


async def test_a_server_without_room_for_clients_is_unavailable(server: ValkeyServer) -> None:
    storage = RedisStorage(server.url)
    server.command("CONFIG", "SET", "maxclients", "1")
    async with Redis(port=server.port) as occupant:
        await occupant.ping()
        try:
            with pytest.raises(StorageUnavailableError) as caught:
                await storage.open()
        finally:
            await occupant.config_set("maxclients", 10_000)
    assert caught.value.in_doubt is False
    await storage.ping()
    await storage.close()


async def test_a_server_busy_with_a_script_is_busy(storage: RedisStorage, server: ValkeyServer) -> None:
    await fill(storage)
    server.command("CONFIG", "SET", "busy-reply-threshold", "50")
    async with Redis(port=server.port, socket_timeout=20) as other:
        endless = asyncio.ensure_future(other.eval("while true do end", 0))
        try:
            await asyncio.to_thread(wait_until, lambda: is_busy(server), "a busy server")
            with pytest.raises(StorageBusyError) as caught:
                await storage.append_messages("s", [message_record("next")])
            assert caught.value.in_doubt is False
        finally:
            server.command("SCRIPT", "KILL")
            await asyncio.gather(endless, return_exceptions=True)
            server.command("CONFIG", "SET", "busy-reply-threshold", "5000")
    assert len(await storage.read_messages("s", ALL)) == 3


def is_busy(server: ValkeyServer) -> bool:
    try:
        server.command("PING")
    except ResponseError:
        return True
    return False


# -- full, read-only -----------------------------------------------------------------------------


@pytest.fixture
def full(server: ValkeyServer) -> Iterator[Callable[[], None]]:
    """Yield what takes all memory away from the server."""
    yield lambda: server.command("CONFIG", "SET", "maxmemory", "1mb")
    server.command("CONFIG", "SET", "maxmemory", "0")


async def dump(server: ValkeyServer) -> dict[Any, Any]:
    """Return everything that the server holds."""
    async with Redis(port=server.port) as client:
        return {key: await client.dump(key) for key in await client.keys("*")}


@pytest.mark.parametrize("session_id", ["s", "new"])
@pytest.mark.parametrize("name", ["put", "append", "put memory"])
async def test_a_full_server_refuses_whole_writes(
    storage: RedisStorage, server: ValkeyServer, full: Callable[[], None], name: str, session_id: str
) -> None:
    await fill(storage)
    if name != "put":
        await storage.put_session(session_record("new"))
    before = await dump(server)
    full()
    calls: dict[str, Call] = {
        "put": lambda storage: storage.put_session(session_record(session_id, user_id="u", tags=("t",))),
        "append": lambda storage: storage.append_messages(session_id, message_records(3, prefix="x")),
        "put memory": lambda storage: storage.put_memory(memory_record("x", owner=session_id)),
    }
    with pytest.raises(StorageFullError) as caught:
        await calls[name](storage)
    assert caught.value.in_doubt is False
    assert await dump(server) == before


def used_memory(server: ValkeyServer) -> int:
    return int(server.command("INFO", "memory")["used_memory"])


async def test_a_full_server_reads_and_deletes_and_then_writes(storage: RedisStorage, server: ValkeyServer) -> None:
    payload = Payload("json", b'"' + b"x" * 500_000 + b'"')
    for number in range(10):
        name = f"s{number}"
        await storage.put_session(session_record(name, ttl_us=10**12, tags=("t",)))
        batch = [attrs.evolve(message, payload=payload) for message in message_records(2)]
        await storage.append_messages(name, batch)
        await storage.put_memory(memory_record("k", owner=name, expires_at_us=10**16))
    used = used_memory(server)
    server.command("CONFIG", "SET", "maxmemory", str(used - 1_000_000))
    try:
        with pytest.raises(StorageFullError):
            await storage.append_messages("s0", [message_record("next")])
        assert len(await storage.read_messages("s0", ALL)) == 2
        assert len(await storage.list_sessions()) == 10
        assert await storage.delete_memory(MemoryScope("session", "s0"), "k") is True
        assert await storage.clear_memories(MemoryScope("session", "s1")) == 1
        assert await storage.truncate_messages("s0", after=1) == 1
        for number in range(1, 6):
            assert await storage.delete_session(f"s{number}") is True
        await asyncio.to_thread(wait_until, lambda: used_memory(server) < used - 2_000_000, "freed memory")
        receipt = await storage.append_messages("s0", [message_record("next")])
        assert receipt.first_position == 2
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")


@pytest.fixture
def replica(server: ValkeyServer, tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path, settings=("--replicaof", f"127.0.0.1 {server.port}")) as replica:
        yield replica


async def test_a_replica_is_read_and_not_written(
    storage: RedisStorage, server: ValkeyServer, replica: ValkeyServer
) -> None:
    await fill(storage)
    copied = "luminoracore:{0}:memories:s"
    await asyncio.to_thread(wait_until, lambda: replica.command("EXISTS", copied) == 1, "a copy")
    async with RedisStorage(replica.url) as reader:
        assert len(await reader.read_messages("s", ALL)) == 3
        for name, write in WRITES.items():
            with pytest.raises(StorageReadOnlyError) as caught:
                await write(reader)
            assert (name, caught.value.in_doubt) == (name, False)
    with pytest.raises(StorageReadOnlyError):
        await RedisStorage(replica.url, prefix="new:").open()


# -- refused -------------------------------------------------------------------------------------

_RIGHTS = (
    *("on", ">pass~word", "~luminoracore:*", "-@all", "+select", "+eval", "+evalsha"),
    *("+exists", "+hmget", "+hget", "+hgetall", "+hset", "+hdel", "+hlen", "+hincrby", "+unlink"),
    *("+rpush", "+lset", "+lrange", "+llen", "+ltrim", "+zadd", "+zrange", "+zcount", "+zrem"),
    *("+pexpire", "+persist"),
    "+rename",
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    settings = ("--requirepass", "s3cret", "--user", "service", *_RIGHTS)
    with ValkeyServer(tmp_path_factory.mktemp("guarded"), settings=settings) as server:
        yield server


@pytest.mark.parametrize("user", ["", ":wrong@", "service:wrong@", "unknown:s3cret@"])
async def test_an_error_about_a_password_does_not_contain_it(guarded: ValkeyServer, user: str) -> None:
    storage = RedisStorage(f"redis://{user}127.0.0.1:{guarded.port}/0")
    with pytest.raises(StorageAccessError) as caught:
        await storage.open()
    error: BaseException | None = caught.value
    while error is not None:
        assert "wrong" not in f"{error}{error.args}".replace("WRONGPASS", "")
        assert "s3cret" not in f"{error}{error.args}"
        error = error.__cause__


async def test_a_user_with_the_documented_rights_can_do_everything(guarded: ValkeyServer) -> None:
    url = f"redis://service:pass~word@127.0.0.1:{guarded.port}/0"
    async with RedisStorage(url) as storage:
        await storage.put_session(session_record(ttl_us=10**12, user_id="u", tags=("t",)))
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(3))
        await storage.put_memory(memory_record("k", expires_at_us=10**17), max_entries=1)
        for call in CALLS.values():
            await call(storage)
        await storage.purge_expired()
    with pytest.raises(StorageAccessError):
        await RedisStorage(url, prefix="other:").open()


async def test_a_user_without_rights_to_channels_polls(guarded: ValkeyServer) -> None:
    url = f"redis://service:pass~word@127.0.0.1:{guarded.port}/0"
    async with (
        RedisStorage(url, prefix="luminoracore:watched:") as writer,
        RedisStorage(url, prefix="luminoracore:watched:") as reader,
    ):
        await writer.put_session(session_record())
        changes = reader.watch("s", poll_seconds=0.05)
        async with asyncio.timeout(10):
            for number in (1, 2):
                await writer.append_messages("s", [message_record(f"m{number}")])
                assert (await anext(changes)).position == number
        await changes.aclose()  # type: ignore[attr-defined]


async def test_the_last_watcher_frees_its_connection(server: ValkeyServer, storage: RedisStorage) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", [message_record("m1")])

    async def subscribers(admin: Redis) -> int:
        return len(await admin.client_list("pubsub"))

    async with Redis.from_url(server.url) as admin:
        assert await subscribers(admin) == 0
        async with storage.wakeups("s"), storage.wakeups("s"), asyncio.timeout(10):
            while await subscribers(admin) != 1:  # noqa: ASYNC110  # the server does not call back
                await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            while await subscribers(admin):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_database_that_does_not_exist_is_refused(server: ValkeyServer) -> None:
    with pytest.raises(StorageAccessError):
        await RedisStorage(server.url.removesuffix("0") + "99").open()
