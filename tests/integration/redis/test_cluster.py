"""Redis Cluster: buckets over the nodes, slots that move under way, nodes that are away."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.adapters.storage.redis.keys import Keyspace
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, SessionQuery
from luminoracore_sdk.domain.errors import StorageBusyError, StorageUnavailableError
from luminoracore_sdk.testing.cancellation import CancelAt
from luminoracore_sdk.testing.records import (
    VALID_IDS,
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.redis_calls import assert_free
from tests.support.servers.process import wait_until
from tests.support.servers.valkey import ValkeyCluster, ValkeyServer

_ALL = MessageRange()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(shared: ValkeyCluster) -> ValkeyCluster:
    for node in shared.nodes:
        node.command("FLUSHALL")
        node.command("CONFIG", "RESETSTAT")
    return shared


@pytest.fixture
async def storage(cluster: ValkeyCluster) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(cluster.url, connect_timeout=2, timeout=2, max_connections=1) as storage:
        yield storage


def keys(cluster: ValkeyCluster) -> list[str]:
    return sorted(key for node in cluster.nodes for key in node.command("KEYS", "*"))


async def test_sessions_and_users_are_spread_over_all_nodes(storage: RedisStorage, cluster: ValkeyCluster) -> None:
    for number in range(100):
        await storage.put_session(session_record(f"s{number}", user_id="u"))
        await storage.put_memory(memory_record("k", owner=f"u{number}", kind="user"))
    for kind in ("session", "user-memories"):
        counts = [len(node.command("KEYS", f"*:{kind}:*")) for node in cluster.nodes]
        assert sum(counts) == 100
        assert min(counts) > 15


async def test_hostile_ids_lie_in_their_own_bucket(storage: RedisStorage, cluster: ValkeyCluster) -> None:
    names = [*VALID_IDS, "{0}", "}{", "{}", "a}b{c", "{{x}}:session:y", "1}:session:x"]
    for name in names:
        await storage.put_session(session_record(name, user_id=name, tags=(name,), ttl_us=10**12))
        await storage.append_messages(name, [message_record(name)])
        await storage.put_memory(memory_record(name, owner=name))
        await storage.put_memory(memory_record(name, owner=name, kind="user"))
    assert sorted(await storage.list_sessions()) == sorted(names)
    assert await storage.list_memory_owners() == sorted(names)
    for name in names:
        [read] = await storage.read_messages(name, _ALL)
        assert read.message_id == name
        [memory] = await storage.list_memories(MemoryScope("user", name))
        assert memory.key == name
        assert await storage.delete_session(name) is True
        assert await storage.delete_memory(memory.scope, name) is True
    assert keys(cluster) == ["luminoracore:meta"]


async def test_a_listing_asks_no_node_for_more_than_it_needs(storage: RedisStorage, cluster: ValkeyCluster) -> None:
    for number in range(300):
        await storage.put_session(session_record(f"s{number:03}", user_id=f"u{number % 2}"))
    for node in cluster.nodes:
        node.command("CONFIG", "RESETSTAT")
    page = await storage.query_sessions(SessionQuery(user_id="u1", limit=50))
    assert len(page.sessions) == 50
    stats = [node.command("INFO", "commandstats") for node in cluster.nodes]
    walked = sum(stat["cmdstat_zrange"]["calls"] for stat in stats)
    read = sum(stat["cmdstat_hmget"]["calls"] for stat in stats)
    assert walked == 128
    assert 51 <= read <= 150
    assert [stat for stat in stats if {"cmdstat_keys", "cmdstat_scan"} & stat.keys()] == []


# -- slots on the move ---------------------------------------------------------------------------


class Move:
    """One slot on its way from the node that has it to another."""

    def __init__(self, cluster: ValkeyCluster, key: bytes) -> None:
        self.slot = key_slot(key)
        self.cluster = cluster
        share = 16_384 // 3 + 1
        self.source = cluster.nodes[self.slot // share]
        self.target = next(node for node in cluster.nodes if node is not self.source)

    def _id(self, node: ValkeyServer) -> str:
        return str(node.command("CLUSTER", "MYID"))

    def begin(self) -> None:
        self.target.command("CLUSTER", "SETSLOT", self.slot, "IMPORTING", self._id(self.source))
        self.source.command("CLUSTER", "SETSLOT", self.slot, "MIGRATING", self._id(self.target))

    def carry(self, count: int = 1000) -> None:
        names = self.source.command("CLUSTER", "GETKEYSINSLOT", self.slot, count)
        if names:
            self.source.command("MIGRATE", "127.0.0.1", self.target.port, "", 0, 5000, "KEYS", *names)

    def end(self) -> None:
        for node in (self.target, self.source, *self.cluster.nodes):
            node.command("CLUSTER", "SETSLOT", self.slot, "NODE", self._id(self.target))

    def back(self) -> None:
        self.source, self.target = self.target, self.source
        self.begin()
        self.carry()
        self.end()


@pytest.fixture
def move(cluster: ValkeyCluster) -> Iterator[Move]:
    move = Move(cluster, Keyspace("luminoracore:", 128).session("s").session)
    yield move
    for node in cluster.nodes:
        node.command("CLUSTER", "SETSLOT", move.slot, "STABLE")
    if move.slot in {*_slots(move.target)}:
        move.back()


def _slots(node: ValkeyServer) -> Iterator[int]:
    own = str(node.command("CLUSTER", "MYID"))
    for first, last, (_, _, name, *_), *_ in node.command("CLUSTER", "SLOTS") or ():
        if name == own:
            yield from range(int(first), int(last) + 1)


async def test_a_slot_that_moves_is_followed_at_every_stage(storage: RedisStorage, move: Move) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(2))
    await storage.put_memory(memory_record("k"))
    stages: list[Callable[[], None]] = [move.begin, move.carry, move.end]
    for position, stage in enumerate(stages, start=3):
        await asyncio.to_thread(stage)
        receipts = await asyncio.gather(
            *(storage.append_messages("s", [message_record(f"m{position}")]) for _ in range(5))
        )
        assert {receipt.last_position for receipt in receipts} == {position}
        assert sum(not receipt.replayed for receipt in receipts) == 1
        assert len(await storage.read_messages("s", _ALL)) == position
        assert (await storage.put_session(session_record(), expected_version=position - 2)).version > 1
        assert await storage.list_sessions() == ["s"]


def _try_agains(node: ValkeyServer) -> int:
    return int(node.command("INFO", "errorstats").get("errorstat_TRYAGAIN", {"count": 0})["count"])


async def test_a_write_waits_until_all_its_keys_have_moved(storage: RedisStorage, move: Move) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(2))
    await asyncio.to_thread(move.begin)
    await asyncio.to_thread(move.carry, 1)
    answered = [_try_agains(node) for node in move.cluster.nodes]
    writing = asyncio.ensure_future(storage.append_messages("s", [message_record("m3")]))
    while [_try_agains(node) for node in move.cluster.nodes] == answered:  # noqa: ASYNC110 - a server does not call back
        await asyncio.sleep(0)
    assert writing.done() is False
    await asyncio.to_thread(move.carry)
    await asyncio.to_thread(move.end)
    receipt = await writing
    assert (receipt.last_position, receipt.replayed) == (3, False)
    await assert_free(storage)


async def test_a_moving_slot_delays_only_its_own_sessions(cluster: ValkeyCluster, move: Move) -> None:
    async with RedisStorage(cluster.url, timeout=10) as storage:
        names = [f"s{number}" for number in range(30)]
        for name in ("s", *names):
            await storage.put_session(session_record(name))
            await storage.append_messages(name, message_records(2))
        await asyncio.to_thread(move.begin)
        await asyncio.to_thread(move.carry, 1)
        calls = {
            name: asyncio.ensure_future(storage.append_messages(name, [message_record("m3")]))
            for name in (*names[:15], "s", *names[15:])
        }
        others = [calls[name] for name in names if _slot(name) != move.slot]
        assert {receipt.last_position for receipt in await asyncio.gather(*others)} == {3}
        assert calls["s"].done() is False
        await asyncio.to_thread(move.carry)
        await asyncio.to_thread(move.end)
        assert {receipt.last_position for receipt in await asyncio.gather(*calls.values())} == {3}


def _slot(name: str) -> int:
    return key_slot(Keyspace("luminoracore:", 128).session(name).session)


async def test_a_write_that_waits_too_long_is_busy_and_not_done(
    cluster: ValkeyCluster, storage: RedisStorage, move: Move
) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(2))
    await asyncio.to_thread(move.begin)
    await asyncio.to_thread(move.carry, 1)
    async with RedisStorage(cluster.url, timeout=0.2) as impatient:
        with pytest.raises(StorageBusyError) as caught:
            await impatient.append_messages("s", [message_record("m3")])
        assert caught.value.in_doubt is False
    await asyncio.to_thread(move.carry)
    await asyncio.to_thread(move.end)
    assert len(await storage.read_messages("s", _ALL)) == 2


# -- nodes, clients ------------------------------------------------------------------------------


async def test_a_node_that_is_away_leaves_the_others_to_work(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with ValkeyCluster(tmp_path_factory.mktemp("other"), durable=True) as cluster:
        for node in cluster.nodes:
            node.command("CONFIG", "SET", "cluster-require-full-coverage", "no")
        async with RedisStorage(cluster.url, connect_timeout=1, timeout=1, max_connections=1) as storage:
            names = [f"s{number}" for number in range(30)]
            for name in names:
                await storage.put_session(session_record(name))
            cluster.nodes[2].kill()
            with pytest.raises(StorageUnavailableError):
                await storage.list_sessions()  # which may find connections still open
            outcomes = [await _outcome(storage.append_messages(name, [message_record("m")])) for name in names]
            failed = [name for name, outcome in zip(names, outcomes, strict=True) if outcome]
            assert 0 < len(failed) < len(names)
            assert [outcome.in_doubt for outcome in outcomes if outcome] == [False] * len(failed)
            with pytest.raises(StorageUnavailableError):
                await storage.list_sessions()
            await asyncio.to_thread(cluster.nodes[2].start)
            await asyncio.to_thread(wait_until, cluster.is_whole, "a whole cluster")
            for name in names:
                assert (await storage.append_messages(name, [message_record("m")])).last_position == 1
            assert len(await storage.list_sessions()) == 30
            await assert_free(storage)


async def _outcome(call: Awaitable[object]) -> StorageUnavailableError | None:
    try:
        await call
    except StorageUnavailableError as exc:
        return exc
    return None


async def test_one_living_node_of_the_url_is_enough(cluster: ValkeyCluster) -> None:
    url = f"redis+cluster://127.0.0.1:1,127.0.0.1:{cluster.nodes[1].port}"
    async with RedisStorage(url) as storage:
        await storage.put_session(session_record())
        assert await storage.list_sessions() == ["s"]


async def test_no_cluster_at_the_url_is_an_error() -> None:
    with pytest.raises(StorageUnavailableError) as caught:
        await RedisStorage("redis+cluster://127.0.0.1:1,127.0.0.1:2").open()
    assert caught.value.in_doubt is False


async def test_a_single_server_is_no_cluster(tmp_path_factory: pytest.TempPathFactory) -> None:
    with (
        ValkeyServer(tmp_path_factory.mktemp("single")) as server,
        pytest.raises(StorageUnavailableError, match="Cluster mode is not enabled"),
    ):
        await RedisStorage(f"redis+cluster://127.0.0.1:{server.port}").open()


@pytest.mark.parametrize("decode", [False, True])
async def test_a_cluster_client_is_used_and_left_open(cluster: ValkeyCluster, decode: bool) -> None:
    async with RedisCluster(port=cluster.nodes[0].port, host="127.0.0.1", decode_responses=decode) as client:
        async with RedisStorage(client=client) as storage:
            await storage.put_session(session_record())
            await storage.append_messages("s", message_records(3))
            assert len(await storage.read_messages("s", _ALL)) == 3
            assert await storage.list_sessions() == ["s"]
        assert await client.ping() is True


@pytest.mark.parametrize("late", [False, True])
async def test_a_cancelled_listing_holds_no_connection(storage: RedisStorage, late: bool) -> None:
    for number in range(10):
        await storage.put_session(session_record(f"s{number}"))
    for step in range(200):
        call: CancelAt[Any] = CancelAt(storage.query_sessions(SessionQuery()), step, late=late)
        await asyncio.wait([asyncio.ensure_future(call)])
        await assert_free(storage)
        assert len(await storage.list_sessions()) == 10
        if not call.reached:
            return
    raise AssertionError("it still waits after 200 steps")


def test_the_hash_tag_of_every_key_is_its_bucket() -> None:
    keyspace = Keyspace("p:", 128)
    for name in ("a", "{x}", "}", "{", "{}{}"):
        slots = {key_slot(key) for key in keyspace.session(name)}
        users = {key_slot(key) for key in keyspace.memories(MemoryScope("user", name))}
        assert len(slots) == len(users) == 1
