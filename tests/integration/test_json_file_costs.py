"""What calls of the JSON files backend cost: writes, fsyncs, bytes, reads and open files."""

import os
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.json_file.layout import hashed
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.testing.records import message_record, message_records, session_record

ALL = MessageRange()


def counter(name: str) -> int:
    """Return a counter of this process: its system calls that read or write, or their bytes."""
    return int(Path("/proc/self/io").read_text("ascii").split(f"{name}:")[1].split()[0])


async def fill(storage: JSONFileStorage, count: int) -> None:
    await storage.put_session(session_record())
    for first in range(0, count, 1000):
        batch = [message_record(f"{number:05}", text="x" * 200) for number in range(first, first + 1000)]
        await storage.append_messages("s", batch)


async def test_an_append_is_one_line_one_row_and_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with JSONFileStorage(tmp_path) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("m1")])
        fsync, synced = os.fsync, list[str]()

        def recorded(fd: int) -> None:
            synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
            fsync(fd)

        monkeypatch.setattr(os, "fsync", recorded)
        written, writes = counter("wchar"), counter("syscw")
        await storage.append_messages("s", [message_record("m2", text="x" * 200)])
        written, writes = counter("wchar") - written, counter("syscw") - writes
    log = tmp_path / "sessions" / hashed("s")[:2] / hashed("s") / "messages.jsonl"
    line = log.read_bytes().splitlines(keepends=True)[1]
    assert synced == ["messages.jsonl"]
    assert writes <= 4  # the line, its row, and what wakes the event loop
    assert written <= len(line) + 24 + 2


@pytest.mark.parametrize("what", ["wchar", "rchar"])
async def test_an_append_costs_the_same_after_10000_messages(tmp_path: Path, what: str) -> None:
    costs = list[int]()
    for count in (1000, 10_000):
        async with JSONFileStorage(tmp_path / str(count), fsync=False) as storage:
            await fill(storage, count)
            await storage.append_messages("s", message_records(2, prefix="first"))
            before = counter(what)
            await storage.append_messages("s", message_records(2, prefix="more"))
            costs.append(counter(what) - before)
    assert costs[1] <= 1.1 * costs[0]


async def test_the_newest_20_of_10000_are_a_few_small_reads(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await fill(storage, 10_000 - 1000)
        for number in range(9000, 10_000):
            await storage.append_messages("s", [message_record(f"{number:05}", text="x" * 200)])
        size, reads = counter("rchar"), counter("syscr")
        read = await storage.read_messages("s", MessageRange(limit=20, newest=True))
        size, reads = counter("rchar") - size, counter("syscr") - reads
    assert [message.message_id for message in read] == [f"{number:05}" for number in range(9980, 10_000)]
    assert size < 20_000
    assert reads < 12


async def test_no_file_is_left_open(tmp_path: Path) -> None:
    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a link may vanish while it is listed

    async with JSONFileStorage(tmp_path) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("m0")])
        before = count()
        for number in range(1, 20):
            await storage.append_messages("s", [message_record(f"m{number}")])
            await storage.read_messages("s", ALL)
            await storage.truncate_messages("s", after=number)
            await storage.list_sessions()
        assert count() == before
