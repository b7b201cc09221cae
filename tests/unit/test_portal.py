"""Calls of other threads and loops on the portal, and the storage that is shared through it."""

import asyncio
import gc
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from luminoracore_sdk.adapters.portal import Portal, portal
from luminoracore_sdk.adapters.shared_storage import share
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConfigurationError, SyncCallError, ValidationError
from luminoracore_sdk.session import InMemoryStorage, SQLiteStorage, shared_storage
from luminoracore_sdk.testing.records import message_record, session_record

ALL = MessageRange()


class Waiting:
    """A call that waits until it is cancelled, and for another step then."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.ended = False

    async def call(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.ended = True


class Interrupted(BaseException):
    """Raised by a signal handler."""


@contextmanager
def interrupted_by_signal() -> Iterator[None]:
    def handler(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


async def thread_name() -> str:
    return threading.current_thread().name


def test_all_calls_run_on_one_daemon_thread() -> None:
    with ThreadPoolExecutor(4) as threads:
        names = set(threads.map(lambda _: portal().run(thread_name()), range(20)))
    assert names == {"luminora-portal"}
    assert {thread.daemon for thread in threading.enumerate() if thread.name in names} == {True}


def test_an_error_of_the_call_is_raised_unchanged() -> None:
    async def refuse() -> None:
        raise ValidationError("no")

    with pytest.raises(ValidationError, match="no"):
        portal().run(refuse())


def test_an_interrupt_cancels_the_call_and_awaits_its_end() -> None:
    waiting, main = Waiting(), threading.get_ident()

    async def interrupt() -> None:
        signal.pthread_kill(main, signal.SIGUSR1)
        await waiting.call()

    with interrupted_by_signal(), pytest.raises(Interrupted):
        portal().run(interrupt())
    assert waiting.ended


def test_a_call_from_the_loop_itself_is_refused() -> None:
    async def call_again() -> None:
        portal().run(thread_name())

    with pytest.raises(SyncCallError, match="use await there"):
        portal().run(call_again())


def test_context_variables_of_the_caller_are_visible() -> None:
    request: ContextVar[str] = ContextVar("request")

    async def read() -> str:
        return request.get()

    async def words() -> AsyncIterator[str]:
        token = request.set("inner")
        yield request.get()
        request.reset(token)
        yield request.get()

    request.set("outer")
    assert portal().run(read()) == "outer"
    assert list(portal().iterate(words())) == ["inner", "outer"]


class Numbers:
    """A stream, and whether it was closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def stream(self) -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            self.closed.set()


def test_a_stream_that_is_left_is_closed() -> None:
    numbers = Numbers()
    for number in portal().iterate(numbers.stream()):
        if number == 2:
            break
    assert numbers.closed.is_set()


def test_a_stream_that_is_collected_on_the_loop_is_closed() -> None:
    numbers = Numbers()
    stream: Any = portal().iterate(numbers.stream())
    assert next(stream) == 0
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle

    async def collect() -> None:
        gc.collect()

    gc.disable()
    try:
        portal().run(collect())
    finally:
        gc.enable()
    assert numbers.closed.wait(10)


def test_an_iterator_without_aclose_is_read_to_its_end() -> None:
    class Twice:
        left = 2

        def __aiter__(self) -> "Twice":
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    assert list(portal().iterate(Twice())) == [1, 0]


# -- the shared storage ------------------------------------------------------------------------------


class SlowAppends(StorageWrapper):
    """Appends wait until they are cancelled."""

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.waiting = Waiting()

    async def append_messages(
        self, session_id: str, messages: Any, *, expected_last: Any = None, fence: int | None = None
    ) -> AppendReceipt:
        await self.waiting.call()
        return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)


async def test_a_cancelled_call_is_cancelled_and_awaited() -> None:
    slow = SlowAppends(InMemoryStorage())
    storage = share(lambda: slow)
    await storage.put_session(session_record())
    append = asyncio.create_task(storage.append_messages("s", [message_record("m")]))
    await asyncio.to_thread(slow.waiting.begun.wait, 10)
    append.cancel()
    await asyncio.wait([append])
    assert append.cancelled()
    assert slow.waiting.ended
    assert await storage.read_messages("s", ALL) == []


async def test_a_second_cancellation_waits_for_the_end_too() -> None:
    waiting = Waiting()
    call = asyncio.create_task(portal().call(waiting.call()))
    await asyncio.to_thread(waiting.begun.wait, 10)
    call.cancel()
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert (call.cancelled(), waiting.ended) == (True, True)


def test_loops_and_threads_share_one_storage(tmp_path: Any) -> None:
    storage = shared_storage(f"sqlite:///{tmp_path}/store.db")

    async def append(writer: int) -> None:
        calls = (storage.append_messages("s", [message_record(f"{writer}-{n}")]) for n in range(10))
        await asyncio.gather(*calls)

    async def stored() -> list[str]:
        return [record.message_id async for record in storage.stream_messages("s", chunk=7)]

    asyncio.run(storage.put_session(session_record()))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda writer: asyncio.run(append(writer)), range(4)))
    assert sorted(asyncio.run(stored())) == sorted(f"{writer}-{n}" for writer in range(4) for n in range(10))
    asyncio.run(storage.close())


async def test_a_shared_storage_may_be_used_on_the_portal_itself() -> None:
    storage = shared_storage()
    await storage.put_session(session_record())
    assert portal().run(storage.list_sessions()) == ["s"]


async def test_a_shared_storage_has_the_name_of_its_backend(tmp_path: Any) -> None:
    assert shared_storage(f"sqlite:///{tmp_path}/store.db").backend == "sqlite"
    assert share(lambda: SQLiteStorage(tmp_path / "other.db")).backend == "sqlite"


def test_a_configuration_that_cannot_work_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="takes a StorageConfig or a URL, not int"):
        shared_storage(1)  # type: ignore[arg-type]


# -- signals, forks and the end ------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_line_leaves_the_portal_usable() -> None:
    """A signal handler may raise between any two lines of a call, even of the first one."""
    tracing = sys.gettrace()  # of the measurement of coverage
    for line in range(1, 200):
        fresh, left = Portal(), line

        def interrupt(frame: Any, event: str, _: Any) -> Any:
            nonlocal left
            if "portal" not in frame.f_code.co_filename or frame.f_code.co_name == "_serve":
                return None
            left -= event == "line"
            if left == 0:
                raise Interrupted
            return interrupt

        sys.settrace(interrupt)
        try:
            fresh.run(thread_name())
        except Interrupted:
            pass
        finally:
            sys.settrace(tracing)
        assert fresh.run(thread_name()) == "luminora-portal"
        fresh.stop()
        if left > 0:
            gc.collect()  # loops whose threads were not started warn here instead of in a later test
            return
    raise AssertionError("a call has more lines than that")


def test_a_portal_that_has_ended_refuses_calls() -> None:
    ended = Portal()
    assert ended.run(thread_name()) == "luminora-portal"
    numbers = ended.iterate(Numbers().stream())
    assert next(numbers) == 0
    ended.stop()
    with pytest.raises(SyncCallError, match="at the exit"):
        ended.run(thread_name())
    numbers.close()


def test_a_portal_that_a_fork_has_left_refuses_calls() -> None:
    left = Portal()
    assert left.run(thread_name()) == "luminora-portal"
    numbers = left.iterate(Numbers().stream())
    assert next(numbers) == 0
    left.abandon()
    with pytest.raises(SyncCallError, match="with a parent process"):
        next(numbers)


def test_a_paused_portal_runs_nothing_until_it_is_resumed() -> None:
    paused = Portal()
    paused.pause()()  # before its first call there is nothing to pause
    assert paused.run(thread_name()) == "luminora-portal"
    resume = paused.pause()
    with ThreadPoolExecutor(1) as thread:
        call = thread.submit(paused.run, thread_name())
        assert not wait([call], timeout=0.05).done
        resume()
        assert call.result(10) == "luminora-portal"
    paused.stop()
