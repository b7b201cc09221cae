"""Long reads, and records that are damaged."""

import attrs
import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import (
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
)
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import (
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.redis_calls import READS, WRITES, hooked
from tests.support.servers.valkey import ValkeyServer


def long_messages(prefix: str) -> list[MessageRecord]:
    """Return messages that do not fit one answer."""
    payload = Payload("json", b'"' + b"x" * 40_000 + b'"')
    return [attrs.evolve(message, payload=payload) for message in message_records(120, prefix=prefix)]


@pytest.mark.parametrize("rewrites", [0, 1, 2, 5])
async def test_a_read_in_parts_never_mixes_two_histories(
    storage: RedisStorage, server: ValkeyServer, rewrites: int
) -> None:
    left = rewrites

    async def rewrite() -> None:
        nonlocal left
        if left:
            left -= 1
            await storage.truncate_messages("s", after=0)
            await storage.append_messages("s", long_messages(f"{left}-"))

    await storage.put_session(session_record())
    await storage.append_messages("s", long_messages("old-"))
    async with hooked(server, rewrite) as reader:
        read = await reader.read_messages("s", MessageRange())
    names = {message.message_id.partition("-")[0] for message in read}
    assert (len(read), len(names)) == (120, 1)


async def test_a_read_in_parts_never_mixes_two_sessions_of_one_id(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    replaced = False

    async def replace() -> None:
        nonlocal replaced
        if not replaced:
            replaced = True
            await storage.delete_session("s")
            await storage.put_session(session_record())  # at the same time, and copies keep times too
            await storage.append_messages("s", long_messages("new-"))

    await storage.put_session(session_record())
    await storage.append_messages("s", long_messages("old-"))
    async with hooked(server, replace, clock) as reader:
        read = await reader.read_messages("s", MessageRange())
    assert [message.message_id for message in read] == [f"new-{number}" for number in range(1, 121)]


async def test_a_read_in_parts_ends_where_the_history_ended(storage: RedisStorage, server: ValkeyServer) -> None:
    count = 0

    async def append() -> None:
        nonlocal count
        count += 1
        await storage.append_messages("s", [message_record(f"new {count}")])

    await storage.put_session(session_record())
    await storage.append_messages("s", long_messages("old-"))
    await storage.read_messages("s", MessageRange())  # the server learns the script
    async with hooked(server, append) as reader:
        assert len(await reader.read_messages("s", MessageRange())) == 120
        assert count > 1
        assert len(await reader.read_messages("s", MessageRange(limit=30, newest=True))) == 30


async def test_a_message_is_stored_as_readable_text(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", [message_record("m1", text="hello")])
    [element] = server.command("LRANGE", "luminoracore:{0}:messages:s", 0, -1)
    assert element == 'm1\0user\x001700000000000001\0json\0{"content":"hello"}'


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(("LSET", "luminoracore:{0}:messages:s", 1, "nonsense"), id="an element"),
        pytest.param(("LSET", "luminoracore:{0}:messages:s", 1, "a\0b\0c\0d\0e"), id="a time in an element"),
        pytest.param(("RPOP", "luminoracore:{0}:messages:s"), id="a message gone"),
        pytest.param(("DEL", "luminoracore:{0}:messages:s"), id="all messages gone"),
        pytest.param(("RPUSH", "luminoracore:{0}:messages:s", "x"), id="an element too many"),
        pytest.param(("HDEL", "luminoracore:{0}:session:s", "version"), id="no version"),
        pytest.param(("HSET", "luminoracore:{0}:session:s", "last_position", "x"), id="a position"),
    ],
)
async def test_damage_is_an_error_and_not_a_shorter_history(
    storage: RedisStorage, server: ValkeyServer, damage: tuple[object, ...]
) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    server.command(*damage)
    with pytest.raises(CorruptRecordError):
        await storage.read_messages("s", MessageRange())
    if damage[0] != "LSET":  # an append looks at no old message
        with pytest.raises(CorruptRecordError):
            await storage.append_messages("s", [message_record("m4")])
    assert await storage.delete_session("s") is True


async def test_a_damaged_header_or_memory_is_an_error(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    await storage.put_memory(memory_record("k"))
    server.command("HSET", "luminoracore:{0}:memories:s", "k", "nonsense")
    with pytest.raises(CorruptRecordError):
        await storage.find_memory(MemoryScope("session", "s"), "k")
    with pytest.raises(CorruptRecordError):
        await storage.list_memories(MemoryScope("session", "s"))
    server.command("HDEL", "luminoracore:{0}:session:s", "created")
    with pytest.raises(CorruptRecordError):
        await storage.find_session("s")
    with pytest.raises(CorruptRecordError):
        await storage.query_sessions(SessionQuery())


@pytest.mark.parametrize("kind", ["session:s", "messages:s", "ids:s", "memories:s", "retention:s", "index"])
async def test_a_foreign_value_under_our_key_is_an_error_and_stays(
    storage: RedisStorage, server: ValkeyServer, kind: str
) -> None:
    await storage.put_session(session_record(ttl_us=10**12))
    await storage.append_messages("s", message_records(3))
    await storage.put_memory(memory_record("k", expires_at_us=10**17))
    key = f"luminoracore:{{0}}:{kind}"
    server.command("DEL", key)
    server.command("SET", key, "foreign")
    calls = {name: WRITES[name] for name in ("put", "put memory", "delete memory", "clear", "delete")}
    calls["put again"] = lambda storage: storage.put_session(session_record(tags=("t",)))
    if kind in {"messages:s", "ids:s"}:
        calls = {name: WRITES[name] for name in ("append", "truncate", "delete")}
    if kind == "messages:s":
        calls["read"] = READS["read"]
    before = _values(server)
    for name, call in calls.items():
        with pytest.raises(CorruptRecordError, match="foreign type"):
            await call(storage)
        assert (name, _values(server)) == (name, before)


def _values(server: ValkeyServer) -> dict[str, tuple[object, int]]:
    """Return what each key holds and when it ends."""
    readers = {"hash": ("HGETALL",), "list": ("LRANGE", 0, -1), "zset": ("ZRANGE", 0, -1), "string": ("GET",)}
    values = {}
    for key in server.command("KEYS", "*"):
        verb, *words = readers[server.command("TYPE", key)]
        values[key] = server.command(verb, key, *words), server.command("PEXPIRETIME", key)
    return values
