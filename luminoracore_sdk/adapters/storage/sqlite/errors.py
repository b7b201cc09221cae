"""SQLite's errors in the words of the storage port."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
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

__all__ = ["BACKEND", "is_busy", "is_duplicate", "is_full", "translated"]

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
    """Return the extended result code; 0 for what the driver itself raised."""
    return getattr(exc, "sqlite_errorcode", None) or 0


def is_busy(exc: sqlite3.Error) -> bool:
    """Tell whether another connection held a lock."""
    return _code(exc) & _PRIMARY_CODE == sqlite3.SQLITE_BUSY


def is_full(exc: sqlite3.Error) -> bool:
    """Tell whether there was no room."""
    return _code(exc) & _PRIMARY_CODE == sqlite3.SQLITE_FULL


def is_duplicate(exc: sqlite3.IntegrityError) -> bool:
    """Tell whether a unique key is taken already."""
    return _code(exc) == sqlite3.SQLITE_CONSTRAINT_UNIQUE


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise what SQLite or the file system raises as the error that the port documents."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _from_sqlite(exc, path) from exc
    except (OverflowError, UnicodeEncodeError) as exc:
        raise ValidationError(
            "a number beyond 64 bits or a text with a lone surrogate has no place in a SQLite column"
        ) from exc
    except OSError as exc:
        if isinstance(exc, LuminoraCoreSDKError):  # ours may mean a built-in one as well
            raise
        kind = _FILE_SYSTEM.get(exc.errno or 0, StorageUnavailableError)
        raise kind(BACKEND, f"{_shown(path)}: {exc.strerror or exc}") from exc


def _from_sqlite(exc: sqlite3.Error, path: Path) -> LuminoraCoreSDKError:
    code = _code(exc) & _PRIMARY_CODE
    if code in _CORRUPT:
        return CorruptRecordError(backend=BACKEND, key=f"the file {_shown(path)}", reason=str(exc))
    name = getattr(exc, "sqlite_errorname", None) or type(exc).__name__
    return _UNAVAILABLE.get(code, StorageUnavailableError)(BACKEND, f"{_shown(path)}: {exc} ({name})")


def _shown(path: Path) -> str:
    return ascii(str(path))
