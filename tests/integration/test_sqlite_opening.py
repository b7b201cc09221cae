"""What stands at the path when a storage opens, and what it makes there."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.adapters.storage.sqlite import file as sqlite_file
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
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


async def test_the_switch_to_the_write_ahead_log_waits_for_another_connection(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE notes (text)")
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(time, "sleep", lambda _: other.execute("ROLLBACK"))
        async with SQLiteStorage(path) as storage:
            assert await storage._write(lambda connection: connection.execute("PRAGMA journal_mode").fetchone()) == (
                b"wal",
            )


async def test_an_open_that_fails_half_way_leaves_no_thread(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: sqlite_file.SQLiteFile) -> sqlite3.Connection:
        raise sqlite3.OperationalError("no reader today")

    before = set(threading.enumerate())
    monkeypatch.setattr(sqlite_file.SQLiteFile, "connect_for_reading", refuse)
    with pytest.raises(StorageUnavailableError, match="no reader today"):
        await SQLiteStorage(path).open()
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
    assert set(threading.enumerate()) <= before


async def test_a_newer_schema_is_refused_and_left_as_it_is(path: Path) -> None:
    await filled(path)
    run(path, "UPDATE meta SET schema_version = 2")
    with pytest.raises(SchemaVersionError, match="schema version 2; this package works with schema version 1"):
        await SQLiteStorage(path).open()
    assert run(path, "SELECT count(*) FROM sessions") == [(1,)]


async def test_a_database_without_a_version_is_damaged(path: Path) -> None:
    await filled(path)
    run(path, "DELETE FROM meta")
    with pytest.raises(CorruptRecordError, match="'meta' is damaged: it has no version"):
        await SQLiteStorage(path).open()


@pytest.mark.parametrize("table", ["sessions (id)", "meta (key, value)"])
async def test_tables_of_another_program_are_refused_and_a_prefix_helps(path: Path, table: str) -> None:
    run(path, f"CREATE TABLE {table}")
    before = path.read_bytes()
    with pytest.raises(SchemaVersionError, match="table_prefix"):
        await SQLiteStorage(path).open()
    assert path.read_bytes() == before
    async with SQLiteStorage(path, table_prefix="luminora_") as storage:
        await storage.put_session(session_record())
        assert await storage.list_sessions() == ["s"]


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
