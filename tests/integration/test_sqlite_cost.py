"""What an append, a tail read and a listing cost: statements, plans, steps and bytes."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import pytest
from luminoracore_sdk.adapters.storage.sqlite.statements import statements

from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.application.ports.records import MessageRange, SessionQuery
from luminoracore_sdk.testing.records import message_record, message_records, session_record

SQL = statements("")


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncIterator[SQLiteStorage]:
    async with SQLiteStorage(tmp_path / "store", synchronous="OFF") as opened:
        await opened.put_session(session_record())
        yield opened


@pytest.mark.parametrize(("size", "expected_last"), [(1, None), (2, 0), (40, None)])
async def test_an_append_is_one_statement(storage: SQLiteStorage, size: int, expected_last: int | None) -> None:
    seen: list[str] = []
    await storage._write(lambda connection: connection.set_trace_callback(seen.append))
    await storage.append_messages("s", message_records(size), expected_last=expected_last)
    assert len(seen) == 1
    assert "INSERT INTO messages" in seen[0]


async def _plan(storage: SQLiteStorage, sql: str, parameters: int) -> list[str]:
    def explain(connection: sqlite3.Connection) -> list[str]:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * parameters)
        return [row[3].decode() for row in rows]

    return await storage._read(explain)


QUERY = SessionQuery(cursor=(1, "s"))
PLANNED = {
    "append": SQL.append(2, conditional=True),
    "newest": SQL.read_newest,
    "oldest": SQL.read_oldest,
    "header": SQL.header,
    "known": SQL.known,
    "truncate": SQL.truncate,
    "expired": SQL.expired,
    "listing": SQL.listing(QUERY),
    "listing back": SQL.listing(SessionQuery(cursor=(1, "s"), newest_first=True)),
    "listing of a user": SQL.listing(SessionQuery(user_id="u")),
    "listing with a label": SQL.listing(SessionQuery(tag="a")),
}


@pytest.mark.parametrize("name", PLANNED)
async def test_a_hot_statement_searches_by_index_and_sorts_nothing(storage: SQLiteStorage, name: str) -> None:
    statement = PLANNED[name]
    plan = await _plan(storage, statement.sql, len(statement.names))
    of_tables = [
        step for step in plan if any(table in step for table in ("sessions", "messages", "last", "any_message"))
    ]
    assert [step for step in of_tables if "USING" not in step] == []
    assert [step for step in plan if "TEMP B-TREE" in step] == []


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (QUERY, "sessions_created ((created_at_us,session_id)>(?,?))"),
        (SessionQuery(user_id="u", created_after_us=1), "sessions_user (user_id=? AND created_at_us>?)"),
    ],
)
async def test_a_listing_goes_on_in_the_index(storage: SQLiteStorage, query: SessionQuery, index: str) -> None:
    listing = SQL.listing(query)
    plan = await _plan(storage, listing.sql, len(listing.names))
    assert plan[0] == f"SEARCH sessions USING INDEX {index}"


async def _steps(storage: SQLiteStorage, message_id: str) -> int:
    """The instructions of SQLite's virtual machine for one append."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 1
        return 0

    await storage._write(lambda connection: connection.set_progress_handler(tick, 1))
    await storage.append_messages("s", [message_record(message_id)])
    await storage._write(lambda connection: connection.set_progress_handler(None, 1))
    return count


async def test_an_append_takes_as_many_steps_after_10000_messages_as_after_10(
    storage: SQLiteStorage,
) -> None:
    await storage.append_messages("s", message_records(10))
    first = await _steps(storage, "eleventh")
    for batch in range(10):
        await storage.append_messages("s", message_records(1000, prefix=f"b{batch}-"))
    assert await _steps(storage, "last") == first


async def _bytes_of_appends(storage: SQLiteStorage, first: int, count: int) -> float:
    """The median of what an append adds to the write-ahead log."""
    log = Path(f"{storage._file.path}-wal")
    sizes = []
    for number in range(first, first + count):
        before = log.stat().st_size
        await storage.append_messages("s", [message_record(f"id of message {number:06}", text="x" * 200)])
        sizes.append(log.stat().st_size - before)
    return median(sizes)


async def test_an_append_writes_as_much_at_message_10000_as_at_message_10(storage: SQLiteStorage) -> None:
    await storage._write(lambda connection: connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall())
    early = await _bytes_of_appends(storage, 1, 20)
    for batch in range(10):
        await storage.append_messages("s", message_records(1000, prefix=f"b{batch}-"))
    late = await _bytes_of_appends(storage, 10_000, 20)
    assert 0 < late <= 1.1 * early


async def test_a_tail_read_takes_as_many_steps_after_10000_messages_as_after_30(
    storage: SQLiteStorage,
) -> None:
    async def steps() -> int:
        count = 0

        def tick() -> int:
            nonlocal count
            count += 1
            return 0

        await storage._read(lambda connection: connection.set_progress_handler(tick, 1))
        found = await storage.read_messages("s", MessageRange(newest=True, limit=20))
        await storage._read(lambda connection: connection.set_progress_handler(None, 1))
        assert len(found) == 20
        return count

    await storage.append_messages("s", message_records(30))
    first = await steps()
    for batch in range(10):
        await storage.append_messages("s", message_records(1000, prefix=f"b{batch}-"))
    assert await steps() == first


async def test_statements_for_many_batch_sizes_are_not_kept_for_ever() -> None:
    for size in range(1, 101):
        SQL.append(size, conditional=False)
    assert SQL._compiled_append.cache_info().currsize <= 32
