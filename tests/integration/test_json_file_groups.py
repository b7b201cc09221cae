"""Appends that wait for one session of files are one write and one fsync, and each has its own outcome."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionNotFoundError,
    StorageBusyError,
    StorageClosedError,
    StorageFullError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.file_groups import append, first_fsync_held, ids, started, under_way

ROOT = Path(__file__).parents[2]

WRITERS = """
import asyncio, sys
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.testing.records import message_record

async def write(storage, name):
    for number in range(100_000):
        receipt = await storage.append_messages("s", [message_record(f"{name}-{number}")])
        print(name, number, receipt.first_position, flush=True)

async def main(folder, name):
    async with JSONFileStorage(folder) as storage:
        await asyncio.gather(*(write(storage, f"{name}{writer}") for writer in range(16)))

asyncio.run(main(*sys.argv[1:]))
"""


def found(root: Path, pattern: str) -> list[Path]:
    return list(root.rglob(pattern))


def start(folder: Path, name: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITERS, str(folder), name]
    return subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, text=True)


async def test_64_appends_that_wait_are_one_write_and_one_fsync_with_a_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await started(tmp_path)
    (log,) = found(tmp_path, "messages.jsonl")
    writes: list[int] = []
    write = os.write

    def counted(fd: int, data: bytes) -> int:
        if Path(f"/proc/self/fd/{fd}").readlink().name == "messages.jsonl":
            writes.append(len(data))
        return write(fd, data)

    with first_fsync_held(monkeypatch) as calls:
        monkeypatch.setattr(os, "write", counted)
        first = append(storage, "first")
        await under_way(calls)
        waiting = [append(storage, f"w{number}") for number in range(64)]
        await asyncio.sleep(0)
        calls[1].set()
        receipts = await asyncio.gather(first, *waiting)
        fsyncs = len(calls) - 2
    assert [receipt.first_position for receipt in receipts] == list(range(2, 67))
    assert (fsyncs, len(writes)) == (2, 2)
    assert log.read_bytes().count(b"\n") == 66
    assert await ids(storage) == ["m1", "first", *(f"w{number}" for number in range(64))]
    await storage.close()


async def test_a_conflict_a_repeat_and_a_cancelled_caller_in_a_group_are_nobody_elses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await started(tmp_path)
    with first_fsync_held(monkeypatch) as calls:
        first = append(storage, "first")
        await under_way(calls)
        group = [
            append(storage, "a", 2),
            append(storage, "b", 2),  # a came before it
            append(storage, "m1"),
            append(storage, "a"),
            append(storage, "gone"),
            append(storage, "c", 3),
        ]
        await asyncio.sleep(0)
        group[4].cancel()
        calls[1].set()
        await first
        a, b, old, again, gone, c = await asyncio.gather(*group, return_exceptions=True)
    assert a == AppendReceipt(first_position=3, last_position=3)
    assert isinstance(b, ConflictError)
    assert (b.expected, b.actual) == ("last position 2", "last position 3")
    assert old == AppendReceipt(first_position=1, last_position=1, replayed=True)
    assert again == AppendReceipt(first_position=3, last_position=3, replayed=True)
    assert isinstance(gone, asyncio.CancelledError)
    assert c == AppendReceipt(first_position=4, last_position=4)
    assert await ids(storage) == ["m1", "first", "a", "c"]
    await storage.close()


async def test_a_failing_fsync_fails_all_whose_lines_it_covered_and_none_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await started(tmp_path)
    with first_fsync_held(monkeypatch, number=errno.EIO) as calls:
        first = append(storage, "first")
        await under_way(calls)
        group = [append(storage, "m1"), append(storage, "a"), append(storage, "b"), append(storage, "a")]
        await asyncio.sleep(0)
        calls[1].set()
        await first
        old, *covered = await asyncio.gather(*group, return_exceptions=True)
        assert len(calls) - 2 == 2
    assert old == AppendReceipt(first_position=1, last_position=1, replayed=True)
    assert [type(error) for error in covered] == [StorageUnavailableError] * 3
    assert len({id(error) for error in covered}) == 3
    assert await ids(storage) == ["m1", "first"]
    assert (await append(storage, "b")).first_position == 3
    await storage.close()
    async with JSONFileStorage(tmp_path) as again:
        assert await ids(again) == ["m1", "first", "b"]


async def test_a_record_that_does_not_fit_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(tmp_path)
    write = os.write

    def limited(fd: int, data: bytes) -> int:
        if len(data) > 3000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    with first_fsync_held(monkeypatch) as calls:
        first = append(storage, "first")
        await under_way(calls)
        group = [append(storage, "a"), append(storage, "big", text="x" * 4000), append(storage, "b")]
        await asyncio.sleep(0)
        monkeypatch.setattr(os, "write", limited)
        calls[1].set()
        await first
        a, big, b = await asyncio.gather(*group, return_exceptions=True)
    assert a == AppendReceipt(first_position=3, last_position=3)
    assert type(big) is StorageFullError
    assert b == AppendReceipt(first_position=4, last_position=4)
    assert await ids(storage) == ["m1", "first", "a", "b"]
    await storage.close()


async def test_appends_to_no_session_each_get_an_error_of_their_own(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path) as storage:
        errors = await asyncio.gather(*(append(storage, f"m{n}") for n in range(9)), return_exceptions=True)
    assert {type(error) for error in errors} == {SessionNotFoundError}
    assert len({id(error) for error in errors}) == 9


async def test_each_waits_for_a_lock_as_long_as_the_limit_and_not_as_long_as_those_before(
    tmp_path: Path,
) -> None:
    import fcntl

    storage = await started(tmp_path, lock_timeout=0.05)
    (path,) = found(tmp_path, "*.lock")
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        errors = await asyncio.gather(*(append(storage, f"a{n}") for n in range(5)), return_exceptions=True)
        assert {type(error) for error in errors} == {StorageBusyError}
    finally:
        os.close(fd)
    assert (await append(storage, "b")).first_position == 2
    await storage.close()


async def test_what_waits_when_the_storage_closes_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(tmp_path)
    with first_fsync_held(monkeypatch) as calls:
        first = append(storage, "first")
        await under_way(calls)
        waiting = [append(storage, f"w{number}") for number in range(3)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(storage.close())
        await asyncio.sleep(0)
        calls[1].set()
        receipts = await asyncio.gather(first, *waiting)
        await closing
    assert [receipt.first_position for receipt in receipts] == [2, 3, 4, 5]
    with pytest.raises(StorageClosedError):
        await append(storage, "late")


async def test_writers_of_two_processes_killed_in_mid_write_lose_nothing_they_were_told(
    tmp_path: Path,
) -> None:
    async with JSONFileStorage(tmp_path) as storage:
        await storage.put_session(session_record())
    processes = [start(tmp_path, name) for name in "ab"]
    told: dict[int, str] = {}
    for process in processes:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(150)]
        process.send_signal(signal.SIGKILL)
        for line in [*lines, *process.stdout]:
            if line.endswith("\n"):
                name, number, position = line.split()
                told[int(position)] = f"{name}-{number}"
        process.wait()
        process.stdout.close()
    async with JSONFileStorage(tmp_path) as storage:
        stored = await ids(storage)
        receipt = await storage.append_messages("s", [message_record("after")])
    assert len(told) >= 300
    assert {position: stored[position - 1] for position in told} == told
    assert len(set(stored)) == len(stored)
    assert receipt.first_position == len(stored) + 1


async def test_beside_a_slow_write_another_thread_writes_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await started(tmp_path)
    for name in ("t", "u"):
        await storage.put_session(session_record(name))
    with first_fsync_held(monkeypatch) as calls:
        first = append(storage, "first")
        await under_way(calls)
        early = asyncio.create_task(storage.append_messages("t", [message_record("t1")]))
        await asyncio.sleep(0.2)
        late = storage.append_messages("u", [message_record("u1")])
        receipts = await asyncio.wait_for(asyncio.gather(early, late), 20)
        assert not first.done()
        calls[1].set()
        await first
    assert [receipt.first_position for receipt in receipts] == [1, 1]
    assert await ids(storage) == ["m1", "first"]
    await storage.close()
