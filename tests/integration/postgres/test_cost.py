"""What calls cost: statements sent, pages touched, updates within a page."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import attrs
import pytest

from luminoracore_sdk.adapters.storage.base import Append
from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.postgres.migrate import migrator
from luminoracore_sdk.adapters.storage.postgres.options import Namespace
from luminoracore_sdk.adapters.storage.postgres.rows import (
    batch_values,
    group_values,
    message_values,
    query_values,
    rewrite_batches,
)
from luminoracore_sdk.adapters.storage.sql import Statement, narrowed
from luminoracore_sdk.application.ports.records import (
    MemoryPut,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.postgres import Schema

TURNS = 500

Sent = Callable[[Awaitable[object]], Awaitable[list[str]]]


@pytest.fixture
def log() -> list[str]:
    """The statements that reach the server."""
    return []


@pytest.fixture
async def storage(schema: Schema, log: list[str]) -> AsyncIterator[PostgreSQLStorage]:
    async def watch(connection: "asyncpg.Connection[Any]") -> None:
        connection.add_query_logger(lambda record: log.append(record.query))

    async def leave(_: object) -> None:
        return None

    async with (
        asyncpg.create_pool(schema.url, min_size=1, max_size=1, init=watch, reset=leave) as pool,
        PostgreSQLStorage(pool=pool, schema=schema.name) as opened,
    ):
        await opened.put_session(session_record("warm"))
        await opened.append_messages("warm", message_records(2))
        await opened.delete_session("warm")  # asyncpg asks once a connection what an array is
        await opened.put_session(session_record())
        yield opened


@pytest.fixture
def sent(log: list[str]) -> Sent:
    """Run a call and return the statements that it sent."""

    async def run(call: Awaitable[object]) -> list[str]:
        await asyncio.sleep(0)  # asyncpg calls loggers in the next step of the event loop
        log.clear()
        await call
        await asyncio.sleep(0)
        return list(log)

    return run


async def test_64_waiting_appends_are_one_statement(storage: PostgreSQLStorage, sent: Sent) -> None:
    names = [f"w{number}" for number in range(66)]
    for name in names:
        await storage.put_session(session_record(name))
    seen = await sent(asyncio.gather(*(storage.append_messages(name, message_records(1)) for name in names)))
    assert ["unnest" in query for query in seen] == [False, False, True]  # two alone, then all that waited


async def test_waiting_appends_of_any_size_are_one_statement(storage: PostgreSQLStorage, sent: Sent) -> None:
    sizes = {f"w{number}": number % 4 + 1 for number in range(12)}
    for name in sizes:
        await storage.put_session(session_record(name))
    batches = {name: message_records(size) for name, size in sizes.items()}
    batches["w9"] = [attrs.evolve(batches["w9"][0], payload=Payload("json+zstd:1", b"\xff")), *batches["w9"][1:]]
    later = attrs.evolve(batches["w5"][0], message_id="later")
    appends = [*batches.items(), ("w5", [later])]
    seen = await sent(asyncio.gather(*(storage.append_messages(name, batch) for name, batch in appends)))
    assert len(seen) == 3  # two alone, then all that waited
    batches["w5"].append(later)
    for name, batch in batches.items():
        stored = await storage.read_messages(name, MessageRange())
        assert [(one.position, one.message_id, one.payload) for one in stored] == [
            (position, one.message_id, one.payload) for position, one in enumerate(batch, 1)
        ]


async def test_64_waiting_puts_of_memories_are_one_statement(storage: PostgreSQLStorage, sent: Sent) -> None:
    names = [f"w{number}" for number in range(66)]
    for name in names:
        await storage.put_session(session_record(name))

    def changes(version: int | None, *keys: str) -> Awaitable[object]:
        puts = [[MemoryPut(memory_record(key, owner=name), version) for key in keys] for name in names]
        scopes = [MemoryScope("session", name) for name in names]
        return asyncio.gather(*map(storage.change_memories, scopes, puts))

    assert len(await sent(changes(None, "a", "b"))) == 3  # two alone, then all that waited
    assert len(await sent(changes(0, "c"))) == 3
    assert len(await sent(changes(1, "c"))) == 3


async def test_a_memory_that_is_put_twice_at_once_costs_only_its_own_session(
    storage: PostgreSQLStorage, sent: Sent
) -> None:
    names = ["w0", "w1", *[f"w{number}" for number in range(2, 20)], "w2", "w3"]
    for name in dict.fromkeys(names):
        await storage.put_session(session_record(name))
    puts = asyncio.gather(*(storage.put_memory(memory_record("k", owner=name)) for name in names))
    assert len(await sent(puts)) == 5  # two alone, a group, and again alone for w2 and w3
    assert [record.version for record in puts.result()[-2:]] == [2, 2]


@pytest.mark.parametrize(("size", "expected_last"), [(1, None), (2, 0), (1000, None)])
async def test_an_append_is_one_statement(
    storage: PostgreSQLStorage, sent: Sent, size: int, expected_last: int | None
) -> None:
    seen = await sent(storage.append_messages("s", message_records(size), expected_last=expected_last))
    assert len(seen) == 1
    assert "INSERT INTO" in seen[0]


@pytest.mark.parametrize(
    ("call", "statements"),
    [
        pytest.param(lambda storage: storage.ping(), 1, id="ping"),
        pytest.param(lambda storage: storage.put_session(session_record()), 1, id="put"),
        pytest.param(lambda storage: storage.put_session(session_record("t"), expected_version=0), 1, id="create"),
        pytest.param(lambda storage: storage.put_session(session_record(), expected_version=1), 1, id="update"),
        pytest.param(lambda storage: storage.find_session("s"), 1, id="find"),
        pytest.param(lambda storage: storage.read_messages("s", MessageRange()), 1, id="read"),
        pytest.param(lambda storage: storage.read_turn("s", newest=5), 1, id="read turn"),
        pytest.param(lambda storage: storage.find_message("s", "m1"), 1, id="find message"),
        pytest.param(lambda storage: storage.replace_tail("s", after=0), 6, id="replace tail"),
        pytest.param(lambda storage: storage.query_sessions(SessionQuery()), 1, id="list"),
        pytest.param(lambda storage: storage.acquire_lease("s", holder="a", ttl_us=1), 1, id="acquire lease"),
        pytest.param(lambda storage: storage.release_lease("s", fence=1), 1, id="release lease"),
        pytest.param(lambda storage: storage.fork_session("s", session_record("f"), at=0), 6, id="fork"),
        pytest.param(lambda storage: storage.put_memory(memory_record("k")), 1, id="put memory"),
        pytest.param(
            lambda storage: storage.change_memories(
                MemoryScope("session", "s"), [MemoryPut(memory_record("k")), MemoryPut(memory_record("l"))]
            ),
            1,
            id="put memories",
        ),
        pytest.param(lambda storage: storage.put_memory(memory_record("k"), max_entries=2), 5, id="put and evict"),
        pytest.param(lambda storage: storage.list_memory_owners(), 1, id="list owners"),
        pytest.param(lambda storage: storage.truncate_messages("s", after=1), 4, id="truncate"),
        pytest.param(lambda storage: storage.delete_session("s"), 4, id="delete"),
    ],
)
async def test_calls_take_few_statements(
    storage: PostgreSQLStorage, sent: Sent, call: Callable[[PostgreSQLStorage], Any], statements: int
) -> None:
    assert len(await sent(call(storage))) == statements


async def test_an_update_is_a_read_and_a_statement(storage: PostgreSQLStorage, sent: Sent) -> None:
    await storage.append_messages("s", message_records(1))
    new, old = Payload("json", b"1"), message_records(1)[0].payload
    assert len(await sent(storage.update_message("s", 1, payload=new, expected=old, brief=new))) == 2


@pytest.mark.parametrize("size", [1, 1000])
async def test_rewriting_is_one_statement(storage: PostgreSQLStorage, sent: Sent, size: int) -> None:
    await storage.append_messages("s", message_records(size))
    messages = await storage.read_messages("s", MessageRange())
    new = Payload("json+aes256gcm:k", b"\xff\0")
    assert len(await sent(storage.rewrite_messages("s", rewritten(messages, new)))) == 1
    assert [message.payload for message in await storage.read_messages("s", MessageRange())] == [new] * size
    old = session_record().payload
    assert old is not None
    assert len(await sent(storage.rewrite_session("s", old=old, new=new))) == 1
    memory = await storage.put_memory(memory_record("k"))
    assert len(await sent(storage.rewrite_memory(memory.scope, "k", old=memory.payload, new=new))) == 1


def rewritten(messages: list[MessageRecord], new: Payload) -> list[PayloadRewrite]:
    return [
        PayloadRewrite(position=message.position, message_id=message.message_id, old=message.payload, new=new)
        for message in messages
    ]


async def pages(schema: Schema, statement: Statement, given: dict[str, Any]) -> int:
    """Return how many pages a statement touches the second time it runs; what it writes is undone."""
    plan = "[]"
    async with schema.connection() as connection:
        for _ in range(2):
            block = connection.transaction()
            await block.start()
            explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.sql}"
            plan = await connection.fetchval(explained, *statement.arguments(given))
            await block.rollback()
    (root,) = json.loads(plan)
    return int(root["Plan"]["Shared Hit Blocks"]) + int(root["Plan"]["Shared Read Blocks"])


async def test_the_cost_of_a_message_does_not_depend_on_the_history(schema: Schema, storage: PostgreSQLStorage) -> None:
    for name in ("long", "short"):
        await storage.put_session(session_record(name))
    for batch in range(20):
        await storage.append_messages("long", message_records(1000, prefix=f"{batch}-"))
    await storage.append_messages("short", message_records(20))
    await schema.rows("ANALYZE")
    sql = migrator(Namespace(schema.name)).sql
    message = attrs.evolve(message_record("x"), brief=Payload("json", b'"x"'))
    append = Append("s", (message,), None, 1)
    change = PayloadRewrite(position=20, message_id="m20", old=Payload("json", b"{}"), new=Payload("json", b"1"))
    (rewriting,) = rewrite_batches([change])
    cases: list[tuple[Statement, dict[str, Any]]] = [
        (narrowed(sql.append_message, frozenset(message_values(append))), message_values(append)),
        (sql.append_messages, batch_values(append)),
        (sql.append_group, group_values([append])),
        (sql.read_newest_messages, {"after": 0, "before": 2**62, "count": 20}),
        (sql.rewrite_messages, rewriting),
    ]
    for statement, values in cases:
        touched = [
            await pages(
                schema, statement, {**values, "session": name, "sessions": [name], "now": 1, "expected_last": None}
            )
            for name in ("long", "short")
        ]
        assert touched[0] <= touched[1] + 12  # a B-tree is a page or two higher, and has more entries a page


async def test_a_page_of_a_listing_reads_few_pages(schema: Schema, storage: PostgreSQLStorage) -> None:
    async with schema.connection() as connection:
        await connection.execute(
            """INSERT INTO luminora_sessions
                (session_id, user_id, tags, created_at_us, updated_at_us, active, version, last_position)
            SELECT 'n' || n, 'u' || n % 10, ARRAY['t' || n % 100], n, n * 1000000::bigint, n / 60, 1, 0
                FROM generate_series(1, 20000) n"""
        )
        await connection.execute("ANALYZE")
    cursor = (9000, "n9000")
    queries = {
        "first": SessionQuery(),
        "next": SessionQuery(cursor=cursor),
        "next, newest first": SessionQuery(cursor=cursor, newest_first=True),
        "since": SessionQuery(created_after_us=9000),
        "until, newest first": SessionQuery(created_before_us=9000, newest_first=True),
        "of a user": SessionQuery(cursor=cursor, user_id="u1"),
        "with a tag": SessionQuery(cursor=cursor, tag="t1"),
        "active": SessionQuery(by_activity=True, newest_first=True),
        "active, next": SessionQuery(by_activity=True, cursor=(9_000_000_000, "n9000")),
        "active, next, newest first": SessionQuery(
            by_activity=True, cursor=(9_000_000_000, "n9000"), newest_first=True, without_tag="x"
        ),
        "of a user, active": SessionQuery(by_activity=True, newest_first=True, user_id="u1"),
    }
    sql = migrator(Namespace(schema.name)).sql
    touched = {}
    for name, query in queries.items():
        given = {"now": 1, **query_values(query)}
        listing = "list_active_sessions" if query.by_activity else "list_sessions"
        statement = sql[f"{listing}_newest_first" if query.newest_first else listing]
        touched[name] = await pages(schema, narrowed(statement, frozenset(given)), given)
    ((whole,),) = await schema.rows("SELECT pg_relation_size('luminora_sessions') / 8192")
    assert {name: count for name, count in touched.items() if count >= whole} == {}
    narrow = {
        name: count for name, count in touched.items() if name not in ("of a user", "of a user, active", "with a tag")
    }
    assert max(narrow.values()) < whole / 10


async def test_a_page_of_memory_owners_reads_few_pages(schema: Schema, storage: PostgreSQLStorage) -> None:
    async with schema.connection() as connection:
        await connection.execute(
            """INSERT INTO luminora_user_memories
                (user_digest, user_id, key, retention, created_at_us, updated_at_us, version, encoding, payload)
            SELECT sha256(convert_to('u' || n / 4, 'UTF8')), 'u' || n / 4, 'k' || n, 0, n, n, 1, 'json', '1'
                FROM generate_series(1, 20000) n"""
        )
        await connection.execute("ANALYZE")
    sql = migrator(Namespace(schema.name)).sql
    late = "SELECT user_id FROM luminora_user_memories ORDER BY user_id DESC OFFSET 80 LIMIT 1"
    ((after,),) = await schema.rows(late)  # a scan from the beginning would read nearly everything
    touched = await pages(
        schema, sql.list_memory_owners, {"low": after, "high": "v", "after": after, "count": 10, "now": 1}
    )
    ((whole,),) = await schema.rows("SELECT pg_relation_size('luminora_user_memories') / 8192")
    assert touched < whole / 4


async def test_appends_update_the_header_within_its_page(schema: Schema) -> None:
    async with schema.storage(pool_size=1) as storage:
        await storage.put_session(session_record())
        for number in range(TURNS):
            await storage.append_messages("s", [message_record(f"q{number}"), message_record(f"a{number}")])
    # the server writes its counts down when a connection ends
    counts = "FROM pg_stat_user_tables WHERE relid = 'luminora_sessions'::regclass"
    await schema.until(f"SELECT n_tup_upd {counts}", lambda updates: updates >= TURNS)
    ((updates, within),) = await schema.rows(f"SELECT n_tup_upd, n_tup_hot_upd {counts}")
    ((pages_used,),) = await schema.rows("SELECT pg_relation_size('luminora_sessions') / 8192")
    # an old snapshot of another test keeps dead versions; then an update in 50 or more begins the next page
    assert (updates, within >= TURNS - TURNS // 50, pages_used <= 1 + TURNS // 50) == (TURNS, True, True)
