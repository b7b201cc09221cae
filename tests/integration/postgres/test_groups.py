"""Appends that wait together are written in one statement, and each caller gets its own result."""

import asyncio
from collections.abc import Awaitable
from random import Random

import attrs
import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord, SessionSummary
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionNotFoundError,
    StorageClosedError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import json_payload, message_record, message_records, session_record
from tests.support.postgres import ALL, Schema

ROLES = ("user", "assistant", "system", "tool")
BRIEF = json_payload("a brief that several messages have")
NAMES = [f"s{number}" for number in range(8)]

_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'luminora_messages'::regclass"


@pytest.fixture
async def storage(storage: PostgreSQLStorage) -> PostgreSQLStorage:
    for name in NAMES:
        await storage.put_session(session_record(name))
    return storage


async def ids(storage: PostgreSQLStorage, session_id: str) -> list[str]:
    """Return the ids of a session's messages; their positions are 1, 2, 3 …, or the read fails."""
    return [message.message_id for message in await storage.read_messages(session_id, ALL)]


async def held_back(
    storage: PostgreSQLStorage, schema: Schema, *calls: Awaitable[object], prefix: object = "held"
) -> list[object]:
    """Return the outcomes of calls that all wait while two requests in progress are blocked."""
    async with schema.connection() as other, other.transaction():
        await other.execute("LOCK TABLE luminora_messages IN ACCESS EXCLUSIVE MODE")
        first = [
            asyncio.ensure_future(storage.append_messages(f"{name}", message_records(1, prefix=f"{prefix}")))
            for name in NAMES[-2:]
        ]
        await asyncio.sleep(0)
        tasks = [asyncio.ensure_future(call) for call in calls]
        await schema.until(_WAITING, lambda waiting: waiting > 0)
    outcomes: list[object] = list(await asyncio.gather(*tasks, return_exceptions=True))
    await asyncio.gather(*first)
    return outcomes


async def test_each_append_of_a_group_gets_its_own_result(schema: Schema) -> None:
    clock = ManualClock()
    async with schema.storage(clock, pool_size=4) as storage:
        for name in NAMES:
            await storage.put_session(session_record(name))
        await storage.put_session(session_record("expired", ttl_us=1))
        clock.advance(1)
        await assert_own_results(storage, schema)
        await schema.assert_connections_free(storage, 4)


async def assert_own_results(storage: PostgreSQLStorage, schema: Schema) -> None:
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
        storage.append_messages("expired", message_records(1)),
        storage.append_messages("s4", [message_record("x"), message_record("y")]),
        storage.append_messages("s4", [message_record("x")]),
    )
    assert outcomes[0] == AppendReceipt(first_position=1, last_position=2, replayed=True)
    assert outcomes[1] == AppendReceipt(first_position=1, last_position=2)
    assert outcomes[2] == AppendReceipt(first_position=3, last_position=3)
    assert isinstance(outcomes[3], ConflictError)
    assert outcomes[4] == AppendReceipt(first_position=1, last_position=3)
    assert isinstance(outcomes[5], SessionNotFoundError)
    assert isinstance(outcomes[6], SessionNotFoundError)
    assert outcomes[7] == AppendReceipt(first_position=1, last_position=2)
    assert outcomes[8] == AppendReceipt(first_position=1, last_position=1, replayed=True)
    assert await ids(storage, "s1") == ["a1", "a2", "b1"]
    assert await ids(storage, "s2") == []


def any_message(random: Random, message_id: str) -> MessageRecord:
    names = random.sample(["a", "b", "c", "d", *ROLES], random.randrange(6))
    return attrs.evolve(
        message_record(message_id, role=random.choice(ROLES)),
        brief=random.choice((None, BRIEF, json_payload(message_id))),
        adds={name: random.choice((0, 1, 1022, 2**48)) for name in names},
    )


@pytest.mark.parametrize("seed", range(5))
async def test_a_group_is_folded_into_each_summary(storage: PostgreSQLStorage, schema: Schema, seed: int) -> None:
    random = Random(seed)  # noqa: S311  # not a secret
    expected = dict.fromkeys(NAMES[:6], SessionSummary())
    last = dict.fromkeys(expected, 0)
    for turn in range(4):
        calls = []
        for number, name in enumerate([*expected, "s0", "s1"]):
            batch = [any_message(random, f"{turn}-{number}-{place}") for place in range(random.choice((1, 1, 2, 3)))]
            expected[name] = expected[name].appended(batch, last[name] + 1)
            last[name] += len(batch)
            calls.append(storage.append_messages(name, batch))
        assert not [one for one in await held_back(storage, schema, *calls, prefix=turn) if isinstance(one, Exception)]
    for name, summary in expected.items():
        header = await storage.find_session(name)
        assert header is not None
        assert (header.last_position, header.summary) == (last[name], summary)


async def test_a_locked_session_does_not_delay_the_others(storage: PostgreSQLStorage, schema: Schema) -> None:
    async with schema.connection() as other, other.transaction():
        await other.execute("SELECT 1 FROM luminora_sessions WHERE session_id = 's' FOR UPDATE")
        waiting = asyncio.ensure_future(storage.append_messages("s", message_records(1)))
        async with asyncio.timeout(5):
            for turn in range(3):
                await asyncio.gather(
                    *(storage.append_messages(name, message_records(1, prefix=str(turn))) for name in NAMES)
                )
        assert not waiting.done()
    assert (await waiting).last_position == 1


async def test_a_group_skips_a_locked_session(storage: PostgreSQLStorage, schema: Schema) -> None:
    async with schema.connection() as other, other.transaction():
        await other.execute("SELECT 1 FROM luminora_sessions WHERE session_id = 's0' FOR UPDATE")
        async with schema.connection() as third, third.transaction():
            await third.execute("LOCK TABLE luminora_messages IN ACCESS EXCLUSIVE MODE")
            names = ["s6", "s7", "s0", "s1", "s2"]  # two are sent alone, the others form a group
            calls = [asyncio.ensure_future(storage.append_messages(name, message_records(1))) for name in names]
            await schema.until(_WAITING, lambda waiting: waiting > 0)
        locked = calls.pop(2)
        async with asyncio.timeout(5):
            receipts = await asyncio.gather(*calls)
        assert [receipt.last_position for receipt in receipts] == [1] * 4
        assert not locked.done()
    assert (await locked).last_position == 1


async def test_groups_in_opposite_order_never_deadlock(schema: Schema) -> None:
    async with schema.storage(pool_size=4) as one, schema.storage(pool_size=4) as other:
        for name in NAMES:
            await one.put_session(session_record(name))

        async def write(storage: PostgreSQLStorage, names: list[str], prefix: str) -> None:
            for turn in range(20):
                records = message_records(1, prefix=f"{prefix}{turn}-")
                await asyncio.gather(*(storage.append_messages(name, records) for name in names))

        await asyncio.gather(
            *(write(one, NAMES, f"one{n}-") for n in range(2)),
            *(write(other, NAMES[::-1], f"other{n}-") for n in range(2)),
        )
        for name in NAMES:
            found = await ids(one, name)
            assert len(found) == len(set(found)) == 80
    log = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await schema.rows(log) == [(0,)]


async def test_a_group_that_loses_its_connection_is_in_doubt(storage: PostgreSQLStorage, schema: Schema) -> None:
    in_group = "FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%unnest%'"
    async with schema.connection() as other, other.transaction():
        await other.execute("LOCK TABLE luminora_messages IN ACCESS EXCLUSIVE MODE")
        # two are sent alone; the others form a group once those are slow
        calls = [asyncio.ensure_future(storage.append_messages(name, message_records(1))) for name in NAMES]
        await schema.until(f"SELECT count(*) {in_group}", lambda count: count == 1)
        await schema.rows(f"SELECT pg_terminate_backend(pid) {in_group}")
        for call in calls[2:]:
            with pytest.raises(StorageUnavailableError) as caught:
                await call
            assert caught.value.in_doubt is True
    again = [await storage.append_messages(name, message_records(1)) for name in NAMES]
    assert [receipt.first_position for receipt in again] == [1] * len(NAMES)
    assert [receipt.replayed for receipt in again] == [True] * 2 + [False] * 6


@pytest.mark.parametrize("prepared", ["true", "false"])
async def test_a_cancelled_append_of_a_group_is_whole_or_absent(schema: Schema, prepared: str) -> None:
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
        await schema.assert_connections_free(storage, 4)


async def test_closing_waits_for_waiting_appends(storage: PostgreSQLStorage, schema: Schema) -> None:
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


async def test_a_call_that_waits_for_a_connection_gets_one(schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("luminoracore_sdk.adapters.storage.postgres.pool.KEEP_SECONDS", 1000)
    async with schema.storage(pool_size=1) as storage, asyncio.timeout(10):
        await storage.put_session(session_record())
        await asyncio.gather(*(storage.find_session("s") for _ in range(5)))
