"""What calls cost: statements, rows touched, plans, updates within a page."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, Payload, SessionQuery
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.postgres import Schema

TURNS = 500


@pytest.fixture
async def storage(schema: Schema) -> AsyncIterator[PostgreSQLStorage]:
    async with schema.storage(pool_size=1) as opened:
        await opened.put_session(session_record("warm"))
        await opened.append_messages("warm", message_records(2))
        await opened.delete_session("warm")  # asyncpg asks once a connection what an array is
        await opened.put_session(session_record())
        yield opened


async def watched(storage: PostgreSQLStorage, call: Callable[[], Any]) -> list[str]:
    """Return the statements that a call sends on the one connection of the pool."""
    seen: list[str] = []
    assert storage._pool is not None
    pool: Any = storage._pool._pool
    holder = pool._holders[0]
    connection = holder._con
    logger = lambda record: seen.append(record.query)  # noqa: E731
    connection.add_query_logger(logger)
    await call()
    assert holder._con is connection
    connection.remove_query_logger(logger)
    # asyncpg calls loggers in the next turn of the loop; one more round trip is long enough
    await storage.ping()
    return seen


async def test_64_appends_that_wait_are_one_statement(storage: PostgreSQLStorage) -> None:
    names = [f"w{number}" for number in range(66)]
    for name in names:
        await storage.put_session(session_record(name))

    async def write() -> None:
        await asyncio.gather(*(storage.append_messages(name, message_records(1)) for name in names))

    seen = await watched(storage, write)
    assert ["unnest" in query for query in seen] == [False, False, True], "two alone, then all who waited"


@pytest.mark.parametrize(("size", "expected_last"), [(1, None), (2, 0), (1000, None)])
async def test_an_append_is_one_statement(storage: PostgreSQLStorage, size: int, expected_last: int | None) -> None:
    seen = await watched(
        storage, lambda: storage.append_messages("s", message_records(size), expected_last=expected_last)
    )
    assert len(seen) == 1
    assert "INSERT INTO" in seen[0]


@pytest.mark.parametrize(
    ("call", "statements"),
    [
        pytest.param(lambda storage: storage.ping(), 1, id="ping"),
        pytest.param(lambda storage: storage.put_session(session_record()), 1, id="put"),
        pytest.param(lambda storage: storage.put_session(session_record("t"), expected_version=0), 1, id="put new"),
        pytest.param(lambda storage: storage.put_session(session_record(), expected_version=1), 1, id="put existing"),
        pytest.param(lambda storage: storage.find_session("s"), 1, id="find"),
        pytest.param(lambda storage: storage.read_messages("s", MessageRange()), 1, id="read"),
        pytest.param(lambda storage: storage.query_sessions(SessionQuery()), 1, id="list"),
        pytest.param(lambda storage: storage.put_memory(memory_record("k")), 1, id="put memory"),
        pytest.param(lambda storage: storage.put_memory(memory_record("k"), max_entries=2), 4, id="put and evict"),
        pytest.param(lambda storage: storage.truncate_messages("s", after=1), 4, id="truncate"),
        pytest.param(lambda storage: storage.delete_session("s"), 4, id="delete"),
    ],
)
async def test_calls_take_few_statements(
    storage: PostgreSQLStorage, call: Callable[[PostgreSQLStorage], Any], statements: int
) -> None:
    assert len(await watched(storage, lambda: call(storage))) == statements


@pytest.mark.parametrize("size", [1, 1000])
async def test_rewriting_is_one_statement(storage: PostgreSQLStorage, size: int) -> None:
    await storage.append_messages("s", message_records(size))
    messages = await storage.read_messages("s", MessageRange())
    new = Payload("json+aes256gcm:k", b"\xff\0")
    seen = await watched(storage, lambda: storage.rewrite_messages("s", rewritten(messages, new)))
    assert len(seen) == 1
    assert [message.payload for message in await storage.read_messages("s", MessageRange())] == [new] * size
    old = session_record().payload
    assert old is not None
    assert len(await watched(storage, lambda: storage.rewrite_session("s", old=old, new=new))) == 1
    memory = await storage.put_memory(memory_record("k"))
    given = {"old": memory.payload, "new": new}
    assert len(await watched(storage, lambda: storage.rewrite_memory(memory.scope, "k", **given))) == 1


def rewritten(messages: list[MessageRecord], new: Payload) -> list[PayloadRewrite]:
    return [
        PayloadRewrite(position=message.position, message_id=message.message_id, old=message.payload, new=new)
        for message in messages
    ]


async def buffers(schema: Schema, statement: Any, **given: object) -> int:
    """Return how many pages a statement touches the second time it runs; what it writes is undone."""
    plan: list[Any] = []
    async with schema.connection() as connection:
        for _ in range(2):
            block = connection.transaction()
            await block.start()
            plan = await connection.fetch(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}",
                *statement.arguments(given),
                record_class=asyncpg.Record,
            )
            await block.rollback()
    import json

    (root,) = json.loads(plan[0][0])
    return int(root["Plan"]["Shared Hit Blocks"]) + int(root["Plan"]["Shared Read Blocks"])


async def test_append_reading_the_newest_and_rewriting_cost_the_same_whatever_the_history_holds(
    schema: Schema, storage: PostgreSQLStorage
) -> None:
    long, short = "long", "short"
    for name in (long, short):
        await storage.put_session(session_record(name))
    for batch in range(20):
        await storage.append_messages(long, message_records(1000, prefix=f"{batch}-"))
    await storage.append_messages(short, message_records(20))
    await schema.rows("ANALYZE")
    sql = storage._sql.messages
    given: dict[str, Any] = {"now": 1, "after": 0, "before": 2**62, "count": 20, "size": 1}
    given |= {
        "ids": ["x"],
        "roles": ["user"],
        "times": [1],
        "makes": ["json"],
        "data": ["1"],
        "bytes": [None],
    }
    given |= {"old_makes": ["json"], "old_data": ["{}"], "old_bytes": [None]}
    given |= {"expected": None, "sizes": [1], "owners": [1]}
    given |= {"id": "x", "role": "user", "time": 1, "make": "json"}
    statements = (sql.append.one, sql.append.batch, sql.append.groups, sql.read_newest, sql.rewrite)
    for statement in statements:
        lists: dict[str, Any] = {"places": [20]} if statement is sql.rewrite else {"places": [1]}
        if statement is sql.append.one:
            lists = {"data": "1", "bytes": None}
        if statement is sql.append.groups:
            lists["expected"] = [None]
        touched = [
            await buffers(schema, statement, session=name, **given | {"sessions": [name]} | lists)
            for name in (long, short)
        ]
        assert touched[0] <= touched[1] + 12  # a B-tree is a page or two higher, and has more entries a page


async def test_a_page_of_a_listing_does_not_read_the_whole_table(schema: Schema, storage: PostgreSQLStorage) -> None:
    async with schema.connection() as connection:
        await connection.execute(
            """INSERT INTO sessions
                (session_id, user_id, tags, created_at_us, updated_at_us, version, last_position)
            SELECT 'n' || n, 'u' || n % 10, ARRAY['t' || n % 100], n, n, 1, 0
                FROM generate_series(1, 20000) n"""
        )
        await connection.execute("ANALYZE")
    given = {"now": 1, "count": 101, "user": "u1", "label": ["t1"]}
    given |= {"cursor_time": 9000, "cursor_id": "n9000"}
    queries = {
        "all": SessionQuery(cursor=(9000, "n9000")),
        "all, newest first": SessionQuery(cursor=(9000, "n9000"), newest_first=True),
        "of a user": SessionQuery(cursor=(9000, "n9000"), user_id="u1"),
        "with a tag": SessionQuery(tag="t1", cursor=(9000, "n9000")),
    }
    pages = {name: await buffers(schema, storage._sql.listing(query), **given) for name, query in queries.items()}
    ((whole,),) = await schema.rows("SELECT pg_relation_size('sessions') / 8192")
    assert {name: touched for name, touched in pages.items() if touched >= whole} == {}, whole
    assert max(pages["all"], pages["all, newest first"]) < whole / 10


async def test_appends_update_the_header_within_its_page(schema: Schema, storage: PostgreSQLStorage) -> None:
    for number in range(TURNS):
        await storage.append_messages("s", [message_record(f"q{number}"), message_record(f"a{number}")])
    await storage.close()  # the server writes its counts down when a connection ends
    await schema.until(
        "SELECT n_tup_upd FROM pg_stat_user_tables WHERE relid = 'sessions'::regclass", lambda n: n > TURNS
    )
    ((updates, within),) = await schema.rows(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'sessions'::regclass"
    )
    assert (updates, within) == (TURNS + 1, TURNS + 1)  # one was made before the test
    ((pages,),) = await schema.rows("SELECT pg_relation_size('sessions') / 8192")
    assert pages == 1
