"""Long reads, and records that are damaged."""

from typing import Any

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
from tests.support.servers.valkey import ValkeyServer

_KINDS = ("session", "messages", "ids", "memories", "retention")


class Overtaken(RedisStorage):
    """Another process rewrites the history behind each of the first parts that this one reads."""

    rewrites = 0

    async def _read_part(self, *arguments: Any, **others: Any) -> Any:
        part = await super()._read_part(*arguments, **others)
        if self.rewrites:
            self.rewrites -= 1
            await self.truncate_messages("s", after=0)
            await self.append_messages("s", long_messages(f"{self.rewrites}-"))
        return part


def long_messages(prefix: str) -> list[MessageRecord]:
    """Return messages that do not fit one answer."""
    payload = Payload("json", b'"' + b"x" * 40_000 + b'"')
    return [attrs.evolve(message, payload=payload) for message in message_records(120, prefix=prefix)]


@pytest.mark.parametrize("rewrites", [0, 1, 2, 5])
async def test_a_read_in_several_answers_never_mixes_two_histories(server: ValkeyServer, rewrites: int) -> None:
    async with Overtaken(server.url) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", long_messages("old-"))
        storage.rewrites = rewrites
        read = await storage.read_messages("s", MessageRange())
        names = {message.message_id.partition("-")[0] for message in read}
        assert (len(read), len(names)) == (120, 1)


async def test_a_read_in_several_answers_never_mixes_a_session_with_one_of_its_name(
    server: ValkeyServer, clock: ManualClock
) -> None:
    class Replaced(RedisStorage):
        replaces = False

        async def _read_part(self, *arguments: Any, **others: Any) -> Any:
            part = await super()._read_part(*arguments, **others)
            if self.replaces:
                self.replaces = False
                await self.delete_session("s")
                await self.put_session(session_record())  # at the same time, and copies keep times too
                await self.append_messages("s", long_messages("new-"))
            return part

    async with Replaced(server.url, clock=clock) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", long_messages("old-"))
        storage.replaces = True
        read = await storage.read_messages("s", MessageRange())
        assert [message.message_id for message in read] == [f"new-{number}" for number in range(1, 121)]


async def test_a_read_in_several_answers_ends_where_the_history_ended_when_it_began(
    server: ValkeyServer,
) -> None:
    class Growing(Overtaken):
        async def _read_part(self, *arguments: Any, **others: Any) -> Any:
            part = await RedisStorage._read_part(self, *arguments, **others)
            self.rewrites += 1
            await self.append_messages("s", [message_record(f"new {self.rewrites}")])
            return part

    async with Growing(server.url) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", long_messages("old-"))
        assert len(await storage.read_messages("s", MessageRange())) == 120
        assert len(await storage.read_messages("s", MessageRange(limit=30, newest=True))) == 30


async def test_a_message_is_readable_where_it_lies(storage: RedisStorage, server: ValkeyServer) -> None:
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
        pytest.param(("SET", "luminoracore:{0}:messages:s", "text"), id="another kind of key"),
        pytest.param(("SET", "luminoracore:{0}:session:s", "text"), id="another kind of header"),
    ],
)
async def test_damage_is_told_and_not_read_as_less(
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
    if damage[1] != "luminoracore:{0}:session:s" or damage[0] != "SET":
        assert await storage.delete_session("s") is True


async def test_a_damaged_header_and_a_damaged_memory_are_told(storage: RedisStorage, server: ValkeyServer) -> None:
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


@pytest.mark.parametrize("key", ["index", "retention:s"])
async def test_a_foreign_key_in_the_place_of_an_index_stops_a_write_before_it_begins(
    storage: RedisStorage, server: ValkeyServer, key: str
) -> None:
    await storage.put_session(session_record())
    await storage.put_memory(memory_record("k", expires_at_us=10**17))
    name = f"luminoracore:{{0}}:{key}"
    server.command("DEL", name)
    server.command("SET", name, "foreign")
    scope = MemoryScope("session", "s")
    with pytest.raises(CorruptRecordError):
        await storage.put_memory(memory_record("k", expires_at_us=10**17, value="other"))
    with pytest.raises(CorruptRecordError):
        await storage.delete_memory(scope, "k")
    [memory] = await storage.list_memories(scope)
    assert memory.payload == memory_record("k").payload
    if key == "index":
        for write in (storage.put_session(session_record(tags=("t",))), storage.delete_session("s")):
            with pytest.raises(CorruptRecordError):
                await write
        found = await storage.find_session("s")
        assert found is not None
        assert (found.version, found.tags) == (1, ())
