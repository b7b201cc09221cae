"""The life of the SQLite backend: options, two connections, the way to their threads."""

import math
import os
import re
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.storage.base import BaseStorage
from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND, translated
from luminoracore_sdk.adapters.storage.sqlite.file import SQLiteFile
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.domain.errors import ConfigurationError, StorageClosedError

if TYPE_CHECKING:
    from luminoracore_sdk.adapters.storage.sqlite.connection import SQLiteConnection

__all__ = ["SQLiteBase", "Synchronous"]

T = TypeVar("T")

Synchronous = Literal["OFF", "NORMAL", "FULL", "EXTRA"]

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_OLDEST_SQLITE = (3, 35, 0)  # RETURNING


class SQLiteBase(BaseStorage):
    """Opens and closes; hands functions to the writing and the reading connection."""

    backend_name = BACKEND
    loop_bound = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        clock: Clock | None = None,
        busy_timeout: float = 30.0,
        synchronous: Synchronous = "FULL",
        table_prefix: str = "",
        auto_create: bool = True,
    ) -> None:
        super().__init__(clock=clock)
        if not (math.isfinite(busy_timeout) and busy_timeout >= 0):
            raise ConfigurationError(f"busy_timeout is a number of seconds from 0, not {busy_timeout!r}")
        if synchronous not in _SYNCHRONOUS:
            raise ConfigurationError(f"synchronous is one of {', '.join(_SYNCHRONOUS)}, not {synchronous!r}")
        if not re.fullmatch(r"[A-Za-z0-9_]{0,64}", table_prefix) or table_prefix.startswith("sqlite_"):
            raise ConfigurationError(
                f"table_prefix {table_prefix!a} is refused: up to 64 letters, digits and _; not sqlite_…"
            )
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise ConfigurationError(
                f"SQLiteStorage needs SQLite 3.35 or newer; this Python has {sqlite3.sqlite_version}"
            )
        self._file = SQLiteFile(path=_absolute(path), busy_timeout=busy_timeout, synchronous=synchronous)
        self._auto_create = auto_create
        self._load(table_prefix)
        self._writer: SQLiteConnection | None = None
        self._reader: SQLiteConnection | None = None

    def _load(self, table_prefix: str) -> None:
        for module in ("aiosqlite", "sqlalchemy"):
            import_extra(module, needed_by="SQLiteStorage", extra="sqlite")
        from luminoracore_sdk.adapters.storage.sqlite import connection as sqlite_connection  # noqa: PLC0415 - imports the driver
        from luminoracore_sdk.adapters.storage.sqlite import layout as sqlite_layout  # noqa: PLC0415 - imports the driver
        from luminoracore_sdk.adapters.storage.sqlite import rewriting_statements as sqlite_rewriting_statements  # noqa: PLC0415 - imports the driver
        from luminoracore_sdk.adapters.storage.sqlite import statements as sqlite_statements  # noqa: PLC0415 - imports the driver

        self._sql = sqlite_statements.statements(table_prefix)
        self._rewriting = sqlite_rewriting_statements.rewriting_statements(table_prefix)
        self._connection = sqlite_connection.SQLiteConnection
        self._layout = sqlite_layout

    async def _open(self) -> None:
        opened = partial(self._layout.open_file, self._file, self._sql, auto_create=self._auto_create)
        with translated(self._file.path):
            writer = await self._connection.open(opened)
            try:
                self._reader = await self._connection.open(self._file.connect_for_reading)
            except BaseException:
                writer.abandon()
                raise
            self._writer = writer

    async def _close(self) -> None:
        reader, writer = self._reader, self._writer
        self._reader = self._writer = None
        if reader is None or writer is None:
            return
        with translated(self._file.path):
            try:
                await reader.close()
            finally:  # last, so that it tidies up the write-ahead log
                await writer.close()

    def _abandon(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.abandon()
        self._reader = self._writer = None

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function that writes; the functions of all callers run one after the other."""
        return await self._run(self._writer, work)

    async def _write_with_others(self, work: Callable[[sqlite3.Connection], T], *, messages: int, size_bytes: int) -> T:
        """Run a function that writes with one statement; see ``SQLiteConnection.run_with_others``."""
        if self._writer is None:
            raise StorageClosedError(self.backend_name)
        with translated(self._file.path):
            return await self._writer.run_with_others(work, messages=messages, size_bytes=size_bytes)

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a function that reads, beside the one that writes."""
        return await self._run(self._reader, work)

    async def _run(self, connection: "SQLiteConnection | None", work: Callable[[sqlite3.Connection], T]) -> T:
        if connection is None:
            raise StorageClosedError(self.backend_name)
        with translated(self._file.path):
            return await connection.run(work)


def _absolute(path: str | os.PathLike[str]) -> Path:
    name = os.fspath(path)
    if name in ("", ":memory:"):
        raise ConfigurationError("SQLiteStorage keeps a file; to keep nothing, use InMemoryStorage")
    if "\0" in name:
        raise ConfigurationError(f"the path {name!a} holds a NUL character")
    return Path(name).absolute()
