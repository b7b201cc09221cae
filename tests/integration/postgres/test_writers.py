"""Concurrent writers."""

import asyncio
import time

import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.application.ports.records import (
    MemoryScope,
    Purged,
)
from luminoracore_sdk.domain.errors import (
    SessionNotFoundError,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import (
    memory_record,
    message_record,
    message_records,
    session_record,
)
from tests.support.postgres import Schema, positions


async def test_50_writers_and_deletions_leave_no_gap_and_no_orphan(schema: Schema, storage: PostgreSQLStorage) -> None:
    async def disturb(number: int) -> None:
        await storage.truncate_messages("s", after=number)
        await storage.put_session(session_record())
        await storage.delete_session("s")
        await storage.put_session(session_record())

    outcomes = await asyncio.gather(
        *(storage.append_messages("s", message_records(2, prefix=f"{task}-")) for task in range(50)),
        *(disturb(number) for number in range(5)),
        *(storage.append_messages("s", message_records(2, prefix=f"late{task}-")) for task in range(50)),
        return_exceptions=True,
    )
    unexpected = [
        outcome
        for outcome in outcomes
        if isinstance(outcome, BaseException) and not isinstance(outcome, SessionNotFoundError)
    ]
    assert unexpected == []
    found = await positions(storage)
    assert found == list(range(1, len(found) + 1))
    ((orphans,),) = await schema.rows(
        "SELECT count(*) FROM luminora_messages m LEFT JOIN luminora_sessions s USING (sid) WHERE s.sid IS NULL"
    )
    assert orphans == 0


async def test_memories_put_at_once_stay_within_their_limit(storage: PostgreSQLStorage) -> None:
    for kind, owner in (("session", "s"), ("user", "u")):
        await asyncio.gather(
            *(
                storage.put_memory(memory_record(f"k{number}", kind=kind, owner=owner), max_entries=3)
                for number in range(40)
            )
        )
        assert len(await storage.list_memories(MemoryScope(kind, owner))) == 3


@pytest.mark.parametrize(("kind", "owner"), [("session", "s"), ("user", "u")])
async def test_an_eviction_sees_every_memory_put_before(
    schema: Schema, storage: PostgreSQLStorage, kind: str, owner: str
) -> None:
    await storage.put_memory(memory_record("old", kind=kind, owner=owner))
    async with schema.connection() as other:
        async with other.transaction():
            await other.execute(f"SELECT 1 FROM luminora_{kind}_memories FOR UPDATE")  # noqa: S608  # blocks evictions
            puts = []
            for number in (1, 2):
                record = memory_record(f"new{number}", kind=kind, owner=owner)
                puts.append(asyncio.ensure_future(storage.put_memory(record, max_entries=1)))
                await schema.until_waiting(number)
        await asyncio.gather(*puts)
    assert [memory.key for memory in await storage.list_memories(MemoryScope(kind, owner))] == ["new2"]


async def test_concurrent_purges_count_each_session_once(schema: Schema) -> None:
    clock = ManualClock()
    async with schema.storage(clock) as one, schema.storage(clock) as other:
        for number in range(60):
            await one.put_session(session_record(f"s{number}", ttl_us=1))
            await one.append_messages(f"s{number}", message_records(1))
        clock.advance(1)
        purged = await asyncio.gather(*(storage.purge_expired() for storage in (one, other) * 2))
        assert sum(part.sessions for part in purged) == 60
        assert await one.purge_expired() == Purged(sessions=0, memories=0)
    assert await schema.rows("SELECT count(*) FROM luminora_messages") == [(0,)]


async def test_a_purge_takes_more_than_one_step(schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luminoracore_sdk.adapters.storage.postgres.storage.PURGE_SIZE", 4)
    clock = ManualClock()
    async with schema.storage(clock) as storage:
        for number in range(10):
            await storage.put_session(session_record(f"s{number}", ttl_us=1))
            record = memory_record(f"k{number}", owner="u", kind="user", expires_at_us=clock.now_us + 1)
            await storage.put_memory(record)
        clock.advance(1)
        assert await storage.purge_expired() == Purged(sessions=10, memories=10)


async def test_an_append_waits_for_its_condition_to_become_true(schema: Schema, storage: PostgreSQLStorage) -> None:
    await storage.append_messages("s", message_records(3))
    async with schema.connection() as other:
        async with other.transaction():
            await other.execute("UPDATE luminora_sessions SET last_position = 1")
            await other.execute("DELETE FROM luminora_messages WHERE position > 1")
            append = asyncio.create_task(storage.append_messages("s", message_records(1, prefix="n"), expected_last=1))
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
            await schema.until(query, lambda waiting: waiting > 0)
        assert (await append).last_position == 2
    assert await positions(storage) == [1, 2]


async def test_a_purge_skips_a_locked_session(schema: Schema) -> None:
    clock = ManualClock()
    async with schema.storage(clock, timeout=5) as storage:
        for name in ("used", "free"):
            await storage.put_session(session_record(name, ttl_us=1))
        clock.advance(1)
        async with schema.connection() as other, other.transaction():
            await other.execute("SELECT 1 FROM luminora_sessions WHERE session_id = 'used' FOR UPDATE")
            assert await storage.purge_expired() == Purged(sessions=1, memories=0)
        assert await storage.purge_expired() == Purged(sessions=1, memories=0)


async def test_a_put_over_an_expired_session_deletes_its_messages(schema: Schema) -> None:
    clock = ManualClock()
    async with schema.storage(clock) as storage:
        for expected_version in (None, 0):
            await storage.put_session(session_record(ttl_us=1), expected_version=expected_version)
            await storage.append_messages("s", message_records(2))
            clock.advance(1)
        await storage.put_session(session_record())
    assert await schema.rows("SELECT count(*) FROM luminora_messages") == [(0,)]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_a_stricter_isolation_level_loses_nothing(schema: Schema, level: str) -> None:
    url = f"{schema.url}?default_transaction_isolation={level.replace(' ', '%20')}"
    async with schema.storage(url=url) as storage:
        await storage.put_session(session_record())
        for _ in range(4):  # more at once would only repeat each other's retries
            await asyncio.gather(
                *(storage.append_messages("s", [message_record(f"{time.monotonic_ns()}{n}")]) for n in range(4))
            )
        assert await positions(storage) == list(range(1, 17))
