"""One turn at a time: a lock for each session of a storage."""

import asyncio
from weakref import WeakKeyDictionary, WeakValueDictionary

from luminoracore_sdk.application.ports.storage import SessionStorage

__all__ = ["SessionLocks", "locks_of"]


class SessionLocks:
    """Locks by session and event loop, each kept as long as somebody holds or waits for it."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[tuple[int, str], asyncio.Lock] = WeakValueDictionary()

    def of(self, session_id: str) -> asyncio.Lock:
        """Return the lock of a session on the running event loop."""
        key = (id(asyncio.get_running_loop()), session_id)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock


_ALL: WeakKeyDictionary[SessionStorage, SessionLocks] = WeakKeyDictionary()


def locks_of(storage: SessionStorage) -> SessionLocks:
    """Return the locks that all managers over one storage object share."""
    return _ALL.setdefault(storage, SessionLocks())
