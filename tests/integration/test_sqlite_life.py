"""Groups of appends, cancellation, event loops, threads and forks; the content of the file."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import attrs
import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import AppendReceipt, MemoryScope, MessageRange, Payload
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    SessionNotFoundError,
    StorageClosedError,
    WrongEventLoopError,
)
from luminoracore_sdk.testing import CancelAt, crash_trial
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.sqlite_driver import all_at_once, outcomes, watch_driver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def ids_in(storage: SQLiteStorage, session_id: str = "s") -> list[str]:
    return [message.message_id for message in await storage.read_messages(session_id, MessageRange())]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("luminora-sqlite")]


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
        session = plain.execute(
            "SELECT session_id, tags, typeof(payload), payload"
            " FROM luminora_sessions JOIN luminora_documents USING (sid)"
        ).fetchone()
        message = plain.execute("SELECT position, role, typeof(payload), payload FROM luminora_messages").fetchone()
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


async def test_payloads_with_nul_or_without_text_come_back_equal(path: Path) -> None:
    payloads = [
        Payload("json", b'"a\0b"'),
        Payload("json", b"\xff\0"),
        Payload("json+zstd:1", b"\0\0text"),
        Payload("json", b""),
        Payload("json+zstd:1", b""),
    ]
    messages = [attrs.evolve(message_record(f"m{n}"), payload=payload) for n, payload in enumerate(payloads)]
    async with SQLiteStorage(path) as storage:
        for number, payload in enumerate(payloads):
            await storage.put_session(attrs.evolve(session_record("s"), payload=payload))
            found = await storage.find_session("s")
            assert found is not None
            assert found.payload == payload
            await storage.append_messages("s", messages[number : number + 1])
            await storage.put_memory(attrs.evolve(memory_record("k"), payload=payload))
            [memory] = await storage.list_memories(MemoryScope("session", "s"))
            assert memory.payload == payload
        assert [message.payload for message in await storage.read_messages("s", MessageRange())] == payloads


async def test_50_tasks_append_in_one_order(path: Path) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        turns = [message_records(2, prefix=f"turn {number}.") for number in range(50)]
        receipts = await asyncio.gather(*(storage.append_messages("s", turn) for turn in turns))
        assert sorted(receipt.first_position for receipt in receipts) == list(range(1, 101, 2))
        found = await ids_in(storage)
    for turn, receipt in zip(turns, receipts, strict=True):
        assert found[receipt.first_position - 1 : receipt.last_position] == [one.message_id for one in turn]


async def test_64_waiting_appends_are_two_commits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = watch_driver(monkeypatch)
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        for number in range(64):
            await storage.put_session(session_record(f"s{number}"))
        driver.statements.clear()
        results = await all_at_once(path, *(storage.append_messages(f"s{n}", [message_record("m")]) for n in range(64)))
        assert outcomes(results) == [(1, 1)] * 64
        assert driver.count("COMMIT") == 2
        assert driver.count("INSERT") == 64


async def test_each_append_of_a_group_has_its_own_outcome(path: Path) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        for session_id in ("s", "t", "u", "v"):
            await storage.put_session(session_record(session_id))
            await storage.append_messages(session_id, message_records(2))
        results = await all_at_once(
            path,
            storage.append_messages("s", [message_record("first")]),
            storage.append_messages("t", [message_record("a")], expected_last=2),
            storage.append_messages("u", [message_record("b")], expected_last=1),
            storage.append_messages("unknown", [message_record("c")]),
            storage.append_messages("v", message_records(2)),
            storage.append_messages("v", [message_record("m2"), message_record("d")]),
            storage.append_messages("v", [message_record("e"), message_record("f")]),
        )
        assert outcomes(results) == [
            *((3, 3), (3, 3)),
            *(ConflictError, SessionNotFoundError),
            *((1, 2), ConflictError, (3, 4)),
        ]
        assert isinstance(results[4], AppendReceipt)
        assert results[4].replayed
        assert await ids_in(storage, "u") == ["m1", "m2"]
        assert await ids_in(storage, "v") == ["m1", "m2", "e", "f"]


async def test_no_append_returns_before_the_commit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = watch_driver(monkeypatch)
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        driver.statements.clear()

        async def append(message_id: str) -> int:
            await storage.append_messages("s", [message_record(message_id)])
            return driver.count("COMMIT")

        assert await all_at_once(path, *(append(f"m{n}") for n in range(8))) == [1, *[2] * 7]


async def test_a_cancelled_append_is_left_out_of_its_group(path: Path) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            tasks = [asyncio.ensure_future(storage.append_messages("s", [message_record(f"m{n}")])) for n in range(5)]
            await asyncio.sleep(0)
            tasks[1].cancel()
            tasks[3].cancel()
            await asyncio.sleep(0)
            other.execute("ROLLBACK")
        results = await asyncio.gather(*tasks, return_exceptions=True)
        gone = asyncio.CancelledError
        assert outcomes(results) == [(1, 1), gone, (2, 2), gone, (3, 3)]
        assert await ids_in(storage) == ["m0", "m2", "m4"]


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
        await storage.put_session(session_record())
        with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")
        found, keys = await ids_in(storage), await storage.list_memories(MemoryScope("session", "s"))
        assert found in ([], ["m1"], ["m1", "m2"], ["m1", "m2", "new1", "new2"])
        assert len(keys) in (0, 2)


async def test_close_waits_for_writes_under_way(path: Path) -> None:
    storage = SQLiteStorage(path, synchronous="OFF")
    await storage.put_session(session_record())
    append = asyncio.ensure_future(storage.append_messages("s", message_records(1000)))
    await asyncio.sleep(0)
    await storage.close()
    assert (await append).last_position == 1000
    async with SQLiteStorage(path) as another:
        assert len(await ids_in(another)) == 1000


async def test_a_cancelled_close_ends_the_thread_all_the_same(path: Path) -> None:
    before = threads()
    storage = SQLiteStorage(path)
    await storage.put_session(session_record())
    started = [thread for thread in threads() if thread not in before]
    closing_ = asyncio.ensure_future(storage.close())
    await asyncio.sleep(0)
    closing_.cancel()
    await asyncio.gather(closing_, return_exceptions=True)
    for thread in started:
        thread.join(timeout=10)
    assert [thread for thread in started if thread.is_alive()] == []
    with pytest.raises(StorageClosedError):
        await storage.find_session("s")


async def test_close_and_a_failed_open_leave_no_thread(path: Path) -> None:
    before = threads()
    async with SQLiteStorage(path) as storage:
        await storage.ping()
        started = [thread for thread in threads() if thread not in before]
        assert len(started) == 1
    path.write_text("not a database, and long enough to be looked at" * 100)
    with pytest.raises(CorruptRecordError):
        await SQLiteStorage(path).open()
    started += [thread for thread in threads() if thread not in before]
    for thread in started:
        thread.join(timeout=10)
    assert [thread for thread in threads() if thread not in before] == []


@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")  # Python 3.13 warns of the connection too
async def test_a_storage_dropped_without_close_warns_and_ends_its_thread(path: Path) -> None:
    before = threads()
    storages = [SQLiteStorage(path)]
    await storages[0].put_session(session_record())
    started = [thread for thread in threads() if thread not in before]
    storages.clear()
    with pytest.warns(ResourceWarning, match="dropped without close"):
        gc.collect()
    for thread in started:
        thread.join(timeout=10)
    assert [thread for thread in started if thread.is_alive()] == []


async def test_a_fork_is_refused_and_its_own_storage_works(path: Path) -> None:
    code = (
        "import asyncio, os\n"
        "from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage\n"
        f"path = {str(path)!r}\n"
        "storage = SQLiteStorage(path)\n"
        "loop = asyncio.new_event_loop()\n"
        "loop.run_until_complete(storage.save_session('s', {'by': 'parent'}))\n"
        "if (child := os.fork()) == 0:\n"
        "    for run in (loop.run_until_complete, asyncio.run):\n"
        "        try:\n"
        "            run(storage.load_session('s'))\n"
        "        except Exception as exc:\n"
        "            print(type(exc).__name__, flush=True)\n"
        "    async def own():\n"
        "        async with SQLiteStorage(path) as fresh:\n"
        "            await fresh.save_session('t', {'by': 'child'})\n"
        "    asyncio.run(own())\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(loop.run_until_complete(storage.list_sessions()))\n"
        "loop.run_until_complete(storage.close())\n"
        "loop.close()\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.splitlines() == ["StorageUnavailableError", "WrongEventLoopError", "['s', 't']"]


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


def test_writers_on_two_event_loops_lose_nothing(path: Path) -> None:
    receipts: list[AppendReceipt] = []

    async def run(name: str) -> None:
        async with SQLiteStorage(path, synchronous="NORMAL") as storage:
            await storage.put_session(session_record())
            calls = (storage.append_messages("s", [message_record(f"{name}{n}")]) for n in range(100))
            receipts.extend(await asyncio.gather(*calls))

    writers = [threading.Thread(target=lambda name=name: asyncio.run(run(name))) for name in "ab"]
    for thread in writers:
        thread.start()
    for thread in writers:
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
def test_a_kill_among_16_writers_loses_nothing_acknowledged(path: Path, seed: int) -> None:
    factory = "luminoracore_sdk.adapters.storage.sqlite:SQLiteStorage"
    report = crash_trial(factory, path, seed=seed, writers=16)
    assert report.problems == ()
    assert report.stored >= report.acknowledged
