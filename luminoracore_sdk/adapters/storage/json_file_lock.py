"""Locks between threads and between processes."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from luminoracore_sdk.adapters.storage.json_file_io import BACKEND
from luminoracore_sdk.domain.errors import MissingDependencyError, StorageBusyError

__all__ = ["StripeLocks"]

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_POLL_SECONDS = 0.0005
"""Between two looks at a lock that another process holds; an append holds it for about 0.3 ms."""


class StripeLocks:
    """Exclusive locks on files that are never deleted, so that all processes lock the same ones.

    A thread lock comes first: only one thread of a process ever waits for the file. The file is opened
    anew each time, because a descriptor that a fork inherits would share its lock.

    Args:
        folder: Where the lock files are; made when missing.
        timeout: Longest wait in seconds.
    Raises:
        MissingDependencyError: ``filelock`` is not installed, or is older than 3.30.
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        try:
            from filelock import lock_descriptor, unlock_descriptor  # noqa: PLC0415 - an extra
        except ImportError as exc:
            raise MissingDependencyError("JSONFileStorage", "files") from exc
        self._try_lock: Callable[[int], bool] = lambda fd: lock_descriptor(fd, blocking=False)
        self._unlock: Callable[[int], None] = unlock_descriptor
        self._folder = folder
        self._timeout = timeout
        self._threads = {f"{number:02x}": Lock() for number in range(256)}

    @contextmanager
    def hold(self, stripe: str, *, writing: bool, deadline: float | None = None) -> Iterator[None]:
        """Hold one lock; a thread holds one at a time.

        Args:
            stripe: Its name: two hexadecimal digits.
            writing: False: in a store that cannot be written, and so by nobody, go on without.
            deadline: Until when to wait, by ``time.monotonic``; None: as long as may be from now on.
        Raises:
            StorageBusyError: Not given within the time limit.
        """
        now = time.monotonic()
        if deadline is None:
            deadline = now + self._timeout
        thread_lock = self._threads[stripe]
        if not thread_lock.acquire(timeout=max(0.0, deadline - now)):
            raise self._busy(stripe)
        try:
            fd = self._open(f"{self._folder}/{stripe}.lock", writing=writing)
            if fd is None:
                yield
                return
            try:
                self._wait(fd, stripe, deadline)
                try:
                    yield
                finally:
                    self._unlock(fd)  # closing would not do while a forked child has it too
            finally:
                os.close(fd)
        finally:
            thread_lock.release()

    def _open(self, path: str, *, writing: bool) -> int | None:
        try:
            try:
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            if writing or exc.errno not in _READ_ONLY:
                raise
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None

    def _wait(self, fd: int, stripe: str, deadline: float) -> None:
        while not self._try_lock(fd):
            if time.monotonic() > deadline:
                raise self._busy(stripe)
            time.sleep(_POLL_SECONDS)

    def _busy(self, stripe: str) -> StorageBusyError:
        return StorageBusyError(
            BACKEND, f"another writer held {self._folder.name}/{stripe}.lock for over {self._timeout} s"
        )
