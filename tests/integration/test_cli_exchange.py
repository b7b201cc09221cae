"""``luminora sessions export | import``: from one backend to another, and other people's files."""

import hashlib
import json
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import Luminora, luminora_over
from tests.support.exchange import good_line

CHAT = {"messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}]}


@pytest.fixture
def luminora(tmp_path: Path) -> Luminora:
    return luminora_over(f"sqlite:///{tmp_path / 'store.db'}")


def lines(file: Path, *values: Any) -> Path:
    file.write_text("".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in values))
    return file


def counted(luminora: Luminora, *arguments: str | Path) -> tuple[int, Any]:
    done = luminora("sessions", "import", *arguments, "--json")
    return done.exit_code, json.loads(done.stdout)


def tally(**changes: Any) -> dict[str, Any]:
    numbers = dict.fromkeys(("sessions", "messages", "memories", "adopted", "completed"), 0)
    return {**numbers, "skipped": [], "bad": [], **changes}


def ids(luminora: Luminora) -> list[str]:
    return [json.loads(line)["session_id"] for line in luminora("sessions", "export").stdout.splitlines()]


@pytest.mark.parametrize("target", ["file://{}/files", "sqlite:///{}/other.db"])
def test_an_export_imported_elsewhere_is_the_same_export(luminora: Luminora, tmp_path: Path, target: str) -> None:
    luminora("chat", "--session", "a/../b", "--create", "--remember", "k=नमस्ते", stdin="one\ntwo\n")
    luminora("chat", "hi", "--session", "c", "--create", "--user", "u")
    file = tmp_path / "all.jsonl"
    assert luminora("sessions", "export", "--output", file).stderr == f"exported 2 sessions to {file}\n"
    other = luminora_over(target.format(tmp_path))
    assert counted(other, file) == (
        0,
        tally(sessions=2, messages=6, memories=1),
    )
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert hashlib.sha256(other("sessions", "export").stdout_bytes).hexdigest() == digest


def test_named_sessions_are_exported_in_the_order_they_are_named(luminora: Luminora) -> None:
    for session_id in ("a", "b", "c"):
        luminora("chat", "hi", "--session", session_id, "--create")
    exported = luminora("sessions", "export", "c", "a").stdout.splitlines()
    assert [json.loads(line)["session_id"] for line in exported] == ["c", "a"]


def test_export_file_is_private_and_counted_in_json(luminora: Luminora, tmp_path: Path) -> None:
    luminora("chat", "hi")
    file = tmp_path / "out.jsonl"
    done = luminora("sessions", "export", "-o", file, "--json")
    assert json.loads(done.stdout) == {"sessions": 1, "file": str(file), "bad": []}
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_export_that_fails_leaves_the_file_before_it(luminora: Luminora, tmp_path: Path) -> None:
    file = lines(tmp_path / "out.jsonl", "precious")
    before = sorted(path.name for path in tmp_path.iterdir() if "store.db" not in path.name)
    assert luminora("sessions", "export", "none", "-o", file).exit_code == 3
    assert file.read_text() == "precious\n"
    assert sorted(path.name for path in tmp_path.iterdir() if "store.db" not in path.name) == before


def test_a_folder_that_is_not_there_is_named(luminora: Luminora, tmp_path: Path) -> None:
    luminora("chat", "hi")
    done = luminora("sessions", "export", "-o", tmp_path / "no" / "out.jsonl")
    assert (done.exit_code, done.stderr) == (1, f"luminora: {tmp_path / 'no'}: no such folder\n")


def test_openai_chat_file_becomes_new_sessions(luminora: Luminora, tmp_path: Path) -> None:
    file = lines(tmp_path / "chat.jsonl", CHAT, "", CHAT)
    told = luminora("sessions", "import", file).stderr.splitlines()
    assert told[0] == "imported 2 sessions, 2 messages, 0 memories"
    assert told[1].startswith(
        "2 sessions without a provider: echo was set, which repeats the message; `luminora chat --session"
    )
    first, second = ids(luminora)
    assert second == f"{first}-2"
    assert counted(luminora, file, "--skip-existing")[1]["skipped"] == [first, second]
    assert luminora("chat", "and?", "--session", first).stdout == "You said: and?\n"
    shown = json.loads(luminora("sessions", "show", first, "--json").stdout)
    assert shown["personality"] == {"system_prompt": "Be short."}
    assert [message["content"] for message in shown["messages"]] == ["hi", "and?", "You said: and?"]


def test_an_imported_chat_can_be_given_its_provider(luminora: Luminora, tmp_path: Path) -> None:
    file = lines(tmp_path / "chat.jsonl", CHAT)
    done = luminora("sessions", "import", file, "--provider", "openai", "--model", "m")
    assert done.stderr == "imported 1 session, 1 message, 0 memories\n"
    (listed,) = json.loads(luminora("sessions", "list", "--json").stdout)
    assert (listed["provider"], listed["model"]) == ("openai", "m")
    assert luminora("sessions", "import", file, "--provider", "nobody").exit_code == 1


def test_stdin_is_read_too(luminora: Luminora) -> None:
    done = luminora("sessions", "import", "-", stdin=json.dumps(CHAT))
    assert (done.exit_code, done.stderr.splitlines()[0]) == (0, "imported 1 session, 1 message, 0 memories")


@pytest.mark.parametrize("bad", ["{", "[]", '{"format": "luminora-session", "version": 1}', "{'messages': 1}"])
def test_a_bad_line_is_named_and_what_came_before_it_stays(luminora: Luminora, tmp_path: Path, bad: str) -> None:
    file = lines(tmp_path / "mixed.jsonl", good_line(), "", bad, CHAT)
    done = luminora("sessions", "import", file)
    summary, error = done.stderr.splitlines()
    assert (done.exit_code, summary) == (1, "imported 1 session, 1 message, 1 memory")
    assert error.startswith(f"luminora: {file}:3: ")
    assert ids(luminora) == ["s"]


def test_a_bad_first_line_is_named_as_well(luminora: Luminora, tmp_path: Path) -> None:
    done = luminora("sessions", "import", lines(tmp_path / "bad.jsonl", "", "{", CHAT))
    assert done.stderr.splitlines()[-1].startswith(f"luminora: {tmp_path / 'bad.jsonl'}:2: not JSON")


def test_bad_lines_may_be_left_out(luminora: Luminora, tmp_path: Path) -> None:
    file = lines(tmp_path / "mixed.jsonl", good_line(), "{", CHAT, [])
    code, found = counted(luminora, file, "--skip-bad")
    assert (code, found["sessions"]) == (1, 2)
    assert [one["place"] for one in found["bad"]] == [f"{file}:2", f"{file}:4"]


def test_a_session_that_exists_is_refused_skipped_or_replaced(luminora: Luminora, tmp_path: Path) -> None:
    file = lines(tmp_path / "one.jsonl", good_line())
    other = {**good_line(), "messages": [{**good_line()["messages"][0], "id": "other"}]}
    luminora("sessions", "import", lines(tmp_path / "zero.jsonl", other))
    done = luminora("sessions", "import", file, "--skip-bad")
    assert done.exit_code == 1
    assert "session 's' already exists" in done.stderr
    assert "use --replace or --skip-existing" in done.stderr
    assert counted(luminora, file, "--skip-existing")[1]["skipped"] == ["s"]
    changed = lines(tmp_path / "two.jsonl", {**good_line(), "user_id": "u"})
    assert counted(luminora, changed, "--replace") == (
        0,
        tally(sessions=1, messages=1, memories=1),
    )
    assert json.loads(luminora("sessions", "export").stdout)["user_id"] == "u"
    assert luminora("sessions", "import", file, "--replace", "--skip-existing").exit_code == 2


def test_an_empty_file_imports_nothing(luminora: Luminora, tmp_path: Path) -> None:
    file = lines(tmp_path / "empty.jsonl", "")
    assert counted(luminora, file)[1]["sessions"] == 0
    assert f"{file} contains no sessions\n" in luminora("sessions", "import", file).stderr


def test_a_file_that_cannot_be_read_is_named(luminora: Luminora, tmp_path: Path) -> None:
    for place, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        for options in ([], ["--json"]):
            done = luminora("sessions", "import", place, *options)
            assert (done.exit_code, done.stdout, done.stderr) == (1, "", f"luminora: {place}: {reason}\n")


def test_export_into_a_folder_is_refused(luminora: Luminora, tmp_path: Path) -> None:
    luminora("chat", "hi")
    done = luminora("sessions", "export", "--output", tmp_path)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (1, f"luminora: {tmp_path}: is a folder")


def test_export_into_a_pipe_keeps_the_pipe(luminora: Luminora, tmp_path: Path) -> None:
    luminora("chat", "hi", "--session", "a", "--create")
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert luminora("sessions", "export", "--output", pipe).exit_code == 0
    reader.join(20)
    assert read == [luminora("sessions", "export").stdout]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_an_export_through_a_link_leaves_the_link(luminora: Luminora, tmp_path: Path) -> None:
    luminora("chat", "hi", "--session", "a", "--create")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert luminora("sessions", "export", "--output", tmp_path / "link").exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == luminora("sessions", "export").stdout
