"""Imports of a framework's own store: killed at a write, repeated, refused.

As a program: ``import_runs.py FRAMEWORK SOURCE STORE NUMBER`` imports, and kills its process before the write of that
number.
"""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import asyncpg
import attrs
import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import create_storage
from luminoracore_sdk.storage import StorageWrapper
from tests.support.command import luminora_over, process_environment
from tests.support.servers import postgres_url
from tests.support.servers.places import clear_postgres, execute_postgres, place_name

__all__ = ["ImportRuns", "ServerImportRuns"]


class ImportRuns(ABC):
    """The cases; a subclass names the framework, writes its file, and reads both stores."""

    framework: str
    repeated = "; skipped 2"
    """What the command says after the counts when all is there."""
    continued = "completed 1"

    @abstractmethod
    async def write(self, file: Path) -> Any:
        """Write a file with the framework's own store; return what it has."""

    @abstractmethod
    async def more(self, file: Path) -> Any:
        """Continue one of its sessions; return what the file has."""

    @abstractmethod
    async def read(self, store: StorageConfig) -> Any:
        """Return what our adapter reads."""

    @pytest.fixture
    def target(self, sqlite: StorageConfig) -> StorageConfig:
        """Return the configuration of the store that is imported into."""
        return sqlite

    def source(self, file: Path) -> str:
        """Return what is imported."""
        return str(file)

    async def content(self, file: Path) -> Any:
        """Return what an import must not change."""
        return await asyncio.to_thread(file.read_bytes)

    def _import(self, file: Path, store: StorageConfig, *options: str) -> Any:
        luminora = luminora_over(store.connection_string or f"sqlite:///{store.file_path}")
        return luminora("sessions", "import", "--from", self.framework, self.source(file), *options)

    async def test_the_adapter_reads_what_was_imported(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "own store.db"
        written = await self.write(file)
        before = await self.content(file)
        done = await asyncio.to_thread(self._import, file, target)
        assert done.exit_code == 0, done.output
        assert await self.read(target) == written
        assert await self.content(file) == before

    async def test_a_repeated_import_adds_what_is_new(self, tmp_path: Path, target: StorageConfig) -> None:
        file = tmp_path / "store.own"
        written = await self.write(file)
        await asyncio.to_thread(self._import, file, target)
        again = await asyncio.to_thread(self._import, file, target)
        assert again.exit_code == 0, again.output
        assert f"imported 0 sessions, 0 messages, 0 memories{self.repeated}" in again.output
        assert await self.read(target) == written
        longer = await self.more(file)
        assert longer != written
        more = await asyncio.to_thread(self._import, file, target)
        assert self.continued in more.output
        assert await self.read(target) == longer

    @pytest.mark.parametrize("number", range(1, 8))
    async def test_an_import_that_is_killed_can_be_repeated(
        self, tmp_path: Path, target: StorageConfig, number: int
    ) -> None:
        file = tmp_path / "store.own"
        written = await self.write(file)
        module = self.framework.replace("-", "_")
        given = json.dumps({name: value for name, value in attrs.asdict(target).items() if value is not None})
        command = [sys.executable, __file__, module, self.source(file), given, str(number)]
        run = await asyncio.to_thread(subprocess.run, command, env=process_environment(tmp_path), check=False)
        assert run.returncode in ((-signal.SIGKILL,) if number < 4 else (-signal.SIGKILL, 0))
        done = await asyncio.to_thread(self._import, file, target)
        assert done.exit_code == 0, done.output
        assert await self.read(target) == written

    async def test_a_file_of_something_else_is_refused(self, tmp_path: Path, target: StorageConfig) -> None:
        text, other = tmp_path / "text.db", tmp_path / "other.db"
        text.write_text("not SQLite " * 100)
        connection = sqlite3.connect(other)
        connection.execute("CREATE TABLE sessions (id TEXT)")
        connection.close()
        for file in (text, other, tmp_path / "absent.db"):
            refused = await asyncio.to_thread(self._import, file, target)
            assert refused.exit_code == 1
            assert f"{file}: " in refused.output

    async def test_a_session_of_the_same_id_is_not_overwritten(self, tmp_path: Path, target: StorageConfig) -> None:
        first, second = tmp_path / "first.own", tmp_path / "second.own"
        await self.write(first)
        await self.more(first)
        await asyncio.to_thread(self._import, first, target)
        read = await self.read(target)
        written = await self.write(second)
        await self.change(second)
        refused = await asyncio.to_thread(self._import, second, target)
        assert refused.exit_code == 1
        assert "use --replace or --skip-existing" in refused.output
        skipped = await asyncio.to_thread(self._import, second, target, "--skip-existing")
        assert (skipped.exit_code, await self.read(target)) == (0, read), skipped.output
        replaced = await asyncio.to_thread(self._import, second, target, "--replace")
        assert replaced.exit_code == 0, replaced.output
        found = await self.read(target)
        assert found != read
        assert len(found) == len(written)

    @abstractmethod
    async def change(self, file: Path) -> None:
        """Give the stored sessions of a file other ids within."""


class ServerImportRuns(ImportRuns):
    """The cases of a store in PostgreSQL: what a file is elsewhere is a schema here, named by its path."""

    @pytest.fixture(autouse=True)
    def _schemas(self) -> Iterator[None]:
        self._made: set[str] = set()
        yield
        for name in self._made:
            clear_postgres(postgres_url(), name)

    @pytest.fixture
    def target(self, tmp_path: Path) -> StorageConfig:
        return StorageConfig("postgres", _with(postgres_url(), f"schema={self.schema(tmp_path)}"))

    def schema(self, file: Path) -> str:
        """Return the name of a schema, which is there."""
        name = place_name(file)
        if name not in self._made:
            execute_postgres(postgres_url(), f"CREATE SCHEMA {name}")
            self._made.add(name)
        return name

    def source(self, file: Path) -> str:
        return _with(postgres_url(), f"schema={self.schema(file)}")

    def libpq(self, file: Path) -> str:
        """Return the URL of a schema as psycopg takes it."""
        return _with(postgres_url(), f"options=-csearch_path%3D{self.schema(file)}")

    def sqlalchemy(self, file: Path) -> Any:
        """Return the URL of the database, and what SQLAlchemy's engine of a schema is made with besides."""
        settings = {"search_path": self.schema(file)}
        return postgres_url().replace("://", "+asyncpg://", 1), {"connect_args": {"server_settings": settings}}

    async def content(self, file: Path) -> Any:
        """Return the rows with the places and transactions that they have, and the names of tables and indexes."""
        name = self.schema(file)
        listed = "SELECT relname, relkind FROM pg_class WHERE relnamespace = $1::text::regnamespace ORDER BY 1"
        connection = await asyncpg.connect(postgres_url(), server_settings={"search_path": name})
        try:
            found = await connection.fetch(listed, name)
            tables = [table for table, kind in found if kind == b"r"]
            rows = [await connection.fetch(f"SELECT ctid, xmin::text, * FROM {table}") for table in tables]  # noqa: S608
        finally:
            await connection.close()
        assert all(rows)
        return found, rows

    async def test_it_is_imported_into_a_file(self, tmp_path: Path, sqlite: StorageConfig) -> None:
        file = tmp_path / "store.own"
        written = await self.write(file)
        done = await asyncio.to_thread(self._import, file, sqlite)
        assert done.exit_code == 0, done.output
        assert await self.read(sqlite) == written

    async def test_a_file_of_something_else_is_refused(self, tmp_path: Path, target: StorageConfig) -> None:
        """It has no such tables, or tables with these names that are others."""
        other = tmp_path / "other.own"
        execute_postgres(postgres_url(), f"CREATE TABLE {self.schema(other)}.sessions (id TEXT)")
        for file in (other, tmp_path / "absent.own"):
            refused = await asyncio.to_thread(self._import, file, target)
            assert refused.exit_code == 1
            assert ": is not a store of " in refused.output


def _with(url: str, parameter: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameter}"


class _Killed(StorageWrapper):
    """Kills the process before a write."""

    left = 0

    def _count(self) -> None:
        self.left -= 1
        if not self.left:
            os.kill(os.getpid(), signal.SIGKILL)

    async def put_session(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return await super().put_session(*args, **kwargs)

    async def append_messages(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return await super().append_messages(*args, **kwargs)

    async def change_memories(self, *args: Any, **kwargs: Any) -> Any:
        self._count()
        return await super().change_memories(*args, **kwargs)


async def _main(module: str, source: str, store: str, number: str) -> None:
    integration: Any = import_module(f"luminoracore_sdk.integrations.{module}")
    async with create_storage(StorageConfig(**json.loads(store))) as storage:
        killed = _Killed(storage)
        killed.left = int(number)
        async for _ in integration.import_history(source if "://" in source else Path(source), killed):
            pass


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
