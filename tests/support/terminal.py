"""The ``luminora`` command on a terminal of its own."""

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.command import process_environment

__all__ = ["at_keyboard", "read_until", "start_at_keyboard"]


def start_at_keyboard(
    home: Path, *arguments: str, terminal_type: str = "dumb", code: str = "pass"
) -> tuple["subprocess.Popen[bytes]", int]:
    """Start the command on a terminal of its own, after some code; return it and the keyboard."""
    keyboard, terminal = pty.openpty()
    # tests that run in the background pass on an ignored SIGINT, those under nohup an ignored SIGHUP
    heed = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
    )
    source = f"{heed}; {code}; from luminoracore_sdk.cli import run; run()"
    started = subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        env=process_environment(home, TERM=terminal_type, COLUMNS="80", PROMPT_TOOLKIT_NO_CPR="1"),
    )
    os.close(terminal)
    return started, keyboard


def read_until(keyboard: int, expected: str) -> str:
    """Return what a terminal shows up to an expected text; what follows it is left to the next call."""
    seen = b""
    while not seen.endswith(expected.encode()):
        assert select.select([keyboard], [], [], 30)[0], seen
        seen += os.read(keyboard, 1)
    return seen.decode(errors="replace")


@contextmanager
def at_keyboard(
    home: Path, *arguments: str, terminal_type: str = "dumb", code: str = "pass"
) -> Iterator[tuple["subprocess.Popen[bytes]", int]]:
    """Run the command on a terminal of its own, and kill it at the end."""
    started, keyboard = start_at_keyboard(home, *arguments, terminal_type=terminal_type, code=code)
    try:
        yield started, keyboard
    finally:
        started.kill()
        started.wait()
        os.close(keyboard)
