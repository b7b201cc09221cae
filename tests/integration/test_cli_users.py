"""``luminora users erase | export``."""

import asyncio
import json
from pathlib import Path

import pytest

from luminoracore_sdk.application import erasure
from luminoracore_sdk.session import SessionManager, create_storage
from tests.support.command import Luminora, luminora_over
from tests.support.users import canary, fill_user, session_of


@pytest.fixture
def luminora(tmp_path: Path) -> Luminora:
    store = f"sqlite:///{tmp_path / 'store.db'}"

    async def fill() -> None:
        async with create_storage(store) as storage, SessionManager(storage) as manager:
            for user in ("ada", "bob"):
                await fill_user(manager, user, sessions=2)

    asyncio.run(fill())
    return luminora_over(store)


def listed(luminora: Luminora, user: str) -> list[str]:
    return [one["session_id"] for one in json.loads(luminora("sessions", "list", "--user", user, "--json").stdout)]


def test_an_erasure_prints_the_receipt(luminora: Luminora, tmp_path: Path) -> None:
    done = luminora("users", "erase", "ada", "--yes")
    assert done.exit_code == 0
    facts = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert list(facts) == ["sessions", "messages", "memories", "verified", "started_at", "finished_at"]
    assert [facts[name] for name in ("sessions", "messages", "memories", "verified")] == ["2", "8", "4", "yes"]
    assert "erased user ada" in done.stderr
    assert listed(luminora, "ada") == []
    assert len(listed(luminora, "bob")) == 2
    files = list(tmp_path.glob("store.db*"))
    assert files
    assert [path.name for path in files if canary("ada").encode() in path.read_bytes()] == []


def test_the_receipt_as_json(luminora: Luminora) -> None:
    receipt = json.loads(luminora("users", "erase", "ada", "--yes", "--json").stdout)
    assert (receipt["sessions"], receipt["messages"], receipt["memories"], receipt["verified"]) == (2, 8, 4, True)
    again = json.loads(luminora("users", "erase", "ada", "--yes", "--json").stdout)
    assert (again["sessions"], again["messages"], again["memories"], again["verified"]) == (0, 0, 0, True)


def test_without_a_terminal_an_erasure_needs_yes(luminora: Luminora) -> None:
    done = luminora("users", "erase", "ada", stdin="y\n")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "confirm with --yes" in done.stderr
    assert len(listed(luminora, "ada")) == 2


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 2)])
def test_at_a_terminal_an_erasure_is_confirmed(
    luminora: Luminora, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    asked: list[str] = []

    def ask(_: object, question: str) -> bool:
        asked.append(question)
        return answer == "y"

    monkeypatch.setattr("luminoracore_sdk.cli.context.CommandContext.is_at_keyboard", True)
    monkeypatch.setattr("luminoracore_sdk.cli.context.CommandContext.ask", ask)
    done = luminora("users", "erase", "ada")
    assert done.exit_code == (0 if answer == "y" else 1)
    assert asked == ["Erase user ada, 2 sessions, with all messages and memories?"]
    assert len(listed(luminora, "ada")) == left


def test_an_erasure_that_is_not_verified_fails(luminora: Luminora, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "MAX_PASSES", 1)
    done = luminora("users", "erase", "ada", "--yes")
    assert done.exit_code == 1
    assert "verified: no" in done.stdout
    assert "keeps on writing for user ada" in done.stderr


def test_an_export_is_imported_elsewhere(luminora: Luminora, tmp_path: Path) -> None:
    text = luminora("users", "export", "ada").stdout
    file = tmp_path / "ada.jsonl"
    done = luminora("users", "export", "ada", "--output", file, "--json")
    assert json.loads(done.stdout) == {"lines": 3, "file": str(file)}
    assert file.read_text() == text
    assert canary("bob") not in text
    other = luminora_over(f"sqlite:///{tmp_path / 'other.db'}")
    done = other("sessions", "import", file)
    assert (done.exit_code, done.stderr.strip()) == (0, "imported 2 sessions, 8 messages, 4 memories")
    assert other("users", "export", "ada").stdout == text
    assert listed(other, "ada") == [session_of("ada", 1), session_of("ada", 0)]
    done = other("sessions", "import", file)
    assert done.stderr.strip() == "imported 0 sessions, 0 messages, 0 memories; skipped 2 that already exist"
    for option in ("--skip-existing", "--replace"):
        assert other("sessions", "import", file, option).exit_code == 0
        assert other("users", "export", "ada").stdout == text


def test_memories_alone_are_an_import_too(luminora: Luminora, tmp_path: Path) -> None:
    *_, line = luminora("users", "export", "ada").stdout.splitlines()
    file = tmp_path / "memories.jsonl"
    file.write_text(line)
    assert luminora("sessions", "import", file).stderr.strip() == "imported 0 sessions, 0 messages, 0 memories"
    data = json.loads(line)
    data["memories"][0]["value"] = "changed"
    file.write_text(json.dumps(data))
    done = luminora("sessions", "import", file)
    assert (done.exit_code, "user 'ada' has some of these memories already" in done.stderr) == (1, True)
    done = luminora("sessions", "import", file, "--skip-existing")
    assert (done.exit_code, done.stderr.strip()) == (0, "imported 0 sessions, 0 messages, 0 memories")
    done = luminora("sessions", "import", file, "--replace")
    assert (done.exit_code, done.stderr.strip()) == (0, "imported 0 sessions, 0 messages, 2 memories")


def test_a_user_of_whom_nothing_is_stored(luminora: Luminora) -> None:
    done = luminora("users", "export", "nobody")
    assert (done.exit_code, done.stdout, done.stderr.strip()) == (0, "", "exported 0 lines")
    assert luminora("users", "erase", "nobody", "--yes").exit_code == 0
