"""What SQLiteStorage accepts and refuses before it touches a file."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.domain.errors import ConfigurationError


@pytest.mark.parametrize("path", ["", ":memory:", "a\0b"])
def test_a_path_that_names_no_file_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError):
        SQLiteStorage(path)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("busy_timeout", -1),
        ("busy_timeout", float("nan")),
        ("synchronous", "full; DROP TABLE sessions"),
        ("table_prefix", "sqlite_"),
        ("table_prefix", "SQLite_x"),
        ("table_prefix", 'a"b'),
        ("table_prefix", "a" * 65),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_its_name(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        SQLiteStorage(tmp_path / "store", **{option: value})


async def test_a_relative_path_stays_when_the_folder_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage = SQLiteStorage("store")
    monkeypatch.chdir("/")
    async with storage:
        assert (tmp_path / "store").exists()


def test_making_a_storage_makes_no_file(tmp_path: Path) -> None:
    SQLiteStorage(tmp_path / "folder" / "store")
    assert list(tmp_path.iterdir()) == []


def test_an_old_sqlite_is_refused_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigurationError, match=r"needs SQLite 3\.35"):
        SQLiteStorage(tmp_path / "store")


def test_importing_the_backend_imports_no_sqlalchemy() -> None:
    code = "import sys, luminoracore_sdk.adapters.storage.sqlite; print('sqlalchemy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
