"""Which threads write appends, and which wait for locks."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock, get_ident

from luminoracore_sdk.adapters.storage.json_file.io import BACKEND
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["SLOW", "Workers"]

SLOW = 0.1
"""Seconds after which another thread may write beside one that does."""

_TO_WRITE = 2
"""Threads that are not given to locks, however many of them are held."""


class Workers:
    """Threads of a pool, and what they are doing; all but ``begin`` is called with the lock.

    Args:
        pool: The threads.
        most: How many may be busy at a time.
        lock: Of who uses this.
        work: What each of them does: ``looks``, then ``writes``, ``waits`` or, at its end, ``rest``.

    Attributes:
        is_starting: Whether one is about to look.
    """

    def __init__(self, pool: ThreadPoolExecutor, most: int, lock: Lock, work: Callable[[], None]) -> None:
        self._pool = pool
        self._most = most
        self._lock = lock
        self._work = work
        self._busy = 0
        self._writing: dict[int, float] = {}  # since when
        self._waiting: set[int] = set()
        self.is_starting = False

    # -- of the calling thread -------------------------------------------------------------------

    def looks(self) -> None:
        """It has begun, or ended a part of its work, and looks for the next."""
        self.is_starting = False
        self._writing.pop(get_ident(), None)
        self._waiting.discard(get_ident())

    def writes(self) -> None:
        """It is going to write."""
        self._writing[get_ident()] = time.monotonic()

    def waits(self) -> None:
        """It is going to wait for a lock."""
        self._waiting.add(get_ident())

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for a lock; needs no lock."""
        return get_ident() in self._waiting

    def rest(self) -> None:
        """It has found nothing to do."""
        self._busy -= 1

    # -- of all of them --------------------------------------------------------------------------

    def may_write(self) -> bool:
        """Tell whether one more may write: none does, or those that do are slow."""
        since = time.monotonic() - SLOW
        return all(began < since for began in self._writing.values())

    def may_wait(self) -> bool:
        """Tell whether one more may wait for a lock."""
        return len(self._waiting) < max(self._most - _TO_WRITE, 1)

    def start(self) -> None:
        """Let another one begin, unless one is about to or all are busy.

        Raises:
            StorageUnavailableError: None can, and none is at work.
        """
        if self.is_starting or self._busy >= self._most:
            return
        ticket = [True]
        try:
            self._pool.submit(self._begin, ticket)
        except RuntimeError as exc:  # no more threads to be had; the pool may keep the ticket all the same
            ticket.clear()
            if not self._busy:
                raise StorageUnavailableError(BACKEND, f"no thread for an append: {exc}") from exc
        else:
            self._busy += 1
            self.is_starting = True

    def _begin(self, ticket: list[bool]) -> None:
        with self._lock:  # so ``start`` has ended
            is_valid = bool(ticket)
        if is_valid:
            self._work()
