"""Wakes the watchers of a session in this process when a call of the same storage has changed it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

__all__ = ["Wakeups"]


class _Watcher:
    """One watcher, on its own event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109  # not an error if nothing happens
        """Return when the session may have changed, or after a number of seconds; see ``Wakeup``."""
        try:
            async with asyncio.timeout(timeout):
                await self._event.wait()
        except TimeoutError:
            return
        finally:
            self._event.clear()

    def wake(self) -> None:
        """End the wait, from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._event.set)
        except RuntimeError:  # its loop is closed, and so is the watcher
            return


class Wakeups:
    """The watchers of one storage object. Threads and event loops may share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._watchers: dict[str, list[_Watcher]] = {}

    @contextmanager
    def of(self, session_id: str) -> Iterator[_Watcher]:
        """Return a watcher that is woken within the block."""
        watcher = _Watcher()
        with self._lock:
            self._watchers.setdefault(session_id, []).append(watcher)
        try:
            yield watcher
        finally:
            with self._lock:
                watchers = self._watchers[session_id]
                watchers.remove(watcher)
                if not watchers:
                    del self._watchers[session_id]

    def wake(self, session_id: str) -> None:
        """Wake the watchers of a session, if there are any."""
        if not self._watchers:
            return
        with self._lock:
            watchers = list(self._watchers.get(session_id, ()))
        for watcher in watchers:
            watcher.wake()

    def wake_all(self) -> None:
        """Wake every watcher: changes may have been missed."""
        with self._lock:
            session_ids = list(self._watchers)
        for session_id in session_ids:
            self.wake(session_id)
