"""Wakes the watchers of a session: when a call of the same storage has changed it, or a server tells of a change."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager, contextmanager
from threading import Lock

from luminoracore_sdk.domain.errors import StorageError

__all__ = ["Listener", "Wakeups"]

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 5.0
"""Between attempts to listen."""

_CANCEL_SECONDS = 0.5
"""Between attempts to cancel a task that listens."""


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


class Listener:
    """A task that listens to a server as long as sessions of one storage are watched, on one event loop.

    Args:
        listen: Listens until it is cancelled, calls ``heard`` for what it hears, and looks at ``sessions`` again when
            ``changed`` is set. If it fails, it is called again after a pause; if it returns, the server cannot tell.
        wakeups: The watchers.

    Attributes:
        changed: Set when other sessions are watched than before.
    """

    def __init__(self, listen: "Callable[[Listener], Awaitable[None]]", wakeups: Wakeups) -> None:
        self._listen = listen
        self._wakeups = wakeups
        self._watchers: Counter[str] = Counter()
        self._task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()

    @property
    def sessions(self) -> AbstractSet[str]:
        """The sessions that are watched."""
        return self._watchers.keys()

    @asynccontextmanager
    async def of(self, session_id: str) -> AsyncIterator[None]:
        """Listen for changes of a session within the block."""
        self._watchers[session_id] += 1
        if self._task is None:
            self.changed = asyncio.Event()  # of this event loop
            self._task = asyncio.create_task(self._run())
        self.changed.set()
        try:
            yield
        finally:
            self._watchers[session_id] -= 1
            if not self._watchers[session_id]:
                del self._watchers[session_id]
                self.changed.set()
            if not self._watchers:
                await self.close()

    def heard(self, session_id: str) -> None:
        """Wake the watchers of a session, which changed or may have changed unheard."""
        self._wakeups.wake(session_id)

    async def close(self) -> None:
        """Listen no more, until a session is watched again."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            task.cancel()  # again: a driver may swallow it (asyncio.wait_for of Python 3.11 does, at times)
            await asyncio.wait({task}, timeout=_CANCEL_SECONDS)

    async def _run(self) -> None:
        while True:
            try:
                return await self._listen(self)
            except StorageError as exc:
                logger.debug("changes are looked for, not heard: %s", exc)
            await asyncio.sleep(_PAUSE_SECONDS)
