"""``luminora sessions list | show | delete`` and what all commands share."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

import luminoracore_sdk
from luminoracore_sdk.cli.output import moment, public_url
from luminoracore_sdk.session import Message, SessionManager, create_storage
from tests.support.command import Luminora, luminora_over


async def _fill(store: str) -> None:
    async with create_storage(store) as storage:
        manager = SessionManager(storage)
        for number in range(3):
            config = {
                "session_id": f"s{number}",
                "user_id": f"u{number % 2}",
                "tags": ["even"] * (number % 2 == 0),
            }
            personality = {"name": "[red]Ada", "system_prompt": "Be short."}
            await manager.create_session(personality, {"name": "echo"}, config)
        said = [Message("user", f"message {number}") for number in range(1, 6)]
        await manager.conversation_manager.append("s0", said)
        await manager.memory_manager.store_memory("s0", "likes", ["tea"])


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def luminora(store: str) -> Luminora:
    asyncio.run(_fill(store))
    return luminora_over(store)


def test_sessions_are_listed_newest_first(luminora: Luminora) -> None:
    listed = json.loads(luminora("sessions", "list", "--json").stdout)
    assert [(one["session_id"], one["message_count"]) for one in listed] == [("s2", 0), ("s1", 0), ("s0", 5)]
    assert {key: listed[2][key] for key in ("personality", "provider", "model", "user_id", "tags")} == {
        "personality": "[red]Ada",
        "provider": "echo",
        "model": "echo-1",
        "user_id": "u0",
        "tags": ["even"],
    }


def test_the_table_shows_names_as_they_are(luminora: Luminora) -> None:
    lines = luminora("sessions", "list").stdout.splitlines()
    (row,) = [line.split() for line in lines if line.split()[:1] == ["s0"]]
    assert (row[:4], row[-1]) == (["s0", "[red]Ada", "echo", "5"], "even")


@pytest.mark.parametrize(
    ("options", "ids"),
    [(["--user", "u1"], ["s1"]), (["--tag", "even"], ["s2", "s0"]), (["--tag", "none"], [])],
)
def test_a_listing_is_narrowed_by_user_and_tag(luminora: Luminora, options: list[str], ids: list[str]) -> None:
    listed = json.loads(luminora("sessions", "list", "--json", *options).stdout)
    assert [one["session_id"] for one in listed] == ids


def test_a_listing_that_is_cut_says_so(luminora: Luminora) -> None:
    done = luminora("sessions", "list", "--limit", "2", "--json")
    assert [one["session_id"] for one in json.loads(done.stdout)] == ["s2", "s1"]
    assert done.stderr == "there are more than 2 sessions; use --limit to show more\n"
    assert luminora("sessions", "list", "--limit", "3").stderr == ""
    assert luminora("sessions", "list", "--limit", "0").exit_code == 2


def test_foreign_document_is_listed(luminora: Luminora, store: str) -> None:
    async def save() -> None:
        async with create_storage(store) as storage:
            await storage.save_session("own", {"x": 1})

    asyncio.run(save())
    listed = json.loads(luminora("sessions", "list", "--json").stdout)
    assert [one["personality"] for one in listed][:2] == ["(not readable)", "[red]Ada"]


def test_an_empty_store_has_no_sessions(store: str) -> None:
    luminora_over(store)("chat", "--session", "s", "--create", stdin="")
    luminora_over(store)("sessions", "delete", "s", "--yes")
    done = luminora_over(store)("sessions", "list")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "no sessions\n")


def test_a_session_is_shown_with_conversation_and_memory(luminora: Luminora) -> None:
    shown = luminora("sessions", "show", "s0", "--last", "2").stdout
    assert shown.startswith("session: s0\npersonality: [red]Ada\nprovider: echo echo-1\nuser: u0\ntags: even\n")
    assert "system prompt: Be short.\n" in shown
    assert "message 3" not in shown
    assert shown.index("[4] ") < shown.index("message 4") < shown.index("message 5") < shown.index("likes")
    assert '["tea"]' in shown


def test_a_session_is_shown_as_json(luminora: Luminora) -> None:
    shown = json.loads(luminora("sessions", "show", "s0", "--json", "--last", "1").stdout)
    assert [message["content"] for message in shown["messages"]] == ["message 5"]
    assert [(entry["key"], entry["value"]) for entry in shown["memories"]] == [("likes", ["tea"])]
    assert json.loads(luminora("sessions", "show", "s0", "--json", "--last", "0").stdout)["messages"] == []


@pytest.mark.parametrize("command", [["show"], ["delete", "--yes"], ["export"]])
def test_a_session_that_is_not_there_ends_with_3(luminora: Luminora, command: list[str]) -> None:
    done = luminora("sessions", *command, "../none\n")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "luminora: no session '../none\\n' in sqlite storage\n"


def test_without_a_terminal_deleting_cannot_ask_and_does_nothing(luminora: Luminora) -> None:
    done = luminora("sessions", "delete", "s0", stdin="y\n")
    assert (done.exit_code, done.stderr) == (2, "nothing was deleted: without a terminal, confirm with --yes\n")
    assert luminora("sessions", "show", "s0").exit_code == 0


def test_deleting_for_scripts_does_not_ask(luminora: Luminora) -> None:
    done = luminora("sessions", "delete", "s0", "--yes", "--json")
    assert (done.exit_code, done.stdout) == (0, '{"deleted":"s0"}\n')


# -- what all commands share -----------------------------------------------------------------------


def test_the_version_is_that_of_the_package(luminora: Luminora) -> None:
    assert luminora("--version").stdout == f"luminora {luminoracore_sdk.__version__}\n"


def test_an_unknown_store_is_refused_with_the_valid_ones(luminora: Luminora) -> None:
    done = luminora("sessions", "list", "--store", "foo://x")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("luminora: Storage type not supported: 'foo'. Valid types: memory://, file://")
    assert done.stderr.count("\n") == 1


def test_the_path_of_a_file_is_refused_with_its_url(luminora: Luminora) -> None:
    done = luminora("sessions", "list", "--store", "x.db")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.endswith(". For this file write sqlite:///x.db\n")


def test_common_options_stand_before_or_behind_the_command(luminora: Luminora) -> None:
    for arguments in (
        ["--store", "memory://", "sessions", "list"],
        ["sessions", "list", "--store", "memory://"],
    ):
        assert luminora(*arguments).stderr == "no sessions\n"


def test_verbose_shows_where_an_error_came_from(luminora: Luminora) -> None:
    done = luminora("sessions", "show", "none", "--verbose")
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.endswith("luminora: no session 'none' in sqlite storage\n")


def test_a_variable_that_no_setting_has_is_refused(luminora: Luminora) -> None:
    done = luminora("sessions", "list", LUMINORA_MEMORY_SIZE="5")
    assert (done.exit_code, "LUMINORA_MEMORY_SIZE is unknown" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:secret@host:5/db?password=secret", "postgresql://ada:***@host:5/db"),
        ("redis://:secret@host/0", "redis://***@host/0"),
        ("redis://host/0", "redis://host/0"),
        ("sqlite:///s.db?x=1", "sqlite:///s.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert public_url(url) == shown


def test_times_are_shown_to_the_minute_in_utc() -> None:
    assert moment(datetime(2026, 1, 2, 3, 4, 59, tzinfo=UTC)) == "2026-01-02 03:04"
