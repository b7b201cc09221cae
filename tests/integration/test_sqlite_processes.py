"""Several processes on one file."""

import asyncio
import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import MessageRange
from luminoracore_sdk.testing.records import message_record, session_record

MESSAGES = 200
OPENERS = 20


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    # imported once instead of in each process
    context.set_forkserver_preload(
        [
            "luminoracore_sdk.adapters.storage.sqlite",
            "luminoracore_sdk.adapters.storage.tables",
            "luminoracore_sdk.testing.records",
            "pytest",
        ]
    )
    return context


def write(path: Path, name: str, start: Callable[[], object]) -> None:
    async def run() -> None:
        async with SQLiteStorage(path, synchronous="NORMAL") as storage:
            start()
            for number in range(MESSAGES):
                await storage.append_messages("s", [message_record(f"{name}{number}")])

    asyncio.run(run())


def begin(path: Path, name: str, start: Callable[[], object]) -> None:
    async def run() -> None:
        start()
        async with SQLiteStorage(path) as storage:
            await storage.put_session(session_record(name))

    asyncio.run(run())


Work = Callable[[Path, str, Callable[[], object]], None]


async def all_at_once(processes: ForkServerContext, work: Work, path: Path, names: list[str]) -> None:
    """Run work in a process for each name; they begin together."""
    barrier = processes.Barrier(len(names), timeout=60)
    children = [processes.Process(target=work, args=(path, name, barrier.wait)) for name in names]
    for child in children:
        child.start()
    for child in children:
        await asyncio.to_thread(child.join, 120)
    assert [child.exitcode for child in children] == [0] * len(names)


async def test_two_processes_write_one_session_and_lose_nothing(tmp_path: Path, processes: ForkServerContext) -> None:
    path = tmp_path / "store"
    async with SQLiteStorage(path) as storage:
        await storage.put_session(session_record())
        await all_at_once(processes, write, path, ["a", "b"])
        found = await storage.read_messages("s", MessageRange())
    assert [message.position for message in found] == list(range(1, 2 * MESSAGES + 1))
    for name in ("a", "b"):
        own = [message.message_id for message in found if message.message_id[0] == name]
        assert own == [f"{name}{number}" for number in range(MESSAGES)]


async def test_20_processes_open_a_new_store_at_once(tmp_path: Path, processes: ForkServerContext) -> None:
    path = tmp_path / "folder" / "store"
    names = [f"s{number:02}" for number in range(OPENERS)]
    await all_at_once(processes, begin, path, names)
    async with SQLiteStorage(path) as storage:
        assert sorted(await storage.list_sessions()) == names
