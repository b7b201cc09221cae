"""Appends that wait at the same time: one commit for all, and each caller's outcome his own."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing import crash_trial
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.sqlite_groups import all_at_once, ids_in, outcomes, trace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextmanager
def counted_wake_ups(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    loop = asyncio.get_running_loop()
    calls: list[object] = []
    wake_up = loop.call_soon_threadsafe

    def counted(callback: Callable[..., object], *given: Any) -> asyncio.Handle:
        calls.append(callback)
        return wake_up(callback, *given)

    with monkeypatch.context() as patched:
        patched.setattr(loop, "call_soon_threadsafe", counted)
        yield calls


async def test_64_appends_that_wait_are_64_statements_and_one_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        for number in range(64):
            await storage.put_session(session_record(f"s{number}"))
        seen = await trace(storage)
        with counted_wake_ups(monkeypatch) as calls:
            results = await all_at_once(
                storage, *(storage.append_messages(f"s{n}", [message_record("m")]) for n in range(64))
            )
        assert outcomes(results) == [(1, 1)] * 64
        assert len(calls) == 2  # for what held the thread up, and for all the appends
    assert [word for word in seen if word != "WITH"] == ["BEGIN", "COMMIT"]
    assert seen.count("WITH") == 64


async def test_appends_together_write_less_than_one_by_one(path: Path) -> None:
    log = Path(f"{path}-wal")
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("first")])
        before = log.stat().st_size
        await storage.append_messages("s", [message_record("alone")])
        alone = log.stat().st_size - before
        before = log.stat().st_size
        turns = [[message_record(f"m{number}")] for number in range(64)]
        await all_at_once(storage, *(storage.append_messages("s", turn) for turn in turns))
        assert log.stat().st_size - before < 64 * alone / 4


async def test_nobody_is_told_before_the_commit(path: Path) -> None:
    told: list[str] = []
    told_at_commit: list[int] = []

    def look(sql: str) -> None:
        if sql == "COMMIT":
            told_at_commit.append(len(told))

    async def tell(storage: SQLiteStorage, message_id: str) -> None:
        await storage.append_messages("s", [message_record(message_id)])
        told.append(message_id)

    async with SQLiteStorage(path) as storage:
        await storage.put_session(session_record())
        await storage._write(lambda connection: connection.set_trace_callback(look))
        await all_at_once(storage, *(tell(storage, f"m{n}") for n in range(8)))
    assert told_at_commit == [0]
    assert told == [f"m{n}" for n in range(8)]


async def test_each_caller_in_a_group_has_his_own_outcome(path: Path) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(2))
        await storage._write(lambda connection: connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 5000))
        seen = await trace(storage)
        results = await all_at_once(
            storage,
            storage.append_messages("s", [message_record("a")], expected_last=2),
            storage.append_messages("s", [message_record("b")], expected_last=2),
            storage.append_messages("unknown", [message_record("c")]),
            storage.append_messages("s", message_records(2)),
            storage.append_messages("s", [message_record("m2"), message_record("d")]),
            storage.append_messages("s", [message_record("e"), message_record("big", text="x" * 9000)]),
            storage.append_messages("s", [message_record("f"), message_record("g")], expected_last=3),
        )
        assert outcomes(results) == [
            (3, 3),
            ConflictError,
            SessionNotFoundError,
            (1, 2),
            ConflictError,
            StorageUnavailableError,
            (4, 5),
        ]
        assert isinstance(results[3], AppendReceipt)
        assert results[3].replayed is True
        assert await ids_in(storage) == ["m1", "m2", "a", "f", "g"]
        assert (seen.count("BEGIN"), seen.count("COMMIT"), seen.count("ROLLBACK")) == (1, 1, 0)


async def test_the_order_of_calls_is_kept_between_appends_and_other_writes(path: Path) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        results = await all_at_once(
            storage,
            storage.append_messages("s", [message_record("m1")]),
            storage.append_messages("s", [message_record("m2")]),
            storage.truncate_messages("s", after=1),
            storage.append_messages("s", [message_record("m3")]),
            storage.append_messages("s", [message_record("m4")]),
        )
        assert outcomes([*results[:2], *results[3:]]) == [(1, 1), (2, 2), (2, 2), (3, 3)]
        assert await ids_in(storage) == ["m1", "m3", "m4"]


@pytest.mark.parametrize(
    ("count", "text", "commits"), [(600, "x", 0), (300, "x", 1), (1, "x" * 3_000_000, 0), (1, "x", 1)]
)
async def test_a_group_has_at_most_1000_messages_or_4_megabytes(
    path: Path, count: int, text: str, commits: int
) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        seen = await trace(storage)
        batches = [[message_record(f"{batch}.{n}", text=text) for n in range(count)] for batch in range(3)]
        results = await all_at_once(storage, *(storage.append_messages("s", batch) for batch in batches))
        assert outcomes(results) == [(n * count + 1, n * count + count) for n in range(3)]
        assert seen.count("COMMIT") == commits


async def test_an_append_whose_caller_is_gone_is_left_out_of_its_group(path: Path) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        gate = threading.Event()
        held_up = asyncio.ensure_future(storage._write(lambda _: gate.wait(30)))
        await asyncio.sleep(0)
        tasks = [asyncio.ensure_future(storage.append_messages("s", [message_record(f"m{n}")])) for n in range(5)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await held_up
        results = await asyncio.gather(*tasks, return_exceptions=True)
        gone = asyncio.CancelledError
        assert outcomes(results) == [gone, (1, 1), (2, 2), gone, (3, 3)]
        assert await ids_in(storage) == ["m1", "m2", "m4"]


def test_writers_on_two_event_loops_lose_nothing(path: Path) -> None:
    receipts: list[AppendReceipt] = []

    async def run(name: str) -> None:
        async with SQLiteStorage(path, synchronous="NORMAL") as storage:
            await storage.put_session(session_record())
            calls = (storage.append_messages("s", [message_record(f"{name}{n}")]) for n in range(100))
            receipts.extend(await asyncio.gather(*calls))

    threads = [threading.Thread(target=lambda name=name: asyncio.run(run(name))) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    async def found() -> list[str]:
        async with SQLiteStorage(path) as storage:
            return await ids_in(storage)

    with closing(asyncio.new_event_loop()) as loop:
        ids = loop.run_until_complete(found())
    assert sorted(receipt.first_position for receipt in receipts) == list(range(1, 201))
    for name in "ab":
        assert [found for found in ids if found[0] == name] == [f"{name}{n}" for n in range(100)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_kill_among_16_writers_loses_nothing_that_was_acknowledged(path: Path, seed: int) -> None:
    factory = "luminoracore_sdk.adapters.storage.sqlite:SQLiteStorage"
    report = crash_trial(factory, path, seed=seed, writers=16)
    assert report.problems == ()
    assert report.stored >= report.acknowledged
