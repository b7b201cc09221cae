"""Cancellation, event loops, the end of the process; what lies in the file."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange
from luminoracore_sdk.domain.errors import StorageClosedError, WrongEventLoopError
from luminoracore_sdk.testing import CancelAt
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def ids_in(storage: SQLiteStorage) -> list[str]:
    return [message.message_id for message in await storage.read_messages("s", MessageRange())]


async def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "store"
    async with SQLiteStorage(path) as storage:
        await storage.put_session(session_record())
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"store": 0o600, "store-wal": 0o600, "store-shm": 0o600}
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "a/b")] == [0o700, 0o700]
    assert [file.name for file in path.parent.iterdir()] == ["store"]


async def test_payloads_are_text_in_the_sqlite3_shell(path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        await storage.put_session(session_record("a:b'c\n", text="é", tags=("x", "y")))
        await storage.append_messages("a:b'c\n", [message_record("m1", text="Grüße")])
    with closing(sqlite3.connect(path)) as plain:
        session = plain.execute("SELECT session_id, tags, typeof(payload), payload FROM sessions").fetchone()
        message = plain.execute("SELECT position, role, typeof(payload), payload FROM messages").fetchone()
    assert session == ("a:b'c\n", '["x", "y"]', "text", '{"text":"é"}')
    assert message == (1, "user", "text", '{"content":"Grüße"}')


async def test_a_message_of_20_megabytes_comes_back_equal(path: Path) -> None:
    message = message_record("big", text="é" * 10_000_000)
    async with SQLiteStorage(path) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message])
        [found] = await storage.read_messages("s", MessageRange())
    assert len(found.payload.data) > 20_000_000
    assert found.payload == message.payload


async def test_50_tasks_append_in_one_order_that_both_connections_see(path: Path) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        turns = [message_records(2, prefix=f"turn {number}.") for number in range(50)]
        receipts = await asyncio.gather(*(storage.append_messages("s", turn) for turn in turns))
        assert sorted(receipt.first_position for receipt in receipts) == list(range(1, 101, 2))
        found = await ids_in(storage)
    for turn, receipt in zip(turns, receipts, strict=True):
        assert found[receipt.first_position - 1 : receipt.last_position] == [one.message_id for one in turn]


WRITES: dict[str, Callable[[SQLiteStorage], Awaitable[object]]] = {
    "append": lambda storage: storage.append_messages("s", message_records(2, prefix="new")),
    "put": lambda storage: storage.put_session(session_record()),
    "memory": lambda storage: storage.put_memory(memory_record("new"), max_entries=2),
    "truncate": lambda storage: storage.truncate_messages("s", after=1),
    "delete": lambda storage: storage.delete_session("s"),
    "purge": lambda storage: storage.purge_expired(),
}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("name", WRITES)
async def test_a_cancelled_write_leaves_no_transaction_open(path: Path, name: str, late: bool) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", message_records(2))
        await storage.put_memory(memory_record("k1"))
        await storage.put_memory(memory_record("k2"))
        cancelled = asyncio.ensure_future(CancelAt(WRITES[name](storage), 0, late=late))
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await storage._write(lambda connection: connection.in_transaction) is False
        await storage.put_session(session_record())
        found, keys = await ids_in(storage), await storage.list_memories(MemoryScope("session", "s"))
        assert found in ([], ["m1"], ["m1", "m2"], ["m1", "m2", "new1", "new2"])
        assert len(keys) in (0, 2)


async def test_work_that_was_cancelled_before_its_turn_is_not_done(path: Path) -> None:
    gate = threading.Event()
    async with SQLiteStorage(path) as storage:
        await storage.put_session(session_record())
        blocked = asyncio.ensure_future(storage._write(lambda _: gate.wait()))
        append = asyncio.ensure_future(storage.append_messages("s", message_records(1)))
        await asyncio.sleep(0)  # both are queued now
        append.cancel()
        gate.set()
        await blocked
        assert await ids_in(storage) == []


async def test_close_waits_for_writes_under_way(path: Path) -> None:
    storage = SQLiteStorage(path, synchronous="OFF")
    await storage.put_session(session_record())
    append = asyncio.ensure_future(storage.append_messages("s", message_records(1000)))
    await asyncio.sleep(0)
    await storage.close()
    assert (await append).last_position == 1000
    async with SQLiteStorage(path) as another:
        assert len(await ids_in(another)) == 1000


async def test_a_call_that_close_overtakes_is_refused_and_does_not_wait_for_ever(path: Path) -> None:
    storage = SQLiteStorage(path)
    await storage.open()
    writer = storage._writer
    assert writer is not None
    await storage.close()
    with pytest.raises(StorageClosedError):
        writer.run(lambda connection: connection.in_transaction)
    with pytest.raises(StorageClosedError):
        await storage._write(lambda connection: connection.in_transaction)


async def test_no_thread_is_left_after_close_or_after_a_failed_open(path: Path) -> None:
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if "_connection_worker" in thread.name]

    before = threads()
    async with SQLiteStorage(path) as storage:
        await storage.ping()
        running = [thread for thread in threads() if thread not in before]
        assert len(running) == 2
    path.write_text("not a database, and long enough to be looked at" * 100)
    with pytest.raises(Exception, match="damaged"):
        await SQLiteStorage(path).open()
    running += [thread for thread in threads() if thread not in before]
    for thread in running:
        thread.join(timeout=10)
    assert [thread for thread in threads() if thread not in before] == []


async def test_a_storage_that_nobody_closed_says_so_and_ends_its_threads(path: Path) -> None:
    storages = [SQLiteStorage(path)]
    await storages[0].put_session(session_record())
    threads = [thread for thread in threading.enumerate() if "_connection_worker" in thread.name]
    with pytest.warns(ResourceWarning, match="dropped without close"):
        storages.clear()
    for thread in threads:
        thread.join(timeout=10)
    assert [thread for thread in threads if thread.is_alive()] == []


def test_a_second_event_loop_is_refused_while_the_first_one_lives(path: Path) -> None:
    storage = SQLiteStorage(path)
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    with closing(first), closing(second):
        first.run_until_complete(storage.put_session(session_record()))
        with pytest.raises(WrongEventLoopError):
            second.run_until_complete(storage.find_session("s"))
        first.run_until_complete(storage.close())


def test_an_unclosed_storage_does_not_keep_the_process_from_ending(path: Path) -> None:
    code = (
        "import asyncio\n"
        "from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage\n"
        f"storage = SQLiteStorage({str(path)!r})\n"
        "asyncio.run(storage.save_session('s', {'kept': True}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("", "")

    async def load() -> object:
        async with SQLiteStorage(path) as storage:
            return await storage.load_session("s")

    with closing(asyncio.new_event_loop()) as loop:
        assert loop.run_until_complete(load()) == {"kept": True}
