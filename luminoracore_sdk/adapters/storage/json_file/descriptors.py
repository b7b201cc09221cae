"""Opening files where a process may have few of them open at once."""

import errno
import os
from collections.abc import Callable

__all__ = ["most_kept", "on_scarcity", "open_file"]

_MOST = 128
_EACH = 16
"""A kept folder has two descriptors; all of them together have an eighth of what the process may have."""

_SCARCE = frozenset({errno.EMFILE, errno.ENFILE})

_helpers: list[Callable[[], bool]] = []


def open_file(path: str | os.PathLike[str], flags: int, mode: int = 0o777) -> int:
    """Open a file that no child process inherits, as ``os.open``; if need be, at the cost of kept ones."""
    while True:
        try:
            return os.open(path, flags | os.O_CLOEXEC, mode)
        except OSError as exc:
            if exc.errno not in _SCARCE or not any(helper() for helper in _helpers):
                raise


def on_scarcity(helper: Callable[[], bool]) -> Callable[[], bool]:
    """Have a function called when the process has too many open files; it tells whether it closed some."""
    _helpers.append(helper)
    return helper


def most_kept() -> int:
    """Return how many folders a process keeps open at most, for all its stores: 128, or 64 of 1,024 files."""
    try:
        import resource  # noqa: PLC0415 - not on every platform
    except ImportError:
        return _MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else max(1, min(_MOST, soft // _EACH))
