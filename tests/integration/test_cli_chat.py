"""``luminora chat``: one message or many, new and resumed."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.cli.chat import usage_line
from luminoracore_sdk.providers import BaseProvider, ProviderFactory
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse
from luminoracore_sdk.utils.exceptions import ProviderError
from tests.support.command import Luminora, luminora_over

DEAD = "http://127.0.0.1:9/v1"
KEY = {"OPENAI_API_KEY": "sk-no"}


@pytest.fixture
def luminora(tmp_path: Path) -> Luminora:
    return luminora_over(f"sqlite:///{tmp_path / 'store.db'}")


def test_an_answer_is_all_of_stdout_and_the_id_is_told_beside_it(luminora: Luminora) -> None:
    done = luminora("chat", "Good morning")
    assert (done.exit_code, done.stdout) == (0, "You said: Good morning\n")
    assert re.fullmatch(r"new session [0-9a-f]{32}\n", done.stderr)


def test_a_session_is_resumed_by_its_id(luminora: Luminora) -> None:
    session_id = luminora("chat", "one").stderr.split()[2]
    done = luminora("chat", "two", "--session", session_id)
    assert done.stderr == f"resumed session {session_id}, 2 messages\n"
    shown = json.loads(luminora("sessions", "show", session_id, "--json").stdout)
    assert [message["content"] for message in shown["messages"]] == [
        "one",
        "You said: one",
        "two",
        "You said: two",
    ]


def test_resuming_an_unknown_session_exits_with_3(luminora: Luminora) -> None:
    luminora("chat", "hi", "--session", "there", "--create")
    done = luminora("chat", "hi", "--session", "none")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.endswith("luminora: no session 'none' in sqlite storage\n")
    assert json.loads(luminora("sessions", "list", "--json").stdout)[0]["session_id"] == "there"


def test_create_begins_a_session_under_an_id_of_ones_own(luminora: Luminora) -> None:
    assert luminora("chat", "hi", "--session", "a b", "--create").stderr == "new session a b\n"
    assert luminora("chat", "hi", "--session", "a b", "--create").stderr == "resumed session a b, 2 messages\n"


def test_json_gives_one_object_a_turn(luminora: Luminora) -> None:
    done = luminora("--json", "chat", "--session", "s", "--create", stdin="one\n\ntwo words\n")
    turns = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(turn["session_id"], turn["content"], turn["finish_reason"]) for turn in turns] == [
        ("s", "You said: one", "stop"),
        ("s", "You said: two words", "stop"),
    ]


def test_every_line_of_a_pipe_is_a_message_or_a_command(luminora: Luminora) -> None:
    memory = ["/remember name Ada Lovelace", "/memory", "/forget name", "/forget name", "/memory"]
    lines = ["hi", *memory, "//x", "/history", "/quit", "no"]
    done = luminora("chat", "--session", "it's", "--create", stdin="\n".join(lines))
    assert done.exit_code == 0
    assert done.stdout.startswith("You said: hi\n")
    assert re.search(r"name\tAda Lovelace\t", done.stdout)
    assert re.search(r"\[3\] .* user\n/x\n", done.stdout)
    assert "You said: no" not in done.stdout
    assert done.stderr.splitlines() == [
        "new session it's",
        "there is no memory name",
        "no memories",
        """resume with: luminora chat --session 'it'"'"'s'""",
    ]


def test_memory_and_history_are_json_for_scripts(luminora: Luminora) -> None:
    done = luminora("chat", "--json", "--remember", "k=v=w", stdin="hi\n/memory\n/history\n/quit\n")
    _, memory, question, answer = map(json.loads, done.stdout.splitlines())
    assert [(entry["key"], entry["value"]) for entry in memory] == [("k", "v=w")]
    assert (question["content"], answer["content"]) == ("hi", "You said: hi")


def test_an_unknown_command_is_named_with_those_that_are_known(luminora: Luminora) -> None:
    done = luminora("chat", stdin="/nonsense at all\n")
    assert done.stderr.splitlines()[1] == (
        "unknown command /nonsense; known: /help /memory /remember /forget /history /quit; "
        "//TEXT sends a message that begins with /"
    )


def test_a_command_without_its_arguments_shows_how_it_is_written(luminora: Luminora) -> None:
    done = luminora("chat", stdin="/remember alone\n")
    assert done.stderr.splitlines()[1] == "write: /remember KEY VALUE   store a memory"
    assert done.stdout == ""
    assert luminora("chat", stdin="/help\n").stderr.splitlines()[1] == "/help                 show this list"


def test_what_is_remembered_is_shown_when_a_session_is_resumed(luminora: Luminora) -> None:
    luminora("chat", "hi", "--session", "s", "--create", "--remember", "name=Ada")
    assert "remembers name: Ada\n" in luminora("chat", "hi", "--session", "s").stderr


def test_a_personality_comes_from_a_file_and_the_command_line(luminora: Luminora, tmp_path: Path) -> None:
    file = tmp_path / "ada.json"
    file.write_text('{"name": "Ada", "tone": "dry"}')
    options = ["--personality", str(file), "--system", "Be short.", "--user", "u", "--model", "m"]
    luminora("chat", "hi", "--session", "s", "--create", *options)
    shown = json.loads(luminora("sessions", "show", "s", "--json").stdout)
    assert shown["personality"] == {"name": "Ada", "tone": "dry", "system_prompt": "Be short."}
    assert (shown["config"]["user_id"], shown["provider_config"]["model"]) == ("u", "m")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not JSON: Expecting property name"),
        (b"[]", "a personality must be a JSON object"),
        (None, "No such"),
    ],
)
def test_a_wrong_personality_file_is_named(
    luminora: Luminora, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "p.json"
    if content is not None:
        file.write_bytes(content)
    done = luminora("chat", "hi", "--personality", file)
    assert done.exit_code == 1
    assert done.stderr.startswith(f"luminora: {file}: {reason}")


@pytest.mark.parametrize("option", [["--system", "x"], ["--user", "u"], ["--remember", "novalue"]])
def test_what_cannot_be_given_is_a_usage_error(luminora: Luminora, option: list[str]) -> None:
    luminora("chat", "hi", "--session", "s", "--create")
    done = luminora("chat", "hi", "--session", "s", *option)
    assert (done.exit_code, done.stdout) == (2, "")


def provider_of(luminora: Luminora, session_id: str) -> Any:
    return json.loads(luminora("sessions", "show", session_id, "--json").stdout)["provider_config"]


def test_another_provider_is_stored_and_told(luminora: Luminora) -> None:
    luminora("chat", "hi", "--session", "s", "--create", "--model", "m")
    other = ["--provider", "openai", "--model", "m2", "--base-url", DEAD]
    done = luminora("chat", "hi", "--session", "s", *other, **KEY)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines()[1] == (f"the session now uses openai m2 {DEAD}, and will in later chats")
    stored = provider_of(luminora, "s")
    assert (stored["name"], stored["model"], stored["base_url"]) == ("openai", "m2", DEAD)
    assert "sk-no" not in json.dumps(stored)


def test_another_model_alone_is_stored_and_the_rest_stays(luminora: Luminora) -> None:
    luminora("chat", "hi", "--session", "s", "--create")
    done = luminora("chat", "hi", "--session", "s", "--model", "m2")
    assert "the session now uses echo m2, and will in later chats\n" in done.stderr
    assert provider_of(luminora, "s") == {"name": "echo", "model": "m2", "base_url": None, "extra": {}}


def test_the_provider_that_is_stored_already_changes_nothing(luminora: Luminora) -> None:
    luminora("chat", "hi", "--session", "s", "--create", "--model", "m")
    done = luminora("chat", "hi", "--session", "s", "--provider", "echo", "--model", "m")
    assert (done.exit_code, done.stderr) == (0, "resumed session s, 2 messages\n")
    assert provider_of(luminora, "s")["model"] == "m"


def test_a_provider_that_cannot_work_is_not_stored(luminora: Luminora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    luminora("chat", "hi", "--session", "s", "--create")
    assert luminora("chat", "hi", "--session", "s", "--provider", "openai").exit_code == 1
    assert provider_of(luminora, "s")["name"] == "echo"


@pytest.mark.parametrize("named", [[], ["--session", "s", "--create"]])
def test_one_message_that_fails_leaves_no_new_session(luminora: Luminora, named: list[str]) -> None:
    done = luminora("chat", "hi", "--provider", "ollama", "--base-url", DEAD, "--remember", "a=b", *named)
    assert (done.exit_code, done.stdout) == (1, "")
    assert ": it has no messages\n" in done.stderr
    assert luminora("sessions", "list", "--json").stdout == "[]\n"


def test_one_message_that_fails_leaves_a_session_that_was_there(luminora: Luminora) -> None:
    luminora("chat", "--session", "s", "--create", "--remember", "k=v", stdin="")
    server = ["--provider", "ollama", "--base-url", DEAD]
    assert luminora("chat", "hi", "--session", "s", *server).exit_code == 1
    assert json.loads(luminora("sessions", "show", "s", "--json").stdout)["messages"] == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["chat", ""], "it must not be empty"),
        (["chat", "  "], "it must not be empty"),
        (["chat", "hi", "--create"], "--create needs --session ID"),
        (["chat", "hi", "--store", ""], "it must not be empty"),
        (["--store", "", "sessions", "list"], "it must not be empty"),
    ],
)
def test_what_says_nothing_is_a_usage_error(luminora: Luminora, arguments: list[str], reason: str) -> None:
    done = luminora(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert reason in " ".join(done.stderr.split())
    assert luminora("sessions", "list").exit_code == 3


def test_a_missing_key_is_told_in_one_line_and_leaves_no_session(
    luminora: Luminora, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    done = luminora("chat", "hi", "--provider", "openai")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert luminora("sessions", "list", "--json").stdout == "[]\n"


def test_a_provider_that_fails_on_a_pipe_ends_with_1(luminora: Luminora) -> None:
    server = ["--provider", "ollama", "--base-url", "http://127.0.0.1:9/v1"]
    done = luminora("chat", *server, "--session", "s", "--create", stdin="hi\n")
    assert (done.exit_code, done.stdout) == (1, "")
    assert luminora("sessions", "list", "--json").stdout == "[]\n"


@pytest.mark.parametrize("lines", ["", "/memory\n/nothing\n"])
def test_an_empty_chat_leaves_no_session(luminora: Luminora, lines: str) -> None:
    done = luminora("chat", "--session", "s", "--create", stdin=lines)
    assert done.exit_code == 0
    assert done.stderr.splitlines()[-1] == "deleted the new session s: it has no messages"
    assert luminora("sessions", "list", "--json").stdout == "[]\n"


def test_a_chat_in_which_a_memory_was_stored_is_not_empty(luminora: Luminora) -> None:
    done = luminora("chat", "--session", "s", "--create", stdin="/remember drink tea\n")
    assert done.stderr.splitlines()[-1] == "resume with: luminora chat --session s"
    assert "remembers drink: tea" in luminora("chat", "hi", "--session", "s").stderr


def test_an_empty_chat_in_an_old_session_keeps_it(luminora: Luminora) -> None:
    luminora("chat", "--session", "s", "--create", "--remember", "k=v", stdin="")
    luminora("chat", "--session", "s", stdin="/forget k\n")
    assert luminora("sessions", "show", "s").exit_code == 0


def test_control_characters_do_not_reach_the_terminal(luminora: Luminora) -> None:
    done = luminora("chat", "a\x1b[31mb", "--session", "s", "--create")
    assert done.stdout == "You said: a\\x1b[31mb\n"
    assert "\x1b" not in luminora("sessions", "show", "s").stdout


def test_stdin_that_is_not_utf_8_is_refused(luminora: Luminora) -> None:
    done = luminora("chat", stdin=b"\xff\n")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, "luminora: stdin: not UTF-8")


@pytest.fixture
def thinker() -> Iterator[str]:
    """Register a provider that thinks, answers in halves of an emoji's text, and calls a tool."""

    class Thinker(BaseProvider):
        def get_default_model(self) -> str:
            return "thinker-1"

        async def chat(self, messages: list[ChatMessage], *args: Any, **kwargs: Any) -> ChatResponse:
            raise ProviderError("only streams")

        async def stream_chat(
            self, messages: list[ChatMessage], *args: Any, **kwargs: Any
        ) -> AsyncIterator[ChatResponse]:
            call = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}
            yield ChatResponse("", reasoning="Let me ")
            yield ChatResponse("", reasoning="think.")
            yield ChatResponse("Sunny \U0001f600")
            usage = {"prompt_tokens": 7, "completion_tokens": 2}
            yield ChatResponse("", finish_reason="tool_calls", usage=usage, tool_calls=[call])

    ProviderFactory.register_provider("thinker", Thinker)
    yield "thinker"
    ProviderFactory.unregister_provider("thinker")


def test_reasoning_and_calls_stand_beside_the_answer(luminora: Luminora, thinker: str) -> None:
    done = luminora("chat", "Weather?", "--provider", thinker)
    assert (done.exit_code, done.stdout) == (0, "Sunny \U0001f600\n")
    _, thought, called = done.stderr.splitlines()
    assert (thought, called) == ("Let me think.", 'calls look({"at": "sky"})')


def test_json_has_reasoning_calls_and_usage(luminora: Luminora, thinker: str) -> None:
    answer = json.loads(luminora("chat", "Weather?", "--provider", thinker, "--json").stdout)
    assert (answer["content"], answer["reasoning"]) == ("Sunny \U0001f600", "Let me think.")
    assert [call["id"] for call in answer["tool_calls"]] == ["t1"]
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 2}
    assert answer["position"] == 2


@pytest.mark.parametrize(
    ("usage", "line"),
    [
        ({"prompt_tokens": 7, "completion_tokens": 2}, "7 tokens in, 2 out"),
        ({"input_tokens": 7, "output_tokens": 2}, "7 tokens in, 2 out"),
        ({"total": 9}, "? tokens in, ? out"),
    ],
)
def test_usage_is_one_line(usage: dict[str, Any], line: str) -> None:
    assert usage_line(usage) == line
