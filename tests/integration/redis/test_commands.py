"""What the Redis backend asks of a server: which commands, how many, and what it leaves behind."""

from collections.abc import Awaitable, Callable

import attrs
import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import (
    MemoryScope,
    MessageRange,
    Payload,
    Purged,
    SessionQuery,
)
from luminoracore_sdk.domain.errors import ConflictError
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import (
    json_payload,
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.rewriting import NEW, to_new
from tests.support.servers.valkey import ValkeyServer


def calls(server: ValkeyServer) -> dict[str, int]:
    """Return how often each command ran since the last call, but those of the tests themselves."""
    stats = server.command("INFO", "commandstats")
    server.command("CONFIG", "RESETSTAT")
    own = ("info", "config|resetstat", "hello", "client|setinfo", "client|maint_notifications", "select")
    counted = {name.removeprefix("cmdstat_"): values["calls"] for name, values in stats.items()}
    return {name: count for name, count in counted.items() if name not in own}


async def rewrite(storage: RedisStorage, name: str) -> None:
    """Replace the payloads of a session, of its messages and of the memory ``l``."""
    header = await storage.find_session(name)
    memory = await storage.find_memory(MemoryScope("session", name), "l")
    assert header is not None
    assert header.payload is not None
    assert memory is not None
    changes = to_new(await storage.read_messages(name, MessageRange()))
    assert await storage.rewrite_session(name, old=header.payload, new=NEW) is True
    assert await storage.rewrite_messages(name, changes) == len(changes)
    assert await storage.rewrite_memory(memory.scope, "l", old=memory.payload, new=NEW) is True


async def every_call(storage: RedisStorage, clock: ManualClock) -> None:
    """Use every primitive, with ttl and without."""
    for name, ttl_us in (("a", None), ("b", 10_000_000)):
        await storage.put_session(session_record(name, user_id="u", tags=("t",), ttl_us=ttl_us))
        await storage.append_messages(name, message_records(3))
        await storage.read_messages(name, MessageRange())
        await storage.truncate_messages(name, after=1)
        await storage.put_memory(memory_record("k", owner=name, expires_at_us=clock.now_us + 5))
        await storage.put_memory(memory_record("l", owner=name), max_entries=1)
        await storage.find_memory(MemoryScope("session", name), "l")
        await storage.list_memories(MemoryScope("session", name))
        await rewrite(storage, name)
        await storage.read_turn(name, newest=2)
        await storage.replace_tail(name, after=1, messages=message_records(2, prefix="new"))
        found = await storage.find_message(name, "new1")
        assert found is not None
        await storage.update_message(name, 2, payload=NEW, expected=found.payload)
        lease = await storage.acquire_lease(name, holder="h", ttl_us=1)
        await storage.release_lease(name, fence=lease.fence)
        await storage.fork_session(name, session_record(f"fork of {name}", ttl_us=ttl_us), at=2)
        with pytest.raises(ConflictError):
            await storage.fork_session(name, session_record(f"fork of {name}"), at=2)
        await storage.delete_memory(MemoryScope("session", name), "l")
        await storage.clear_memories(MemoryScope("session", name))
        await storage.find_session(name)
    await storage.put_memory(memory_record("k", kind="user", owner="u", expires_at_us=clock.now_us + 5))
    await storage.list_memory_owners()
    for query in (SessionQuery(), SessionQuery(user_id="u"), SessionQuery(tag="t", newest_first=True)):
        await storage.query_sessions(query)
        await storage.query_sessions(attrs.evolve(query, by_activity=True))
    clock.advance(10)
    await storage.purge_expired()
    await storage.delete_session("a")
    await storage.delete_session("fork of a")
    await storage.ping()


def stored_keys(server: ValkeyServer) -> list[str]:
    return sorted(server.command("KEYS", "*"))


async def test_no_call_walks_over_the_keys_of_the_server(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    await every_call(storage, clock)
    asked = calls(server)
    assert {"keys", "scan", "hscan", "sscan", "zscan", "flushdb"} & asked.keys() == set()
    assert asked["evalsha"] > 10


async def test_an_emptied_store_holds_only_its_version(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    await every_call(storage, clock)
    assert stored_keys(server) == ["luminoracore:meta"]
    assert server.command("HGETALL", "luminoracore:meta") == {"schema_version": "1", "buckets": "1"}


async def test_every_write_is_one_call_of_a_script(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    scope = MemoryScope("session", "s")
    record = session_record(user_id="u", tags=("t",), ttl_us=10**12)
    session_payload = json_payload({"text": "a session"})
    changes = to_new(
        [attrs.evolve(message, position=position) for position, message in enumerate(message_records(5), start=1)]
    )
    writes: dict[str, Callable[[], Awaitable[object]]] = {
        "put": lambda: storage.put_session(record),
        "append": lambda: storage.append_messages("s", message_records(5)),
        "take a lease": lambda: storage.acquire_lease("s", holder="h", ttl_us=1),
        "release a lease": lambda: storage.release_lease("s", fence=1),
        "rewrite messages": lambda: storage.rewrite_messages("s", changes),
        "truncate": lambda: storage.truncate_messages("s", after=1),
        "put memory": lambda: storage.put_memory(memory_record("k", expires_at_us=10**17), max_entries=1),
        "put a user's memory": lambda: storage.put_memory(memory_record("k", kind="user", owner="u")),
        "rewrite": lambda: storage.rewrite_session("s", old=session_payload, new=NEW),
        "rewrite memory": lambda: storage.rewrite_memory(scope, "k", old=memory_record("k").payload, new=NEW),
        "delete memory": lambda: storage.delete_memory(scope, "k"),
        "clear": lambda: storage.clear_memories(scope),
        "delete": lambda: storage.delete_session("s"),
    }
    for write in writes.values():  # the server learns the scripts
        await write()
    calls(server)
    counted = {}
    for name, write in writes.items():
        await write()
        counted[name] = {verb: count for verb, count in calls(server).items() if verb.startswith("eval")}
    assert counted == {name: {"evalsha": 1} for name in writes}


@pytest.mark.parametrize("ttl_us", [None, 10**12])
async def test_an_append_runs_the_same_commands_on_any_history(
    storage: RedisStorage, server: ValkeyServer, ttl_us: int | None
) -> None:
    await storage.put_session(session_record(ttl_us=ttl_us))
    await storage.append_messages("s", [message_record("first"), message_record("second")])
    calls(server)
    seen = []
    for number in range(4):
        await storage.append_messages("s", message_records(2, prefix=f"turn{number}-"))
        seen.append(calls(server))
        await storage.append_messages("s", message_records(1000, prefix=f"many{number}-"))
        calls(server)
    expiry = {"pexpire": 5} if ttl_us else {}
    same = {"evalsha": 1, "hmget": 2, "llen": 1, "rpush": 1, "hset": 2, "pubsub|numsub": 1, **expiry}
    await storage.append_messages("s", [message_record("one")])
    assert [*seen, calls(server)] == [same] * 5


async def test_reading_a_session_is_one_round_trip(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(5))
    await storage.read_messages("s", MessageRange())
    calls(server)
    await storage.find_session("s")
    assert calls(server) == {"hmget": 1}
    await storage.read_messages("s", MessageRange(limit=2, newest=True))
    assert calls(server) == {"evalsha": 1, "hmget": 1, "llen": 1, "lrange": 1, "hget": 1}


async def test_a_long_read_comes_in_answers_of_bounded_size(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    batch = [
        attrs.evolve(message, payload=Payload("json", b'"' + b"x" * 10_000 + b'"')) for message in message_records(1000)
    ]
    await storage.append_messages("s", batch)
    await storage.read_messages("s", MessageRange(limit=1))
    calls(server)
    read = await storage.read_messages("s", MessageRange(after=100, before=901))
    assert [message.position for message in read] == list(range(101, 901))
    assert read[0] == attrs.evolve(batch[100], position=101)
    assert calls(server)["evalsha"] == 8  # 8 MB, about 1 MB each


async def test_a_long_history_cut_off_leaves_no_id_behind(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    for number in range(3):
        await storage.append_messages("s", message_records(800, prefix=f"part {number} "))
    assert await storage.truncate_messages("s", after=1) == 2399
    assert server.command("HGETALL", "luminoracore:{0}:ids:s") == {"part 0 1": "1"}
    receipt = await storage.append_messages("s", [message_record("part 2 800")])
    assert (receipt.first_position, receipt.replayed) == (2, False)


async def test_scripts_that_the_server_forgot_are_sent_again(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(1))
    server.command("SCRIPT", "FLUSH")
    calls(server)
    receipt = await storage.append_messages("s", [message_record("m2")], expected_last=1)
    assert (receipt.first_position, receipt.replayed) == (2, False)
    seen = calls(server)
    assert (seen["evalsha"], seen["eval"], seen["rpush"]) == (1, 1, 1)
    await storage.append_messages("s", [message_record("m3")])
    assert "eval" not in calls(server)


async def test_a_purge_sends_forgotten_scripts_again_too(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    for number in range(30):
        await storage.put_session(session_record(f"s{number}", ttl_us=1_000_000))
    clock.advance(1)
    server.command("SCRIPT", "FLUSH")
    assert await storage.purge_expired() == Purged(sessions=30, memories=0)
    assert stored_keys(server) == ["luminoracore:meta"]


async def test_a_put_into_a_full_scope_does_not_read_it_whole(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    for number in range(50):
        await storage.put_memory(memory_record(f"k{number}", retention=float(number)), max_entries=50)
    calls(server)
    await storage.put_memory(memory_record("next", retention=100.0), max_entries=50)
    seen = calls(server)
    assert {"hgetall", "hvals", "hkeys"} & seen.keys() == set()
    assert sum(seen.values()) < 20


async def test_listing_owners_reads_no_memories(storage: RedisStorage, server: ValkeyServer) -> None:
    for owner in ("a", "b", "c"):
        await storage.put_memory(memory_record("k", kind="user", owner=owner))
    await storage.list_memory_owners()
    calls(server)
    assert await storage.list_memory_owners(after="a") == ["b", "c"]
    assert calls(server) == {"zrange": 3, "evalsha": 2, "hlen": 2}
