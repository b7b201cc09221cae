"""Redis nodes and sentinels that do not answer, and failover from them."""

import asyncio
import collections
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.adapters.storage.redis.keys import Keyspace
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.domain.errors import StorageUnavailableError
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.redis_calls import assert_free
from tests.support.servers.process import free_port, wait_until
from tests.support.servers.valkey import ValkeyCluster, ValkeyServer

_ALL = MessageRange()
_KEYS = Keyspace("luminoracore:", 128)

# -- a cluster -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster(tmp_path_factory.mktemp("cluster"), durable=True) as cluster:
        for node in cluster.nodes:
            node.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
        yield cluster


@pytest.fixture
def cluster(shared: ValkeyCluster) -> ValkeyCluster:
    for node in shared.nodes:
        node.command("FLUSHALL")
    return shared


async def test_a_silent_node_does_not_stop_a_new_storage(cluster: ValkeyCluster) -> None:
    needed = {_node_of(cluster, _KEYS.meta), _node_of(cluster, _KEYS.session("s").session)}
    [silent, *_] = {0, 1, 2} - needed
    cluster.nodes[silent].freeze()
    try:
        for _ in range(6):  # redis-py asks the nodes in a random order
            async with RedisStorage(cluster.url, connect_timeout=1.5, timeout=1.5) as storage:
                await storage.put_session(session_record("s"))
    finally:
        cluster.nodes[silent].thaw()


async def test_a_silent_node_does_not_stop_a_storage_in_use(cluster: ValkeyCluster) -> None:
    async with RedisStorage(cluster.url, connect_timeout=0.9, timeout=0.5, max_connections=1) as storage:
        away = _node_of(cluster, _KEYS.session("s").session)
        names = [f"s{number}" for number in range(40)]
        others = [one for one in names if _node_of(cluster, _KEYS.session(one).session) != away]
        for name in ("s", *others[:4]):
            await storage.put_session(session_record(name))
        cluster.nodes[away].freeze()
        try:
            for name in others[:4]:
                with pytest.raises(StorageUnavailableError):
                    await storage.append_messages("s", [message_record("m")])  # asks about the slots anew
                assert (await storage.append_messages(name, [message_record("m")])).last_position == 1
        finally:
            cluster.nodes[away].thaw()
        await assert_free(storage)
        assert (await storage.append_messages("s", [message_record("m")])).last_position == 1


async def test_an_answer_may_take_longer_than_connecting(cluster: ValkeyCluster) -> None:
    async with RedisStorage(cluster.url, connect_timeout=0.3, timeout=5) as storage:
        await storage.put_session(session_record())
        node = cluster.nodes[_node_of(cluster, _KEYS.session("s").session)]
        node.command("CLIENT", "PAUSE", 1000, "WRITE")
        assert (await storage.append_messages("s", [message_record("m")])).last_position == 1


async def test_a_slot_without_a_node_is_an_error_until_it_has_one(cluster: ValkeyCluster) -> None:
    async with RedisStorage(cluster.url) as storage:
        key = _KEYS.session("s").session
        owner = cluster.nodes[_node_of(cluster, key)]
        for node in cluster.nodes:
            node.command("CLUSTER", "DELSLOTS", key_slot(key))
    async with RedisStorage(cluster.url) as storage:
        try:
            with pytest.raises(StorageUnavailableError, match="no node of the cluster has the slot") as caught:
                await storage.put_session(session_record())
            assert caught.value.in_doubt is False
        finally:
            owner_id = owner.command("CLUSTER", "MYID")
            for node in cluster.nodes:
                node.command("CLUSTER", "SETSLOT", key_slot(key), "NODE", owner_id)
        assert (await storage.put_session(session_record())).version == 1


async def test_a_cluster_started_anew_is_used_again(cluster: ValkeyCluster) -> None:
    async with RedisStorage(cluster.url, connect_timeout=1, timeout=1) as storage:
        names = [f"s{number}" for number in range(12)]
        for name in names:
            await storage.put_session(session_record(name))
        await asyncio.to_thread(cluster.kill)
        with pytest.raises(StorageUnavailableError):
            await storage.list_sessions()
        await asyncio.to_thread(cluster.start)
        for name in names:
            assert (await storage.append_messages(name, [message_record("m")])).last_position == 1
        assert sorted(await storage.list_sessions()) == sorted(names)


def _node_of(cluster: ValkeyCluster, key: bytes) -> int:
    return key_slot(key) // (16_384 // len(cluster.nodes) + 1)


# -- sentinels -----------------------------------------------------------------------------------


class Sentinel(ValkeyServer):
    """The same program; it takes its settings from a file that it may write."""

    def _command(self) -> list[str]:
        program, *_ = super()._command()
        return [program, *self._arguments]


def _watching(folder: Path, master: ValkeyServer) -> Sentinel:
    port = free_port()
    folder.mkdir()
    file = folder / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master.port} 2\n"
        "sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\n"
    )
    return Sentinel(folder, arguments=(str(file), "--sentinel"), port=port)


class Watched:
    """A master, its replica, and three sentinels that know each other and both of them."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        settings = ("--repl-diskless-sync-delay", "0")
        self.master = stack.enter_context(ValkeyServer(folder / "master", settings=settings))
        replica = (*settings, "--replicaof", f"127.0.0.1 {self.master.port}")
        self.replica = stack.enter_context(ValkeyServer(folder / "replica", settings=replica))
        self.sentinels = [
            stack.enter_context(_watching(folder / f"sentinel{number}", self.master)) for number in range(3)
        ]
        wait_until(self.is_whole, "sentinels that know all")

    @property
    def url(self) -> str:
        return "redis+sentinel://" + ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels) + "/main"

    def is_whole(self) -> bool:
        return self.replica.command("INFO", "replication")["master_link_status"] == "up" and all(
            len(one.command("SENTINEL", "SENTINELS", "main")) == 2
            and len(one.command("SENTINEL", "REPLICAS", "main")) == 1
            for one in self.sentinels
        )

    def has_changed(self) -> bool:
        try:
            return bool(self.replica.command("ROLE")[0] == "master")
        except RedisError:  # it disconnects its clients then
            return False

    def freeze(self, *servers: ValkeyServer) -> None:
        for server in servers:
            server.freeze()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with ExitStack() as stack:
        yield Watched(tmp_path, stack)


async def test_silent_sentinels_leave_time_for_one_that_answers(watched: Watched) -> None:
    watched.freeze(*watched.sentinels[:2])
    async with RedisStorage(watched.url, connect_timeout=1.5) as storage:
        assert (await storage.put_session(session_record())).version == 1


@pytest.mark.parametrize("how", ["killed", "silent together with the first sentinel"])
async def test_when_sentinels_change_the_master_the_new_one_is_used(watched: Watched, how: str) -> None:
    async with RedisStorage(watched.url, connect_timeout=1.2, timeout=1, max_connections=1) as storage:
        await storage.put_session(session_record())
        before = [f"before {number}" for number in range(50)]
        await asyncio.gather(*(storage.append_messages("s", [message_record(one)]) for one in before))
        await asyncio.to_thread(wait_until, lambda: _copied(watched, 50), "a copy")
        if how == "killed":
            await asyncio.to_thread(watched.master.kill)
        else:
            watched.freeze(watched.master, watched.sentinels[0])
        await asyncio.to_thread(wait_until, watched.has_changed, "another master")
        for _ in range(100):
            try:
                await storage.append_messages("s", [message_record("after")])
                break
            except StorageUnavailableError:  # until the sentinels agree
                await asyncio.sleep(0.1)
        await assert_free(storage)
        read = [message.message_id for message in await storage.read_messages("s", _ALL)]
        assert collections.Counter(read) == collections.Counter([*before, "after"])
        assert watched.replica.command("LLEN", "luminoracore:{0}:messages:s") == 51


def _copied(watched: Watched, count: int) -> bool:
    return bool(watched.replica.command("LLEN", "luminoracore:{0}:messages:s") == count)
