"""Expiry on Redis, to the microsecond, and purging."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import attrs
import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.adapters.storage.redis.keys import stamp
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Purged
from luminoracore_sdk.domain.errors import SessionNotFoundError
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import memory_record, message_record, session_record
from tests.support.redis_calls import hooked
from tests.support.servers.valkey import ValkeyServer


async def test_the_index_holds_the_present_end_of_a_memory_only(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    def ends() -> list[str]:
        found = server.command("ZRANGE", "luminoracore:{0}:index", "[m", "(n", "BYLEX")
        return [member.split("\0")[3] for member in found]

    scope = MemoryScope("user", "u")
    for seconds in (1, 5, 3, None, 2):
        end_us = None if seconds is None else clock.now_us + seconds * 1_000_000
        await storage.put_memory(memory_record("k", kind="user", owner="u", expires_at_us=end_us))
        assert ends() == ([] if end_us is None else [stamp(end_us).decode()])
    await storage.put_memory(memory_record("l", kind="user", owner="u"))
    clock.advance(2)
    assert await storage.clear_memories(scope) == 1  # the other one was over
    assert ends() == []


@pytest.mark.parametrize("year", [1, 1932, 1969, 2255, 9998])
async def test_a_session_ends_to_the_microsecond_in_any_year(server: ValkeyServer, year: int) -> None:
    clock = ManualClock(datetime(year, 12, 31, 23, 59, 58, 999_999, tzinfo=UTC))
    async with RedisStorage(server.url, clock=clock) as storage:
        put = await storage.put_session(session_record(ttl_us=2_000_001))
        assert put.updated_at_us == clock.now_us
        clock.advance_us(1_000_000)
        await storage.append_messages("s", [message_record("m1")])
        clock.advance_us(2_000_000)
        await storage.append_messages("s", [message_record("m2")])
        found = await storage.find_session("s")
        assert found is not None
        assert found.updated_at_us == clock.now_us
        clock.advance_us(2_000_001)
        with pytest.raises(SessionNotFoundError):
            await storage.append_messages("s", [message_record("m3")])
        assert await storage.purge_expired() == Purged(sessions=1, memories=0)


async def test_a_purge_goes_over_more_than_one_answer_holds(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    ttls_us = {f"s{number:04}": 10**9 if number % 2 else 1 for number in range(1100)}
    await asyncio.gather(
        *(storage.put_session(session_record(name, ttl_us=ttl_us)) for name, ttl_us in ttls_us.items())
    )
    clock.advance_us(1)
    async with asyncio.timeout(20):
        assert await storage.purge_expired() == Purged(sessions=550, memories=0)
    assert await storage.list_sessions() == [name for name, ttl_us in ttls_us.items() if ttl_us > 1]
    assert server.command("ZCARD", "luminoracore:{0}:index") == 3 * 550


async def test_a_memory_prolonged_while_it_is_purged_stays(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    later = memory_record("k", kind="user", owner="u", expires_at_us=clock.now_us + 10**9)

    async def prolong() -> None:
        await storage.put_memory(later)

    await storage.put_memory(attrs.evolve(later, expires_at_us=clock.now_us + 1))
    clock.advance_us(1)
    async with hooked(server, _at_request(2, prolong), clock) as purger:  # after the index of memories was read
        assert await purger.purge_expired() == Purged(sessions=0, memories=0)
    [memory] = await storage.list_memories(later.scope)
    assert memory.expires_at_us == later.expires_at_us


async def test_a_session_prolonged_while_it_is_purged_stays(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    other_clock = ManualClock(clock.now())
    await storage.put_session(session_record(ttl_us=10))
    clock.advance_us(9)
    other_clock.advance_us(10)

    async def append() -> None:
        await storage.append_messages("s", [message_record("late")])

    async with hooked(server, _at_request(1, append), other_clock) as purger:
        assert await purger.purge_expired() == Purged(sessions=0, memories=0)
        [read] = await purger.read_messages("s", MessageRange())
    assert read.message_id == "late"


def _at_request(number: int, action: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Return a hook that does something after one of a storage's requests."""
    count = 0

    async def hook() -> None:
        nonlocal count
        count += 1
        if count == number:
            await action()

    return hook
