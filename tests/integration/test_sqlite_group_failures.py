"""A group of appends that cannot be committed: each caller has an error of his own, nothing is written."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import asyncio
import resource
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from luminoracore_sdk.adapters.storage.sqlite.group import Group

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.domain.errors import StorageBusyError, StorageFullError, StorageUnavailableError
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.sqlite_groups import all_at_once, ids_in, outcomes, trace


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


async def test_a_disk_that_is_too_full_for_one_takes_the_others(path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("m1")])
        pages = await storage._write(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
        await storage._write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 3}").fetchall())
        seen = await trace(storage)
        results = await all_at_once(
            storage,
            storage.append_messages("s", [message_record("m2")]),
            storage.append_messages("s", [message_record("big", text="x" * 90_000)]),
            storage.append_messages("s", [message_record("m3")]),
        )
        assert outcomes(results) == [(2, 2), StorageFullError, (3, 3)]
        assert await ids_in(storage) == ["m1", "m2", "m3"]
        assert seen == ["BEGIN", "WITH", "WITH", "WITH", "COMMIT"]
        assert await storage._write(lambda connection: connection.in_transaction) is False


async def test_where_a_full_disk_undoes_the_whole_group_each_is_tried_alone(path: Path) -> None:
    """As SQLite does it when the write-ahead log cannot grow, which a limit of pages is too early for."""

    def note(name: str) -> Callable[[sqlite3.Connection], str]:
        def work(connection: sqlite3.Connection) -> str:
            connection.execute("INSERT INTO notes VALUES (?)", (name,))
            return name

        return work

    def too_large(connection: sqlite3.Connection) -> str:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        connection.execute("INSERT INTO notes VALUES (zeroblob(90000))")
        return "too large"

    group = Group()
    futures = [asyncio.get_running_loop().create_future() for _ in range(3)]
    for future, work in zip(futures, [note("a"), too_large, note("b")], strict=True):
        assert group.join(future, work, 1, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE notes (note)")
        connection.execute("PRAGMA max_page_count = 4")
        group.run(connection)
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert results[::2] == ["a", "b"]
        assert isinstance(results[1], sqlite3.OperationalError)
        assert results[1].sqlite_errorcode == sqlite3.SQLITE_FULL
        assert connection.execute("SELECT note FROM notes").fetchall() == [("a",), ("b",)]
    assert not group.join(futures[0], note("late"), 1, 1)


async def test_a_commit_that_fails_fails_every_caller_and_writes_nothing(path: Path) -> None:
    def no_commit(action: int, what: str | None, *_: object) -> int:
        refused = action == sqlite3.SQLITE_TRANSACTION and what == "COMMIT"
        return sqlite3.SQLITE_DENY if refused else sqlite3.SQLITE_OK

    async with SQLiteStorage(path) as storage:
        await storage.put_session(session_record())
        await storage._write(lambda connection: connection.set_authorizer(no_commit))
        results = await all_at_once(
            storage, *(storage.append_messages("s", [message_record(f"m{n}")]) for n in range(4))
        )
        assert outcomes(results) == [StorageUnavailableError] * 4
        assert len({id(error) for error in results}) == 4
        assert await ids_in(storage) == []
        await storage._write(lambda connection: connection.set_authorizer(None))
        assert (await storage.append_messages("s", [message_record("m")])).first_position == 1


async def test_an_io_error_in_the_log_fails_every_caller_and_writes_nothing(path: Path) -> None:
    async with SQLiteStorage(path) as storage:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("m1")])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{path}-wal").stat().st_size + 5000, hard))
        try:
            turns = [[message_record(f"new{n}", text="x" * 4000)] for n in range(4)]
            results = await all_at_once(storage, *(storage.append_messages("s", turn) for turn in turns))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert [isinstance(error, StorageUnavailableError) for error in results] == [True] * 4
        assert len({id(error) for error in results}) == 4
        assert await ids_in(storage) == ["m1"]
        assert (await storage.append_messages("s", [message_record("m2")])).first_position == 2
    async with SQLiteStorage(path) as storage:
        assert await ids_in(storage) == ["m1", "m2"]


async def test_a_lock_that_is_not_given_is_busy_for_every_caller_after_one_wait(path: Path) -> None:
    async with SQLiteStorage(path, busy_timeout=0.05) as storage:
        await storage.put_session(session_record())
        seen = await trace(storage)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            results = await all_at_once(
                storage, *(storage.append_messages("s", [message_record(f"m{n}")]) for n in range(4))
            )
            other.execute("ROLLBACK")
        assert outcomes(results) == [StorageBusyError] * 4
        assert len({id(error) for error in results}) == 4
        assert seen == ["BEGIN"]
        assert await ids_in(storage) == []


async def test_where_memory_runs_out_and_undoes_the_group_each_is_tried_alone(path: Path) -> None:
    """SQLite rolls back and Python raises MemoryError, which is no sqlite3.Error."""
    failures = [MemoryError("in the group"), MemoryError("alone")]

    def short_of_memory(connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise failures.pop(0)

    def insert(connection: sqlite3.Connection) -> int:
        return connection.execute("INSERT INTO t VALUES (1)").rowcount

    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        group = Group()
        futures = [asyncio.get_running_loop().create_future() for _ in range(3)]
        for future, work in zip(futures, (insert, short_of_memory, insert), strict=True):
            assert group.join(future, work, 1, 1)
        group.run(connection)
        async with asyncio.timeout(5):
            results = await asyncio.gather(*futures, return_exceptions=True)
        assert [str(result) for result in results] == ["1", "alone", "1"]
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (2,)
