"""``luminora sessions rename | tag | archive | pin | fork | search``, ``luminora users usage``, ``luminora watch``."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.session import Message, SessionManager, create_storage
from tests.support.command import Luminora, luminora_over, process

USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with the sessions one (of ada) and two (of ada of the tenant acme)."""
    url = f"sqlite:///{tmp_path / 'store.db'}"

    async def fill() -> None:
        async with create_storage(url) as storage, SessionManager(storage) as manager:
            for name, tenant in (("one", None), ("two", "acme")):
                user = manager.for_user("ada", tenant)
                await user.create_session({"name": "Ada"}, {"name": "echo"}, {"session_id": name, "tags": ["t"]})
                batch = [
                    Message("user", f"Where is Turin? ({name})"),
                    Message("assistant", "In Piedmont.", metadata={"usage": USAGE, "model": "m"}),
                ]
                await manager.conversation_manager.append(name, batch)

    asyncio.run(fill())
    return url


@pytest.fixture
def luminora(store: str) -> Luminora:
    return luminora_over(store)


def config_of(luminora: Luminora, session_id: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(luminora("sessions", "show", session_id, "--json").stdout)["config"]
    return config


def test_a_session_is_renamed(luminora: Luminora) -> None:
    done = luminora("sessions", "rename", "one", "A title")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "session one is called 'A title'\n")
    assert config_of(luminora, "one")["title"] == "A title"
    assert "title: A title" in luminora("sessions", "show", "one").stdout
    as_json = json.loads(luminora("sessions", "rename", "one", "Another", "--json").stdout)
    assert as_json["config"]["title"] == "Another"
    assert luminora("sessions", "rename", "one").stderr == "session one has no title\n"
    assert config_of(luminora, "one")["title"] is None


def test_the_provider_suggests_a_title(luminora: Luminora) -> None:
    done = luminora("sessions", "rename", "one", "--suggest")
    assert done.exit_code == 0
    assert config_of(luminora, "one")["title"].startswith("You said")
    assert luminora("sessions", "rename", "one", "A title", "--suggest").exit_code == 2


def test_tags_are_added_and_removed(luminora: Luminora) -> None:
    done = luminora("sessions", "tag", "one", "--add", "a", "--add", "b", "--remove", "t")
    assert (done.exit_code, done.stderr) == (0, "session one has the tags: a, b\n")
    assert luminora("sessions", "tag", "one", "--remove", "a", "--remove", "b").stderr.endswith("the tags: none\n")
    assert luminora("sessions", "tag", "one").exit_code == 2
    assert luminora("sessions", "tag", "one", "--add", "luminora:x").exit_code == 1
    assert config_of(luminora, "one")["tags"] == []


@pytest.mark.parametrize(("command", "field"), [("archive", "archived"), ("pin", "pinned")])
def test_flags_are_set_and_taken_back(luminora: Luminora, command: str, field: str) -> None:
    assert luminora("sessions", command, "one").stderr == f"session one is {field}\n"
    assert config_of(luminora, "one")[field] is True
    (row,) = [row for row in json.loads(luminora("sessions", "list", "--json").stdout) if row["session_id"] == "one"]
    assert (row[field], row["tags"]) == (True, ["t"])
    assert luminora("sessions", command, "one", "--undo").stderr == f"session one is not {field}\n"
    assert config_of(luminora, "one")[field] is False


def test_a_session_is_forked(luminora: Luminora) -> None:
    done = luminora("sessions", "fork", "one", "--at", "1", "--id", "copy")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "copy\n", "copied session one to copy\n")
    shown = json.loads(luminora("sessions", "show", "copy", "--json").stdout)
    assert [message["content"] for message in shown["messages"]] == ["Where is Turin? (one)"]
    assert shown["metadata"]["parent"] == {"session_id": "one", "position": 1}
    made = json.loads(luminora("sessions", "fork", "one", "--json").stdout)["session_id"]
    assert len(json.loads(luminora("sessions", "show", made, "--json").stdout)["messages"]) == 2
    assert luminora("sessions", "fork", "one", "--at", "9").exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [("rename", "absent", "x"), ("tag", "absent", "--add", "x"), ("archive", "absent"), ("fork", "absent")],
)
def test_an_absent_session_is_an_error(luminora: Luminora, arguments: tuple[str, ...]) -> None:
    done = luminora("sessions", *arguments)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "no session 'absent'" in done.stderr


def test_messages_are_found_in_all_sessions(luminora: Luminora) -> None:
    found = json.loads(luminora("sessions", "search", "tURIN", "--json").stdout)
    assert [(row["session_id"], row["position"], row["role"]) for row in found] == [
        ("two", 1, "user"),
        ("one", 1, "user"),
    ]
    table = luminora("sessions", "search", "piedmont", "--user", "ada").stdout.splitlines()
    assert table[0] == "session\tposition\trole\ttime (UTC)\ttext"
    assert [line.split("\t")[4] for line in table[1:]] == ["In Piedmont."]
    assert len(json.loads(luminora("sessions", "search", "i", "--limit", "1", "--json").stdout)) == 1
    nothing = luminora("sessions", "search", "Rome")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "no message contains it\n")


def test_tokens_of_a_user_are_counted(luminora: Luminora, tmp_path: Path) -> None:
    done = luminora("users", "usage", "ada")
    assert done.stdout.splitlines() == ["model\tinput\tcached\toutput", "m\t100\t0\t10"]
    (tmp_path / "prices.json").write_text('{"m": {"input": 1, "output": "20"}}')
    found = json.loads(
        luminora(
            "users", "usage", "ada", "--tenant", "acme", "--prices", str(tmp_path / "prices.json"), "--json"
        ).stdout
    )
    assert (found["input_tokens"], found["cost"]) == (100, "0.0003")
    assert "cost: 0.0003" in luminora("users", "usage", "ada", "--prices", str(tmp_path / "prices.json")).stderr
    assert "no answer" in luminora("users", "usage", "ada", "--until", "2020-01-01").stderr
    assert "no answer" in luminora("users", "usage", "ada", "--since", "2199-01-01").stderr
    for text in ("{", "[]", "[" * 100_000, '{"m": 5}', '{"m": {"input": -1, "output": 1}}'):
        (tmp_path / "prices.json").write_text(text)
        done = luminora("users", "usage", "ada", "--prices", str(tmp_path / "prices.json"))
        assert done.exit_code == 2
        assert "is not a table of prices" in done.stderr


def test_a_session_is_watched_until_it_is_deleted(store: str, luminora: Luminora) -> None:
    command = [sys.executable, "-m", "luminoracore_sdk.cli", "--store", store, "--json", "watch", "one", "--after", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
            assert [line["message"]["content"] for line in lines] == ["Where is Turin? (one)", "In Piedmont."]
            assert luminora("chat", "Go on", "--session", "one").exit_code == 0
            lines = [json.loads(watching.stdout.readline()) for _ in range(2)]
            assert [(line["kind"], line["cursor"]) for line in lines] == [("appended", "3.0"), ("appended", "4.0")]
            assert luminora("sessions", "delete", "one", "--yes").exit_code == 0
            deleted = {"kind": "deleted", "position": 0, "message": None, "cursor": "0.0"}
            assert json.loads(watching.stdout.readline()) == deleted
            assert watching.wait(10) == 0
        finally:
            watching.kill()


def test_a_watch_goes_on_from_a_cursor(store: str, luminora: Luminora) -> None:
    command = [sys.executable, "-m", "luminoracore_sdk.cli", "--store", store, "--json", "watch", "one"]
    with subprocess.Popen([*command, "--after", "1.0"], stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        try:
            assert json.loads(watching.stdout.readline())["cursor"] == "2.0"
        finally:
            watching.kill()
    wrong = luminora("watch", "one", "--after", "x")
    assert (wrong.exit_code, "is no position" in wrong.stderr) == (2, True)


def test_a_watch_ends_with_an_interrupt(store: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "luminoracore_sdk.cli", "--store", store, "watch", "one", "--after", "1"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509  # one thread
    ) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline() == "\n"
        assert "[2]" in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait(10) == 130
    done = process(tmp_path, "watch", "absent", LUMINORA_STORE=store)
    assert done.returncode == 3
    assert "no session 'absent'" in done.stderr
