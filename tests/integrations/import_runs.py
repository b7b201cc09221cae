"""Imports of a framework's own store: killed at a write, repeated, refused.

As a program: ``import_runs.py FRAMEWORK FILE STORE NUMBER`` imports a file and kills its process before the write of
that number.
"""

import asyncio
import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import create_storage
from luminoracore_sdk.storage import StorageWrapper
from tests.support.command import luminora_over, process_environment

__all__ = ["ImportRuns"]


class ImportRuns(ABC):
    """The cases; a subclass names the framework, writes its file, and reads both stores."""

    framework: str

    @abstractmethod
    async def write(self, file: Path) -> Any:
        """Write a file with the framework's own store; return what it has."""

    @abstractmethod
    async def more(self, file: Path) -> Any:
        """Continue one of its sessions; return what the file has."""

    @abstractmethod
    async def read(self, store: StorageConfig) -> Any:
        """Return what our adapter reads."""

    def _import(self, file: Path, store: StorageConfig, *options: str) -> Any:
        luminora = luminora_over(f"sqlite:///{store.file_path}")
        return luminora("sessions", "import", "--from", self.framework, str(file), *options)

    async def test_the_adapter_reads_what_was_imported(self, tmp_path: Path, sqlite: StorageConfig) -> None:
        file = tmp_path / "own store.db"
        written = await self.write(file)
        before = hashlib.sha256(file.read_bytes()).digest()
        done = await asyncio.to_thread(self._import, file, sqlite)
        assert done.exit_code == 0, done.output
        assert await self.read(sqlite) == written
        assert hashlib.sha256(file.read_bytes()).digest() == before

    async def test_a_repeated_import_adds_what_is_new(self, tmp_path: Path, sqlite: StorageConfig) -> None:
        file = tmp_path / "store.own"
        written = await self.write(file)
        await asyncio.to_thread(self._import, file, sqlite)
        again = await asyncio.to_thread(self._import, file, sqlite)
        assert again.exit_code == 0, again.output
        assert "imported 0 sessions, 0 messages, 0 memories; skipped 2" in again.output
        assert await self.read(sqlite) == written
        longer = await self.more(file)
        assert longer != written
        more = await asyncio.to_thread(self._import, file, sqlite)
        assert "completed 1" in more.output
        assert await self.read(sqlite) == longer

    @pytest.mark.parametrize("number", range(1, 8))
    async def test_an_import_that_is_killed_can_be_repeated(
        self, tmp_path: Path, sqlite: StorageConfig, number: int
    ) -> None:
        file = tmp_path / "store.own"
        written = await self.write(file)
        module = self.framework.replace("-", "_")
        command = [sys.executable, __file__, module, str(file), str(sqlite.file_path), str(number)]
        run = await asyncio.to_thread(subprocess.run, command, env=process_environment(tmp_path), check=False)
        assert run.returncode in ((-signal.SIGKILL,) if number < 4 else (-signal.SIGKILL, 0))
        done = await asyncio.to_thread(self._import, file, sqlite)
        assert done.exit_code == 0, done.output
        assert await self.read(sqlite) == written

    async def test_a_file_of_something_else_is_refused(self, tmp_path: Path, sqlite: StorageConfig) -> None:
        text, other = tmp_path / "text.db", tmp_path / "other.db"
        text.write_text("not SQLite " * 100)
        connection = sqlite3.connect(other)
        connection.execute("CREATE TABLE sessions (id TEXT)")
        connection.close()
        for file in (text, other, tmp_path / "absent.db"):
            refused = await asyncio.to_thread(self._import, file, sqlite)
            assert refused.exit_code == 1
            assert f"{file}: " in refused.output

    async def test_a_session_of_the_same_id_is_not_overwritten(self, tmp_path: Path, sqlite: StorageConfig) -> None:
        first, second = tmp_path / "first.own", tmp_path / "second.own"
        await self.write(first)
        await self.more(first)
        await asyncio.to_thread(self._import, first, sqlite)
        read = await self.read(sqlite)
        written = await self.write(second)
        await self.change(second)
        refused = await asyncio.to_thread(self._import, second, sqlite)
        assert refused.exit_code == 1
        assert "use --replace or --skip-existing" in refused.output
        skipped = await asyncio.to_thread(self._import, second, sqlite, "--skip-existing")
        assert (skipped.exit_code, await self.read(sqlite)) == (0, read), skipped.output
        replaced = await asyncio.to_thread(self._import, second, sqlite, "--replace")
        assert replaced.exit_code == 0, replaced.output
        found = await self.read(sqlite)
        assert found != read
        assert len(found) == len(written)

    @abstractmethod
    async def change(self, file: Path) -> None:
        """Give the stored sessions of a file other ids within."""


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


async def _main(module: str, file: str, store: str, number: str) -> None:
    integration: Any = import_module(f"luminoracore_sdk.integrations.{module}")
    async with create_storage(StorageConfig("sqlite", file_path=store)) as storage:
        killed = _Killed(storage)
        killed.left = int(number)
        async for _ in integration.import_history(Path(file), killed):
            pass


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
