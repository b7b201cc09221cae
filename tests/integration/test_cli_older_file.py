"""``luminora sessions import`` of the single JSON file in which the older SDK kept all sessions."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Luminora, luminora_over

SAID = {"role": "user", "content": "hi", "timestamp": "2024-01-02 03:04:05", "metadata": {}}


@pytest.fixture
def luminora(tmp_path: Path) -> Luminora:
    return luminora_over(f"sqlite:///{tmp_path / 'store.db'}")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sessions.json"


def shown(luminora: Luminora, session_id: str) -> Any:
    return json.loads(luminora("sessions", "show", session_id, "--json").stdout)


@pytest.mark.parametrize("indent", [None, 2])
def test_the_single_file_is_imported_however_it_is_laid_out(luminora: Luminora, file: Path, indent: int | None) -> None:
    entry = {"conversation": {"messages": [SAID]}, "personality": {"name": "Ada"}}
    file.write_text(json.dumps({"s1": entry, "s2": entry}, indent=indent))
    done = luminora("sessions", "import", file)
    assert (done.exit_code, done.stderr.splitlines()[0]) == (0, "imported 2 sessions, 2 messages, 0 memories")
    again = luminora("sessions", "import", file, "--skip-existing", "--json")
    assert json.loads(again.stdout)["skipped"] == ["s1", "s2"]


def test_flat_layout_is_imported_with_provider_and_memory(luminora: Luminora, file: Path) -> None:
    entry = {
        "personality": {"name": "Ada"},
        "provider_config": {"name": "openai", "model": "m", "api_key": "sk-old"},
        "messages": [SAID],
        "memory": {"name": "Grace", "age": 36},
        "mood": "fine",
    }
    file.write_text(json.dumps({"s1": entry}))
    done = luminora("sessions", "import", file)
    assert done.stderr == "imported 1 session, 1 message, 2 memories\n"
    session = shown(luminora, "s1")
    assert session["messages"][0]["timestamp"] == "2024-01-02T03:04:05+00:00"
    assert (session["provider_config"]["name"], session["provider_config"]["model"]) == ("openai", "m")
    assert {one["key"]: one["value"] for one in session["memories"]} == {"name": "Grace", "age": 36}
    assert session["metadata"] == {"older": {"mood": "fine"}}
    assert "sk-old" not in luminora("sessions", "export").stdout


@pytest.mark.parametrize("indent", [None, 2])
def test_bad_entries_are_judged_one_by_one(luminora: Luminora, file: Path, indent: int | None) -> None:
    bad = {"b": {"personality": {}}, "c": {"conversation": {}}, "d": {"messages": [{}]}}
    good = {"a": {"messages": []}, "e": {"conversation": {"messages": [SAID]}}}
    file.write_text(json.dumps(dict(sorted({**good, **bad, "f": None}.items())), indent=indent))
    done = luminora("sessions", "import", file, "--skip-bad", "--json")
    tally = json.loads(done.stdout)
    assert (done.exit_code, tally["sessions"]) == (1, 2)
    assert [(one["place"], one["error"].split(";")[0][:45]) for one in tally["bad"]] == [
        (f"{file}: session 'b'", "has no 'conversation' (nor 'messages')"),
        (f"{file}: session 'c'", "its 'conversation' has no 'messages'"),
        (f"{file}: session 'd'", "messages[0]: role None is not one of: user, a"),
        (f"{file}: session 'f'", "is of type NoneType, not an object"),
    ]


def test_without_skip_bad_the_first_bad_entry_ends_it_by_name(luminora: Luminora, file: Path) -> None:
    file.write_text(json.dumps({"a": {"messages": []}, "x": {"personality": {}}}, indent=2))
    done = luminora("sessions", "import", file)
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0] == "imported 1 session, 0 messages, 0 memories"
    assert done.stderr.splitlines()[-1].startswith(f"luminora: {file}: session 'x': has no 'conversation'")


def test_a_file_of_bad_entries_alone_is_an_older_file_too(luminora: Luminora, file: Path) -> None:
    file.write_text('{"x": {}}')
    done = luminora("sessions", "import", file)
    assert done.stderr.splitlines()[-1].startswith(f"luminora: {file}: session 'x': has no 'conversation'")
