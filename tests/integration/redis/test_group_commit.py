"""Appends that wait at the same time: what they cost the server, and whose failure is whose."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.adapters.storage.redis import wire as redis_wire
from luminoracore_sdk.adapters.storage.redis.lua import script
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    SessionNotFoundError,
    StorageClosedError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.redis_calls import in_use
from tests.support.servers.process import wait_until
from tests.support.servers.valkey import ValkeyCluster, ValkeyServer

_ALL = MessageRange()
_NAMES = [f"s{number}" for number in range(64)]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with ValkeyCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture(params=["one server", "cluster"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[tuple[RedisStorage, Sequence[ValkeyServer]]]:
    """A storage on empty servers, and the servers."""
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
        for name in _NAMES:
            await storage.put_session(session_record(name))
            await storage.append_messages(name, [message_record("m1")])
        yield storage, servers


async def outcomes(*calls: Any) -> list[Any]:
    """Make calls at once: two are sent at once, the others wait and are written together."""
    return await asyncio.gather(*calls, return_exceptions=True)


def kinds(some: Sequence[Any]) -> list[str]:
    return [type(one).__name__ for one in some]


async def test_sixty_four_appends_that_wait_go_to_the_server_in_one_request(
    storage: RedisStorage, server: ValkeyServer
) -> None:
    for name in [*_NAMES, "x", "y"]:
        await storage.put_session(session_record(name))
        await storage.append_messages(name, [message_record("m1")])
    before = reads(server)
    receipts = await asyncio.gather(
        *(storage.append_messages(name, [message_record("m2")]) for name in ["x", "y", *_NAMES])
    )
    needed = reads(server) - before
    assert receipts == [AppendReceipt(first_position=2, last_position=2)] * 66
    # "x" and "y" are written alone; the others together, which the server reads in portions of 16 KB
    assert needed <= 2 + 4 + of_asking(server)


def reads(server: ValkeyServer) -> int:
    return int(server.command("INFO", "stats")["total_reads_processed"])


def of_asking(server: ValkeyServer) -> int:
    before = reads(server)
    return reads(server) - before


async def test_each_of_those_written_together_has_its_own_outcome(
    place: tuple[RedisStorage, Sequence[ValkeyServer]],
) -> None:
    storage, _ = place
    calls = [storage.append_messages(name, [message_record("m2")]) for name in _NAMES[:40]]
    calls += [
        storage.append_messages(_NAMES[40], [message_record("m1")]),  # a repeat
        storage.append_messages(_NAMES[41], [message_record("m2")], expected_last=7),
        storage.append_messages(_NAMES[42], [message_record("m2")], expected_last=1),
        storage.append_messages("absent", [message_record("m2")]),
        storage.append_messages(_NAMES[43], message_records(2)),  # of which one is there
        storage.append_messages(_NAMES[44], message_records(3, prefix="n")),
    ]
    *plain, repeat, moved, expected, absent, partial, several = await outcomes(*calls)
    assert plain == [AppendReceipt(first_position=2, last_position=2)] * 40
    assert repeat == AppendReceipt(first_position=1, last_position=1, replayed=True)
    assert kinds([moved, absent, partial]) == ["ConflictError", "SessionNotFoundError", "ConflictError"]
    assert "last position 1" in str(moved)
    assert "position 1" in str(partial)
    assert isinstance(moved, ConflictError)
    assert isinstance(absent, SessionNotFoundError)
    assert expected == AppendReceipt(first_position=2, last_position=2)
    assert several == AppendReceipt(first_position=2, last_position=4)
    lengths = [len(await storage.read_messages(name, _ALL)) for name in _NAMES[:45]]
    assert lengths == [2] * 40 + [1, 1, 2, 1, 4]
    assert in_use(storage) == 0


async def test_appends_to_one_session_are_one_call_and_keep_their_order(
    storage: RedisStorage, server: ValkeyServer
) -> None:
    await storage.put_session(session_record(ttl_us=10**12))
    await storage.append_messages("s", [message_record("m1")])
    server.command("CONFIG", "RESETSTAT")
    names = [f"m{number}" for number in range(2, 12)]
    calls = [storage.append_messages("s", [message_record(name)]) for name in names]
    calls.insert(5, storage.append_messages("s", [message_record("m3")]))  # a repeat in their midst
    calls.insert(7, storage.append_messages("s", message_records(2, prefix="n")))
    done = await outcomes(*calls)
    assert [receipt.last_position for receipt in done] == [2, 3, 4, 5, 6, 3, 7, 9, 10, 11, 12, 13]
    assert [receipt.replayed for receipt in done].count(True) == 1
    read = await storage.read_messages("s", _ALL)
    order = ["m1", "m2", "m3", "m4", "m5", "m6", "m7", "n1", "n2", "m8", "m9", "m10", "m11"]
    assert [message.message_id for message in read] == order
    stats = server.command("INFO", "commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 3  # one alone, one for the rest, and the read
    assert stats["cmdstat_pexpire"]["calls"] == 10


async def test_scripts_forgotten_before_a_group_are_sent_again(
    place: tuple[RedisStorage, Sequence[ValkeyServer]],
) -> None:
    storage, servers = place
    for server in servers:
        server.command("SCRIPT", "FLUSH")
    many = [name for name in _NAMES for _ in range(3)]
    receipts = await asyncio.gather(
        *(storage.append_messages(name, [message_record(f"n{place}")]) for place, name in enumerate(many))
    )
    assert [receipt.last_position for receipt in receipts] == [2, 3, 4] * 64
    assert {receipt.replayed for receipt in receipts} == {False}


async def test_a_damaged_session_fails_its_own_append_only(
    place: tuple[RedisStorage, Sequence[ValkeyServer]],
) -> None:
    storage, servers = place
    keys = storage._keys.session(_NAMES[30])
    for server in servers:
        if keys.ids.decode() in server.command("KEYS", "*"):
            server.command("DEL", keys.ids)
            server.command("SET", keys.ids, "no hash")
    done = await outcomes(*(storage.append_messages(name, [message_record("m2")]) for name in _NAMES))
    assert [name for name, one in zip(_NAMES, done, strict=True) if isinstance(one, Exception)] == ["s30"]
    assert isinstance(done[30], CorruptRecordError)
    found = await storage.find_session("s30")
    assert found is not None
    assert found.last_position == 1


async def test_closing_waits_for_appends_that_wait(server: ValkeyServer) -> None:
    storage = RedisStorage(server.url)
    for name in _NAMES:
        await storage.put_session(session_record(name))
    calls = [asyncio.ensure_future(storage.append_messages(name, [message_record("m1")])) for name in _NAMES]
    await asyncio.sleep(0)
    await storage.close()
    assert [call.result().last_position for call in calls] == [1] * 64
    with pytest.raises(StorageClosedError):
        await storage.append_messages("s0", [message_record("m2")])


async def test_a_server_killed_amid_groups_leaves_in_doubt_what_it_did_not_answer(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path, durable=True) as server:
        storage = RedisStorage(server.url, connect_timeout=1, timeout=1)
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
        assert (len(in_doubt), in_use(storage)) == (64, 0)
        server.start()
        stored = {message.message_id for name in _NAMES for message in await storage.read_messages(name, _ALL)}
        assert acknowledged - stored == set()
        assert stored - acknowledged <= {message for message, doubt in in_doubt.items() if doubt}
        await storage.close()


async def test_what_was_answered_before_the_connection_was_cut_is_not_in_doubt(
    storage: RedisStorage, server: ValkeyServer
) -> None:
    for name in _NAMES:
        await storage.put_session(session_record(name))
        await storage.append_messages(name, [message_record("m1")])
    link: Any = storage._link
    appends = [Append(name, [message_record("m2")], None, 1) for name in _NAMES]
    requests = [storage._append_call([append]).request(b"EVALSHA", script("append").digest) for append in appends]
    requests[10] = redis_wire.Request(b"", (b"QUIT",))  # upon which the server hears no more
    replies = await link._send(requests, writes=True)
    assert replies[:11] == [2] * 10 + [b"OK"]
    assert kinds(replies[11:]) == ["StorageUnavailableError"] * 53
    assert {error.in_doubt for error in replies[11:]} == {True}
    assert in_use(storage) == 0
    stored = [len(await storage.read_messages(name, _ALL)) for name in _NAMES]
    assert stored == [2] * 10 + [1] * 54


async def test_a_silent_node_keeps_only_its_own_sessions_waiting(other: ValkeyCluster) -> None:
    for node in other.nodes:
        node.command("FLUSHALL")
    async with RedisStorage(other.url, connect_timeout=1, timeout=1) as storage:
        for name in _NAMES:
            await storage.put_session(session_record(name))
            await storage.append_messages(name, [message_record("m1")])
        silent = {name for name in _NAMES if storage._place(name).endswith(f":{other.nodes[1].port}")}
        other.nodes[1].freeze()
        try:
            calls = {
                name: asyncio.ensure_future(storage.append_messages(name, [message_record("m2")])) for name in _NAMES
            }
            await asyncio.gather(*(calls[name] for name in _NAMES if name not in silent))
            assert {name for name, call in calls.items() if not call.done()} == silent
            failed = await outcomes(*(calls[name] for name in silent))
            assert {isinstance(one, StorageUnavailableError) for one in failed} == {True}
        finally:
            other.nodes[1].thaw()
        await asyncio.to_thread(wait_until, other._is_whole, "a whole cluster")
    assert 10 < len(silent) < 40
