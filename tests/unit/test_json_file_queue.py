"""The threads of the file store's appends, when one is slow and when there are no more to be had."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from luminoracore_sdk.adapters.storage.json_file_append import Outcome
from luminoracore_sdk.adapters.storage.json_file_io import Syncing
from luminoracore_sdk.adapters.storage.json_file_queue import AppendQueue
from luminoracore_sdk.adapters.storage.waiting_appends import Append
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import StorageBusyError, StorageUnavailableError
from luminoracore_sdk.testing.builders import message_record

_NAME = "appends"


class Log:
    """Takes appends; to ``stuck`` and ``held`` when ``go`` is set; others have the lock of ``held``."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.go = threading.Event()

    def write(
        self, session_id: str, appends: Sequence[Append], deadline: float
    ) -> Syncing[Sequence[Outcome]]:
        yield from ()
        if session_id == "held" and not deadline:
            raise StorageBusyError("json", "another has it")
        if session_id in ("stuck", "held"):
            assert self.go.wait(20)
        self.written.append(session_id)
        return [AppendReceipt(first_position=1, last_position=1) for _ in appends]


@asynccontextmanager
async def a_queue(log: Log) -> AsyncIterator[AppendQueue]:
    pool = ThreadPoolExecutor(4, thread_name_prefix=_NAME)
    queue = AppendQueue(pool, workers=4, timeout=20, write=log.write)
    try:
        yield queue
    finally:
        log.go.set()
        queue.close()
        await asyncio.to_thread(pool.shutdown)
        queue.end()


async def put(queue: AppendQueue, session_id: str) -> AppendReceipt:
    append = Append(session_id, (message_record("m"),), None, 0)
    return await asyncio.wait_for(queue.put(append), 10)


def no_thread_for(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the next threads of the queue not begin."""
    start, left = threading.Thread.start, [None] * times

    def refused(thread: threading.Thread) -> None:
        if left and thread.name.startswith(_NAME):
            left.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refused)


async def test_an_append_that_comes_just_after_a_slow_one_does_not_wait_for_its_end() -> None:
    log = Log()
    async with a_queue(log) as queue:
        slow = asyncio.create_task(put(queue, "stuck"))
        await asyncio.sleep(0.01)
        await put(queue, "other")
        assert not slow.done()
        log.go.set()
        await slow
    assert log.written == ["other", "stuck"]


async def test_without_a_thread_an_append_is_refused_and_the_next_ones_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log()
    async with a_queue(log) as queue:
        no_thread_for(monkeypatch, 1)
        with pytest.raises(
            StorageUnavailableError, match="no thread for an append: can't start new"
        ) as error:
            await put(queue, "refused")
        assert not error.value.in_doubt
        for _ in range(20):
            await put(queue, "next")
        await put(queue, "refused")
    assert log.written == ["next"] * 20 + ["refused"]


async def test_without_another_thread_the_one_that_is_there_does_all(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    async with a_queue(log) as queue:
        slow = asyncio.create_task(put(queue, "stuck"))
        await asyncio.sleep(0.01)
        no_thread_for(monkeypatch, 1000)
        others = [asyncio.create_task(put(queue, name)) for name in ("a", "held", "b")]
        await asyncio.sleep(0.3)
        assert not any(task.done() for task in others)
        log.go.set()
        await asyncio.gather(slow, *others)
    assert log.written == ["stuck", "a", "b", "held"]


async def test_what_is_ready_does_not_wait_for_what_others_hold() -> None:
    log = Log()
    async with a_queue(log) as queue:
        held = asyncio.create_task(put(queue, "held"))
        await asyncio.sleep(0.01)
        await asyncio.gather(put(queue, "a"), put(queue, "b"))
        assert not held.done()
        log.go.set()
        await held
    assert log.written == ["a", "b", "held"]
