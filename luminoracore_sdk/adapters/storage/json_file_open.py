"""Sessions whose log stays open from one call to the next."""

import threading
import weakref

from luminoracore_sdk.adapters.storage.json_file_session import SessionFolder

__all__ = ["OpenSessions"]

_MOST = 128
"""Two descriptors each: a process may often have no more than 1,024, and on macOS 256."""


class OpenSessions:
    """The folders that were used last, with what is known of them.

    Whoever has a session's lock takes its folder out and puts it back, so nobody else uses it meanwhile.
    What is known is compared with the files before it is believed: other processes write them too. A folder
    that another process deletes keeps its log's space on the disk until 128 others were used.
    """

    def __init__(self) -> None:
        self._folders: dict[str, SessionFolder] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._folders)

    def take(self, name: str) -> SessionFolder | None:
        """Take out the folder of that name."""
        with self._lock:
            return self._folders.pop(name, None)

    def keep(self, folder: SessionFolder) -> None:
        """Put one back, or close it if it is not worth keeping; the one used longest ago may have to go."""
        if not folder.leave():
            folder.close()
            return
        surplus = None
        with self._lock:
            self._folders[folder.path.name] = folder
            if len(self._folders) > _MOST:
                surplus = self._folders.pop(next(iter(self._folders)))
        if surplus is not None:
            surplus.close()

    def drop(self, name: str) -> None:
        """Close the folder of that name, if it is here."""
        folder = self.take(name)
        if folder is not None:
            folder.close()

    def close(self) -> None:
        """Close all."""
        with self._lock:
            _close(self._folders)


def _close(folders: dict[str, SessionFolder]) -> None:
    while folders:
        _, folder = folders.popitem()
        folder.close()
