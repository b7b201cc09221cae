"""Functions that other threads want a thread to call."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from weakref import ref

__all__ = ["Inbox", "loop_inbox"]


class Inbox:
    """Functions that a thread calls in order; one wake-up serves all that are waiting.

    A wake-up lets other threads have the interpreter, which may take milliseconds to get back. A signal handler may
    raise an exception at any line of ``post``; that may add a wake-up, but never loses one.

    Args:
        wake: Has the thread call a function soon.
    """

    def __init__(self, wake: Callable[[Callable[[], None]], object]) -> None:
        self._wake = wake
        self._posted: deque[Callable[[], object]] = deque()
        self._runs = 0
        self._woken = -1  # the value of _runs when the last wake-up was sent

    def post(self, *functions: Callable[[], object]) -> None:
        """Have functions called, which must not raise an exception."""
        self._posted.extend(functions)
        runs = self._runs
        if self._woken != runs:
            self._wake(self._run)
            self._woken = runs

    def _run(self) -> None:
        self._runs += 1  # first, so that whatever is posted after the look at the length sends a wake-up
        for _ in range(len(self._posted)):  # no more, so that the thread comes to what else it has to do
            self._posted.popleft()()


def loop_inbox(loop: asyncio.AbstractEventLoop) -> Inbox:
    """Return an inbox of the thread of an event loop, which it does not keep alive; a closed loop calls nothing."""
    return Inbox(partial(_wake_loop, ref(loop)))


def _wake_loop(reference: "ref[asyncio.AbstractEventLoop]", run: Callable[[], None]) -> None:
    loop = reference()
    if loop is not None and not loop.is_closed():
        loop.call_soon_threadsafe(run)
