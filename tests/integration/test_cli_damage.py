"""One damaged session: the others are listed and exported."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.command import Luminora, luminora_over

B = "sid = (SELECT sid FROM luminora_sessions WHERE session_id = 'b')"
DAMAGE = {
    "its document": f"UPDATE luminora_documents SET payload = '{{' WHERE {B}",  # noqa: S608
    "its last message": f"UPDATE luminora_messages SET payload = '{{' WHERE {B} AND position = 2",  # noqa: S608
}


@pytest.fixture(params=list(DAMAGE.values()), ids=list(DAMAGE))
def luminora(request: pytest.FixtureRequest, tmp_path: Path) -> Luminora:
    command = luminora_over(f"sqlite:///{tmp_path / 's.db'}")
    for session_id in "abc":
        command("chat", "hi", "--session", session_id, "--create")
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection, connection:
        assert connection.execute(request.param).rowcount == 1
    return command


def test_the_healthy_rest_is_exported_and_the_damaged_one_named(luminora: Luminora) -> None:
    done = luminora("sessions", "export", "--skip-bad")
    assert [json.loads(line)["session_id"] for line in done.stdout.splitlines()] == ["a", "c"]
    assert done.exit_code == 1
    told, summary = done.stderr.splitlines()
    assert "is damaged" in told
    assert "'b'" in told
    assert summary == "exported 2 sessions; skipped 1 that cannot be read"


def test_a_rescued_file_can_be_imported_whole(luminora: Luminora, tmp_path: Path) -> None:
    file = tmp_path / "rescued.jsonl"
    done = luminora("sessions", "export", "--skip-bad", "-o", file, "--json")
    assert [one["session_id"] for one in json.loads(done.stdout)["bad"]] == ["b"]
    other = luminora_over(f"file://{tmp_path / 'other'}")
    assert other("sessions", "import", file).stderr == "imported 2 sessions, 4 messages, 0 memories\n"


def test_without_skip_bad_the_export_ends_and_says_what_helps(luminora: Luminora) -> None:
    done = luminora("sessions", "export")
    assert done.exit_code == 1
    assert "use --skip-bad to export the readable sessions\n" in done.stderr


def test_a_damaged_session_is_listed_as_such(tmp_path: Path) -> None:
    luminora = luminora_over(f"sqlite:///{tmp_path / 's.db'}")
    for session_id in "abc":
        luminora("chat", "hi", "--session", session_id, "--create")
    with closing(sqlite3.connect(tmp_path / "s.db")) as connection, connection:
        connection.execute(DAMAGE["its document"])
    done = luminora("sessions", "list")
    assert [line.split("\t")[:3:2] for line in done.stdout.splitlines()[1:]] == [
        ["c", ""],
        ["b", "damaged"],
        ["a", ""],
    ]
    assert done.exit_code == 1
    assert done.stderr == "1 session of these cannot be read; `luminora sessions show ID` shows the error\n"
    listed = json.loads(luminora("sessions", "list", "--json").stdout)
    assert [one["damaged"] for one in listed] == [False, True, False]
    assert luminora("sessions", "delete", "b", "--yes").exit_code == 0
    assert luminora("sessions", "list").exit_code == 0
