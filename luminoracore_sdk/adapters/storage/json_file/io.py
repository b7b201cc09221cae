"""File operations that are done wholly or not at all, and what their failures are called."""

import errno
import os
import shutil
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

from luminoracore_sdk.adapters.storage.json_file.descriptors import open_file
from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    StorageError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)

__all__ = [
    "BACKEND",
    "FileIO",
    "Syncing",
    "UnsyncedError",
    "corrupt",
    "os_errors",
    "translated",
]

BACKEND = "json"

_READ_BYTES = 1 << 16

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_WRONG_KIND = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ELOOP})

T = TypeVar("T")

Syncing = Generator[int, None, T]
"""Work that yields each descriptor that is to be synced, and goes on once it is.

What ``os.fsync`` raises is thrown into it. So who runs it may sync several files at the same time.
"""


def corrupt(path: os.PathLike[str] | str, reason: str) -> CorruptRecordError:
    """Return the error for a damaged file."""
    return CorruptRecordError(backend=BACKEND, key=os.fspath(path), reason=reason)


@contextmanager
def os_errors(doing: str, *, writing: bool) -> Iterator[None]:
    """Translate what the operating system refuses.

    Args:
        doing: For the text: "append to session 'x'".
        writing: Whether a refused permission means that the store is read-only.

    Raises:
        StorageFullError: No space, quota used up, or the file size limit reached.
        StorageReadOnlyError: No permission to write.
        CorruptRecordError: A folder is where a file should be, or the other way round.
        StorageUnavailableError: Anything else, such as an input/output error.
    """
    try:
        yield
    except OSError as exc:
        raise translated(exc, doing, writing=writing) from exc


def translated(exc: OSError, doing: str, *, writing: bool) -> StorageError:
    """Return the error for what the operating system refused; see ``os_errors``."""
    if exc.errno in _WRONG_KIND:
        return corrupt(exc.filename or "a file", f"cannot {doing}: {exc.strerror}")
    place = f" ({exc.filename})" if exc.filename else ""
    reason = f"cannot {doing}: {exc.strerror or exc}{place}"
    if exc.errno in _FULL:
        return StorageFullError(BACKEND, reason)
    if exc.errno in _READ_ONLY and writing:
        return StorageReadOnlyError(BACKEND, reason)
    return StorageUnavailableError(BACKEND, reason)


class UnsyncedError(OSError):
    """What was written may not be on the disk, and does not count."""


class FileIO:
    """Writes that survive a crash, for the owner alone: files of mode 0600 in folders of 0700.

    Args:
        fsync: Whether a write is on the disk when it returns; without, it survives the end of the
            process but not that of the machine.
    """

    def __init__(self, *, fsync: bool) -> None:
        self._fsync = fsync

    def read(self, path: str | Path) -> bytes:
        """Return a file's content."""
        fd = open_file(path, os.O_RDONLY)
        try:
            data = os.read(fd, _READ_BYTES)
            if len(data) == _READ_BYTES:  # maybe not all of it
                size = os.fstat(fd).st_size
                while len(data) < size and (more := os.read(fd, size - len(data))):
                    data += more
        except IsADirectoryError as exc:  # reading gives it without a name
            raise IsADirectoryError(exc.errno, exc.strerror, os.fspath(path)) from None
        finally:
            os.close(fd)
        return data

    def create(self, path: Path, chunks: Iterable[bytes]) -> None:
        """Write a new file that nobody looks for yet; a leftover of the same name goes."""
        fd = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            for chunk in chunks:
                _write(fd, chunk)
            if self._fsync and os.lseek(fd, 0, os.SEEK_CUR):  # an empty file is its name alone
                os.fsync(fd)
        finally:
            os.close(fd)

    def replace(self, path: str | Path, chunks: Iterable[bytes]) -> None:
        """Write a file so that others see the old content or the new, even after a crash."""
        path = Path(path)
        temporary = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
        try:
            self.create(temporary, chunks)
            self.move(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def move(self, source: Path, target: Path) -> None:
        """Rename, over what is there, for good."""
        source.replace(target)
        self.sync_folder(target.parent)

    def append(self, fd: int, data: bytes, size: int) -> Syncing[None]:
        """Write at the end of a file that is so long, all or nothing.

        Raises:
            UnsyncedError: It could be written, but the disk failed; it was cut off, if it could be.
            OSError: It could not be written; the same.
        """
        try:
            _write(fd, data)
            if self._fsync:
                try:
                    yield fd
                except OSError as exc:
                    raise UnsyncedError(exc.errno, exc.strerror) from exc
        except BaseException as exc:
            try:
                os.ftruncate(fd, size)
            except OSError:
                if isinstance(exc, UnsyncedError):  # lines that lie there must not be written again
                    raise exc from None
                raise
            raise

    def make_folders(self, path: Path, root: Path) -> None:
        """Make a folder with those above it, below the root."""
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
        """Make names that were added to or removed from a folder last."""
        if not self._fsync:
            return
        fd = open_file(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def discard(self, path: Path, trash: Path) -> bool:
        """Remove a folder with all it holds, at once as far as others see; False: there is none.

        It is renamed into the trash first. What a crash leaves there is nobody's any more.
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
    while written < len(data):  # a short write: what stopped it shows at the next
        written += os.write(fd, memoryview(data)[written:])
