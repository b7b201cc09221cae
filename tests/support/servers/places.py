"""A schema, a prefix or a database for each test on a shared server, and its removal."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "clear_mongodb",
    "clear_postgres",
    "clear_redis",
    "clear_redis_cluster",
    "emptied_mongodb",
    "emptied_postgres",
    "execute_postgres",
    "place_name",
]


def place_name(path: Path) -> str:
    """Return the name of a schema, a database or a prefix for a path."""
    return f"luminora_test_{hashlib.sha256(str(path).encode()).hexdigest()[:16]}"


def execute_postgres(url: str, *statements: str) -> None:
    """Run statements, each in a transaction of its own."""
    import asyncpg

    async def execute() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in ("SET client_min_messages = error", *statements):
                await connection.execute(statement)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as apart:  # not on the event loop of the test
        apart.submit(asyncio.run, execute()).result()


def clear_postgres(url: str, name: str) -> None:
    """Drop a schema."""
    execute_postgres(url, f"DROP SCHEMA IF EXISTS {name} CASCADE")


@contextmanager
def emptied_postgres(url: str, name: str) -> Iterator[Callable[[], None]]:
    """Yield a function that deletes all rows of a schema but those of the version, over one connection."""
    import asyncpg

    async def empty(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        found = "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename NOT LIKE '%version'"
        tables = [row["tablename"] for row in await connection.fetch(found, name)]
        await connection.execute("".join(f'DELETE FROM {name}."{table}";' for table in tables))  # noqa: S608

    with ThreadPoolExecutor(1) as apart:  # not on the event loop of the test
        runner = apart.submit(asyncio.Runner).result()
        connection = apart.submit(runner.run, asyncpg.connect(url)).result()
        try:
            yield lambda: apart.submit(runner.run, empty(connection)).result()
        finally:
            apart.submit(runner.run, connection.close()).result()
            apart.submit(runner.close).result()


def clear_redis(url: str, name: str) -> None:
    """Delete every key with a prefix."""
    import redis

    with redis.Redis.from_url(url) as client:
        for key in client.scan_iter(f"{name}*", count=1000):
            client.unlink(key)


def clear_redis_cluster(url: str, name: str) -> None:
    """Delete every key with a prefix, on every node."""
    for node in url.removeprefix("redis+cluster://").split(","):
        clear_redis(f"redis://{node}", name)


def clear_mongodb(url: str, name: str) -> None:
    """Drop a database."""
    from pymongo import MongoClient

    with MongoClient[dict[str, object]](url) as client:
        client.drop_database(name)


@contextmanager
def emptied_mongodb(url: str, name: str) -> Iterator[Callable[[], None]]:
    """Yield a function that deletes all documents of a database; its indexes stay."""
    from pymongo import MongoClient

    def empty() -> None:
        for collection in database.list_collection_names():
            database[collection].delete_many({})

    with MongoClient[dict[str, object]](url) as client:
        database = client[name]
        yield empty
