"""What SQLiteStorage accepts and refuses before it touches a file."""

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.domain.errors import ConfigurationError, MissingDependencyError


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
        ("table_prefix", 'a"b'),
        ("table_prefix", "a" * 65),
    ],
)
def test_an_option_that_cannot_work_is_refused_by_its_name(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        SQLiteStorage(tmp_path / "store", **{option: value})


def test_a_relative_path_stays_where_it_was_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = SQLiteStorage("store")
    monkeypatch.chdir("/")
    assert storage._file.path == tmp_path / "store"


def test_making_a_storage_makes_no_file(tmp_path: Path) -> None:
    SQLiteStorage(tmp_path / "folder" / "store")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("driver", ["aiosqlite", "sqlalchemy"])
def test_a_missing_driver_is_named_with_the_command_that_helps(driver: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.modules[{driver!r}] = None\n"
        "from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage\n"
        "try:\n"
        f"    SQLiteStorage({str(tmp_path / 'store')!r})\n"
        "except ImportError as exc:\n"
        "    print(type(exc).__name__, exc)\n"
    )
    assert _output(code) == f"{MissingDependencyError.__name__} {MissingDependencyError('SQLiteStorage', 'sqlite')}"


def test_an_old_sqlite_is_refused_by_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(ConfigurationError, match=r"needs SQLite 3\.35"):
        SQLiteStorage(tmp_path / "store")


def test_a_defect_of_a_driver_is_not_called_a_missing_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = "luminoracore_sdk.adapters.storage"
    monkeypatch.delattr(f"{package}.sqlite.layout", raising=False)
    monkeypatch.setitem(sys.modules, f"{package}.sqlite.layout", None)
    with pytest.raises(ImportError) as caught:
        SQLiteStorage(tmp_path / "store")
    assert not isinstance(caught.value, MissingDependencyError)


def test_importing_the_backend_loads_no_driver() -> None:
    code = (
        "import sys, luminoracore_sdk.adapters.storage.sqlite\n"
        "print(sorted({'aiosqlite', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert _output(code) == "[]"


def _output(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()
