"""The threads of the file store's appends, when one is slow and when there are no more to be had."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import pytest
from luminoracore_sdk.adapters.storage.json_file.append import Outcome
from luminoracore_sdk.adapters.storage.json_file.io import Syncing
from luminoracore_sdk.adapters.storage.json_file.queue import AppendQueue

from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import StorageBusyError, StorageUnavailableError
from luminoracore_sdk.testing.records import message_record

_NAME = "appends"


class Log:
    """Takes appends, by the names of their sessions.

    Those to ``stuck…`` and ``held…`` when ``go`` is set; others have the locks of ``held…``; one to ``slow``
    takes 0.2 s.
    """

    def __init__(self) -> None:
        self.written: list[str] = []
        self.go = threading.Event()
        self.waited_for: list[str] = []

    def write(self, session_id: str, appends: Sequence[Append], deadline: float) -> Syncing[Sequence[Outcome]]:
        yield from ()
        if deadline:
            self.waited_for.append(session_id)
        if session_id.startswith("held") and not deadline:
            raise StorageBusyError("json", "another has it")
        if session_id.startswith(("stuck", "held")):
            assert self.go.wait(20)
        if session_id == "slow":
            time.sleep(0.2)
        self.written.append(session_id)
        return [AppendReceipt(first_position=1, last_position=1) for _ in appends]


@asynccontextmanager
async def a_queue(log: Log, *, workers: int = 4, threads: int = 4) -> AsyncIterator[AppendQueue]:
    """Give a queue; all its threads are at rest when the block has ended."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix=_NAME)
    queue = AppendQueue(pool, workers=workers, timeout=20, write=log.write)
    try:
        yield queue
    finally:
        log.go.set()
        queue.close()
        await asyncio.to_thread(pool.shutdown)
        queue.end()
    assert queue._workers._busy == 0


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
        with pytest.raises(StorageUnavailableError, match="no thread for an append: can't start new") as error:
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


async def test_however_many_locks_others_have_a_thread_is_left_to_write() -> None:
    log = Log()
    async with a_queue(log) as queue:
        held = [asyncio.create_task(put(queue, f"held-{number}")) for number in range(6)]
        await asyncio.sleep(0.05)
        await put(queue, "a")
        assert not any(task.done() for task in held)
        log.go.set()
        await asyncio.gather(*held)
    assert log.written[0] == "a"
    assert sorted(log.written[1:]) == [f"held-{number}" for number in range(6)]


async def test_a_thread_that_has_waited_for_a_lock_waits_for_none_of_what_is_ready() -> None:
    log = Log()
    log.go.set()
    async with a_queue(log, workers=1) as queue:
        await put(queue, "held")
        await put(queue, "a")
    assert log.written == ["held", "a"]
    assert log.waited_for == ["held"]


async def test_no_more_threads_are_busy_than_may_be() -> None:
    log = Log()
    async with a_queue(log, workers=2) as queue:
        tasks = [asyncio.create_task(put(queue, "stuck-1"))]
        await asyncio.sleep(0.01)
        tasks.append(asyncio.create_task(put(queue, "stuck-2")))
        await asyncio.sleep(0.3)
        tasks.append(asyncio.create_task(put(queue, "a")))
        await asyncio.sleep(0.3)
        assert log.written == []
        log.go.set()
        await asyncio.gather(*tasks)
    assert sorted(log.written) == ["a", "stuck-1", "stuck-2"]


async def test_until_a_thread_has_begun_no_other_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    log, free = Log(), threading.Event()
    async with a_queue(log, threads=1) as queue:
        pool, asked = queue._workers._pool, list[object]()
        pool.submit(free.wait, 20)
        submit = pool.submit

        def counted(*args: Any) -> Future[Any]:
            asked.append(args)
            return submit(*args)

        monkeypatch.setattr(pool, "submit", counted)
        tasks = [asyncio.create_task(put(queue, f"{number}")) for number in range(5)]
        await asyncio.sleep(0.05)
        assert len(asked) == 1
        free.set()
        await asyncio.gather(*tasks)
    assert log.written == ["0", "1", "2", "3", "4"]


async def test_what_waits_is_looked_after_until_it_is_taken() -> None:
    """The first look finds another write than the one that it was meant for, which is not slow yet."""
    log = Log()
    async with a_queue(log) as queue:
        tasks = [asyncio.create_task(put(queue, "slow"))]
        await asyncio.sleep(0.01)
        queue._looking.add(asyncio.get_running_loop())  # the first look is still to come
        tasks.append(asyncio.create_task(put(queue, "stuck")))
        await asyncio.sleep(0.25)
        tasks.append(asyncio.create_task(put(queue, "a")))
        await asyncio.sleep(0)
        queue._look(asyncio.get_running_loop())
        await asyncio.wait_for(tasks[-1], 10)
        log.go.set()
        await asyncio.gather(*tasks)
    assert log.written == ["slow", "a", "stuck"]


async def test_a_thread_that_finds_no_other_beside_it_loses_nothing_that_it_has_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Log()
    async with a_queue(log) as queue:
        tasks = [asyncio.create_task(put(queue, "stuck"))]
        await asyncio.sleep(0.01)
        no_thread_for(monkeypatch, 1000)
        tasks += [asyncio.create_task(put(queue, name)) for name in ("held", "slow")]
        await asyncio.sleep(0)
        log.go.set()
        await asyncio.sleep(0.05)  # now the lock of one is held, and the other is slow
        tasks.append(asyncio.create_task(put(queue, "a")))
        await asyncio.gather(*tasks)
    assert log.written == ["stuck", "slow", "a", "held"]
