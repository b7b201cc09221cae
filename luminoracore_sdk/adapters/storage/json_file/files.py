"""File operations that are done completely or not at all, the locks between writers, and error translation."""

import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from uuid import uuid4

from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    MissingDependencyError,
    StorageBusyError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)

__all__ = ["BACKEND", "Files", "FolderLocks", "corrupt", "os_errors"]

BACKEND = "json"

_READ_BYTES = 1 << 16

_POLL_SECONDS = 0.0005
"""Between two attempts at a lock that another process holds; an append holds it for about 0.3 ms."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_WRONG_KIND = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ELOOP})


def corrupt(path: os.PathLike[str] | str, reason: str) -> CorruptRecordError:
    """Return the error for a damaged file."""
    return CorruptRecordError(backend=BACKEND, key=os.fspath(path), reason=reason)


@contextmanager
def os_errors(action: str, *, writing: bool) -> Iterator[None]:
    """Translate the errors of the operating system.

    Args:
        action: What the block does, for the message: "append to session 'x'".
        writing: Whether a refused permission means that the store is read-only.

    Raises:
        StorageFullError: No space left, quota used up, or file size limit reached.
        StorageReadOnlyError: No permission to write.
        CorruptRecordError: A folder is where a file should be, or a file where a folder should be.
        StorageUnavailableError: Anything else, such as an input/output error.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in _WRONG_KIND:
            raise corrupt(exc.filename or "a file", f"cannot {action}: {exc.strerror}") from exc
        path = f" ({exc.filename})" if exc.filename else ""
        reason = f"cannot {action}: {exc.strerror or exc}{path}"
        if exc.errno in _FULL:
            raise StorageFullError(BACKEND, reason) from exc
        if exc.errno in _READ_ONLY and writing:
            raise StorageReadOnlyError(BACKEND, reason) from exc
        raise StorageUnavailableError(BACKEND, reason) from exc


class Files:
    """Write files that survive a crash and that only their owner can read: mode 0600, in folders of mode 0700.

    Args:
        fsync: Whether a write waits for the disk. Without it, a write survives the end of the process but not
            a power failure.
    """

    def __init__(self, *, fsync: bool) -> None:
        self._fsync = fsync

    def read(self, path: Path | str) -> bytes:
        """Return the content of a file."""
        fd = os.open(path, os.O_RDONLY)
        try:
            data = os.read(fd, _READ_BYTES)
            if len(data) == _READ_BYTES:
                size = os.fstat(fd).st_size
                while len(data) < size and (more := os.read(fd, size - len(data))):
                    data += more
        except IsADirectoryError as exc:  # os.read does not name the path
            raise IsADirectoryError(exc.errno, exc.strerror, os.fspath(path)) from exc
        finally:
            os.close(fd)
        return data

    def create(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Write a file under a name that no reader looks for yet, over what a crash left there."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            for chunk in chunks:
                _write(fd, chunk)
            if self._fsync and os.lseek(fd, 0, os.SEEK_CUR):  # an empty file is only a name, synced with its folder
                os.fsync(fd)
        finally:
            os.close(fd)

    def replace(self, path: Path | str, chunks: Iterable[bytes], *, suffix: str = ".tmp") -> None:
        """Write a file atomically: readers see the old content or the new, even after a crash.

        Args:
            path: The file.
            chunks: Its new content, in parts.
            suffix: Ends the name under which it is written first. What a crash leaves under that name is overwritten
                by the next call; without a lock, each call needs a suffix of its own.
        """
        path = Path(path)
        temporary = path.with_name(f"{path.name}{suffix}")
        try:
            self.create(temporary, chunks)
            self.move(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def move(self, source: Path, target: Path) -> None:
        """Rename a file or folder, replacing the target."""
        source.replace(target)
        self.sync_folder(target.parent)

    def append(self, fd: int, data: bytes, size: int) -> None:
        """Write at the end of an open file, all or nothing.

        Args:
            fd: The file, opened with ``O_APPEND``.
            data: What to write.
            size: The size of the file, to which a failed write is cut back.

        Raises:
            OSError: The data could not be written; nothing of it remains.
            StorageUnavailableError: The same, but the file could not be cut back (``in_doubt``).
        """
        try:
            _write(fd, data)
            if self._fsync:
                os.fsync(fd)
        except BaseException as exc:
            try:
                os.ftruncate(fd, size)
            except OSError as failed:
                reason = f"cannot undo a failed write ({exc}): {failed}"
                raise StorageUnavailableError(BACKEND, reason, in_doubt=True) from exc
            raise

    def make_folders(self, path: Path, root: Path) -> None:
        """Create a folder and its missing parents below the root."""
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            return
        except FileNotFoundError:
            if path.parent == root:
                raise
            self.make_folders(path.parent, root)
            path.mkdir(mode=0o700, exist_ok=True)
        self.sync_folder(path.parent)

    def sync_folder(self, path: Path) -> None:
        """Make the names that were last added to or removed from a folder durable."""
        if not self._fsync:
            return
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def discard(self, path: Path, trash: Path) -> bool:
        """Remove a folder and its content atomically; False: there was none.

        The folder is renamed into the trash first. What a crash leaves there is removed at the next open.
        """
        doomed = trash / uuid4().hex
        while True:
            try:
                path.rename(doomed)
                break
            except FileNotFoundError:
                if not path.exists():
                    return False
                trash.mkdir(mode=0o700, exist_ok=True)
        self.sync_folder(path.parent)
        shutil.rmtree(doomed, ignore_errors=True)
        return True


def _write(fd: int, data: bytes) -> None:
    written = os.write(fd, data)
    while written < len(data):  # a short write: the next one shows the reason
        written += os.write(fd, memoryview(data)[written:])


class FolderLocks:
    """Exclusive locks between the threads and processes that use one store.

    A lock covers the folders whose names begin with the same two hexadecimal digits. Lock files are never
    deleted, so that all processes lock the same ones. A thread lock is taken first, because a file system may
    keep file locks by process.

    Args:
        folder: The folder of the lock files, created when missing.
        timeout: Longest wait in seconds.

    Raises:
        MissingDependencyError: ``filelock`` is not installed, or is older than 3.30.
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        try:
            from filelock import lock_descriptor, unlock_descriptor  # noqa: PLC0415 - an extra
        except ImportError as exc:
            raise MissingDependencyError("JSONFileStorage", "files") from exc
        self._lock_descriptor = lock_descriptor
        self._unlock_descriptor = unlock_descriptor
        self._folder = folder
        self._timeout = timeout
        self._thread_locks = {f"{number:02x}": Lock() for number in range(256)}

    def deadline(self) -> float:
        """Return when a wait that begins now times out."""
        return time.monotonic() + self._timeout

    @contextmanager
    def hold(self, folder: Path, *, writing: bool, deadline: float | None = None) -> Iterator[None]:
        """Hold the lock of a folder of the store.

        Args:
            folder: The folder of a session or user.
            writing: False: do without a file lock in a store that cannot be written, by anyone.
            deadline: How long to wait, see ``deadline``; None: as long as the timeout allows from now on.

        Raises:
            StorageBusyError: The lock was not free in time.
        """
        name = folder.name[:2]
        deadline = deadline or self.deadline()
        thread_lock = self._thread_locks[name]
        if not thread_lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._busy(name)
        try:
            fd = self._open(f"{self._folder}/{name}.lock", writing=writing)
            if fd is None:
                yield
                return
            try:
                while not self._lock_descriptor(fd, blocking=False):
                    if time.monotonic() > deadline:
                        raise self._busy(name)
                    time.sleep(_POLL_SECONDS)
                try:
                    yield
                finally:
                    self._unlock_descriptor(fd)  # closing would not release it while a forked child has a copy
            finally:
                os.close(fd)
        finally:
            thread_lock.release()

    def _open(self, path: str, *, writing: bool) -> int | None:
        try:
            try:
                return os.open(path, os.O_RDWR)
            except FileNotFoundError:
                self._folder.mkdir(mode=0o700, exist_ok=True)
                return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            if writing or exc.errno not in _READ_ONLY:
                raise
        try:
            return os.open(path, os.O_RDONLY)
        except OSError:
            return None

    def _busy(self, name: str) -> StorageBusyError:
        return StorageBusyError(
            BACKEND, f"another writer held {self._folder.name}/{name}.lock for over {self._timeout} s"
        )
