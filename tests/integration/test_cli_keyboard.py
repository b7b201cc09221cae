"""``luminora chat`` at a terminal: the editor, its history, pastes, completion, Markdown, Ctrl-C and Ctrl-D."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from luminoracore_sdk.domain.json_value import JSONObject
from tests.support.command import luminora_at
from tests.support.terminal import at_keyboard, read_until

CHAT = ("chat", "--session", "s", "--create")
PROMPT = "you>"
HISTORY = ".local/state/luminora/chat_history"


def next_prompt(keyboard: int) -> str:
    """Return what the terminal shows from the end of this line's editor to the next prompt."""
    return read_until(keyboard, "\x1b[?2004l") + read_until(keyboard, PROMPT)


def said(home: Path) -> list[str]:
    shown = json.loads(luminora_at(home)("sessions", "show", "s", "--json").stdout)
    return [message["content"] for message in shown["messages"]]


def chat(home: Path, *typed: bytes, arguments: tuple[str, ...] = CHAT) -> str:
    """Type each text at a prompt, then Ctrl-D; return what the terminal showed."""
    with at_keyboard(home, *arguments, terminal_type="xterm-256color") as (started, keyboard):
        shown = read_until(keyboard, PROMPT)
        for text in typed:
            os.write(keyboard, text)
            shown += next_prompt(keyboard)
        os.write(keyboard, b"\x04")
        shown += read_until(keyboard, "--session s\r\n")
        assert started.wait(30) == 0
    return shown


def test_a_paste_of_several_lines_is_one_message(tmp_path: Path) -> None:
    chat(tmp_path, b"\x1b[200~first line\nsecond line\x1b[201~\r")
    assert said(tmp_path) == ["first line\nsecond line", "You said: first line\nsecond line"]


def test_a_line_can_be_edited_and_continued(tmp_path: Path) -> None:
    chat(tmp_path, b"hexlo\x1b[D\x1b[D\x7fl\r", b"one\x1b\rtwo\r")
    assert said(tmp_path)[::2] == ["hello", "one\ntwo"]


def test_history_is_private_and_read_by_the_next_chat(tmp_path: Path) -> None:
    chat(tmp_path, b"remember this\r")
    assert (tmp_path / HISTORY).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / HISTORY).parent.stat().st_mode & 0o777 == 0o700
    chat(tmp_path, b"\x1b[A\r")
    assert said(tmp_path)[::2] == ["remember this", "remember this"]


def test_without_history_nothing_is_kept(tmp_path: Path) -> None:
    chat(tmp_path, b"secret\r", arguments=(*CHAT, "--no-history"))
    assert not (tmp_path / HISTORY).exists()


def test_a_history_that_cannot_be_kept_does_not_stop_the_chat(tmp_path: Path) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local/state").write_text("a file where a folder should be")
    luminora_at(tmp_path)(*CHAT, "hi")
    assert "no history is kept: " in chat(tmp_path, b"hello\r")


def test_the_tabulator_completes_a_command(tmp_path: Path) -> None:
    luminora_at(tmp_path)(*CHAT, "hi")
    with at_keyboard(tmp_path, *CHAT, terminal_type="xterm-256color") as (started, keyboard):
        read_until(keyboard, PROMPT)
        os.write(keyboard, b"/rem\t")
        read_until(keyboard, "ember")
        os.write(keyboard, b" drink tea\r")
        next_prompt(keyboard)
        os.write(keyboard, b"/quit\r")
        assert started.wait(30) == 0
    memories = json.loads(luminora_at(tmp_path)("sessions", "show", "s", "--json").stdout)["memories"]
    assert [(one["key"], one["value"]) for one in memories] == [("drink", "tea")]


def test_markdown_is_rendered(tmp_path: Path) -> None:
    shown = chat(tmp_path, b"\x1b[200~**bold**\n\n```\n**code**\n\nmore\n```\n\n- [site](http://x.example)\x1b[201~\r")
    answer = shown[shown.index("You said:") :]
    assert "\x1b[1mbold\x1b[0m" in answer
    assert "**code**" in answer
    assert "http://x.example" in answer
    assert said(tmp_path)[1].startswith("You said: **bold**")


def test_plain_answers_are_shown_as_they_are(tmp_path: Path) -> None:
    shown = chat(tmp_path, b"**bold**\r", arguments=(*CHAT, "--plain"))
    assert "You said: **bold**" in shown


def test_ctrl_c_discards_a_line_and_leaves_at_an_empty_one(tmp_path: Path) -> None:
    with at_keyboard(tmp_path, *CHAT, terminal_type="xterm-256color") as (started, keyboard):
        read_until(keyboard, PROMPT)
        os.write(keyboard, b"discarded\x03")
        next_prompt(keyboard)
        os.write(keyboard, b"kept\r")
        assert "You said: kept" in next_prompt(keyboard)
        os.write(keyboard, b"\x03")
        read_until(keyboard, "resume with: luminora chat --session s")
        assert started.wait(30) == 130
    assert said(tmp_path) == ["kept", "You said: kept"]


def test_without_the_editors_package_one_line_says_what_to_install(tmp_path: Path) -> None:
    missing = "import sys; sys.modules['prompt_toolkit'] = None"
    with at_keyboard(tmp_path, *CHAT, terminal_type="xterm-256color", code=missing) as (started, keyboard):
        read_until(keyboard, "luminora: luminora chat at the keyboard needs the 'cli' extra: ")
        assert started.wait(30) == 1


@contextmanager
def model_server(*deltas: JSONObject, usage: JSONObject | None = None) -> Iterator[tuple[str, threading.Event]]:
    """A model server that streams deltas once; without usage it does not end. The event says that they were sent."""
    sent, ended = threading.Event(), threading.Event()
    choices: list[JSONObject] = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    if usage is not None:
        choices.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage})
    body = "".join(f"data: {json.dumps(one)}\n\n" for one in choices) + ("data: [DONE]\n\n" if usage else "")
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"

    def answer(listening: socket.socket) -> None:
        with listening.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(f"{head}{body}".encode())
            sent.set()
            if usage is None:
                ended.wait(60)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1", sent
        finally:
            ended.set()
            thread.join(60)


@pytest.mark.parametrize("terminal_type", ["dumb", "xterm-256color"])
def test_ctrl_c_keeps_what_came_of_an_answer(tmp_path: Path, terminal_type: str) -> None:
    with model_server({"role": "assistant", "content": "Half an **answer**"}) as (url, begun):
        server = ("--provider", "ollama", "--base-url", url)
        with at_keyboard(tmp_path, *CHAT, *server, terminal_type=terminal_type) as (started, keyboard):
            read_until(keyboard, PROMPT)
            os.write(keyboard, b"Question?\r")
            read_until(keyboard, "Half an ")
            assert begun.wait(30)
            started.send_signal(signal.SIGINT)
            read_until(keyboard, "stopped; what came was saved")
            read_until(keyboard, PROMPT)
            os.write(keyboard, b"/quit\r")
            assert started.wait(30) == 0
    assert said(tmp_path) == ["Question?", "Half an **answer**"]


@pytest.mark.parametrize(
    ("way", "terminal_type", "typed"),
    [
        (signal.SIGTERM, "xterm-256color", b"half a line"),
        (signal.SIGHUP, "dumb", b""),
    ],
)
def test_a_chat_that_is_ended_before_its_first_message_leaves_no_session(
    tmp_path: Path, way: signal.Signals, terminal_type: str, typed: bytes
) -> None:
    with at_keyboard(tmp_path, "chat", terminal_type=terminal_type) as (started, keyboard):
        read_until(keyboard, PROMPT)
        os.write(keyboard, typed)
        read_until(keyboard, typed.decode())
        started.send_signal(way)
        read_until(keyboard, "it has no messages")
        assert started.wait(30) == 130
    assert luminora_at(tmp_path)("sessions", "list").stdout == ""


def test_a_hangup_that_is_ignored_does_not_end_the_chat(tmp_path: Path) -> None:
    ignore = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    with at_keyboard(tmp_path, *CHAT, terminal_type="dumb", code=ignore) as (started, keyboard):
        read_until(keyboard, PROMPT)
        started.send_signal(signal.SIGHUP)
        os.write(keyboard, b"Still here\r")
        read_until(keyboard, "You said: Still here")
    assert said(tmp_path) == ["Still here", "You said: Still here"]


def test_a_chat_that_is_ended_keeps_what_came_of_an_answer(tmp_path: Path) -> None:
    with model_server({"role": "assistant", "content": "Half an **answer**"}) as (url, begun):
        server = ("--provider", "ollama", "--base-url", url)
        with at_keyboard(tmp_path, *CHAT, *server, terminal_type="xterm-256color") as (started, keyboard):
            read_until(keyboard, PROMPT)
            os.write(keyboard, b"Question?\r")
            read_until(keyboard, "Half an ")
            assert begun.wait(30)
            started.terminate()
            read_until(keyboard, "resume with: luminora chat --session s")
            assert started.wait(30) == 130
    assert said(tmp_path) == ["Question?", "Half an **answer**"]


def test_reasoning_calls_and_usage_stand_beside_a_rendered_answer(tmp_path: Path) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    deltas: list[JSONObject] = [
        {"role": "assistant", "reasoning_content": "Let me think."},
        {"content": "It is **sunny**."},
        {"tool_calls": [call]},
    ]
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    with model_server(*deltas, usage=usage) as (url, _):
        shown = chat(
            tmp_path, b"Weather?\r", arguments=(*CHAT, "--provider", "vllm", "--base-url", url, "--model", "m")
        )
    assert "\x1b[2mLet me think.\x1b[0m" in shown
    assert "It is \x1b[1msunny\x1b[0m" in shown
    assert "calls look({})" in shown
    assert "7 tokens in, 2 out" in shown
