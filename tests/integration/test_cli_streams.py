"""The command with closed, full and abandoned streams, and in any locale."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command import luminora_at, process_environment

TEXT = "नमस्ते é 😀"
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    luminora_at(tmp_path)("chat", TEXT, "--session", "s", "--create")
    return tmp_path


def shell(home: Path, command: str, redirected: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """Run the command in a shell that redirects its streams; its exit code is that of the shell."""
    line = f"{shlex.quote(sys.executable)} -m luminoracore_sdk.cli {command} {redirected}"
    return subprocess.run(
        ["/bin/bash", "-o", "pipefail", "-c", line],
        input=b"said\n",
        capture_output=True,
        check=False,
        timeout=60,
        env=process_environment(home, **environment),
    )


@pytest.mark.parametrize(
    ("command", "redirected", "code", "told"),
    [
        ("--version", ">&-", 1, "luminora: stdout: Bad file descriptor\n"),
        ("sessions list", ">&-", 1, "luminora: cannot write the output: Bad file descriptor\n"),
        ("sessions export", ">&-", 1, "luminora: cannot write the output: Bad file descriptor\n"),
        ("sessions export", ">/dev/full", 1, "luminora: cannot write the output: No space left on device\n"),
        ("sessions list --json", ">/dev/full", 1, "luminora: cannot write the output: No space left on device\n"),
        ("sessions show none", ">&-", 3, "luminora: no session 'none' in sqlite storage\n"),
        ("sessions show none", "2>&-", 3, ""),
        ("sessions list", "2>&-", 0, ""),
        ("chat hi --session s", "2>&-", 0, ""),
        ("chat --session s", "<&-", 0, "resumed session s, 2 messages\nresume with: luminora chat --session s\n"),
        ("sessions import -", "<&-", 0, "imported 0 sessions, 0 messages, 0 memories\n- contains no sessions\n"),
        ("sessions list", "<&- >&- 2>&-", 1, ""),
        ("sessions show s", "| true", 1, ""),
        ("sessions export 2>/dev/null", "| true", 1, ""),
        ("--help", "| true", 1, ""),
    ],
)
def test_a_stream_that_is_closed_ends_without_traceback(
    home: Path, command: str, redirected: str, code: int, told: str
) -> None:
    done = shell(home, command, redirected)
    assert (done.returncode, done.stderr.decode()) == (code, told)


def test_a_closed_stream_gives_its_number_to_no_file_of_the_store(home: Path) -> None:
    for redirected in (">&-", "2>&-", "<&- >&- 2>&-"):
        shell(home, "chat more --session s", redirected)
    assert luminora_at(home)("doctor").exit_code == 0
    shown = json.loads(luminora_at(home)("sessions", "show", "s", "--json").stdout)
    assert shown["messages"][0]["content"] == TEXT


@pytest.mark.parametrize("command", ["sessions export", "sessions show s --json", "sessions list --json"])
def test_json_is_utf_8_in_every_locale(home: Path, command: str) -> None:
    usual, other = shell(home, command, ""), shell(home, command, "", **ASCII)
    assert (other.returncode, other.stdout) == (0, usual.stdout)
    if "list" not in command:
        assert TEXT in other.stdout.decode()


def test_a_pipe_is_read_as_utf_8_in_every_locale(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "luminoracore_sdk.cli", "chat", "--session", "s", "--json"],
        input=f"{TEXT}\n".encode(),
        capture_output=True,
        check=True,
        timeout=60,
        env=process_environment(home, **ASCII),
    )
    assert json.loads(done.stdout.decode())["content"] == f"You said: {TEXT}"
