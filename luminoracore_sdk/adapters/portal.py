"""The portal: an event loop on a thread of its own, one for each process, and calls that are made on it.

Any thread and any other event loop may call. A forked process has a portal of its own, because the thread of the
parent's does not exist there.
"""

import asyncio
import atexit
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from concurrent.futures import Future, wait
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from threading import RLock, Thread, current_thread
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from luminoracore_sdk.domain.errors import SyncCallError

__all__ = ["Portal", "portal"]

_EXIT_SECONDS = 5.0
_END: Any = object()

T = TypeVar("T")


class Portal:
    """Runs coroutines on its loop, whose thread the first of them starts."""

    def __init__(self) -> None:
        self.lock = RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._is_abandoned = False
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
        outcome, cancel = self._begin(call, context or copy_context())
        try:
            wait([outcome])
        except BaseException:
            cancel()
            wait([outcome])
            raise
        return outcome.result()

    async def call(self, call: Coroutine[Any, Any, T]) -> T:
        """Return the result of a call. When the task is cancelled, so is the call, and its end is awaited."""
        if asyncio.get_running_loop() is self._loop:
            return await call
        outcome, cancel = self._begin(call, copy_context())
        ended = asyncio.wrap_future(outcome)
        try:
            return await asyncio.shield(ended)
        except asyncio.CancelledError:
            cancel()
            while not ended.done():
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([ended])
            raise

    def iterate(self, stream: AsyncIterator[T]) -> Generator[T, None, None]:
        """Yield the items of a stream, and close it at the end."""
        context = copy_context()
        self.adopt(stream)
        try:
            while (item := self.run(_next(stream), context)) is not _END:
                yield item
        finally:
            if current_thread() is self._thread:  # where the garbage collector found the generator
                self._begin(_close(stream), context)
            elif self._loop is not None and not self._loop.is_closed():
                self.run(_close(stream), context)

    def adopt(self, resource: T) -> T:
        """Return a resource or stream, which is closed at the exit of the interpreter if it still exists then."""
        self._resources[id(resource)] = resource
        return resource

    def abandon(self) -> None:
        """Give up the loop in a forked process, and what was opened on it.

        Destructors must not run there: a transport that closes itself says goodbye on a connection of the parent's,
        and removes it from the epoll object that both processes share. The list keeps what is in it for ever,
        because the frame of the thread, which refers to it, does not end there.
        """
        self._is_abandoned = True
        self._kept += [self._loop, *self._resources.values()]
        self._loop = None

    def stop(self) -> None:
        """Cancel all calls, close what is open, and end the thread."""
        if self._loop is not None and self._thread is not None:
            outcome, _ = self._begin(self._end(), copy_context())
            wait([outcome], _EXIT_SECONDS)
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

    def _begin(self, call: Coroutine[Any, Any, T], context: Context) -> tuple["Future[T]", Callable[[], object]]:
        """Start a call; return its outcome, and a function that cancels it."""
        outcome: Future[T] = Future()
        tasks: list[asyncio.Task[T]] = []

        def start() -> None:
            tasks.append(loop.create_task(call, context=context))
            tasks[0].add_done_callback(partial(_report, outcome))

        def cancel() -> None:  # runs behind start
            tasks[0].cancel()

        try:
            loop = self._running_loop()
            loop.call_soon_threadsafe(start)
        except BaseException:
            call.close()
            raise
        return outcome, partial(loop.call_soon_threadsafe, cancel)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        with self.lock:
            if self._is_abandoned:
                raise SyncCallError("it was begun before a fork, on an event loop that stayed in the parent process")
            if self._loop is None:
                self._loop = asyncio.SelectorEventLoop()
                arguments = (self._loop, self._kept)
                self._thread = Thread(target=_serve, args=arguments, name="luminora-portal", daemon=True)
                self._thread.start()
            return self._loop


def _serve(loop: asyncio.AbstractEventLoop, _kept: list[object]) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _report(outcome: "Future[T]", task: "asyncio.Task[T]") -> None:
    if task.cancelled():
        outcome.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


async def _next(stream: AsyncIterator[T]) -> T:
    return await anext(stream, _END)


async def _close(stream: Any) -> None:
    if hasattr(stream, "aclose"):
        await stream.aclose()


_portal = Portal()


def portal() -> Portal:
    """Return the portal of this process."""
    return _portal


def _renew() -> None:
    global _portal  # noqa: PLW0603 - one for each process
    _portal.abandon()
    _portal = Portal()


os.register_at_fork(after_in_child=_renew)
atexit.register(lambda: portal().stop())
