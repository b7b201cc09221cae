"""Appends that wait together are written in one statement, and answered each for itself."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionNotFoundError,
    StorageClosedError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.postgres import ALL, Schema, unused

NAMES = [f"s{number}" for number in range(8)]


@pytest.fixture
async def storage(storage: PostgreSQLStorage) -> PostgreSQLStorage:
    for name in NAMES:
        await storage.put_session(session_record(name))
    return storage


async def ids(storage: PostgreSQLStorage, session_id: str) -> list[str]:
    """Return the ids of a session's messages; their positions are 1, 2, 3 …, or the read fails."""
    return [message.message_id for message in await storage.read_messages(session_id, ALL)]


def appends(prefix: str, names: list[str], *, now_us: int = 1) -> list[Append]:
    return [Append(name, message_records(1, prefix=prefix), None, now_us) for name in names]


async def held_back(storage: PostgreSQLStorage, schema: Schema, *calls: Awaitable[object]) -> list[object]:
    """Return the outcomes of calls that all wait before the first is let through."""
    async with schema.connection() as other, other.transaction():
        await other.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        first = [
            asyncio.ensure_future(storage.append_messages(f"{name}", message_records(1, prefix="held")))
            for name in NAMES[-2:]
        ]
        await asyncio.sleep(0)
        tasks = [asyncio.ensure_future(call) for call in calls]
        await schema.until(
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'messages'::regclass",
            lambda waiting: waiting > 0,
        )
    outcomes: list[object] = list(await asyncio.gather(*tasks, return_exceptions=True))
    await asyncio.gather(*first)
    return outcomes


async def test_each_of_a_group_is_answered_for_itself(storage: PostgreSQLStorage, schema: Schema) -> None:
    await storage.append_messages("s0", message_records(2, prefix="old"))
    outcomes = await held_back(
        storage,
        schema,
        storage.append_messages("s0", message_records(2, prefix="old")),
        storage.append_messages("s1", message_records(2, prefix="a")),
        storage.append_messages("s1", message_records(1, prefix="b")),
        storage.append_messages("s2", message_records(1), expected_last=7),
        storage.append_messages("s3", message_records(3), expected_last=0),
        storage.append_messages("absent", message_records(1)),
        storage.append_messages("s4", [message_record("x"), message_record("y")]),
        storage.append_messages("s4", [message_record("x")]),
    )
    assert outcomes[0] == AppendReceipt(first_position=1, last_position=2, replayed=True)
    assert outcomes[1] == AppendReceipt(first_position=1, last_position=2)
    assert outcomes[2] == AppendReceipt(first_position=3, last_position=3)
    assert isinstance(outcomes[3], ConflictError)
    assert outcomes[4] == AppendReceipt(first_position=1, last_position=3)
    assert isinstance(outcomes[5], SessionNotFoundError)
    assert outcomes[6] == AppendReceipt(first_position=1, last_position=2)
    assert outcomes[7] == AppendReceipt(first_position=1, last_position=1, replayed=True)
    assert await ids(storage, "s1") == ["a1", "a2", "b1"]
    assert await ids(storage, "s2") == []
    assert unused(storage)


async def test_a_group_leaves_out_who_cannot_be_written_and_writes_the_others(schema: Schema) -> None:
    clock = ManualClock()
    async with schema.storage(clock) as storage:
        await storage.put_session(session_record("gone", ttl_us=1))
        for name in ("free", "held", "short"):
            await storage.put_session(session_record(name))
        clock.advance(1)
        group = [
            *appends("m", ["absent", "gone", "free", "held"], now_us=clock.now_us),
            Append("short", message_records(1), 4, clock.now_us),
            *appends("n", ["free"], now_us=clock.now_us),
        ]
        async with schema.connection() as other, other.transaction():
            await other.execute("SELECT 1 FROM sessions WHERE session_id = 'held' FOR UPDATE")
            async with asyncio.timeout(5):
                receipts = await storage._together(group)
        first, second = (AppendReceipt(first_position=n, last_position=n) for n in (1, 2))
        assert receipts == [None, None, first, None, None, second]
        assert await storage._together(group[2:4]) == [None, None], "an id of one is stored: none is written"
        assert await ids(storage, "held") == []


async def test_a_session_that_somebody_holds_does_not_hold_up_the_others(
    storage: PostgreSQLStorage, schema: Schema
) -> None:
    async with schema.connection() as other, other.transaction():
        await other.execute("SELECT 1 FROM sessions WHERE session_id = 's' FOR UPDATE")
        waiting = asyncio.ensure_future(storage.append_messages("s", message_records(1)))
        async with asyncio.timeout(5):
            for turn in range(3):
                await asyncio.gather(
                    *(storage.append_messages(name, message_records(1, prefix=str(turn))) for name in NAMES)
                )
        assert not waiting.done()
    assert (await waiting).last_position == 1


async def test_groups_of_two_storages_in_opposite_order_never_deadlock(schema: Schema) -> None:
    async with schema.storage(pool_size=4) as one, schema.storage(pool_size=4) as other:
        for name in NAMES:
            await one.put_session(session_record(name))

        async def write(storage: PostgreSQLStorage, names: list[str], prefix: str) -> None:
            for turn in range(20):
                group = appends(f"{prefix}{turn}-", names)
                for append, receipt in zip(group, await storage._together(group), strict=True):
                    if receipt is None:
                        await storage.append_messages(append.session_id, append.messages)

        await asyncio.gather(
            *(write(one, NAMES, f"one{n}-") for n in range(2)),
            *(write(other, NAMES[::-1], f"other{n}-") for n in range(2)),
        )
        for name in NAMES:
            found = await ids(one, name)
            assert len(found) == len(set(found)) == 80
    log = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert [tuple(row) for row in await schema.rows(log)] == [(0,)]


async def test_a_group_whose_connection_is_lost_is_in_doubt_and_works_again(
    storage: PostgreSQLStorage, schema: Schema
) -> None:
    async with schema.connection() as other:
        block = other.transaction()
        await block.start()
        await other.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        group = asyncio.ensure_future(storage._together(appends("m", NAMES)))
        blocked = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'messages'::regclass"
        await schema.until(blocked, lambda pid: pid is not None)
        await schema.rows(f"SELECT pg_terminate_backend(({blocked}))")
        with pytest.raises(StorageUnavailableError) as caught:
            await group
        await block.rollback()
    assert caught.value.in_doubt is True
    assert await storage._together(appends("m", NAMES)) == [AppendReceipt(first_position=1, last_position=1)] * len(
        NAMES
    )


@pytest.mark.parametrize("prepared", ["true", "false"])
async def test_cancelled_callers_are_written_whole_or_not_at_all(schema: Schema, prepared: str) -> None:
    url = f"{schema.url}?prepared_statements={prepared}"
    async with schema.storage(url=url, pool_size=4) as storage:
        for name in NAMES:
            await storage.put_session(session_record(name))
        for turn in range(20):
            tasks = [
                asyncio.ensure_future(storage.append_messages(name, message_records(3, prefix=f"{turn}-")))
                for name in NAMES
            ]
            for _ in range(turn):
                await asyncio.sleep(0)
            for task in tasks[1::2]:
                task.cancel()
            await asyncio.wait(tasks)
            assert [task.cancelled() for task in tasks[::2]] == [False] * 4
        for name in NAMES[::2]:
            assert len(await ids(storage, name)) == 60
        for name in NAMES[1::2]:
            found = await ids(storage, name)
            turns = dict.fromkeys(name.partition("-")[0] for name in found)
            assert found == [f"{turn}-{number}" for turn in turns for number in (1, 2, 3)]
        assert unused(storage)


async def test_closing_waits_for_appends_that_wait(storage: PostgreSQLStorage, schema: Schema) -> None:
    tasks = [
        asyncio.ensure_future(storage.append_messages(name, message_records(1, prefix=str(turn))))
        for turn in range(4)
        for name in NAMES
    ]
    await asyncio.sleep(0)
    await storage.close()
    assert all(task.done() for task in tasks)
    assert {type(task.exception()) for task in tasks} <= {type(None), StorageClosedError}
    async with schema.storage() as again:
        assert [len(await ids(again, name)) for name in NAMES] == [4] * len(NAMES)


async def test_a_kept_connection_that_was_lost_is_not_used(storage: PostgreSQLStorage, schema: Schema) -> None:
    assert storage._pool is not None
    pool: Any = storage._pool
    assert len(pool._kept) == 1
    await schema.rows(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query LIKE $1",
        f"%{schema.name}%",
    )
    await turns(lambda: pool._pool.get_size() == 0)
    assert (await storage.append_messages("s", message_records(1))).last_position == 1
    assert len(pool._kept) == 1
    assert unused(storage)


async def test_kept_connections_go_back_to_the_pool_when_nobody_uses_them(storage: PostgreSQLStorage) -> None:
    assert storage._pool is not None
    pool: Any = storage._pool
    assert (len(pool._kept), pool._pool.get_idle_size()) == (1, 0)
    pool._kept._timer._run()  # as it does within a second
    await turns(lambda: pool._pool.get_idle_size() == 1)
    assert len(pool._kept) == 0
    await storage.ping()
    assert (len(pool._kept), pool._pool.get_idle_size()) == (1, 0)


async def turns(holds: Callable[[], bool]) -> None:
    """Let others work until something is so."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - asyncpg does not call back
            await asyncio.sleep(0)


async def test_no_connection_is_kept_from_who_waits_for_one(schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luminoracore_sdk.adapters.storage.postgres.kept._KEPT_SECONDS", 1000)
    async with schema.storage(pool_size=1) as storage, asyncio.timeout(10):
        await storage.put_session(session_record())
        await asyncio.gather(*(storage.find_session("s") for _ in range(5)))
