"""One turn at a time: a lock for each session of a storage."""

import asyncio
from types import TracebackType
from weakref import WeakKeyDictionary, WeakValueDictionary

from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import SessionBusyError

__all__ = ["SessionLocks", "TurnLock", "locks_of"]


GRACE_SECONDS = 5.0
"""How long a task waits for a stream of its own to end; closing one takes milliseconds."""


class TurnLock:
    """A lock that knows its holder: waiting for oneself would never end, so it is an error.

    Args:
        session_id: For the error.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._lock = asyncio.Lock()
        self._holder: asyncio.Task[object] | None = None

    async def __aenter__(self) -> None:
        if self._lock.locked() and self._holder is asyncio.current_task():
            await self._acquire_from_oneself()
        else:
            await self._lock.acquire()
        self._holder = asyncio.current_task()

    async def _acquire_from_oneself(self) -> None:
        """Wait for a stream that was left with ``break``: the event loop closes it in a moment."""
        try:
            async with asyncio.timeout(GRACE_SECONDS):
                await self._lock.acquire()
        except TimeoutError as exc:
            raise SessionBusyError(self._session_id) from exc

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._holder = None
        self._lock.release()


class SessionLocks:
    """Locks by session and event loop, each kept as long as somebody holds or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[int, str], TurnLock] = WeakValueDictionary()

    def of(self, session_id: str) -> TurnLock:
        """Return the lock of a session on the running event loop."""
        key = (id(asyncio.get_running_loop()), session_id)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = TurnLock(session_id)
        return lock


_ALL: WeakKeyDictionary[SessionStorage, SessionLocks] = WeakKeyDictionary()


def locks_of(storage: SessionStorage) -> SessionLocks:
    """Return the locks that all managers over one storage object share."""
    return _ALL.setdefault(storage, SessionLocks())
