"""A store that is not there: nothing but ``chat`` and ``import`` makes one."""

import json
from pathlib import Path

import pytest

from tests.support.command import luminora_at, luminora_over, process

LOOKING = [
    ["sessions", "list"],
    ["sessions", "show", "s"],
    ["sessions", "delete", "s", "--yes"],
    ["sessions", "export"],
    ["chat", "hi", "--session", "s"],
]


@pytest.mark.parametrize("arguments", LOOKING, ids=" ".join)
@pytest.mark.parametrize("url", ["sqlite:///{}", "file://{}"])
def test_a_mistyped_store_is_neither_made_nor_read_as_empty(tmp_path: Path, url: str, arguments: list[str]) -> None:
    place = tmp_path / "typo"
    done = luminora_over(url.format(place))(*arguments)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == (
        f"luminora: no store at {place}. `luminora chat` without --session and `luminora sessions import` create one\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["sqlite:///{}", "file://{}"])
def test_doctor_finds_a_missing_store_at_its_opening(tmp_path: Path, url: str) -> None:
    place = tmp_path / "typo"
    done = luminora_over(url.format(place))("doctor", "--json")
    last = json.loads(done.stdout)["checks"][-1]
    assert (done.exit_code, last["name"], last["ok"]) == (3, "opens", False)
    assert (
        last["detail"]
        == f"no store at {place}. `luminora chat` without --session and `luminora sessions import` create one"
    )
    assert list(tmp_path.iterdir()) == []


def test_environment_fields_apply_to_a_named_store(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    prefixed = {"LUMINORA_STORAGE_TABLE_NAME": "t", "LUMINORA_STORAGE_RETRY_ATTEMPTS": "3"}
    for store in ("", "file://elsewhere"):
        luminora = luminora_over(store)
        assert luminora("chat", "hi", "--session", "a", "--create", "--store", url, **prefixed).exit_code == 0
        listed = luminora("sessions", "list", "--store", url, **prefixed)
        assert listed.stdout.splitlines()[1].split("\t")[0] == "a"
        assert luminora("sessions", "list", "--store", url).exit_code == 1  # no tables without the prefix
        luminora("sessions", "delete", "a", "--yes", "--store", url, **prefixed)


def test_a_retry_is_told_in_one_line(tmp_path: Path) -> None:
    done = process(
        tmp_path,
        "sessions",
        "list",
        LUMINORA_STORE="redis://127.0.0.1:1",
        LUMINORA_STORAGE_RETRY_ATTEMPTS="2",
    )
    first, last = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert first.endswith("open, attempt 2 of 2")
    assert last.startswith("luminora: redis storage: ")


def test_a_field_that_the_named_store_has_no_use_for_is_refused(tmp_path: Path) -> None:
    luminora = luminora_over("")
    done = luminora("sessions", "list", "--store", f"sqlite:///{tmp_path}/s.db", LUMINORA_STORAGE_REDIS_DB="1")
    assert done.exit_code == 1
    assert "redis_db has no meaning for storage type sqlite" in done.stderr


def test_an_empty_folder_is_no_store_and_stays_empty(tmp_path: Path) -> None:
    assert luminora_over(f"file://{tmp_path}")("sessions", "list").exit_code == 3
    assert list(tmp_path.iterdir()) == []


def test_before_the_first_chat_the_default_store_has_no_sessions(tmp_path: Path) -> None:
    luminora = luminora_at(tmp_path)
    listed = luminora("sessions", "list")
    assert (listed.exit_code, listed.stdout, listed.stderr) == (0, "", "no sessions\n")
    exported = luminora("sessions", "export")
    assert (exported.exit_code, exported.stdout) == (3, "")
    assert "no store at " in exported.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "postgresql://ada:secret@host/db"],
        ["copy", "memory://", "memory://", "redis://:secret@host"],
        ["mongodb://ada:secret@host"],
        ["doctor", "postgresql://ada:its secret@host"],
        ["sessions", "list", "--limit", "postgresql://ada:secret@host"],
        ["sessions", "import", "postgres:ada:secret@host"],
    ],
)
def test_a_url_in_a_wrong_place_is_shown_without_its_password(tmp_path: Path, arguments: list[str]) -> None:
    done = luminora_over(f"file://{tmp_path}")(*arguments)
    assert (done.exit_code, "secret" in done.output) == (2, False)


def test_import_makes_a_store(tmp_path: Path) -> None:
    luminora = luminora_over(f"file://{tmp_path / 'new'}")
    assert luminora("sessions", "import", "-", stdin='{"messages":[{"role":"user","content":"x"}]}').exit_code == 0
    assert (tmp_path / "new" / "luminora.json").exists()
