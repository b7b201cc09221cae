"""What calls of the file store cost: system calls, fsyncs, bytes and open files."""

import asyncio
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from luminoracore_sdk.adapters.storage.json_file.log_reader import identity

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange
from luminoracore_sdk.domain.errors import SessionNotFoundError
from luminoracore_sdk.testing.records import message_record, message_records, session_record
from tests.support.file_groups import files_opened

ALL = MessageRange()


async def started(root: Path) -> JSONFileStorage:
    storage = JSONFileStorage(root)
    await storage.put_session(session_record())
    await storage.append_messages("s", [message_record("m1")])
    return storage


async def append(
    storage: JSONFileStorage, message_id: str, expected_last: int | None = None, *, text: str = "text"
) -> AppendReceipt:
    messages = [message_record(message_id, text=text)]
    return await storage.append_messages("s", messages, expected_last=expected_last)


def found(root: Path, pattern: str) -> list[Path]:
    return list(root.rglob(pattern))


async def ids(storage: JSONFileStorage) -> list[str]:
    return [message.message_id for message in await storage.read_messages("s", ALL)]


def cost(name: str) -> int:
    """Return a count of this process: its system calls that read or write, or their bytes."""
    return int(Path("/proc/self/io").read_text("ascii").split(f"{name}:")[1].split()[0])


async def test_a_lone_append_is_one_line_one_row_and_one_fsync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await started(tmp_path)
    fsync, synced = os.fsync, []

    def counted(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        fsync(fd)

    message = message_record("0" * 32, text="x" * 200)
    with files_opened(monkeypatch) as opened, monkeypatch.context() as patch:
        patch.setattr(os, "fsync", counted)
        before, writes = cost("wchar"), cost("syscw")
        await storage.append_messages("s", [message])
        written, writes = cost("wchar") - before, cost("syscw") - writes
    assert synced == ["messages.jsonl"]
    assert writes <= 4  # the line, its row, and what wakes the event loop
    (log,) = found(tmp_path, "messages.jsonl")
    (line,) = log.read_bytes().splitlines(keepends=True)[1:]
    assert [name for name in opened if not name.endswith(".lock")] == ["session.json"]
    assert len(opened) == 2
    payload = len(message.payload.data)
    assert len(line) - payload == 201
    assert written <= len(line) + 24 + 2
    await storage.close()


async def test_the_newest_20_of_10000_messages_are_a_few_small_reads(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        for first in range(0, 10_000, 1000):
            await asyncio.gather(
                *(append(storage, f"{number:05}", text="x" * 200) for number in range(first, first + 1000))
            )
        newest = MessageRange(limit=20, newest=True)
        costs = set[tuple[int, int]]()
        for _ in range(2):
            bytes_before, reads_before = cost("rchar"), cost("syscr")
            read = await storage.read_messages("s", newest)
            costs.add((cost("rchar") - bytes_before < 14_000, cost("syscr") - reads_before < 12))
            assert [message.message_id for message in read] == [f"{number:05}" for number in range(9980, 10_000)]
    assert costs == {(True, True)}


def open_logs() -> list[str]:
    found: list[str] = []
    for fd in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a link may vanish while it is listed
        with suppress(OSError):
            found.append(Path(f"/proc/self/fd/{fd}").readlink().name)
    return [name for name in found if name.startswith("messages.jsonl")]


async def test_a_session_keeps_its_log_open_and_a_deleted_one_does_not(tmp_path: Path) -> None:
    storage = await started(tmp_path)
    assert open_logs() == ["messages.jsonl"]
    await storage.truncate_messages("s", after=0)
    assert open_logs() == []
    await storage.append_messages("s", message_records(2, prefix="n"))
    assert open_logs() == ["messages.jsonl"]
    await storage.delete_session("s")
    assert open_logs() == []
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(2, prefix="n"))
    await storage.close()
    assert open_logs() == []


@contextmanager
def files_allowed(soft: int) -> Iterator[None]:
    """Let this process have so many open files."""
    old, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (old, hard))


@pytest.mark.parametrize(("soft", "most"), [(4096, 128), (512, 32)])
async def test_no_more_than_128_logs_stay_open_and_fewer_where_few_files_may_be(
    tmp_path: Path, soft: int, most: int
) -> None:
    with files_allowed(soft):
        one = JSONFileStorage(tmp_path / "one", fsync=False)
        two = JSONFileStorage(tmp_path / "two", fsync=False)
    for number in range(70):
        for storage in (one, two):
            await storage.put_session(session_record(f"s{number}"))
            await storage.append_messages(f"s{number}", [message_record("m1")])
    assert len(open_logs()) == most
    receipts = [await one.append_messages(f"s{n}", [message_record("m2")]) for n in (0, 69)]
    assert [receipt.first_position for receipt in receipts] == [2, 2]
    await one.close()
    assert 0 < len(open_logs()) < most
    await two.close()
    assert open_logs() == []


async def test_where_no_more_files_can_be_opened_kept_logs_make_room(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        for number in range(12):
            await storage.put_session(session_record(f"s{number}"))
            await storage.append_messages(f"s{number}", [message_record("m1")])
        used: list[int] = []
        with files_allowed(256):
            try:
                with suppress(OSError):
                    while True:
                        used.append(os.dup(2))
                names = [f"s{number}" for number in range(12)]
                receipts = [await storage.append_messages(name, [message_record("m2")]) for name in names]
                repeats = [await storage.append_messages(name, [message_record("m1")]) for name in names]
            finally:
                for fd in used:
                    os.close(fd)
    assert {receipt.first_position for receipt in receipts} == {2}
    assert {(repeat.first_position, repeat.replayed) for repeat in repeats} == {(1, True)}


async def test_a_log_of_the_same_size_is_another_one_when_another_process_wrote_it(tmp_path: Path) -> None:
    async with await started(tmp_path) as ours, JSONFileStorage(tmp_path) as others:
        await append(ours, "m2")
        (log,) = found(tmp_path, "messages.jsonl")
        size = log.stat().st_size
        await others.truncate_messages("s", after=1)
        await append(others, "n2")
        assert log.stat().st_size == size
        assert await ids(ours) == ["m1", "n2"]
        assert (await append(ours, "m2")).first_position == 3


def test_what_is_known_of_a_file_is_its_number_its_size_and_both_of_its_times(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    info = path.stat()
    fields = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    assert identity(info) == tuple(getattr(info, name) for name in fields)


async def test_what_another_process_changes_is_seen_although_the_log_is_open(tmp_path: Path) -> None:
    async with await started(tmp_path) as ours, JSONFileStorage(tmp_path) as others:
        await others.append_messages("s", [message_record("m2")])
        assert (await append(ours, "m2")).replayed is True
        assert (await append(ours, "m3", 2)).first_position == 3
        await others.truncate_messages("s", after=1)
        assert await ids(ours) == ["m1"]
        assert (await append(ours, "m2")).first_position == 2
        await others.delete_session("s")
        with pytest.raises(SessionNotFoundError):
            await append(ours, "m3")
        await others.put_session(session_record())
        assert (await append(ours, "m1")).replayed is False
