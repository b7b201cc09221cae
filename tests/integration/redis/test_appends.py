"""Appends on Redis: damage, times, and groups of them in one pipeline."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.crc import key_slot

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.adapters.storage.redis.keys import Keyspace
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    SessionNotFoundError,
    StorageClosedError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.redis_calls import ALL, assert_free
from tests.support.servers.process import wait_until
from tests.support.servers.valkey import ValkeyCluster, ValkeyServer

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HEADER = "luminoracore:{0}:session:a"
_NAMES = [f"s{number}" for number in range(64)]


# -- one append ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "now", "after"),
    [(5, 7, 7), (7, 5, 7), (9, 10, 10), (10, 9, 10), (-5, -7, -5), (-7, -5, -5), (-5, 17, 17), (17, -5, 17)],
)
async def test_the_time_of_the_last_change_never_goes_back(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock, before: int, now: int, after: int
) -> None:
    await storage.put_session(session_record("a"))
    server.command("HSET", _HEADER, "updated_at_us", before)
    clock.set(_EPOCH + timedelta(microseconds=now))
    await storage.append_messages("a", [message_record("m")])
    assert server.command("HGET", _HEADER, "updated_at_us") == str(after)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("updated_at_us", "1700000000000x00"), ("updated_at_us", None)),
        *(("last_position", "x"), ("last_position", "2"), ("last_position", None)),
        *(("ttl_us", None), ("version", None)),
    ],
)
async def test_an_append_under_a_damaged_header_writes_nothing(
    storage: RedisStorage, server: ValkeyServer, field: str, value: str | None
) -> None:
    await storage.put_session(session_record("a"))
    await storage.append_messages("a", [message_record("m")])
    if value is None:
        server.command("HDEL", _HEADER, field)
    else:
        server.command("HSET", _HEADER, field, value)
    with pytest.raises(CorruptRecordError):
        await storage.append_messages("a", [message_record("n")])
    assert server.command("LLEN", "luminoracore:{0}:messages:a") == 1
    assert server.command("HKEYS", "luminoracore:{0}:ids:a") == ["m"]


# -- counters ------------------------------------------------------------------------------------


def _adding(number: int, **adds: int) -> MessageRecord:
    return attrs.evolve(message_record(f"m{number}"), adds=adds)


async def _sums(storage: RedisStorage) -> Mapping[str, int]:
    header = await storage.find_session("a")
    assert header is not None
    return header.summary.counters


async def test_counters_become_their_sums_again(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record("a"))
    for number in range(1, 101):
        await storage.append_messages("a", [_adding(number, up=3, down=-2, none=(-1) ** number)])
        stored = server.command("HGET", _HEADER, "counters")
        assert stored.count("up") == number % 8 + (number >= 8)
        expected = {"user": number, "up": 3 * number, "down": -2 * number, "none": -(number % 2)}
        assert await _sums(storage) == {name: value for name, value in expected.items() if value}
    for number in range(50):
        await storage.replace_tail("a", after=99, messages=[_adding(200 + number, up=1)])
    assert await _sums(storage) == {"user": 100, "up": 350, "down": -200}
    assert server.command("HGET", _HEADER, "counters").count("user") == 2  # the sum, and that of the last message


async def test_many_counters_are_summed_less_often(storage: RedisStorage, server: ValkeyServer) -> None:
    many = {f"counter {number}": 1 for number in range(300)}
    await storage.put_session(session_record("a"))
    await storage.append_messages("a", [_adding(0, **many)])
    seen = set()
    for number in range(1, 200):
        await storage.append_messages("a", [_adding(number, up=1)])
        seen.add(len(server.command("HGET", _HEADER, "counters")))
    assert await _sums(storage) == {**many, "user": 200, "up": 199}
    assert max(seen) < 1.25 * min(seen)
    assert len(seen) > 40  # appends from one sum to the next


@pytest.mark.parametrize("value", ["\0\0user\0x", "user\x001", "\0\0user", "\0user\x001", "5\0\0user\x001"])
async def test_damaged_counters_stay_and_do_not_grow(storage: RedisStorage, server: ValkeyServer, value: str) -> None:
    await storage.put_session(session_record("a"))
    server.command("HSET", _HEADER, "counters", value)
    for number in range(64):
        await storage.append_messages("a", [_adding(number, up=1)])
        with pytest.raises(CorruptRecordError):
            await storage.find_session("a")
    assert len(server.command("HGET", _HEADER, "counters")) < 50


# -- groups --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(params=["one server", "cluster"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[tuple[RedisStorage, Sequence[ValkeyServer]]]:
    """A storage on empty servers, with 64 sessions of one message, and the servers."""
    if request.param == "one server":
        server: ValkeyServer = request.getfixturevalue("server")
        servers: Sequence[ValkeyServer] = [server]
        url = server.url
    else:
        cluster: ValkeyCluster = request.getfixturevalue("other")
        servers, url = cluster.nodes, cluster.url
        for node in servers:
            node.command("FLUSHALL")
    async with RedisStorage(url, connect_timeout=2, timeout=2) as storage:
        await _fill(storage)
        yield storage, servers


async def _fill(storage: RedisStorage) -> None:
    for name in _NAMES:
        await storage.put_session(session_record(name))
        await storage.append_messages(name, [message_record("m1")])


async def _outcomes(*calls: Any) -> list[Any]:
    """Make calls at the same time: two are sent at once, the others wait and are written together."""
    return await asyncio.gather(*calls, return_exceptions=True)


def _kinds(some: Sequence[Any]) -> list[str]:
    return [type(one).__name__ for one in some]


async def test_64_waiting_appends_are_one_request(storage: RedisStorage, server: ValkeyServer) -> None:
    await _fill(storage)
    for name in ("x", "y"):
        await storage.put_session(session_record(name))
        await storage.append_messages(name, [message_record("m1")])
    before = _reads(server)
    receipts = await asyncio.gather(
        *(storage.append_messages(name, [message_record("m2")]) for name in ["x", "y", *_NAMES])
    )
    needed = _reads(server) - before
    assert receipts == [AppendReceipt(first_position=2, last_position=2)] * 66
    # "x" and "y" are written alone; the server reads the request of the others in portions of 16 KB
    assert needed <= 2 + 4 + _reads_of_asking(server)


def _reads(server: ValkeyServer) -> int:
    return int(server.command("INFO", "stats")["total_reads_processed"])


def _reads_of_asking(server: ValkeyServer) -> int:
    before = _reads(server)
    return _reads(server) - before


async def test_each_append_of_a_group_has_its_own_outcome(place: tuple[RedisStorage, Sequence[ValkeyServer]]) -> None:
    storage, _ = place
    calls = [storage.append_messages(name, [message_record("m2")]) for name in _NAMES[:40]]
    calls += [
        storage.append_messages(_NAMES[40], [message_record("m1")]),  # a repeat
        storage.append_messages(_NAMES[41], [message_record("m2")], expected_last=7),
        storage.append_messages(_NAMES[42], [message_record("m2")], expected_last=1),
        storage.append_messages("absent", [message_record("m2")]),
        storage.append_messages(_NAMES[43], message_records(2)),  # of which one is stored
        storage.append_messages(_NAMES[44], message_records(3, prefix="n")),
    ]
    *plain, repeat, moved, expected, absent, partial, several = await _outcomes(*calls)
    assert plain == [AppendReceipt(first_position=2, last_position=2)] * 40
    assert repeat == AppendReceipt(first_position=1, last_position=1, replayed=True)
    assert _kinds([moved, absent, partial]) == ["ConflictError", "SessionNotFoundError", "ConflictError"]
    assert "last position 1" in str(moved)
    assert "position 1" in str(partial)
    assert isinstance(moved, ConflictError)
    assert isinstance(absent, SessionNotFoundError)
    assert expected == AppendReceipt(first_position=2, last_position=2)
    assert several == AppendReceipt(first_position=2, last_position=4)
    lengths = [len(await storage.read_messages(name, ALL)) for name in _NAMES[:45]]
    assert lengths == [2] * 40 + [1, 1, 2, 1, 4]


async def test_a_group_keeps_the_order_within_a_session(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record(ttl_us=10**12))
    await storage.append_messages("s", [message_record("m1")])
    server.command("CONFIG", "RESETSTAT")
    names = [f"m{number}" for number in range(2, 12)]
    calls = [storage.append_messages("s", [message_record(name)]) for name in names]
    calls.insert(5, storage.append_messages("s", [message_record("m3")]))  # a repeat in their midst
    calls.insert(7, storage.append_messages("s", message_records(2, prefix="n")))
    done = await _outcomes(*calls)
    assert [receipt.last_position for receipt in done] == [2, 3, 4, 5, 6, 3, 7, 9, 10, 11, 12, 13]
    assert [receipt.replayed for receipt in done].count(True) == 1
    read = await storage.read_messages("s", ALL)
    order = ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "n1", "n2", "m8", "m9", "m10", "m11"]
    assert [message.message_id for message in read] == order
    stats = server.command("INFO", "commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 3  # one alone, one for the rest, and the read
    assert stats["cmdstat_pexpire"]["calls"] == 10


async def test_a_group_sends_forgotten_scripts_again(place: tuple[RedisStorage, Sequence[ValkeyServer]]) -> None:
    storage, servers = place
    for server in servers:
        server.command("SCRIPT", "FLUSH")
    many = [name for name in _NAMES for _ in range(3)]
    receipts = await asyncio.gather(
        *(storage.append_messages(name, [message_record(f"n{place}")]) for place, name in enumerate(many))
    )
    assert [receipt.last_position for receipt in receipts] == [2, 3, 4] * 64
    assert {receipt.replayed for receipt in receipts} == {False}


async def test_a_damaged_session_fails_only_its_own_append(place: tuple[RedisStorage, Sequence[ValkeyServer]]) -> None:
    storage, servers = place
    ids = Keyspace("luminoracore:", 1 if len(servers) == 1 else 128).session("s30").ids
    for server in servers:
        if ids.decode() in server.command("KEYS", "*"):
            server.command("DEL", ids)
            server.command("SET", ids, "no hash")
    done = await _outcomes(*(storage.append_messages(name, [message_record("m2")]) for name in _NAMES))
    assert [name for name, one in zip(_NAMES, done, strict=True) if isinstance(one, Exception)] == ["s30"]
    assert isinstance(done[30], CorruptRecordError)
    found = await storage.find_session("s30")
    assert found is not None
    assert found.last_position == 1


async def test_closing_writes_the_appends_that_wait(server: ValkeyServer) -> None:
    storage = RedisStorage(server.url)
    for name in _NAMES:
        await storage.put_session(session_record(name))
    calls = [asyncio.ensure_future(storage.append_messages(name, [message_record("m1")])) for name in _NAMES]
    await asyncio.sleep(0)
    await storage.close()
    assert [call.result().last_position for call in calls] == [1] * 64
    with pytest.raises(StorageClosedError):
        await storage.append_messages("s0", [message_record("m2")])


async def test_a_server_killed_amid_groups_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, durable=True) as server:
        storage = RedisStorage(server.url, connect_timeout=1, timeout=1, max_connections=1)
        for name in _NAMES:
            await storage.put_session(session_record(name))
        acknowledged: set[str] = set()
        in_doubt: dict[str, bool] = {}
        enough = asyncio.Event()

        async def write(name: str) -> None:
            for number in range(100_000):
                message = f"{name}-{number}"
                try:
                    await storage.append_messages(name, [message_record(message)])
                except StorageUnavailableError as exc:
                    in_doubt[message] = exc.in_doubt
                    return
                acknowledged.add(message)
                if len(acknowledged) == 1000:
                    enough.set()

        writing = [asyncio.ensure_future(write(name)) for name in _NAMES]
        await enough.wait()
        server.kill()
        await asyncio.gather(*writing)
        assert len(in_doubt) == 64
        server.start()
        await assert_free(storage)
        stored = {message.message_id for name in _NAMES for message in await storage.read_messages(name, ALL)}
        assert acknowledged - stored == set()
        assert stored - acknowledged <= {message for message, doubt in in_doubt.items() if doubt}
        await storage.close()


async def test_a_silent_node_delays_only_its_own_sessions(other: ValkeyCluster) -> None:
    for node in other.nodes:
        node.command("FLUSHALL")
    async with RedisStorage(other.url, connect_timeout=1, timeout=1) as storage:
        await _fill(storage)
        slots = range(16_384 // 3 + 1, 2 * (16_384 // 3 + 1))  # of the second node
        keyspace = Keyspace("luminoracore:", 128)
        silent = {name for name in _NAMES if key_slot(keyspace.session(name).session) in slots}
        other.nodes[1].freeze()
        try:
            calls = {
                name: asyncio.ensure_future(storage.append_messages(name, [message_record("m2")])) for name in _NAMES
            }
            await asyncio.gather(*(calls[name] for name in _NAMES if name not in silent))
            assert {name for name, call in calls.items() if not call.done()} == silent
            failed = await _outcomes(*(calls[name] for name in silent))
            assert {isinstance(one, StorageUnavailableError) for one in failed} == {True}
        finally:
            other.nodes[1].thaw()
        await asyncio.to_thread(wait_until, other.is_whole, "a whole cluster")
    assert 10 < len(silent) < 40
