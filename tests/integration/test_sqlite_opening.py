"""Opening: what the path may hold, and what is created there."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import asyncio
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    MissingDependencyError,
    SchemaVersionError,
    StorageBusyError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing.records import session_record


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def filled(path: Path) -> None:
    async with SQLiteStorage(path, synchronous="OFF") as storage:
        await storage.put_session(session_record())


def run(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        return plain.execute(sql).fetchall()


async def test_a_folder_at_the_path_is_refused_and_left_as_it_is(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("kept")
    with pytest.raises(ConfigurationError, match="is a folder"):
        await SQLiteStorage(path).open()
    assert (path / "file").read_text() == "kept"
    assert list(path.iterdir()) == [path / "file"]


async def test_a_file_where_a_folder_should_be_is_an_error_of_the_storage(path: Path) -> None:
    path.write_text("a file")
    with pytest.raises(StorageUnavailableError, match="Not a directory"):
        await SQLiteStorage(path / "store").open()


async def test_a_lock_held_while_the_tables_are_to_be_made_is_busy(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageBusyError):
            await SQLiteStorage(path, busy_timeout=0.05).open()
        other.execute("ROLLBACK")
    async with SQLiteStorage(path) as storage:
        assert await storage.list_sessions() == []


async def test_the_switch_to_the_write_ahead_log_waits_for_a_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE notes (text)")
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(time, "sleep", lambda _: other.execute("ROLLBACK"))
        async with SQLiteStorage(path):
            assert run(path, "PRAGMA journal_mode") == [("wal",)]


async def test_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    await filled(path)
    run(path, "UPDATE luminora_version SET version_num = '2'")
    with pytest.raises(SchemaVersionError, match="schema version 2; this package works with schema version 1"):
        await SQLiteStorage(path).open()
    assert run(path, "SELECT count(*) FROM luminora_sessions") == [(1,)]


async def test_a_database_without_a_version_is_damaged(path: Path) -> None:
    await filled(path)
    run(path, "DELETE FROM luminora_version")
    with pytest.raises(CorruptRecordError, match="the version table is damaged: it has no version"):
        await SQLiteStorage(path).open()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE luminora_sessions (id)",
        "CREATE TABLE LUMINORA_Version (version_num)",
        "CREATE VIEW luminora_messages AS SELECT 1",
    ],
)
async def test_a_foreign_table_with_our_name_is_refused_untouched(path: Path, statement: str) -> None:
    run(path, statement)
    before = path.read_bytes()
    with pytest.raises(SchemaVersionError, match="use another file, or another table_name"):
        await SQLiteStorage(path).open()
    assert path.read_bytes() == before
    async with SQLiteStorage(path, table_prefix="own_") as storage:
        await storage.put_session(session_record())
        assert await storage.list_sessions() == ["s"]


@pytest.mark.parametrize("table", ["sessions", "messages", "version"])
async def test_a_foreign_table_with_a_plain_name_is_left_alone(path: Path, table: str) -> None:
    run(path, f"CREATE TABLE {table} AS SELECT 'theirs' AS id")
    await filled(path)
    query = f"SELECT id FROM {table}"  # noqa: S608 - a name of this test
    assert run(path, query) == [("theirs",)]


async def test_two_prefixes_in_one_file_are_two_stores(path: Path) -> None:
    await filled(path)
    async with SQLiteStorage(path, table_prefix="") as storage:
        assert await storage.list_sessions() == []
        await storage.put_session(session_record("other"))
    async with SQLiteStorage(path) as storage:
        assert await storage.list_sessions() == ["s"]


@pytest.mark.parametrize("exists", [False, True])
def test_only_creating_tables_imports_sqlalchemy(path: Path, exists: bool) -> None:
    if exists:
        asyncio.run(filled(path))
    code = (
        "import asyncio, sys\n"
        "from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage\n"
        "async def use():\n"
        f"    async with SQLiteStorage({str(path)!r}) as storage:\n"
        "        print(await storage.list_sessions(), 'sqlalchemy' in sys.modules)\n"
        "asyncio.run(use())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ("['s'] False\n" if exists else "[] True\n")


async def test_without_sqlalchemy_a_new_file_names_the_extra(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingDependencyError, match=re.escape("luminoracore-sdk[sqlite]")):
        await SQLiteStorage(path).open()
    assert not path.exists()


async def test_without_auto_create_nothing_is_made(path: Path) -> None:
    with pytest.raises(SchemaVersionError, match="no database file"):
        await SQLiteStorage(path, auto_create=False).open()
    assert not path.exists()
    path.touch()
    with pytest.raises(SchemaVersionError, match="no tables"):
        await SQLiteStorage(path, auto_create=False).open()
    await filled(path)
    async with SQLiteStorage(path, auto_create=False) as storage:
        assert await storage.list_sessions() == ["s"]
