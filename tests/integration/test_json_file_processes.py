"""Several processes on one folder, and the limits of a real operating system."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.testing.records import message_record, session_record

ROOT = Path(__file__).parents[2]
ALL = MessageRange()

PRELUDE = """
import asyncio, resource, sys
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.domain.errors import StorageError
from luminoracore_sdk.testing.records import message_record, session_record
"""

WRITER = """
async def main(folder, name):
    async with JSONFileStorage(folder, fsync=False) as storage:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(200):
            receipt = await storage.append_messages("s", [message_record(f"{name}{number}")])
            print(name, number, receipt.first_position)

asyncio.run(main(*sys.argv[1:]))
"""

LIMITED = """
async def main(folder):
    async with JSONFileStorage(folder) as storage:
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
        try:
            await storage.append_messages("s", [message_record("big", text="x" * 5000)])
        except StorageError as error:
            print(type(error).__name__)
        receipt = await storage.append_messages("s", [message_record("small")])
        print(receipt.first_position)

asyncio.run(main(*sys.argv[1:]))
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def begin(folder: Path) -> None:
    async with JSONFileStorage(folder) as storage:
        await storage.put_session(session_record())


async def ids(folder: Path) -> list[str]:
    async with JSONFileStorage(folder) as storage:
        return [message.message_id for message in await storage.read_messages("s", ALL)]


async def test_two_processes_write_one_session_in_one_order_and_lose_nothing(tmp_path: Path) -> None:
    await begin(tmp_path)
    writers = [start(WRITER, tmp_path, name) for name in "ab"]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    receipts: dict[int, str] = {}
    for writer in writers:
        output, _ = writer.communicate(timeout=60)
        assert writer.returncode == 0
        for line in output.splitlines():
            name, number, position = line.split()
            receipts[int(position)] = f"{name}{number}"
    assert sorted(receipts) == list(range(1, 401))
    assert await ids(tmp_path) == [receipts[position] for position in range(1, 401)]


async def test_a_file_size_limit_is_a_full_store_and_leaves_no_trace(tmp_path: Path) -> None:
    await begin(tmp_path)
    process = start(LIMITED, tmp_path)
    output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (0, "StorageFullError\n1\n")
    assert await ids(tmp_path) == ["small"]


def test_one_storage_serves_event_loops_one_after_the_other(tmp_path: Path) -> None:
    storage = JSONFileStorage(tmp_path)
    asyncio.run(_put(storage))
    asyncio.run(_append(storage))
    asyncio.run(storage.close())
    assert asyncio.run(ids(tmp_path)) == ["m1"]


async def _put(storage: JSONFileStorage) -> None:
    await storage.put_session(session_record())


async def _append(storage: JSONFileStorage) -> None:
    await storage.append_messages("s", [message_record("m1")])


async def test_fifty_tasks_at_once_get_fifty_positions(tmp_path: Path) -> None:
    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        receipts = await asyncio.gather(
            *(storage.append_messages("s", [message_record(f"m{number}")]) for number in range(50))
        )
    assert sorted(receipt.first_position for receipt in receipts) == list(range(1, 51))
    assert sorted(await ids(tmp_path)) == sorted(f"m{number}" for number in range(50))


async def test_an_append_writes_as_many_bytes_after_10000_messages_as_after_10(tmp_path: Path) -> None:
    def written() -> int:
        return int(Path("/proc/self/io").read_text("ascii").split("wchar:")[1].split()[0])

    async with JSONFileStorage(tmp_path, fsync=False) as storage:
        await storage.put_session(session_record())
        costs: dict[int, int] = {}
        for first in range(1, 10_001, 1000):
            batch = [message_record(f"{number:05}") for number in range(first, first + 1000)]
            if first in {1, 9001}:
                await storage.append_messages("s", batch[:-1] if first > 1 else batch[:9])
                before = written()
                await storage.append_messages("s", batch[-1:] if first > 1 else batch[9:10])
                costs[first] = written() - before
                batch = batch[10:] if first == 1 else []
            if batch:
                await storage.append_messages("s", batch)
        (header,) = [await storage.find_session("s")]
    assert header is not None
    assert header.last_position == 10_000
    assert costs[9001] <= 1.1 * costs[1]


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
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
