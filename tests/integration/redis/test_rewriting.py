"""Rewriting on Redis: expiry and indexes, large batches, damage, failures between two parts."""

from collections.abc import Awaitable, Callable

import attrs
import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Payload
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import CorruptRecordError, StorageFullError, ValidationError
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import (
    json_payload,
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.integration.redis.test_commands import calls, rewrite
from tests.support.redis_calls import hooked
from tests.support.rewriting import NEW, to_new
from tests.support.servers.valkey import ValkeyServer

_ALL = MessageRange()
_KEY = "luminoracore:{0}:"


def ends(server: ValkeyServer) -> dict[str, int]:
    """Return when the server lets each key go, in milliseconds."""
    return {key: server.command("PEXPIRETIME", key) for key in server.command("KEYS", "*")}


@pytest.mark.parametrize("ttl_us", [None, 100_000_000])
async def test_rewriting_changes_no_expiry_and_no_index(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock, ttl_us: int | None
) -> None:
    await storage.put_session(session_record(user_id="u", tags=("t",), ttl_us=ttl_us))
    await storage.append_messages("s", message_records(3))
    await storage.put_memory(memory_record("l", expires_at_us=clock.now_us + 10**9, retention=0.1))
    before = ends(server)
    orders = {name: server.command("ZRANGE", _KEY + name, 0, -1, "WITHSCORES") for name in ("index", "retention:s")}
    clock.advance(20)
    calls(server)
    await rewrite(storage, "s")
    seen = calls(server)
    assert {"pexpire", "persist", "zadd", "zrem", "hdel", "rpush", "unlink"} & seen.keys() == set()
    assert (seen["hset"], seen["lset"]) == (2, 3)
    assert ends(server) == before
    assert len(before) == 7
    assert orders == {name: server.command("ZRANGE", _KEY + name, 0, -1, "WITHSCORES") for name in orders}


async def test_a_large_batch_is_divided_by_number_and_by_size(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(1000))
    small = to_new(await storage.read_messages("s", _ALL))
    assert await storage.rewrite_messages("s", small[:1]) == 1
    calls(server)
    assert await storage.rewrite_messages("s", small) == 999
    assert calls(server)["evalsha"] == 5  # of 200
    large = [attrs.evolve(change, old=change.new, new=Payload("json+zstd:1", b"x" * 99_000)) for change in small]
    assert await storage.rewrite_messages("s", large[:100]) == 100
    assert calls(server)["evalsha"] == 10  # of 10, about 1 MB
    largest = [attrs.evolve(change, new=Payload("json+zstd:1", b"y" * 2_000_000)) for change in large[100:103]]
    assert await storage.rewrite_messages("s", largest) == 3
    assert calls(server)["evalsha"] == 3
    sizes = [len(message.payload.data) for message in await storage.read_messages("s", MessageRange(before=105))]
    assert sizes == [99_000] * 100 + [2_000_000] * 3 + [6]


async def test_a_change_costs_the_same_commands_at_any_position(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    for number in range(20):
        await storage.append_messages("s", message_records(1000, prefix=f"{number}-"))
    changes = to_new(await storage.read_messages("s", _ALL))
    await storage.rewrite_messages("s", changes[:1])
    calls(server)
    for change in (changes[1], changes[10_000], changes[-1]):
        assert await storage.rewrite_messages("s", [change]) == 1
        assert calls(server) == {"evalsha": 1, "hmget": 1, "llen": 1, "lrange": 1, "lset": 1}


async def test_a_position_above_64_bits_rewrites_nothing(storage: RedisStorage) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(1))
    change = to_new([attrs.evolve(message_record("m1"), position=2**80)])
    assert await storage.rewrite_messages("s", change) == 0


async def test_an_id_that_begins_another_id_does_not_match_it(storage: RedisStorage) -> None:
    await storage.put_session(session_record())
    first, second = message_record("m"), message_record("mm", text="text of m")
    await storage.append_messages("s", [first, second])
    changes = [
        PayloadRewrite(position=position, message_id=message_id, old=first.payload, new=NEW)
        for position, message_id in ((1, "mm"), (2, "m"))
    ]
    assert await storage.rewrite_messages("s", changes) == 0


async def test_an_encoding_with_nul_is_refused(storage: RedisStorage) -> None:
    """Encoding and payload are stored as one value: "a NUL b" and "c" would be read as "a" and "b NUL c"."""
    old = Payload("json+a", b"b\0c")
    await storage.put_session(attrs.evolve(session_record(), payload=old))
    messages = [message_record("m1"), attrs.evolve(message_record("m2"), payload=old)]
    await storage.append_messages("s", messages)
    await storage.put_memory(attrs.evolve(memory_record("k"), payload=old))
    read = await storage.read_messages("s", _ALL)
    scope, odd = MemoryScope("session", "s"), Payload("json+a\0b", b"c")
    first, second = to_new(read)
    for before, after in ((odd, NEW), (old, odd)):
        with pytest.raises(ValidationError):
            await storage.rewrite_session("s", old=before, new=after)
        with pytest.raises(ValidationError):
            await storage.rewrite_messages("s", [first, attrs.evolve(second, old=before, new=after)])
        with pytest.raises(ValidationError):
            await storage.rewrite_memory(scope, "k", old=before, new=after)
    assert await storage.read_messages("s", _ALL) == read


async def test_a_damaged_record_is_left_and_a_damaged_header_named(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(2))
    memory = await storage.put_memory(memory_record("k"))
    changes = to_new(await storage.read_messages("s", _ALL))
    server.command("HSET", f"{_KEY}memories:s", "k", "short")
    server.command("LSET", f"{_KEY}messages:s", 0, "m1\0user")
    assert await storage.rewrite_memory(memory.scope, "k", old=memory.payload, new=NEW) is False
    assert await storage.rewrite_messages("s", changes) == 1
    assert server.command("LINDEX", f"{_KEY}messages:s", 0) == "m1\0user"
    server.command("HDEL", f"{_KEY}session:s", "version")
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: storage.rewrite_session("s", old=json_payload({"text": "a session"}), new=NEW),
        lambda: storage.rewrite_messages("s", changes),
        lambda: storage.rewrite_memory(memory.scope, "k", old=memory.payload, new=NEW),
    ]
    for attempt in attempts:
        with pytest.raises(CorruptRecordError) as caught:
            await attempt()
        assert caught.value.key == "session 's'"


async def test_a_history_that_lacks_a_message_is_damaged(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    changes = to_new(await storage.read_messages("s", _ALL))
    server.command("LPOP", f"{_KEY}messages:s")
    with pytest.raises(CorruptRecordError):
        await storage.rewrite_messages("s", changes)


async def test_what_fails_after_the_first_part_is_in_doubt(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(300))
    changes = to_new(await storage.read_messages("s", _ALL))
    await storage.rewrite_messages("s", changes[299:])  # the server learns the script

    async def fill_up() -> None:
        server.command("CONFIG", "SET", "maxmemory", "1mb")

    try:
        async with hooked(server, fill_up) as writer:
            for in_doubt in (True, False):
                with pytest.raises(StorageFullError) as caught:
                    await writer.rewrite_messages("s", changes[:250])
                assert caught.value.in_doubt is in_doubt
    finally:
        server.command("CONFIG", "SET", "maxmemory", "0")
    assert await storage.rewrite_messages("s", changes) == 99
