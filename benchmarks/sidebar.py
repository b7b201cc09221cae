"""A page of 50 conversations of a user who has 100,000, the latest activity first, beside the raw driver.

    python -m benchmarks.sidebar [--sessions 100000] [--pages 200] [--only postgres …] [--write]

The raw driver reads the same rows (id, time, title, two texts, three numbers) by a keyset on an index made for it, and
decodes them. Ours is ``query_sessions``, and ``SessionManager.list_conversations`` over it. Each session has a title
and a question with its answer, whose texts of 200 characters and counters the append has put into the header; the
appends are a minute apart. Both walk through the same pages, in turns: once after the appends, and once more. Then they
read the first page, again and again; since the last time, two of its sessions have got another question and answer, as
in a sidebar that is in use.
"""

import argparse
import asyncio
import gc
import json
import sqlite3
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import asyncpg
import attrs
from pymongo import AsyncMongoClient
from redis.asyncio import Redis as RedisClient

from benchmarks.optimizer_parts.tables import put_into, table
from benchmarks.speed_parts.backends import BACKENDS
from benchmarks.speed_parts.backends.base import Backend
from benchmarks.speed_parts.results import percentile
from benchmarks.turn_parts.timed import Timed
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.ports.records import MessageRecord, SessionQuery, SessionRecord
from luminoracore_sdk.session import (
    JSONFileStorage,
    MongoDBStorage,
    PostgreSQLStorage,
    RedisStorage,
    SessionManager,
    SessionStorage,
    SQLiteStorage,
)
from luminoracore_sdk.testing import ManualClock

DOCUMENT = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
PAGE = 50
USER = "u"
AT_ONCE = 64
MINUTE_US = 60_000_000

Row = tuple[str, int, str, str, str, str]


def rows(count: int, start_us: int) -> list[Row]:
    """Return what is stored of each session: id, time, title, first text, last text, counters."""
    counters = json.dumps({"user": 1, "assistant": 1, "tokens/2026-11-29/output/m": 7})
    return [
        (f"s{n:06}", start_us + n * MINUTE_US, f"Title {n}", f"{n} " + "x" * 190, f"{n} " + "y" * 190, counters)
        for n in range(count)
    ]


def decoded(row: Sequence[Any]) -> tuple[Any, ...]:
    return (*row[:5], json.loads(row[5]))


class Raw(ABC):
    """The raw driver with an index for this one query."""

    @abstractmethod
    async def fill(self, stored: Sequence[Row]) -> None: ...

    @abstractmethod
    async def page(self, cursor: tuple[int, str]) -> list[tuple[Any, ...]]:
        """Return the page behind a cursor."""

    @abstractmethod
    async def close(self) -> None: ...


class RawPostgres(Raw):
    def __init__(self, place: str) -> None:
        self._place = place

    async def fill(self, stored: Sequence[Row]) -> None:
        self._pool = await asyncpg.create_pool(self._place, min_size=1, max_size=1)
        await self._pool.execute(
            "CREATE TABLE side (id text, at bigint, title text, first text, last text, counters text, owner text)"
        )
        async with self._pool.acquire() as connection:
            await connection.copy_records_to_table("side", records=[(*row, USER) for row in stored])
        await self._pool.execute("CREATE INDEX side_at ON side (owner, at, id)")
        await self._pool.execute("VACUUM ANALYZE side")

    async def page(self, cursor: tuple[int, str]) -> list[tuple[Any, ...]]:
        found = await self._pool.fetch(
            "SELECT id, at, title, first, last, counters FROM side WHERE owner = $1 AND (at, id) < ($2, $3) "
            "ORDER BY at DESC, id DESC LIMIT $4",
            *(USER, *cursor, PAGE),
        )
        return [decoded(tuple(row)) for row in found]

    async def close(self) -> None:
        await self._pool.close()


class RawSQLite(Raw):
    def __init__(self, folder: Path) -> None:
        self._path = folder / "raw.db"
        self._thread = ThreadPoolExecutor(max_workers=1)

    async def _run(self, work: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)

    async def fill(self, stored: Sequence[Row]) -> None:
        await self._run(self._fill, stored)

    def _fill(self, stored: Sequence[Row]) -> None:
        self._connection = sqlite3.connect(self._path)
        self._connection.execute("CREATE TABLE side (id, at, title, first, last, counters, owner)")
        self._connection.executemany("INSERT INTO side VALUES (?, ?, ?, ?, ?, ?, 'u')", stored)
        self._connection.execute("CREATE INDEX side_at ON side (owner, at, id)")
        self._connection.execute("ANALYZE")
        self._connection.commit()

    async def page(self, cursor: tuple[int, str]) -> list[tuple[Any, ...]]:
        found = await self._run(self._rows, (USER, *cursor, PAGE))
        return [decoded(row) for row in found]

    def _rows(self, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        return self._connection.execute(
            "SELECT id, at, title, first, last, counters FROM side WHERE owner = ? AND (at, id) < (?, ?) "
            "ORDER BY at DESC, id DESC LIMIT ?",
            values,
        ).fetchall()

    async def close(self) -> None:
        await self._run(self._connection.close)
        self._thread.shutdown()


class RawRedis(Raw):
    _FIELDS = ("id", "at", "title", "first", "last", "counters")

    def __init__(self, place: str) -> None:
        self._client = RedisClient.from_url(place, decode_responses=True)

    async def fill(self, stored: Sequence[Row]) -> None:
        for begin in range(0, len(stored), 500):
            pipeline = self._client.pipeline(transaction=False)
            for row in stored[begin : begin + 500]:
                pipeline.hset(f"raw:{row[0]}", mapping=dict(zip(self._FIELDS, row, strict=True)))
                pipeline.zadd("raw:side", {row[0]: row[1] // MINUTE_US})
            await pipeline.execute()

    async def page(self, cursor: tuple[int, str]) -> list[tuple[Any, ...]]:
        below = f"({cursor[0] // MINUTE_US}"
        names = cast(
            "list[str]",
            await self._client.zrange("raw:side", below, "-inf", desc=True, byscore=True, offset=0, num=PAGE),
        )
        pipeline = self._client.pipeline(transaction=False)
        for name in names:
            pipeline.hmget(f"raw:{name}", self._FIELDS)
        return [decoded(cast("Sequence[Any]", row)) for row in await pipeline.execute()]

    async def close(self) -> None:
        await self._client.aclose()


class RawMongo(Raw):
    def __init__(self, place: str) -> None:
        self._client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(place)
        self._side = self._client["raw"]["side"]

    async def fill(self, stored: Sequence[Row]) -> None:
        names = ("_id", "at", "title", "first", "last", "counters")
        await self._side.insert_many([{**dict(zip(names, row, strict=True)), "owner": USER} for row in stored])
        await self._side.create_index([("owner", 1), ("at", 1), ("_id", 1)])

    async def page(self, cursor: tuple[int, str]) -> list[tuple[Any, ...]]:
        where = {"owner": USER, "$or": [{"at": {"$lt": cursor[0]}}, {"at": cursor[0], "_id": {"$lt": cursor[1]}}]}
        found = await self._side.find(where).sort([("at", -1), ("_id", -1)]).limit(PAGE).to_list()
        return [(one["_id"], one["at"], one["title"], json.loads(one["counters"])) for one in found]

    async def close(self) -> None:
        await self._client.close()


def ours_at(backend: Backend, folder: Path, clock: ManualClock, *, durable: bool) -> SessionStorage:
    """Return a storage with the benchmark's clock."""
    place = backend.place
    makers: dict[str, Callable[[], SessionStorage]] = {
        "postgres": lambda: PostgreSQLStorage(place, schema="ours", clock=clock),
        "redis": lambda: RedisStorage(place, clock=clock),
        "mongodb": lambda: MongoDBStorage(place, clock=clock),
        "mongodb-motor": lambda: MongoDBStorage(place, driver="motor", clock=clock),
        "sqlite": lambda: SQLiteStorage(folder / "o.db", synchronous="FULL" if durable else "OFF", clock=clock),
        "files": lambda: JSONFileStorage(folder / "files", fsync=durable, clock=clock),
    }
    return makers[backend.name]()


def raw_at(backend: Backend, folder: Path) -> Raw | None:
    """Return the raw driver; None: there is none."""
    if backend.name == "postgres":
        return RawPostgres(backend.place)
    if backend.name == "redis":
        return RawRedis(backend.place)
    if backend.name.startswith("mongodb"):
        return RawMongo(backend.place)
    return RawSQLite(folder) if backend.name == "sqlite" else None


async def fill_ours(storage: SessionStorage, stored: Sequence[Row], clock: ManualClock) -> None:
    """Put the sessions, then append a question and its answer to each, at its time."""
    codec = JsonCodec()
    payload = codec.encode({"v": 1, "personality": {}, "provider": None, "config": {}, "metadata": {}})
    for begin in range(0, len(stored), AT_ONCE):
        await asyncio.gather(
            *[
                storage.put_session(
                    SessionRecord(
                        session_id=row[0],
                        payload=payload,
                        card=codec.encode({"title": row[2], "attributes": {}}),
                        user_id=USER,
                    ),
                    expected_version=0,
                )
                for row in stored[begin : begin + AT_ONCE]
            ]
        )
    for session_id, at, _, first, last, counters in stored:  # one by one: those of a group have one time
        clock.advance_us(at - clock.now_us)
        adds = {name: n for name, n in json.loads(counters).items() if "/" in name}
        messages = [
            MessageRecord(
                message_id=role,
                role=role,
                created_at_us=at,
                payload=codec.encode({"v": 1, "content": text}),
                brief=codec.encode(text),
                adds=adds if role == "assistant" else {},
            )
            for role, text in (("user", first), ("assistant", last))
        ]
        await storage.append_messages(session_id, messages)


@attrs.define
class Walk:
    """The times of one walk through the pages."""

    floor: Timed = attrs.field(factory=Timed)
    query: Timed = attrs.field(factory=Timed)
    conversations: Timed = attrs.field(factory=Timed)


async def walk(storage: SessionStorage, manager: SessionManager, raw: Raw | None, pages: int, *, lists: bool) -> Walk:
    """Walk through the pages; the first five do not count.

    Args:
        storage: Ours.
        manager: Over it.
        raw: The raw driver, if there is one.
        pages: Most pages.
        lists: Whether to call ``list_conversations`` too, which reads each page again.
    """
    times = Walk()
    query = SessionQuery(user_id=USER, by_activity=True, newest_first=True, limit=PAGE)
    cursor: str | None = None
    place = (2**62, "~")
    for number in range(pages + 5):
        if number == 5:
            times = Walk()
        found: list[Any] = []

        async def read(query: SessionQuery = query, found: list[Any] = found) -> None:
            found.append(await storage.query_sessions(query))

        async def plain(place: tuple[int, str] = place, found: list[Any] = found) -> None:
            found.append(await raw.page(place) if raw is not None else [])

        async def listed(cursor: str | None = cursor, found: list[Any] = found) -> None:
            found.append(await manager.list_conversations(USER, limit=PAGE, cursor=cursor, archived=None))

        await times.query.call(read())
        await times.floor.call(plain())
        page, plain_rows = found
        names = [record.session_id for record in page.sessions]
        assert raw is None or names == [row[0] for row in plain_rows]
        if lists:
            await times.conversations.call(listed())
            assert names == [row.session_id for row in found[2].conversations]
            cursor = found[2].next_cursor
        if page.next_cursor is None:
            break
        query, place = attrs.evolve(query, cursor=page.next_cursor), page.next_cursor
    return times


async def in_use(storage: SessionStorage, raw: Raw | None, clock: ManualClock, times: int) -> Walk:
    """Read the first page so many times, each time after appends to two of its sessions."""
    walked, codec = Walk(), JsonCodec()
    query = SessionQuery(user_id=USER, by_activity=True, newest_first=True, limit=PAGE)
    text = codec.encode("z" * 200)
    for number in range(times):
        clock.advance(600)
        sessions = (await storage.query_sessions(query)).sessions
        for place in (0, PAGE - 1):
            clock.advance(1)
            messages = [
                MessageRecord(message_id=f"{role}{number}", role=role, created_at_us=1, payload=text, brief=text)
                for role in ("user", "assistant")
            ]
            await storage.append_messages(sessions[place].session_id, messages)
        await walked.query.call(storage.query_sessions(query))
        await walked.floor.call(raw.page((2**62, "~")) if raw is not None else asyncio.sleep(0))
    return walked


async def measure(backend: Backend, folder: Path, sessions: int, pages: int) -> list[list[str]]:
    """Return the lines of a backend."""
    clock = ManualClock()
    stored = rows(sessions, clock.now_us)
    began = time.perf_counter()
    async with ours_at(backend, folder, clock, durable=False) as filling:
        await fill_ours(filling, stored, clock)
    made = time.perf_counter() - began
    raw = raw_at(backend, folder)
    if raw is not None:
        await raw.fill(stored)
    async with ours_at(backend, folder, clock, durable=True) as storage, SessionManager(storage) as manager:
        first = await walk(storage, manager, raw, pages, lists=False)
        later = await walk(storage, manager, raw, pages, lists=True)
        used = await in_use(storage, raw, clock, pages)
    if raw is not None:
        await raw.close()
    lines: list[list[str]] = []
    for name, timed, floor in (
        ("raw driver, keyset, first walk", first.floor, first.floor),
        ("query_sessions, first walk", first.query, first.floor),
        ("raw driver, keyset", later.floor, later.floor),
        ("query_sessions", later.query, later.floor),
        ("list_conversations", later.conversations, later.floor),
        ("query_sessions, two appended to", used.query, used.floor),
    ):
        if raw is not None:
            ratio = f"{percentile(timed.seconds, 0.5) / percentile(floor.seconds, 0.5):.2f}"
            lines.append([backend.title, name, *timed.cells(), ratio])
        elif timed is not floor:
            lines.append([backend.title, name, *timed.cells(), "–"])
    print(f"{backend.title}: {sessions:,} sessions written in {made:.0f} s", flush=True)
    return lines


def run(name: str, sessions: int, pages: int) -> list[list[str]]:
    """Measure one backend, new and empty."""
    with tempfile.TemporaryDirectory(prefix="luminora-sidebar-") as folder:
        backend = BACKENDS[name](Path(folder))
        backend.start()
        gc.collect()
        gc.freeze()
        try:
            return asyncio.run(measure(backend, Path(folder), sessions, pages))
        finally:
            backend.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description="A page of a sidebar")
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--pages", type=int, default=200)
    parser.add_argument("--only", nargs="+", choices=list(BACKENDS), default=list(BACKENDS), metavar="BACKEND")
    parser.add_argument("--write", action="store_true", help=f"put the table into {DOCUMENT.name}")
    arguments = parser.parse_args()
    lines = [line for name in arguments.only for line in run(name, arguments.sessions, arguments.pages)]
    heads = ["", f"page of {PAGE} of {arguments.sessions:,}", "p50, ms", "p99, ms", "CPU, ms", "÷ raw driver"]
    content = table(heads, lines, texts=2)
    print(content)
    if arguments.write:
        DOCUMENT.write_text(put_into(DOCUMENT.read_text("utf-8"), "sidebar", content), "utf-8")


if __name__ == "__main__":
    main()
