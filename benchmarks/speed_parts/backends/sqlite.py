"""SQLite, and the standard library's sqlite3 alone, in a thread."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.speed_parts.backends.base import Backend
from benchmarks.speed_parts.contender import Contender
from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage

__all__ = ["SQLite"]

T = TypeVar("T")

_TABLE = """
CREATE TABLE IF NOT EXISTS m (
    session TEXT, position INTEGER, role TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (session, position)
) WITHOUT ROWID
"""
_APPEND = """
INSERT INTO m SELECT ?1, coalesce(max(position), 0) + 1, ?2, ?3 FROM m WHERE session = ?1
"""
_NEWEST = "SELECT text FROM m WHERE session = ? ORDER BY position DESC LIMIT ?"
_PAGE = "SELECT text FROM m WHERE session = ? AND position > ? ORDER BY position LIMIT ?"


class Floor(Contender):
    system = layer = "floor"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1)

    async def open(self) -> None:
        await self._run(self._connect)

    def _connect(self) -> None:
        # no transaction of Python's: each INSERT commits itself
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(_TABLE)

    async def close(self) -> None:
        await self._run(self._connection.close)
        self._thread.shutdown()

    async def begin(self, session: str) -> None:
        """Do nothing: a session exists with its first message."""

    async def append(self, session: str, text: str) -> None:
        await self._run(self._connection.execute, _APPEND, (session, "user", json.dumps(text)))

    async def fill(self, session: str, texts: Sequence[str]) -> None:
        rows = [(session, position, "user", json.dumps(text)) for position, text in enumerate(texts, 1)]
        await self._run(self._fill, rows)

    def _fill(self, rows: Sequence[tuple[str, int, str, str]]) -> None:
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO m VALUES (?, ?, ?, ?)", rows)
        self._connection.execute("COMMIT")

    async def newest(self, session: str, count: int) -> list[Any]:
        return [json.loads(row[0]) for row in await self._run(self._rows, _NEWEST, (session, count))]

    async def page(self, session: str, after: int, count: int) -> list[Any]:
        return [json.loads(row[0]) for row in await self._run(self._rows, _PAGE, (session, after, count))]

    def _rows(self, sql: str, given: tuple[Any, ...]) -> list[tuple[str]]:
        return self._connection.execute(sql, given).fetchall()

    async def _run(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


class Defaults(Floor):
    """With a rollback journal, and a transaction that Python begins and the caller commits."""

    system = layer = "defaults"

    def _connect(self) -> None:
        self._connection = sqlite3.connect(self._path)
        self._connection.execute(_TABLE)
        self._connection.commit()

    async def append(self, session: str, text: str) -> None:
        await self._run(self._append, (session, "user", json.dumps(text)))

    def _append(self, given: tuple[str, str, str]) -> None:
        with self._connection:
            self._connection.execute(_APPEND, given)


class SQLite(Backend):
    name = "sqlite"
    title = "SQLite"
    durability = "write-ahead log, synchronous FULL"
    default_durability = "rollback journal, synchronous FULL"

    @property
    def place(self) -> str:
        return str(self.folder / "ours.db")

    @staticmethod
    def storage_at(place: str) -> SQLiteStorage:
        return SQLiteStorage(place)

    def floor(self) -> Floor:
        return Floor(self.folder / "floor.db")

    def defaults(self) -> Defaults:
        return Defaults(self.folder / "defaults.db")

    def versions(self) -> str:
        return f"SQLite {sqlite3.sqlite_version}"

    def bytes_used(self, of: str) -> int:
        """Return the length of the file after a checkpoint."""
        path = self.folder / f"{of}.db"
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return path.stat().st_size
