"""Sessions that the server removes by itself, and their entries in the indexes."""

import asyncio
from itertools import product
from typing import ClassVar

import attrs
import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import (
    MemoryScope,
    MessageRange,
    Purged,
    SessionQuery,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import (
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.redis_calls import hooked
from tests.support.servers.process import wait_until
from tests.support.servers.valkey import ValkeyServer

_KINDS = ("session", "messages", "ids", "memories", "retention")


class Impatient(RedisStorage):
    """Let the server remove a session as soon as it expires."""

    grace_ms: ClassVar[int] = 0


def stored_keys(server: ValkeyServer) -> list[str]:
    return sorted(server.command("KEYS", "*"))


async def test_all_keys_of_a_session_end_at_one_moment(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    async def check(seconds: float) -> None:
        ends = {kind: server.command("PEXPIRETIME", f"luminoracore:{{0}}:{kind}:s") for kind in _KINDS}
        assert len(set(ends.values())) == 1, ends
        left_ms = server.command("PTTL", "luminoracore:{0}:session:s")
        latest = seconds * 1000 + RedisStorage.grace_ms
        assert latest - 5_000 < left_ms <= latest

    await storage.put_session(session_record(ttl_us=100_000_000))
    await storage.append_messages("s", message_records(2))
    await storage.put_memory(memory_record("k"))
    await check(100)
    clock.advance(40)
    await storage.put_memory(memory_record("l"))
    await check(60)
    await storage.append_messages("s", [message_record("m3")])
    await check(100)
    clock.advance(50)
    await storage.put_memory(memory_record("m"))
    await check(50)
    await storage.truncate_messages("s", after=1)
    await check(100)
    await storage.put_session(session_record(ttl_us=7_000_000))
    await check(7)


async def test_a_session_whose_ttl_is_taken_away_stays_for_good(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record(ttl_us=100_000_000))
    await storage.append_messages("s", message_records(2))
    await storage.put_memory(memory_record("k"))
    await storage.put_session(session_record())
    left = {kind: server.command("PTTL", f"luminoracore:{{0}}:{kind}:s") for kind in _KINDS}
    assert left == dict.fromkeys(_KINDS, -1)
    await storage.append_messages("s", [message_record("m3")])
    assert server.command("PTTL", "luminoracore:{0}:messages:s") == -1
    assert server.command("ZRANGE", "luminoracore:{0}:index", "[x", "(y", "BYLEX") == []


async def test_what_the_server_removed_is_not_listed_and_is_purged(server: ValkeyServer, clock: ManualClock) -> None:
    async with Impatient(server.url, clock=clock) as storage:
        await storage.put_session(session_record("stays", user_id="u", tags=("t",)))
        for name in ("s", "put again"):
            await storage.put_session(session_record(name, user_id="u", tags=("t", "v"), ttl_us=200_000))
            await storage.append_messages(name, message_records(2))
            await storage.put_memory(memory_record("k", owner=name, expires_at_us=clock.now_us + 10**9))
        header = "luminoracore:{0}:session:put again"
        await asyncio.to_thread(wait_until, lambda: not server.command("EXISTS", header), "expired keys")
        assert [key for key in stored_keys(server) if key.endswith((":s", ":put again"))] == []
        for query in (SessionQuery(), SessionQuery(user_id="u"), SessionQuery(tag="t")):
            for newest_first, by_activity in product((False, True), repeat=2):
                asked = attrs.evolve(query, newest_first=newest_first, by_activity=by_activity)
                assert [found.session_id for found in (await storage.query_sessions(asked)).sessions] == ["stays"]
        clock.advance(1)
        await storage.put_session(session_record("put again", user_id="w"), expected_version=0)
        page = await storage.query_sessions(SessionQuery(user_id="u"))
        assert [found.session_id for found in page.sessions] == ["stays"]
        assert await storage.read_messages("put again", MessageRange()) == []
        assert await storage.purge_expired() == Purged(sessions=1, memories=0)
        assert await storage.purge_expired() == Purged(sessions=0, memories=0)
        for name in ("stays", "put again"):
            await storage.delete_session(name)
        assert server.command("ZCARD", "luminoracore:{0}:index") == 0


async def test_messages_without_a_header_do_not_come_back(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record(ttl_us=10**9))
    await storage.append_messages("s", message_records(3))
    await storage.put_memory(memory_record("k"))
    server.command("DEL", "luminoracore:{0}:session:s")  # as Redis 6.2 does, a moment before the others
    assert (await storage.put_session(session_record())).version == 1
    assert await storage.read_messages("s", MessageRange()) == []
    assert await storage.list_memories(MemoryScope("session", "s")) == []


async def test_a_listing_passes_removed_sessions_in_few_steps(server: ValkeyServer, clock: ManualClock) -> None:
    trips = 0

    async def count() -> None:
        nonlocal trips
        trips += 1

    async with Impatient(server.url, clock=clock) as storage, hooked(server, count, clock) as reader:
        await asyncio.gather(
            *(storage.put_session(session_record(f"s{number:03}", ttl_us=100_000)) for number in range(900))
        )
        clock.advance_us(1)
        await storage.put_session(session_record("stays"))
        # with the index and the version of the store
        await asyncio.to_thread(wait_until, lambda: len(stored_keys(server)) == 3, "expired keys")
        page = await reader.query_sessions(SessionQuery(limit=1))
        assert [found.session_id for found in page.sessions] == ["stays"]
        assert trips == 9 + 9  # to the index, to the headers


async def test_an_index_holds_a_session_once_for_each_way_to_find_it(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    index = "luminoracore:{0}:index"
    for user, tags, ttl_us, members in (
        ("u", ("a", "b"), None, 8),
        ("v", ("b",), 10**9, 7),
        (None, (), None, 2),
        ("v", (), 10**9, 5),
    ):
        await storage.put_session(session_record(user_id=user, tags=tags, ttl_us=ttl_us))
        assert server.command("ZCARD", index) == members
        clock.advance(1)
        for number in range(20):
            clock.advance_us(1)
            await storage.append_messages("s", [message_record(f"{members}-{number}")])
        assert server.command("ZCARD", index) == members
    await storage.delete_session("s")
    assert server.command("EXISTS", index) == 0


async def test_a_session_put_anew_during_a_listing_is_listed_once(storage: RedisStorage, server: ValkeyServer) -> None:
    interrupted = False

    async def put_anew() -> None:
        nonlocal interrupted
        if not interrupted:
            interrupted = True
            await storage.delete_session("a")
            await storage.put_session(session_record("a"))

    for name in ("a", "b", "c"):
        await storage.put_session(session_record(name))
    async with hooked(server, put_anew) as reader:
        first = await reader.query_sessions(SessionQuery(limit=2))
        rest = await reader.query_sessions(SessionQuery(cursor=first.next_cursor))
    listed = [found.session_id for page in (first, rest) for found in page.sessions]
    assert sorted(listed) == ["a", "b", "c"]


@pytest.mark.parametrize("query", [SessionQuery(user_id="u"), SessionQuery(tag="t")])
async def test_a_session_that_changes_its_user_meanwhile_is_not_listed(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock, query: SessionQuery
) -> None:
    async def change() -> None:
        await storage.put_session(session_record("a", user_id="w", tags=("v",)))

    for name in ("a", "b"):
        await storage.put_session(session_record(name, user_id="u", tags=("t",)))
    async with hooked(server, change, clock) as reader:
        assert [found.session_id for found in (await reader.query_sessions(query)).sessions] == ["b"]


async def test_a_purge_unlists_a_memory_that_was_removed_by_hand(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    await storage.put_memory(memory_record("k", kind="user", owner="u", expires_at_us=clock.now_us + 1))
    server.command("HDEL", "luminoracore:{0}:user-memories:u", "k")
    clock.advance_us(1)
    assert await storage.purge_expired() == Purged(sessions=0, memories=0)
    assert server.command("EXISTS", "luminoracore:{0}:index") == 0
