"""Sessions whose log stays open from one call to the next."""

import threading
import weakref
from contextlib import suppress
from itertools import count

from luminoracore_sdk.adapters.storage.json_file.descriptors import most_kept, on_scarcity
from luminoracore_sdk.adapters.storage.json_file.session import SessionFolder

__all__ = ["OpenSessions"]

_kept: dict[tuple[int, str], SessionFolder] = {}
"""Those of all stores of the process, the one used longest ago first."""

_lock = threading.RLock()  # a store that is collected while it is held closes its own

_numbers = count()


class OpenSessions:
    """The folders of a store that were used last, with what is known of them.

    Whoever has a session's lock takes its folder out and puts it back, so nobody else uses it meanwhile.
    What is known is compared with the files before it is believed: other processes write them too. A folder
    that another process deletes keeps its log's space on the disk until enough others were used. All stores
    of the process share ``most_kept`` of them, and lose them when there are too many open files.
    """

    def __init__(self) -> None:
        self._number = next(_numbers)
        self._most = most_kept()
        weakref.finalize(self, _close, self._number)

    def take(self, name: str) -> SessionFolder | None:
        """Take out the folder of that name."""
        with _lock:
            return _kept.pop((self._number, name), None)

    def keep(self, folder: SessionFolder) -> None:
        """Put one back, or close it if it is not worth keeping; the one used longest ago may have to go."""
        if not folder.leave():
            folder.close()
            return
        surplus = None
        with _lock:
            _kept[self._number, folder.path.name] = folder
            if len(_kept) > self._most:
                surplus = _kept.pop(next(iter(_kept)), None)
        if surplus is not None:
            surplus.close()

    def drop(self, name: str) -> None:
        """Close the folder of that name, if it is here."""
        folder = self.take(name)
        if folder is not None:
            folder.close()

    def close(self) -> None:
        """Close all of this store."""
        _close(self._number)


def _close(number: int) -> None:
    with _lock:
        folders = [_kept.pop(key) for key in list(_kept) if key[0] == number]
    for folder in folders:
        folder.close()


@on_scarcity
def _close_all() -> bool:
    folders: list[SessionFolder] = []
    with _lock, suppress(KeyError):  # no more
        while True:
            folders.append(_kept.popitem()[1])
    for folder in folders:
        folder.close()
    return bool(folders)
