"""Locks between threads and between processes."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

import attrs

from luminoracore_sdk.adapters.storage.json_file.descriptors import open_file
from luminoracore_sdk.adapters.storage.json_file.io import BACKEND
from luminoracore_sdk.domain.errors import MissingDependencyError, StorageBusyError

__all__ = ["StripeLocks"]

_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_POLL_SECONDS = 0.0005
"""Between two looks at a lock that another process holds; an append holds it for 0.3 ms, 64 for 10 ms."""


@attrs.define(eq=False)
class _Stripe:
    """The thread lock of a stripe; what belongs to the thread that has it: how often, and the file's lock."""

    lock: RLock = attrs.field(factory=RLock)
    times: int = 0
    fd: int | None = None


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
        self._stripes = {f"{number:02x}": _Stripe() for number in range(256)}

    @contextmanager
    def hold(self, stripe: str, *, writing: bool) -> Iterator[None]:
        """Hold one lock for a ``with`` block, waiting for it as long as may be; see ``take``."""
        self.take(stripe, writing=writing, deadline=time.monotonic() + self._timeout)
        try:
            yield
        finally:
            self.give_back(stripe)

    def take(self, stripe: str, *, writing: bool, deadline: float) -> None:
        """Take a lock, which the same thread gives back; see ``give_back``.

        A thread that has it may take it again, for another session of the stripe. One that has another lock
        may not wait for this one.

        Args:
            stripe: Its name: two hexadecimal digits.
            writing: False: in a store that cannot be written, and so by nobody, go on without.
            deadline: Until when to wait, by ``time.monotonic``; one that is over: do not.

        Raises:
            StorageBusyError: Not given within the time limit.
        """
        held = self._stripes[stripe]
        if not held.lock.acquire(blocking=False):
            left = deadline - time.monotonic()
            if left <= 0 or not held.lock.acquire(timeout=left):
                raise self._busy(stripe)
        try:
            if not held.times:
                self._lock_file(held, stripe, writing=writing, deadline=deadline)
        except BaseException:
            held.lock.release()
            raise
        held.times += 1

    def give_back(self, stripe: str) -> None:
        """Give back what ``take`` took."""
        held = self._stripes[stripe]
        held.times -= 1
        try:
            if not held.times:
                self._unlock_file(held)
        finally:
            held.lock.release()

    def _lock_file(self, held: "_Stripe", stripe: str, *, writing: bool, deadline: float) -> None:
        fd = self._open(f"{self._folder}/{stripe}.lock", writing=writing)
        if fd is not None:
            try:
                self._wait(fd, stripe, deadline)
            except BaseException:
                os.close(fd)
                raise
        held.fd = fd

    def _unlock_file(self, held: "_Stripe") -> None:
        fd, held.fd = held.fd, None
        if fd is not None:
            try:
                self._unlock(fd)  # closing would not do while a forked child has it too
            finally:
                os.close(fd)

    def _open(self, path: str, *, writing: bool) -> int | None:
        try:
            try:
                return open_file(path, os.O_RDWR)  # making it if need be costs 2 µs more
            except FileNotFoundError:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                return open_file(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            if writing or exc.errno not in _READ_ONLY:
                raise
        try:
            return open_file(path, os.O_RDONLY)
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
