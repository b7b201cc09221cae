"""Bytes that each backend takes, as it tells itself, with the optimizer off and on.

Each store is a new one, on a new server; it is filled turn by turn, as sessions grow.
"""

import asyncio
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.optimizer_parts.tables import percent, table
from benchmarks.optimizer_parts.talks import ChatRepl
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.session import create_storage
from tests.support.servers.mongo import MongoServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.valkey import ValkeyServer

__all__ = ["disk_table"]

Measured = dict[str, int]
"""What a backend says, in bytes, by the name of the measure."""

Fill = Callable[[str], Awaitable[None]]
"""Fills the store at a URL."""


async def disk_table(talks: Sequence[ChatRepl]) -> str:
    """Return a table of what every backend says of a store without and with the optimizer."""
    rows: list[list[str]] = []
    for measure in (_files, _sqlite, _postgres, _mongodb, _valkey):
        name, off = await _measured(measure, talks, None)
        name, on = await _measured(measure, talks, Optimizer())
        rows += [[name, what, f"{off[what]:,}", f"{on[what]:,}", percent(on[what], off[what])] for what in off]
    return table(["backend", "what it reports", "bytes, off", "bytes, on", "smaller"], rows, texts=2)


async def _measured(
    measure: Callable[[Path, Fill], Awaitable[tuple[str, Measured]]],
    talks: Sequence[ChatRepl],
    optimizer: Optimizer | None,
) -> tuple[str, Measured]:
    async def fill(url: str) -> None:
        async with create_storage(url, optimizer) as storage:
            codec = JsonEntityCodec()
            for talk in talks:
                await storage.put_session(codec.session_record(talk.session))
                records = [codec.message_record(message) for message in talk.messages]
                for first in range(0, len(records), 2):  # a question with its answer, as SessionManager
                    await storage.append_messages(talk.session.session_id, records[first : first + 2])

    with tempfile.TemporaryDirectory(prefix="luminora-optimizer-") as folder:
        return await measure(Path(folder), fill)


async def _files(folder: Path, fill: Fill) -> tuple[str, Measured]:
    await fill(f"file://{folder}/store")
    found = [path.stat() for path in (folder / "store").rglob("*") if path.is_file()]
    return "files", {
        "lengths of all files": sum(stat.st_size for stat in found),
        "blocks of all files": sum(stat.st_blocks for stat in found) * 512,
    }


async def _sqlite(folder: Path, fill: Fill) -> tuple[str, Measured]:
    path = folder / "store.db"
    await fill(f"sqlite:///{path}")
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return f"SQLite {sqlite3.sqlite_version}", {"the file after a checkpoint": path.stat().st_size}


async def _postgres(folder: Path, fill: Fill) -> tuple[str, Measured]:
    with PostgresServer(folder) as server:
        connection = await asyncpg.connect(server.url)
        try:
            before = await connection.fetchval("SELECT pg_database_size(current_database())")
            await fill(server.url)
            await connection.execute("VACUUM")
            tables = await connection.fetchval(
                "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' "
                "AND relnamespace = 'public'::regnamespace"
            )
            after = await connection.fetchval("SELECT pg_database_size(current_database())")
            version = str(await connection.fetchval("SHOW server_version")).split()[0]
        finally:
            await connection.close()
    return f"PostgreSQL {version}", {
        "pg_total_relation_size": int(tables),
        "pg_database_size, grown by": after - before,
    }


async def _mongodb(folder: Path, fill: Fill) -> tuple[str, Measured]:
    with MongoServer(folder) as server:
        await fill(f"{server.url}store")

        def ask() -> tuple[str, Measured]:
            with server.client() as client:
                client.admin.command("fsync")
                stats = client["store"].command("dbStats")
                version = client.server_info()["version"]
            names = ("dataSize", "storageSize", "indexSize")
            return f"MongoDB {version}", {f"dbStats {name}": int(stats[name]) for name in names}

        return await asyncio.to_thread(ask)


async def _valkey(folder: Path, fill: Fill) -> tuple[str, Measured]:
    with ValkeyServer(folder) as server:
        before = server.command("INFO", "memory")["used_memory_dataset"]
        await fill(server.url)

        def ask() -> tuple[str, Measured]:
            keys: list[Any] = server.command("KEYS", "*")
            memory = sum(server.command("MEMORY", "USAGE", key, "SAMPLES", "0") for key in keys)
            grown = server.command("INFO", "memory")["used_memory_dataset"] - before
            version = server.command("INFO", "server")["valkey_version"]
            return f"Valkey {version}", {
                "used_memory_dataset, grown by": grown,
                "MEMORY USAGE of all keys": memory,
            }

        return await asyncio.to_thread(ask)
