"""The standard streams of the command: in UTF-8 whatever the locale, and closed ones replaced."""

import io
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

__all__ = ["finish_streams", "prepare_streams"]


def prepare_streams() -> None:
    """Make stdin, stdout and stderr usable.

    stdin and stdout are read and written as UTF-8. The descriptor of a stream that the caller closed (``>&-``) is
    opened again, so that no file of the store gets its number: stdin is then empty, stderr goes nowhere, and writing
    to stdout fails.
    """
    for descriptor, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest number that is free
    sys.stdin = sys.stdin or _opened(0, "r")
    sys.stdout = sys.stdout or _opened(1, "w")
    sys.stderr = sys.stderr or _opened(2, "w")
    _reconfigure(sys.stdin, encoding="utf-8", errors="strict")
    _reconfigure(sys.stdout, encoding="utf-8", errors="backslashreplace")
    _reconfigure(sys.stderr, errors="backslashreplace")


def _opened(descriptor: int, mode: str) -> TextIO:
    return open(descriptor, mode, encoding="utf-8", closefd=False)  # type: ignore[return-value]


def _reconfigure(stream: TextIO, **options: Any) -> None:
    if isinstance(stream, io.TextIOWrapper):  # a program that calls ``run`` may have put something else there
        stream.reconfigure(**options)


def finish_streams() -> None:
    """Write out what is left; what cannot be written is dropped, so that the interpreter does not fail at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
