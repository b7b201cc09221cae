"""Translation of SQLite's errors into those of the storage port."""

import errno
import sqlite3
from pathlib import Path

from luminoracore_sdk.domain.errors import (
    CorruptRecordError,
    LuminoraCoreSDKError,
    StorageBusyError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
    ValidationError,
)

__all__ = ["BACKEND", "Translation", "is_busy"]

BACKEND = "sqlite"

_PRIMARY_CODE = 0xFF  # https://www.sqlite.org/rescode.html: extended codes keep the primary in the low byte

_UNAVAILABLE: dict[int, type[StorageUnavailableError]] = {
    sqlite3.SQLITE_BUSY: StorageBusyError,
    sqlite3.SQLITE_LOCKED: StorageBusyError,
    sqlite3.SQLITE_FULL: StorageFullError,
    sqlite3.SQLITE_READONLY: StorageReadOnlyError,
    sqlite3.SQLITE_PERM: StorageReadOnlyError,
}
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

_FILE_SYSTEM: dict[int, type[StorageUnavailableError]] = {
    errno.EACCES: StorageReadOnlyError,
    errno.EPERM: StorageReadOnlyError,
    errno.EROFS: StorageReadOnlyError,
    errno.ENOSPC: StorageFullError,
    errno.EDQUOT: StorageFullError,
}


def _code(exc: sqlite3.Error) -> int:
    """Return the primary result code; 0 for an error that the driver raised itself."""
    return (getattr(exc, "sqlite_errorcode", None) or 0) & _PRIMARY_CODE


def is_busy(exc: sqlite3.Error) -> bool:
    """Return whether another connection held a lock."""
    return _code(exc) == sqlite3.SQLITE_BUSY


class Translation:
    """A context that raises errors of SQLite and of the file system as those that the port documents."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        """Begin; the object may be in use at once by several."""

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        if isinstance(exc, sqlite3.Error):
            raise _from_sqlite(exc, self._path) from exc
        if isinstance(exc, OverflowError | UnicodeEncodeError):
            raise ValidationError(
                "SQLite cannot store an integer beyond 64 bits or a string with a lone surrogate"
            ) from exc
        if isinstance(exc, OSError) and not isinstance(exc, LuminoraCoreSDKError):  # some of ours derive from it too
            kind = _FILE_SYSTEM.get(exc.errno or 0, StorageUnavailableError)
            raise kind(BACKEND, f"{_shown(self._path)}: {exc.strerror or exc}") from exc


def _from_sqlite(exc: sqlite3.Error, path: Path) -> LuminoraCoreSDKError:
    if _code(exc) in _CORRUPT:
        return CorruptRecordError(backend=BACKEND, key=f"the file {_shown(path)}", reason=str(exc))
    name = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
    return _UNAVAILABLE.get(_code(exc), StorageUnavailableError)(BACKEND, f"{_shown(path)}: {exc} ({name})")


def _shown(path: Path) -> str:
    return ascii(str(path))
