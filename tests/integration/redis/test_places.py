"""Where a Redis store lies: prefixes, databases, buckets, sockets, sentinels, event loops."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    SchemaVersionError,
    StorageUnavailableError,
    WrongEventLoopError,
)
from luminoracore_sdk.testing.records import (
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.servers.process import free_port, wait_until
from tests.support.servers.valkey import ValkeyCluster, ValkeyServer

_ALL = MessageRange()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    folder = tmp_path_factory.mktemp("valkey")
    with ValkeyServer(folder, settings=("--unixsocket", str(folder / "socket"))) as server:
        yield server


@pytest.fixture
def server(shared: ValkeyServer) -> ValkeyServer:
    shared.command("FLUSHALL")
    return shared


async def fill(storage: RedisStorage) -> None:
    await storage.put_session(session_record(user_id="u"))
    await storage.append_messages("s", message_records(3))
    await storage.put_memory(memory_record("k"))
    await storage.put_memory(memory_record("k", kind="user", owner="u"))


async def found(storage: RedisStorage) -> tuple[int, int]:
    """Return how many sessions and user memories there are."""
    return len(await storage.list_sessions()), len(await storage.list_memories(MemoryScope("user", "u")))


async def test_a_prefix_that_begins_another_one_sees_nothing_of_it(server: ValkeyServer) -> None:
    prefixes = ["a", "a:", "a:b:", "a:m", "a:meta", "a:session:"]
    storages = [RedisStorage(server.url, prefix=prefix) for prefix in prefixes]
    for storage in storages:
        assert await found(storage) == (0, 0)
        await fill(storage)
    for storage in storages:
        assert await found(storage) == (1, 1)
        assert await storage.delete_session("s") is True
    assert [await found(storage) for storage in storages] == [(0, 1)] * len(storages)
    for storage in storages:
        await storage.close()


async def test_two_databases_see_nothing_of_each_other(server: ValkeyServer) -> None:
    base = server.url.removesuffix("/0")
    async with RedisStorage(f"{base}/3") as three, RedisStorage(base, db=4) as four:
        await fill(three)
        assert await found(four) == (0, 0)
        await fill(four)
        await three.delete_session("s")
        assert (await found(three), await found(four)) == ((0, 1), (1, 1))
    async with RedisStorage(f"{base}/?db=4") as four:
        assert await found(four) == (1, 1)


async def test_the_number_of_buckets_belongs_to_the_store(server: ValkeyServer) -> None:
    async with RedisStorage(server.url, buckets=7) as first:
        for number in range(20):
            await first.put_session(session_record(f"s{number}"))
    async with RedisStorage(server.url) as second:
        assert len(await second.list_sessions()) == 20
    with pytest.raises(ConfigurationError, match="has 7 buckets, not 8"):
        await RedisStorage(server.url, buckets=8).open()


@pytest.mark.parametrize("version", ["2", "99", "x", ""])
async def test_a_store_of_another_version_is_refused_untouched(server: ValkeyServer, version: str) -> None:
    server.command("HSET", "luminoracore:meta", "schema_version", version, "buckets", "1")
    with pytest.raises(SchemaVersionError) as caught:
        await RedisStorage(server.url).put_session(session_record())
    assert caught.value.found == (version or None)
    assert server.command("KEYS", "*") == ["luminoracore:meta"]


async def test_a_foreign_key_under_our_name_is_an_error_and_stays(server: ValkeyServer) -> None:
    server.command("SET", "luminoracore:meta", "text")
    with pytest.raises(CorruptRecordError, match="luminoracore:meta"):
        await RedisStorage(server.url).open()
    assert server.command("GET", "luminoracore:meta") == "text"


async def test_a_socket_and_valkey_urls_reach_the_server(server: ValkeyServer) -> None:
    async with RedisStorage(f"unix://{server.folder}/socket?db=0") as storage:
        await fill(storage)
    async with RedisStorage(server.url.replace("redis:", "valkey:")) as storage:
        assert await found(storage) == (1, 1)
    with pytest.raises(StorageUnavailableError):
        await RedisStorage(f"unix://{server.folder}/no-socket").open()


def test_a_second_event_loop_is_refused(server: ValkeyServer) -> None:
    storage = RedisStorage(server.url)

    async def use() -> int:
        return (await storage.put_session(session_record())).version

    async def use_elsewhere() -> None:
        await use()
        with pytest.raises(WrongEventLoopError):
            await asyncio.to_thread(lambda: asyncio.run(use()))
        await use()

        await storage.close()

    asyncio.run(use_elsewhere())


# -- sentinels -----------------------------------------------------------------------------------


@pytest.fixture
def sentinel(server: ValkeyServer, tmp_path: Path) -> Iterator[ValkeyServer]:
    """Yield a sentinel that watches the server under the name ``main``."""
    file = tmp_path / "sentinel.conf"
    port = free_port()
    file.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {server.port} 1\n")
    with Sentinel(tmp_path, arguments=(str(file), "--sentinel"), port=port) as sentinel:
        yield sentinel


class Sentinel(ValkeyServer):
    """The same program; it takes its settings from a file that it may write."""

    def _command(self) -> list[str]:
        program, *_ = super()._command()
        return [program, *self._arguments]


async def test_sentinels_lead_to_the_master(server: ValkeyServer, sentinel: ValkeyServer) -> None:
    wait_until(lambda: sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main") is not None, "a master")
    unused = free_port()
    url = f"redis+sentinel://127.0.0.1:{unused},127.0.0.1:{sentinel.port}/main/2"
    async with RedisStorage(url) as storage:
        await fill(storage)
        receipt = await storage.append_messages("s", [message_record("m4")])
        assert receipt.last_position == 4
        assert len(await storage.read_messages("s", _ALL)) == 4
    async with RedisStorage(f"{server.url.removesuffix('/0')}/2") as direct:
        assert await found(direct) == (1, 1)


async def test_a_master_that_no_sentinel_knows_is_an_error(sentinel: ValkeyServer) -> None:
    storage = RedisStorage(f"redis+sentinel://127.0.0.1:{sentinel.port}/elsewhere", connect_timeout=2)
    with pytest.raises(StorageUnavailableError) as caught:
        await storage.open()
    assert caught.value.in_doubt is False


# -- a replica takes over ------------------------------------------------------------------------


async def test_when_a_replica_takes_over_a_cluster_is_followed(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    settings = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with (
        ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster,
        ValkeyServer(tmp_path_factory.mktemp("replica"), settings=settings) as replica,
    ):
        master = cluster.nodes[0]
        replica.command("CLUSTER", "MEET", "127.0.0.1", master.port, master.bus_port)
        name = master.command("CLUSTER", "MYID")
        wait_until(lambda: name in str(replica.command("CLUSTER", "NODES")), "a meeting")
        replica.command("CLUSTER", "REPLICATE", name)
        async with RedisStorage(cluster.url, connect_timeout=1, timeout=1) as storage:
            names = [f"s{number}" for number in range(30)]
            for session_id in names:
                await storage.put_session(session_record(session_id))
            count = master.command("DBSIZE")
            wait_until(lambda: replica.command("DBSIZE") == count, "a copy")
            master.kill()
            replica.command("CLUSTER", "FAILOVER", "TAKEOVER")
            wait_until(lambda: "master" in str(replica.command("ROLE")), "a new master")
            failed = 0
            for session_id in names:
                for _ in range(100):
                    try:
                        await storage.append_messages(session_id, [message_record("m")])
                        break
                    except StorageUnavailableError:  # until all nodes have heard of it
                        failed += 1
                        await asyncio.sleep(0.05)
            assert failed > 0
            assert len(await storage.list_sessions()) == 30
            assert [len(await storage.read_messages(one, _ALL)) for one in names] == [1] * 30
