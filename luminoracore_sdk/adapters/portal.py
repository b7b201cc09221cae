"""The portal: an event loop on a thread of its own, one for each process, and calls that are made on it.

Any thread and any other event loop may call. A forked process has a portal of its own, because the thread of the
parent's does not exist there.
"""

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - what holds its lock during a fork is registered before what is below
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from threading import Event, RLock, Thread, current_thread, local
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from luminoracore_sdk.domain.errors import SyncCallError

__all__ = ["Portal", "portal"]

_EXIT_SECONDS = 5.0
_PAUSE_SECONDS = 1.0
_END: Any = object()

T = TypeVar("T")


class Portal:
    """Runs coroutines on its loop, whose thread the first of them starts."""

    def __init__(self) -> None:
        self.lock = RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._inboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, _Inbox] = WeakKeyDictionary()
        self._resources: WeakValueDictionary[int, Any] = WeakValueDictionary()
        self._kept: list[object] = []

    def run(self, call: Coroutine[Any, Any, T], context: Context | None = None) -> T:
        """Return the result of a call; block the thread until then.

        An exception that a signal handler raises meanwhile, such as KeyboardInterrupt, cancels the call.

        Raises:
            SyncCallError: The thread is that of the loop, or the portal that of a parent process.
        """
        if current_thread() is self._thread:
            call.close()
            raise SyncCallError("a call without await was made on the event loop that has to run it; use await there")
        begun = _Call(call, context or copy_context())
        try:
            self._begin(begun)
            wait([begun.outcome])
        except BaseException:
            self._cancel(begun)
            wait([begun.outcome])
            raise
        return begun.outcome.result()

    async def call(self, call: Coroutine[Any, Any, T]) -> T:
        """Return the result of a call. When the task is cancelled, so is the call, and its end is awaited."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return await call
        begun, inbox, ended = _Call(call, copy_context()), self._inbox(loop), loop.create_future()
        begun.outcome.add_done_callback(lambda _: inbox.post(partial(_wake, ended)))
        self._begin(begun)
        try:
            await ended
        except asyncio.CancelledError:
            self._cancel(begun)
            while not begun.outcome.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([asyncio.wrap_future(begun.outcome)])
            raise
        return begun.outcome.result()

    def _inbox(self, loop: asyncio.AbstractEventLoop) -> "_Inbox":
        found = self._inboxes.get(loop)
        if found is None:
            found = self._inboxes[loop] = _Inbox(loop)
        return found

    def iterate(self, stream: AsyncIterator[T]) -> Generator[T, None, None]:
        """Yield the items of a stream, and close it at the end."""
        context = copy_context()
        self.adopt(stream)
        try:
            while (item := self.run(_next(stream), context)) is not _END:
                yield item
        finally:
            if current_thread() is self._thread:  # where the garbage collector found the generator
                self._begin(_Call(_close(stream), context))
            elif self._loop is not None and not self._loop.is_closed():
                self.run(_close(stream), context)

    @property
    def has_run(self) -> bool:
        """Whether a call was made."""
        return self._thread is not None

    def adopt(self, resource: T) -> T:
        """Return a resource or stream, which is closed at the exit of the interpreter if it still exists then."""
        self._resources[id(resource)] = resource
        return resource

    def pause(self) -> Callable[[], None]:
        """Let the thread wait between two callbacks, where it holds no lock; return how to end that.

        A process that forks does so, because a lock that is held then is never released in the child.
        """
        reached, resume = Event(), Event()

        def wait_for_the_fork() -> None:
            reached.set()
            resume.wait()

        if self._loop is not None and not self._loop.is_closed() and current_thread() is not self._thread:
            self._loop.call_soon_threadsafe(wait_for_the_fork)
            reached.wait(_PAUSE_SECONDS)
        return resume.set

    def abandon(self) -> None:
        """Give up the loop in a forked process, and what was opened on it.

        Destructors must not run there: a transport that closes itself says goodbye on a connection of the parent's,
        and removes it from the epoll object that both processes share. The list keeps what is in it for ever,
        because the frame of the thread, which refers to it, does not end there.
        """
        self._kept += [self._loop, *self._resources.values()]
        self._loop = None

    def stop(self) -> None:
        """Cancel all calls, close what is open, and end the thread."""
        if self._loop is not None and self._thread is not None:
            end = _Call(self._end(), copy_context())
            self._begin(end)
            wait([end.outcome], _EXIT_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_EXIT_SECONDS)

    async def _end(self) -> None:
        loop = asyncio.get_running_loop()
        if tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_EXIT_SECONDS / 2)
        for resource in reversed(list(self._resources.values())):  # streams, then managers, then storages
            with suppress(Exception):  # such as that of a thread pool, which ends before
                await (resource.aclose() if hasattr(resource, "aclose") else resource.close())
        await loop.shutdown_asyncgens()

    def _begin(self, call: "_Call[Any]") -> None:
        with self.lock:
            if self._thread is None:
                loop = asyncio.SelectorEventLoop()
                thread = Thread(target=_serve, args=(loop, self._kept), name="luminora-portal", daemon=True)
                thread.start()
                self._thread, self._loop = thread, loop
        if self._loop is None or self._loop.is_closed():
            call.cancel()
            raise SyncCallError("the event loop of this call ended, with a parent process or at the exit")
        self._inbox(self._loop).post(call.start)

    def _cancel(self, call: "_Call[Any]") -> None:
        if self._loop is None:
            call.cancel()
        elif not call.outcome.done():
            self._inbox(self._loop).post(call.cancel)


class _Inbox:
    """Functions that other threads want a loop to call, in order; one wake-up serves all that are waiting.

    A wake-up writes to a socket and lets other threads have the interpreter, which may take milliseconds to get back.
    A signal handler may raise an exception at any line of ``post``; that may add a wake-up, but never loses one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)
        self._posted: deque[Callable[[], None]] = deque()
        self._runs = 0
        self._woken = -1  # the value of _runs when the last wake-up was sent

    def post(self, function: Callable[[], None]) -> None:
        loop = self._loop()
        if loop is None or loop.is_closed():
            return
        self._posted.append(function)
        runs = self._runs
        if self._woken != runs:
            loop.call_soon_threadsafe(self._run)
            self._woken = runs

    def _run(self) -> None:
        self._runs += 1  # first, so that whatever is posted after the last look sends a wake-up
        while self._posted:
            self._posted.popleft()()


def _wake(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)


class _Call(Generic[T]):
    """A coroutine, and its outcome for other threads; ``start`` and ``cancel`` run on the loop, in this order."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], context: Context) -> None:
        self.outcome: Future[T] = Future()
        self._coroutine = coroutine
        self._context = context
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._coroutine, context=self._context)
        self._task.add_done_callback(self._report)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif not self.outcome.done():  # not started: a signal came first, or the loop has ended
            self._coroutine.close()
            self.outcome.set_exception(asyncio.CancelledError())

    def _report(self, task: "asyncio.Task[T]") -> None:
        if task.cancelled():
            self.outcome.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.outcome.set_exception(error)
        else:
            self.outcome.set_result(task.result())


def _serve(loop: asyncio.AbstractEventLoop, _kept: list[object]) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _next(stream: AsyncIterator[T]) -> T:
    return await anext(stream, _END)


async def _close(stream: Any) -> None:
    if hasattr(stream, "aclose"):
        await stream.aclose()


_portal = Portal()
_forking = local()


def portal() -> Portal:
    """Return the portal of this process."""
    return _portal


def _pause() -> None:
    _forking.resume = _portal.pause()


def _resume() -> None:
    _forking.resume()


def _renew() -> None:
    global _portal  # noqa: PLW0603 - one for each process
    _portal.abandon()
    _portal = Portal()


os.register_at_fork(before=_pause, after_in_parent=_resume, after_in_child=_renew)
atexit.register(lambda: portal().stop())
