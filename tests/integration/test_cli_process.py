"""The command as users start it: new processes, pipes, a keyboard, Ctrl-C, missing packages."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from luminoracore_sdk import __version__
from luminoracore_sdk.cli import run
from tests.support.command import luminora_at, process, process_environment
from tests.support.terminal import at_keyboard, read_until, start_at_keyboard


def test_a_new_process_goes_on_where_the_one_before_ended(tmp_path: Path) -> None:
    first = process(tmp_path, "chat", stdin="one\n/remember name Ada\n")
    session_id = first.stderr.split()[2]
    second = process(tmp_path, "chat", "two", "--session", session_id)
    assert (second.returncode, second.stdout) == (0, "You said: two\n")
    assert second.stderr == f"resumed session {session_id}, 2 messages\nremembers name: Ada\n"
    assert (tmp_path / ".local/share/luminora/sessions.db").exists()


def test_the_entry_point_runs_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["luminora", "--version"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert (ended.value.code, capsys.readouterr().out) == (0, f"luminora {__version__}\n")


def test_the_environment_names_the_store(tmp_path: Path) -> None:
    process(tmp_path, "chat", "one", LUMINORA_STORE=f"file://{tmp_path}/store")
    assert (tmp_path / "store/luminora.json").exists()
    assert not (tmp_path / ".local").exists()


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    for package in ("typer", "rich", "platformdirs"):
        done = process(tmp_path, "chat", code=f"import sys; sys.modules[{package!r}] = None")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == (
            "luminora: the luminora command needs the 'cli' extra: pip install \"luminoracore-sdk[cli]\"\n"
        )


def test_lone_surrogates_do_not_stop_the_output(tmp_path: Path) -> None:
    done = process(tmp_path, "chat", "a\udcffb", "--store", "memory://")
    assert (done.returncode, done.stdout) == (0, "You said: a\\udcffb\n")


def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    luminora_at(tmp_path)("chat", "hi")
    source = "from luminoracore_sdk.cli import run; run()"
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-c", source, "sessions", "list"],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
            text=True,
            timeout=30,
            env=process_environment(tmp_path),
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_at_the_keyboard_one_talks_line_by_line(tmp_path: Path) -> None:
    started, keyboard = start_at_keyboard(tmp_path, "chat")
    read_until(keyboard, "you> ")
    os.write(keyboard, b"hello\n")
    assert "You said: hello" in read_until(keyboard, "you> ")
    os.write(keyboard, b"\x04")
    assert "luminora chat --session " in read_until(keyboard, "resume with: luminora chat --session ")
    assert started.wait(30) == 0
    os.close(keyboard)


def test_a_value_that_is_refused_does_not_end_a_keyboard_chat(tmp_path: Path) -> None:
    with at_keyboard(tmp_path, "chat") as (_, keyboard):
        read_until(keyboard, "you> ")
        os.write(keyboard, b"/remember " + b"k" * 600 + b" v\n")
        assert "luminora: memory key" in read_until(keyboard, "you> ")


def test_a_typed_line_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with at_keyboard(tmp_path, "chat") as (_, keyboard):
        read_until(keyboard, "you> ")
        os.write(keyboard, b"a\xff\n")
        assert "luminora: stdin: not UTF-8" in read_until(keyboard, "not UTF-8\r\n")


def test_failing_provider_does_not_end_a_keyboard_chat(tmp_path: Path) -> None:
    server = ("--provider", "ollama", "--base-url", "http://127.0.0.1:9/v1")
    started, keyboard = start_at_keyboard(tmp_path, "chat", *server)
    read_until(keyboard, "you> ")
    os.write(keyboard, b"hello\n")
    assert "luminora: " in read_until(keyboard, "you> ")
    os.write(keyboard, b"/quit\n")
    assert started.wait(30) == 0
    os.close(keyboard)


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        yield listening


def asking(server: socket.socket) -> tuple[str, ...]:
    return "--provider", "ollama", "--base-url", f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def interrupt(started: "subprocess.Popen[bytes]") -> None:
    started.send_signal(signal.SIGINT)


def interrupt_until_ended(started: "subprocess.Popen[bytes]") -> int:
    """Interrupt a prompt, and return the exit status; between prompt and read, Python takes note of a signal only."""
    while started.poll() is None:
        interrupt(started)
        with suppress(subprocess.TimeoutExpired):
            started.wait(3)
    return int(started.returncode)


def test_ctrl_c_at_the_prompt_exits_with_130(tmp_path: Path) -> None:
    with at_keyboard(tmp_path, "chat") as (started, keyboard):
        read_until(keyboard, "you> ")
        assert interrupt_until_ended(started) == 130
        assert "it has no messages" in read_until(keyboard, "it has no messages")
    assert luminora_at(tmp_path)("sessions", "list", "--json").stdout == "[]\n"


def test_ctrl_c_before_the_command_begins_exits_with_130(tmp_path: Path) -> None:
    code = """
import sys
class Stopped:
    def find_spec(self, name, *_):
        if name == "luminoracore_sdk.cli.app":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Stopped())"""
    done = process(tmp_path, "doctor", code=code)
    assert (done.returncode, done.stderr) == (130, "")


def test_ctrl_c_at_the_question_deletes_nothing(tmp_path: Path) -> None:
    luminora_at(tmp_path)("chat", "hi", "--session", "s", "--create")
    with at_keyboard(tmp_path, "sessions", "delete", "s") as (started, keyboard):
        read_until(keyboard, "Delete session s, 2 messages? [y/N] ")
        assert interrupt_until_ended(started) == 130
    assert luminora_at(tmp_path)("sessions", "show", "s").exit_code == 0


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, 0), (b"\x04", 1, 0), (b"y\n", 0, 3)])
def test_at_the_keyboard_deleting_asks_first(tmp_path: Path, answer: bytes, code: int, left: int) -> None:
    luminora_at(tmp_path)("chat", "hi", "--session", "s", "--create")
    with at_keyboard(tmp_path, "sessions", "delete", "s") as (started, keyboard):
        read_until(keyboard, "Delete session s, 2 messages? [y/N] ")
        os.write(keyboard, answer)
        assert started.wait(30) == code
    assert luminora_at(tmp_path)("sessions", "show", "s").exit_code == left


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(tmp_path: Path, silent_server: socket.socket) -> None:
    begun = ("chat", "--session", "s", "--create", "--remember", "k=v", *asking(silent_server))
    with at_keyboard(tmp_path, *begun) as (started, keyboard):
        read_until(keyboard, "you> ")
        os.write(keyboard, b"hello\n")
        with silent_server.accept()[0]:  # the question is out
            interrupt(started)
            assert "\r\nstopped; the turn was not saved\r\n" in read_until(keyboard, "you> ")
        os.write(keyboard, b"/quit\n")
        assert started.wait(30) == 0
    assert '"message_count":0' in luminora_at(tmp_path)("sessions", "show", "s", "--json").stdout


def test_ctrl_c_in_a_single_message_leaves_no_session(tmp_path: Path, silent_server: socket.socket) -> None:
    with at_keyboard(tmp_path, "chat", "hello", *asking(silent_server)) as (started, keyboard):
        with silent_server.accept()[0]:
            interrupt(started)
            assert "\r\nstopped; the turn was not saved\r\n" in read_until(keyboard, "no message")
        assert started.wait(30) == 130
    assert luminora_at(tmp_path)("sessions", "list", "--json").stdout == "[]\n"


def test_the_version_is_told_without_importing_the_container(tmp_path: Path) -> None:
    told = "import atexit, sys; atexit.register(lambda: print('dependency_injector' in sys.modules))"
    assert process(tmp_path, "--version", code=told).stdout == f"luminora {__version__}\nFalse\n"
    assert process(tmp_path, "--help", code=told).stdout.endswith("\nFalse\n")
