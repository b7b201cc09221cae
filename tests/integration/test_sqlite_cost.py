"""What an append, a tail read and a listing cost: transactions, plans, steps and bytes."""

# ruff: noqa: ASYNC240 - the files are small, and nothing else runs on the loop

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from pathlib import Path
from statistics import median

import attrs
import pytest

from luminoracore_sdk.adapters.storage.sql import narrowed
from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.adapters.storage.sqlite.migrate import Database, load
from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, Payload, SessionQuery
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.sqlite_driver import Driver, watch_driver


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    return watch_driver(monkeypatch)


@pytest.fixture
async def storage(path: Path, driver: Driver) -> AsyncIterator[SQLiteStorage]:
    async with SQLiteStorage(path, synchronous="OFF") as opened:
        await opened.put_session(session_record())
        yield opened


@pytest.mark.parametrize(("size", "expected_last"), [(1, None), (2, 0), (40, None)])
async def test_an_append_is_one_transaction(
    storage: SQLiteStorage, driver: Driver, size: int, expected_last: int | None
) -> None:
    driver.statements.clear()
    await storage.append_messages("s", message_records(size), expected_last=expected_last)
    words = [statement.split()[0] for statement in driver.statements]
    assert words == ["BEGIN", "SELECT", *["INSERT"] * size, "UPDATE", "COMMIT"]


async def test_waiting_appends_and_memories_are_one_transaction(storage: SQLiteStorage, driver: Driver) -> None:
    names = [f"w{number}" for number in range(20)]
    for name in names:
        await storage.put_session(session_record(name))
    driver.statements.clear()
    await asyncio.gather(
        *(storage.append_messages(name, message_records(1)) for name in names),
        *(storage.put_memory(memory_record("k", owner=name), expected_version=0) for name in names),
        *(storage.put_memory(memory_record("k", kind="user", owner=name)) for name in names),
    )
    words = [statement.split()[0] for statement in driver.statements]
    first, rest = ["BEGIN", "SELECT", "INSERT", "UPDATE", "COMMIT"], ["SELECT", "INSERT", "UPDATE"] * 19
    assert words == [*first, "BEGIN", *rest, *["INSERT"] * 40, "COMMIT"]


READS: dict[str, Callable[[SQLiteStorage], Awaitable[object]]] = {
    "find": lambda storage: storage.find_session("s"),
    "list": lambda storage: storage.query_sessions(SessionQuery(user_id="u", tag="a")),
    "newest": lambda storage: storage.read_messages("s", MessageRange(newest=True, limit=20)),
    "all": lambda storage: storage.read_messages("s", MessageRange()),
    "memories": lambda storage: storage.list_memories(MemoryScope("session", "s")),
}


@pytest.mark.parametrize("name", READS)
async def test_a_read_is_one_statement(storage: SQLiteStorage, driver: Driver, name: str) -> None:
    driver.statements.clear()
    await READS[name](storage)
    assert [statement.split()[0] for statement in driver.statements] == ["SELECT"]


async def test_a_brief_takes_no_statement_of_its_own(storage: SQLiteStorage, driver: Driver) -> None:
    brief = attrs.evolve(message_record("m1"), brief=Payload("json", b'"m1"'))
    driver.statements.clear()
    await storage.append_messages("s", [brief])
    await storage.append_messages("s", [attrs.evolve(brief, message_id="m2", adds={"tokens": 1})])
    words = [statement.split()[0] for statement in driver.statements]
    assert words == ["BEGIN", "SELECT", "INSERT", "UPDATE", "COMMIT"] * 2


UNPLANNED = ("find_version", "insert_version", "insert_session", "put_document", "insert_message")
"""A table of one row, and statements that only insert."""


def _plan(path: Path, name: str) -> list[str]:
    """Return the steps of a statement; a listing is of one user if its name says so."""
    database = Database(path=path, prefix="luminora_", busy_timeout=1, synchronous="OFF", auto_create=True)
    statement = load("luminora_")[name.removesuffix("_of_user")]
    if name in ("list_oldest", "list_newest", "list_active_oldest", "list_active_newest"):
        statement = narrowed(statement, frozenset(statement.parameters) - {"user"})
    with closing(database.open()) as connection:
        rows = connection.execute(f"EXPLAIN QUERY PLAN {statement.sql}", dict.fromkeys(statement.parameters))
        return [row[3].decode() for row in rows]


@pytest.mark.parametrize("name", [name for name in load("luminora_").names() if name not in UNPLANNED])
def test_every_statement_searches_tables_by_index(path: Path, name: str) -> None:
    found = [
        step
        for step in _plan(path, name)
        if step.startswith(("SCAN", "SEARCH"))
        and not step.endswith(("json_each VIRTUAL TABLE INDEX 1:", "CONSTANT ROW"))
    ]
    assert found
    assert [step for step in found if not step.startswith("SEARCH")] == []


@pytest.mark.parametrize(
    "name",
    [
        "read_messages",
        "list_oldest",
        "list_newest",
        "list_memory_owners",
        *(f"list_active_{order}{user}" for order in ("oldest", "newest") for user in ("", "_of_user")),
    ],
)
def test_a_page_is_read_without_sorting(path: Path, name: str) -> None:
    assert [step for step in _plan(path, name) if "TEMP B-TREE" in step] == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("list_oldest", "luminora_sessions_created ((created_at_us,session_id)>(?,?) AND"),
        ("list_newest", "luminora_sessions_created ((created_at_us,session_id)>(?,?) AND"),
        ("list_oldest_of_user", "luminora_sessions_user (user_id=? AND created_at_us>?"),
        ("list_newest_of_user", "luminora_sessions_user (user_id=? AND created_at_us>?"),
        ("list_active_oldest", "luminora_sessions_active ((updated_at_us,session_id)>(?,?))"),
        ("list_active_newest", "luminora_sessions_active ((updated_at_us,session_id)<(?,?))"),
        ("list_active_oldest_of_user", "luminora_sessions_user_active (user_id=? AND (updated_at_us,session_id)>"),
        ("list_active_newest_of_user", "luminora_sessions_user_active (user_id=? AND (updated_at_us,session_id)<"),
    ],
)
def test_a_listing_continues_in_the_index(path: Path, name: str, index: str) -> None:
    assert _plan(path, name)[0].startswith(f"SEARCH luminora_sessions USING INDEX {index}")


@pytest.mark.parametrize("user_id", [None, "u"])
async def test_a_page_by_activity_takes_as_many_steps_of_1000_sessions(
    storage: SQLiteStorage, driver: Driver, user_id: str | None
) -> None:
    async def steps() -> int:
        driver.instructions = 0
        query = SessionQuery(user_id=user_id, by_activity=True, newest_first=True, limit=20)
        assert len((await storage.query_sessions(query)).sessions) == 20
        return driver.instructions

    counts = []
    for number in range(1000):
        await storage.put_session(session_record(f"s{number}", user_id="u"))
        if number in (50, 999):
            counts.append(await steps())
    assert counts[0] == counts[1]


async def test_an_append_takes_as_many_steps_after_10000_messages(storage: SQLiteStorage, driver: Driver) -> None:
    async def steps(message_id: str) -> int:
        driver.instructions = 0
        await storage.append_messages("s", [message_record(message_id)])
        return driver.instructions

    await storage.append_messages("s", message_records(10))
    first = await steps("eleventh")
    for batch in range(10):
        await storage.append_messages("s", message_records(1000, prefix=f"b{batch}-"))
    assert await steps("last") == first


async def test_a_tail_read_takes_as_many_steps_after_10000_messages(storage: SQLiteStorage, driver: Driver) -> None:
    async def steps() -> int:
        driver.instructions = 0
        assert len(await storage.read_messages("s", MessageRange(newest=True, limit=20))) == 20
        return driver.instructions

    await storage.append_messages("s", message_records(30))
    first = await steps()
    for batch in range(10):
        await storage.append_messages("s", message_records(1000, prefix=f"b{batch}-"))
    assert await steps() == first


async def test_an_append_writes_as_much_at_message_10000(storage: SQLiteStorage, driver: Driver, path: Path) -> None:
    log = Path(f"{path}-wal")

    async def bytes_of_appends(first: int, count: int) -> float:
        sizes = []
        for number in range(first, first + count):
            before = log.stat().st_size
            await storage.append_messages("s", [message_record(f"id of message {number:06}", text="x" * 200)])
            sizes.append(log.stat().st_size - before)
        return median(sizes)

    driver.before.append(lambda connection: connection.execute("PRAGMA wal_autocheckpoint = 0").fetchall())
    early = await bytes_of_appends(1, 20)
    for batch in range(10):
        await storage.append_messages("s", message_records(1000, prefix=f"b{batch}-"))
    late = await bytes_of_appends(10_000, 20)
    assert 0 < late <= 1.1 * early
