"""The portal: an event loop on a thread of its own, one for each process, and calls that are made on it.

Any thread and any other event loop may call. A forked process has a portal of its own, because the thread of the
parent's does not exist there.
"""

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - what holds its lock during a fork is registered before what is below
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from threading import Event, RLock, Thread, current_thread, local
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import attrs

from luminoracore_sdk.adapters.inbox import Inbox, loop_inbox
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
        self._inbox: Inbox | None = None
        self._callers: WeakKeyDictionary[asyncio.AbstractEventLoop, _Caller] = WeakKeyDictionary()
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
        ended = Event()
        begun = _Call(call, context or copy_context(), lambda _: ended.set())
        try:
            self._begin(begun)
            ended.wait()
        except BaseException:
            self._cancel(begun)
            ended.wait()
            raise
        return begun.result()

    async def call(self, call: Coroutine[Any, Any, T]) -> T:
        """Return the result of a call. When the task is cancelled, so is the call, and its end is awaited."""
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return await call
        caller = self._caller(loop)
        begun = _Call(call, copy_context(), caller.told)
        begun.waiter = loop.create_future()
        if not caller.calls:
            loop.call_soon(self._begin_all, caller.calls)
        caller.calls.append(begun)
        try:
            await begun.waiter
        except asyncio.CancelledError:
            self._cancel(begun)
            while not begun.has_ended:
                begun.waiter = loop.create_future()
                with suppress(asyncio.CancelledError):
                    await begun.waiter
            raise
        return begun.result()

    def _caller(self, loop: asyncio.AbstractEventLoop) -> "_Caller":
        found = self._callers.get(loop)
        if found is None:
            found = self._callers[loop] = _Caller(loop)
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
                self._begin(_Call(_close(stream), context, lambda _: None))
            elif self._loop is not None and not self._loop.is_closed():
                self.run(_close(stream), context)

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
        self._loop = self._inbox = None

    def stop(self) -> None:
        """Cancel all calls, close what is open, and end the thread."""
        if self._loop is not None and self._thread is not None:
            ended = Event()
            self._begin(_Call(self._end(), copy_context(), lambda _: ended.set()))
            ended.wait(_EXIT_SECONDS)
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

    def _begin_all(self, calls: "list[_Call[Any]]") -> None:
        begun = tuple(calls)
        calls.clear()
        self._begin(*begun)

    def _begin(self, *calls: "_Call[Any]") -> None:
        with self.lock:
            if self._thread is None:
                loop = asyncio.SelectorEventLoop()
                thread = Thread(target=_serve, args=(loop, self._kept), name="luminora-portal", daemon=True)
                thread.start()
                self._inbox = loop_inbox(loop)
                self._thread, self._loop = thread, loop
        if self._inbox is None or self._loop is None or self._loop.is_closed():
            for call in calls:
                call.refuse(SyncCallError("the event loop of this call ended, with a parent process or at the exit"))
        else:
            self._inbox.post(*(call.start for call in calls))

    def _cancel(self, call: "_Call[Any]") -> None:
        if self._inbox is None:
            call.cancel()
        elif not call.has_ended:
            self._inbox.post(call.cancel)


class _Caller:
    """A loop that makes calls; ``calls`` begin when it has run what is ready.

    Begun together they need one wake-up, after which the portal has the interpreter to itself.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.calls: list[_Call[Any]] = []
        self.told = partial(_tell, loop_inbox(loop))


def _tell(inbox: Inbox, call: "_Call[Any]") -> None:
    inbox.post(call.wake)


@attrs.define(eq=False)
class _Call(Generic[T]):
    """A coroutine, and its outcome; ``start`` and ``cancel`` run on the loop.

    While it runs there are few objects for it: of those that wait at once, the garbage collector looks at all.

    Attributes:
        coroutine: The coroutine.
        context: The context variables that it sees.
        told: Called with the call when it has ended.
        waiter: What ``wake`` sets, on the loop of the caller.
    """

    coroutine: Coroutine[Any, Any, T]
    context: Context
    told: "Callable[[_Call[T]], object]"
    waiter: asyncio.Future[None] | None = None
    has_ended: bool = False
    _task: asyncio.Task[T] | None = None
    _error: BaseException | None = None

    def wake(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def start(self) -> None:
        if not self.has_ended:
            self._task = asyncio.get_running_loop().create_task(self.coroutine, context=self.context)
            self._task.add_done_callback(self._end, context=self.context)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        else:
            self.refuse(asyncio.CancelledError())

    def refuse(self, error: BaseException) -> None:
        """End the call, which has not started, with an error."""
        if not self.has_ended:
            self.coroutine.close()
            self._error = error
            self._end()

    def result(self) -> T:
        if self._task is None:
            raise self._error or asyncio.CancelledError
        return self._task.result()

    def _end(self, task: "asyncio.Task[T] | None" = None) -> None:
        if task is not None and not task.cancelled():
            task.exception()  # its caller may be gone; asyncio logs an error that nothing has asked for
        self.has_ended = True
        self.told(self)


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
