"""The JSON files backend in several processes, forked and killed ones too, and in several event loops."""

import asyncio
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.json_file.layout import hashed
from luminoracore_sdk.application.ports.records import AppendReceipt, Brief, MessageRange, SessionQuery
from luminoracore_sdk.domain.errors import SessionNotFoundError, StorageBusyError
from luminoracore_sdk.testing.records import json_payload, message_record, session_record

ROOT = Path(__file__).parents[2]
ALL = MessageRange()

WRITERS = """
import asyncio, sys
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.testing.records import message_record

async def write(storage, name, count):
    for number in range(count):
        receipt = await storage.append_messages("s", [message_record(f"{name}-{number}")])
        print(f"{name}-{number}", receipt.first_position, flush=True)

async def main(folder, name, writers, count):
    async with JSONFileStorage(folder) as storage:
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(write(storage, f"{name}{writer}", int(count)) for writer in range(int(writers))))

asyncio.run(main(*sys.argv[1:]))
"""

CHANGES = """
import asyncio, itertools, os, signal, sys
import attrs
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.testing.records import json_payload, message_record, session_record

def said(name, role):
    return attrs.evolve(message_record(name, role=role), brief=json_payload(name))

async def main(folder):
    async with JSONFileStorage(folder) as storage:
        for number in itertools.count(1):
            batch = [said(f"a{number}", "user"), said(f"b{number}", "assistant")]
            last = (await storage.append_messages("s", batch)).last_position
            (first,) = await storage.read_messages("s", MessageRange(limit=1))
            new = json_payload(number)
            await storage.update_message("s", 1, payload=new, expected=first.payload, brief=new)
            await storage.replace_tail("s", after=last - 2 + number % 2, messages=[said(f"c{number}", "assistant")])
            await storage.fork_session("s", session_record(f"f{number}"), at=max(1, last - 2))
            print(number, flush=True)

fsync, left = os.fsync, int(sys.argv[2])

def counted(fd):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(fd)

os.fsync = counted
asyncio.run(main(sys.argv[1]))
"""

LIMITED = """
import asyncio, resource, sys
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.domain.errors import StorageError
from luminoracore_sdk.testing.records import message_record

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
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def start_writers(folder: Path, *, writers: int, count: int) -> list[subprocess.Popen[str]]:
    """Start two processes of several writers each, which begin to write at the same time."""
    processes = [start(WRITERS, folder, name, writers, count) for name in "ab"]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return processes


def unfinished(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*.new")]


def receipts_in(lines: list[str]) -> dict[int, str]:
    return {int(position): name for name, position in map(str.split, lines)}


async def create(folder: Path, *session_ids: str) -> None:
    async with JSONFileStorage(folder) as storage:
        for session_id in session_ids or ("s",):
            await storage.put_session(session_record(session_id))


async def ids(folder: Path) -> list[str]:
    async with JSONFileStorage(folder) as storage:
        return [message.message_id for message in await storage.read_messages("s", ALL)]


async def append(storage: JSONFileStorage, message_id: str, session_id: str = "s") -> AppendReceipt:
    return await storage.append_messages(session_id, [message_record(message_id)])


# -- processes -----------------------------------------------------------------------------------


async def test_two_processes_write_one_session_in_one_order(tmp_path: Path) -> None:
    await create(tmp_path)
    receipts: dict[int, str] = {}
    for process in start_writers(tmp_path, writers=1, count=200):
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        receipts |= receipts_in(output.splitlines())
    assert sorted(receipts) == list(range(1, 401))
    assert await ids(tmp_path) == [receipts[position] for position in range(1, 401)]


async def test_killed_writers_lose_no_acknowledged_message(tmp_path: Path) -> None:
    await create(tmp_path)
    receipts: dict[int, str] = {}
    for process in start_writers(tmp_path, writers=8, count=100_000):
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(150)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout
        receipts |= receipts_in([line for line in lines if line.endswith("\n")])
        process.communicate()
    stored = await ids(tmp_path)
    assert len(receipts) >= 300
    assert {position: stored[position - 1] for position in receipts} == receipts
    assert len(set(stored)) == len(stored)
    async with JSONFileStorage(tmp_path) as storage:
        assert (await append(storage, "after")).first_position == len(stored) + 1


@pytest.mark.parametrize("step", range(11, 21))  # a round has ten
async def test_a_killed_change_is_whole_or_absent(tmp_path: Path, step: int) -> None:
    await create(tmp_path)
    output, _ = start(CHANGES, tmp_path, step).communicate(timeout=60)
    rounds = len(output.splitlines())
    assert rounds >= 1
    async with JSONFileStorage(tmp_path) as storage:
        for header in (await storage.query_sessions(SessionQuery(limit=1000))).sessions:
            messages = await storage.read_messages(header.session_id, ALL)
            assert len(messages) == header.last_position
            assert header.summary.counters == Counter(message.role for message in messages)
            if header.session_id != "s":
                continue
            first, last = header.summary.first, header.summary.last
            assert last is not None
            assert last == Brief(len(messages), json_payload(messages[-1].message_id))
            assert first is not None
            updated = messages[0].payload != message_record("a1").payload
            assert first == Brief(1, messages[0].payload if updated else json_payload("a1"))
        forks = [name for name in await storage.list_sessions() if name != "s"]
        assert len(forks) >= rounds
        await storage.purge_expired()
    assert unfinished(tmp_path) == []


async def test_changes_of_another_process_are_seen(tmp_path: Path) -> None:
    await create(tmp_path)
    async with JSONFileStorage(tmp_path) as ours, JSONFileStorage(tmp_path) as theirs:
        await append(ours, "m1")
        await append(theirs, "m2")
        assert (await append(ours, "m2")).replayed is True
        await append(ours, "m3")
        await theirs.truncate_messages("s", after=1)
        assert await ids(tmp_path) == ["m1"]
        for message_id in ("m2", "n3"):
            await append(theirs, message_id)
        assert (await append(ours, "m3")).first_position == 4
        assert (await append(ours, "n3")).replayed is True
        await theirs.delete_session("s")
        with pytest.raises(SessionNotFoundError):
            await append(ours, "m4")
        await theirs.put_session(session_record())
        for number in range(1, 5):
            assert (await append(ours, f"m{number}")).replayed is False


async def test_a_file_size_limit_is_a_full_store(tmp_path: Path) -> None:
    await create(tmp_path)
    output, _ = start(LIMITED, tmp_path).communicate(timeout=60)
    assert output == "StorageFullError\n1\n"
    assert await ids(tmp_path) == ["small"]


# -- locks ---------------------------------------------------------------------------------------


@contextmanager
def locked(root: Path, session_id: str) -> Iterator[None]:
    """Hold the lock of a session as another process would."""
    fd = os.open(root / "locks" / f"{hashed(session_id)[:2]}.lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(fd)


async def test_a_locked_session_does_not_hold_up_others(tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(20)]
    await create(tmp_path, *names)
    async with JSONFileStorage(tmp_path) as storage:
        with locked(tmp_path, "s3"):
            held = [asyncio.create_task(append(storage, f"m{number}", "s3")) for number in range(64)]
            await asyncio.sleep(0)
            free = [name for name in names if hashed(name)[:2] != hashed("s3")[:2]]
            async with asyncio.timeout(20):
                await asyncio.gather(*(append(storage, "m1", name) for name in free))
            assert not any(task.done() for task in held)
        receipts = await asyncio.gather(*held)
    assert [receipt.first_position for receipt in receipts] == list(range(1, 65))


async def test_every_waiting_append_times_out_by_itself(tmp_path: Path) -> None:
    await create(tmp_path)
    async with JSONFileStorage(tmp_path, lock_timeout=0.2) as storage:
        with locked(tmp_path, "s"):
            async with asyncio.timeout(2):  # not 20 times the limit
                errors = await asyncio.gather(*(append(storage, f"m{n}") for n in range(20)), return_exceptions=True)
        assert {type(error) for error in errors} == {StorageBusyError}
        assert (await append(storage, "after")).first_position == 1


# -- event loops and threads ---------------------------------------------------------------------


def test_one_storage_serves_one_event_loop_after_the_other(tmp_path: Path) -> None:
    storage = JSONFileStorage(tmp_path)
    asyncio.run(_put(storage))
    asyncio.run(_append(storage, "m1"))
    asyncio.run(storage.close())
    assert asyncio.run(ids(tmp_path)) == ["m1"]


def test_one_storage_serves_event_loops_at_the_same_time(tmp_path: Path) -> None:
    storage = JSONFileStorage(tmp_path, fsync=False)
    asyncio.run(_put(storage))

    async def write(name: str) -> None:
        await asyncio.gather(*(append(storage, f"{name}{number}") for number in range(50)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: asyncio.run(write(name)), "abcd"))
    asyncio.run(storage.close())
    stored = asyncio.run(ids(tmp_path))
    assert sorted(stored) == sorted(f"{name}{number}" for name in "abcd" for number in range(50))
    assert [one for one in stored if one.startswith("a")] == [f"a{number}" for number in range(50)]


async def test_close_waits_for_queued_appends(tmp_path: Path) -> None:
    await create(tmp_path)
    storage = JSONFileStorage(tmp_path)
    await storage.open()
    with locked(tmp_path, "s"):
        appends = [asyncio.create_task(append(storage, f"m{number}")) for number in range(5)]
        await asyncio.sleep(0)
        closing = asyncio.create_task(storage.close())
        await asyncio.sleep(0)
    await asyncio.gather(*appends)
    await closing
    assert await ids(tmp_path) == [f"m{number}" for number in range(5)]


async def _put(storage: JSONFileStorage) -> None:
    await storage.put_session(session_record())


async def _append(storage: JSONFileStorage, *message_ids: str) -> None:
    for message_id in message_ids:
        await append(storage, message_id)


# -- fork ----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_storage_works_on_both_sides_of_a_fork(tmp_path: Path) -> None:
    storage = JSONFileStorage(tmp_path, fsync=False)
    asyncio.run(_put(storage))
    context = multiprocessing.get_context("fork")
    stop = threading.Event()
    written: list[str] = []

    async def write() -> None:
        while not stop.is_set():
            name = f"parent{len(written)}"
            await append(storage, name)
            await storage.list_sessions()
            written.append(name)

    writer = threading.Thread(target=lambda: asyncio.run(write()))
    writer.start()
    names = [f"child{number}" for number in range(20)]
    try:
        for name in names:  # each fork meets the parent's threads and locks in another state
            child = context.Process(target=lambda name: asyncio.run(_use_in_child(storage, name)), args=(name,))
            child.start()
            child.join(20)
            is_alive = child.is_alive()
            child.kill()
            assert not is_alive, "the child hangs"
            assert child.exitcode == 0
    finally:
        stop.set()
        writer.join()
        asyncio.run(storage.close())
    stored = asyncio.run(ids(tmp_path))
    assert [one for one in stored if one.startswith("child")] == names
    assert [one for one in stored if one.startswith("parent")] == written


async def _use_in_child(storage: JSONFileStorage, name: str) -> None:
    await append(storage, name)
    assert name in [message.message_id for message in await storage.read_messages("s", ALL)]
    assert await storage.list_sessions() == ["s"]
    await storage.close()
