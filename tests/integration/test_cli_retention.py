"""``luminora retention``."""

import asyncio
import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import pytest
import typer

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.cli.retention import duration
from luminoracore_sdk.session import Message, SessionManager
from luminoracore_sdk.testing import ManualClock
from tests.support.command import Luminora, luminora_over, process


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with the sessions old, held (of 100 days ago) and long (of 10 days ago), of 5 messages each."""
    path = tmp_path / "store.db"

    async def fill() -> None:
        clock = ManualClock(datetime.now(UTC) - timedelta(days=100))
        services = attrs.evolve(default_services(), clock=clock)
        async with SQLiteStorage(path, clock=clock) as storage, SessionManager(storage, services=services) as manager:
            for name, tags, days in (("held", ["legal"], 0), ("old", [], 1), ("long", [], 89)):
                clock.advance(days * 86_400)
                config = {"session_id": name, "tags": tags, "user_id": "ada"}
                await manager.create_session({"name": "Ada"}, {"name": "echo"}, config)
                batch = [Message("user", f"text {number}", id=f"m{number}") for number in range(5)]
                await manager.conversation_manager.append(name, batch)

    asyncio.run(fill())
    return f"sqlite:///{path}"


@pytest.fixture
def luminora(store: str) -> Luminora:
    return luminora_over(store)


def listed(luminora: Luminora) -> list[str]:
    return sorted(one["session_id"] for one in json.loads(luminora("sessions", "list", "--json").stdout))


def shown(luminora: Luminora, session_id: str) -> list[str]:
    data = json.loads(luminora("sessions", "show", session_id, "--json").stdout)
    return [message["content"] for message in data["messages"]]


ALL = ("retention", "--max-age", "90d", "--idle", "30d", "--max-messages", "2", "--hold", "legal")


def test_a_process_of_its_own_applies_a_policy(store: str, luminora: Luminora, tmp_path: Path) -> None:
    planned = process(tmp_path, *ALL, "--dry-run", "--json", LUMINORA_STORE=store)
    assert (planned.returncode, planned.stderr) == (0, "would delete 1 session, and 3 messages of others\n")
    assert listed(luminora) == ["held", "long", "old"]
    done = process(tmp_path, *ALL, "--yes", "--json", LUMINORA_STORE=store)
    assert (done.returncode, done.stderr) == (0, "deleted 1 session, and 3 messages of others\n")
    report = json.loads(done.stdout)
    assert {**report, "started_at": "", "finished_at": ""} == {
        "dry_run": False,
        "sessions": 1,
        "session_ids": ["old"],
        "trimmed_sessions": 1,
        "trimmed_messages": 3,
        "held": 1,
        "in_use": 0,
        "unreadable": 0,
        "started_at": "",
        "finished_at": "",
    }
    assert {**json.loads(planned.stdout), "dry_run": False}.keys() == report.keys()
    assert listed(luminora) == ["held", "long"]
    assert shown(luminora, "long") == ["text 3", "text 4"]
    assert len(shown(luminora, "held")) == 5


def test_the_report_is_readable(luminora: Luminora) -> None:
    done = luminora(*ALL, "--dry-run")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[:8] == [
        "session: old",
        "dry_run: yes",
        "sessions: 1",
        "trimmed_sessions: 1",
        "trimmed_messages: 3",
        "held: 1",
        "in_use: 0",
        "unreadable: 0",
    ]
    assert [line.split(":")[0] for line in lines[8:]] == ["started_at", "finished_at"]


def test_what_is_kept_can_be_narrowed(luminora: Luminora) -> None:
    done = luminora("retention", "--idle", "2w", "--keep-latest", "2", "--user", "ada", "--yes")
    assert done.stderr == "deleted 1 session, and 0 messages of others\n"
    assert listed(luminora) == ["long", "old"]
    done = luminora("retention", "--idle", "2w", "--user", "bob", "--yes")
    assert done.stderr == "deleted 0 sessions, and 0 messages of others\n"


def test_without_a_terminal_it_needs_yes(luminora: Luminora) -> None:
    done = luminora("retention", "--idle", "30d", stdin="y\n")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "confirm with --yes" in done.stderr
    assert len(listed(luminora)) == 3


@pytest.mark.parametrize(("answer", "left"), [("y", ["held", "long"]), ("n", ["held", "long", "old"])])
def test_at_a_terminal_it_is_confirmed(
    luminora: Luminora, monkeypatch: pytest.MonkeyPatch, answer: str, left: list[str]
) -> None:
    asked: list[str] = []

    def ask(_: object, question: str) -> bool:
        asked.append(question)
        return answer == "y"

    monkeypatch.setattr("luminoracore_sdk.cli.context.CommandContext.is_at_keyboard", True)
    monkeypatch.setattr("luminoracore_sdk.cli.context.CommandContext.ask", ask)
    done = luminora(*ALL)
    assert done.exit_code == (0 if answer == "y" else 1)
    assert asked == ["Delete 1 session, and 3 messages of others?"]
    assert listed(luminora) == left


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give --max-age, --idle or --max-messages"),
        (["--keep-latest", "3", "--hold", "legal"], "give --max-age, --idle or --max-messages"),
        (["--idle", "30"], "such as 90d"),
        (["--max-age", "0d"], "above 0"),
        (["--max-messages", "0"], "--max-messages"),
        (["--idle", "30d", "--hold", " "], "must not be empty"),
    ],
)
def test_arguments_without_a_meaning_are_refused(luminora: Luminora, arguments: list[str], reason: str) -> None:
    done = luminora("retention", *arguments, "--yes")
    assert (done.exit_code, done.stdout) == (2, "")
    assert reason in done.stderr
    assert len(listed(luminora)) == 3


def test_a_session_that_cannot_be_read_is_reported(luminora: Luminora, store: str) -> None:
    path = store.removeprefix("sqlite:///")
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE luminora_messages SET payload = '{' WHERE position = 1")
    connection.close()
    done = luminora("retention", "--max-messages", "2", "--yes")
    assert done.exit_code == 1
    assert "unreadable: 3" in done.stdout
    assert done.stderr == "kept 3 sessions that cannot be read\n"


def test_a_missing_store_is_not_created(tmp_path: Path) -> None:
    done = luminora_over(f"sqlite:///{tmp_path / 'none.db'}")("retention", "--idle", "30d", "--yes")
    assert done.exit_code == 3
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30s", timedelta(seconds=30)),
        (" 15m ", timedelta(minutes=15)),
        ("12h", timedelta(hours=12)),
        ("90d", timedelta(days=90)),
        ("4w", timedelta(weeks=4)),
        ("999999999d", timedelta(days=999_999_999)),
    ],
)
def test_a_duration_is_a_number_with_a_unit(text: str, expected: timedelta) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize(
    "text", ["", "d", "90", "-1d", "1.5d", "1d12h", "90 d", "1D", "٣d", "999999999w", "1000000000s"]
)
def test_another_duration_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        duration(text)


def test_deleted_messages_are_not_shown(luminora: Luminora) -> None:
    assert luminora("retention", "--max-messages", "3", "--yes").exit_code == 0
    table = luminora("sessions", "show", "long").stdout
    assert "messages: 3\n" in table
    assert [f"text {number}" in table for number in range(5)] == [False, False, True, True, True]
    last = luminora("sessions", "show", "long", "--last", "2").stdout
    assert [f"text {number}" in last for number in range(5)] == [False, False, False, True, True]
    assert "[4] " in last
    assert "deleted" not in table
    exported = json.loads(luminora("sessions", "export", "long").stdout)
    assert [message["id"] for message in exported["messages"]] == ["m2", "m3", "m4"]
