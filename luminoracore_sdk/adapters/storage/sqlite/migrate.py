"""Opening of a database file: its creation, its tables, the check of its version.

Only the creation of tables needs SQLAlchemy, which defines them.
"""

import contextlib
import os
import sqlite3
import threading
import time
from functools import lru_cache
from pathlib import Path

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.storage.sql import Statements, load_statements
from luminoracore_sdk.adapters.storage.sqlite.connection import Row, change, fetch, transaction
from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND, is_busy
from luminoracore_sdk.adapters.storage.sqlite.rows import moved_checksum
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    SchemaVersionError,
    StorageUnavailableError,
)

__all__ = ["SCHEMA_VERSION", "Database", "load", "stored_version"]

SCHEMA_VERSION = 1

_PACKAGE = "luminoracore_sdk.adapters.storage.sqlite"
_TABLES = ("version", "sessions", "documents", "messages", "session_memories", "user_memories")
_WAL_RETRY_SECONDS = 0.01

_creating = threading.Lock()


@lru_cache(maxsize=8)
def load(prefix: str) -> Statements:
    """Return the statements on the tables whose names begin with a prefix."""
    return load_statements(_PACKAGE, tables={name: f'"{prefix}{name}"' for name in _TABLES}, numbered=False)


def stored_version(connection: sqlite3.Connection, sql: Statements) -> int:
    """Return the schema version that the database states.

    Raises:
        CorruptRecordError: It states none.
    """
    rows = fetch(connection, sql.find_version)
    try:
        ((version,),) = rows
        return int(version)
    except (TypeError, ValueError) as exc:
        raise CorruptRecordError(backend=BACKEND, key="the version table", reason="it has no version") from exc


@attrs.frozen(kw_only=True)
class Database:
    """A database file and how to open it.

    Attributes:
        path: Absolute.
        prefix: Beginning of the names of the tables.
        busy_timeout: Seconds to wait, while opening, for a lock of another connection.
        synchronous: The pragma of that name.
        auto_create: Whether to create a missing file and missing tables.
    """

    path: Path
    prefix: str
    busy_timeout: float
    synchronous: str
    auto_create: bool

    def open(self) -> sqlite3.Connection:
        """Connect to a database that has the tables; from then on a lock is not waited for.

        Any number of processes may do this to a new file at once: one of them creates the tables.

        Raises:
            SchemaVersionError: The tables have another version, are those of another program, or are missing
                and not to be created; nothing was changed.
            ConfigurationError: The path is a folder.
            MissingDependencyError: Tables are to be created, and SQLAlchemy is not installed.
            sqlite3.Error: As SQLite raises it.
        """
        if self.path.is_dir():
            raise ConfigurationError(f"{str(self.path)!a} is a folder; SQLiteStorage needs the path of a file")
        if not self.path.exists():
            if not self.auto_create:
                raise _refused("no database file", _HINT_CREATE)
            self._ddl()  # fails before the file is created if SQLAlchemy is missing
            self._create_file()
        connection = self._connect()
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create_file(self) -> None:
        """Create the file (mode 0600) and missing folders above it (0700)."""
        folders = [folder for folder in self.path.parents if not folder.exists()]
        for folder in reversed(folders):
            folder.mkdir(mode=0o700, exist_ok=True)
        # Closing a file drops every POSIX lock that this process has on it
        # (https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_),
        # so a file that exists is not opened here, and no other thread connects to a new one too early.
        with _creating, contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))

    def _connect(self) -> sqlite3.Connection:
        """Connect in autocommit mode; TEXT is returned as UTF-8 bytes."""
        connection = sqlite3.connect(self.path, timeout=self.busy_timeout, isolation_level=None)
        connection.text_factory = bytes
        connection.create_function("moved_checksum", 8, moved_checksum, deterministic=True)
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA secure_delete = ON")  # overwrite what is deleted
        connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        has_tables = self._has_tables(connection)
        if not has_tables and not self.auto_create:
            raise _refused("no tables", _HINT_CREATE)
        if has_tables:
            self._check_version(connection)
        self._switch_to_wal(connection)  # kept in the file, so not before the checks
        if not has_tables:
            self._create_tables(connection)
            self._check_version(connection)
        connection.execute("PRAGMA busy_timeout = 0")

    def _has_tables(self, connection: sqlite3.Connection) -> bool:
        """Return whether the tables exist.

        Raises:
            SchemaVersionError: Some of the names belong to something else.
        """
        names = [f"{self.prefix}{table}" for table in _TABLES]
        marks = ", ".join("?" * len(names))
        query = f"SELECT name FROM sqlite_master WHERE name COLLATE NOCASE IN ({marks})"  # noqa: S608 - marks only
        found = connection.execute(query, names).fetchall()
        if not found:
            return False
        columns = connection.execute("SELECT name FROM pragma_table_info(?)", (names[0],)).fetchall()
        if len(found) < len(names) or columns != [(b"version_num",)]:
            raise _refused(f"tables of another program ({_listed(found)})", "use another file, or another table_name")
        return True

    def _check_version(self, connection: sqlite3.Connection) -> None:
        found = stored_version(connection, load(self.prefix))
        if found != SCHEMA_VERSION:
            raise _refused(found, "use the package version that created it, or export and import the sessions")

    def _switch_to_wal(self, connection: sqlite3.Connection) -> None:
        # Where another connection is about to write, SQLite 3.40 refuses at once instead of waiting for
        # busy_timeout, so the switch is tried again.
        deadline = time.monotonic() + self.busy_timeout
        while True:
            try:
                mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as exc:
                if not is_busy(exc) or time.monotonic() >= deadline:
                    raise
                time.sleep(_WAL_RETRY_SECONDS)
            else:
                break
        if mode != b"wal":
            raise StorageUnavailableError(BACKEND, f"{str(self.path)!a}: no write-ahead log on this file system")

    def _create_tables(self, connection: sqlite3.Connection) -> None:
        with transaction(connection):
            if self._has_tables(connection):  # another process created them while this one waited for the lock
                return
            for statement in self._ddl():
                connection.execute(statement)
            change(connection, load(self.prefix).insert_version, version=str(SCHEMA_VERSION))

    def _ddl(self) -> list[str]:
        import_extra("sqlalchemy", needed_by="SQLiteStorage", extra="sqlite")
        from sqlalchemy.dialects import sqlite  # noqa: PLC0415 - only needed for a new database

        from luminoracore_sdk.adapters.storage.tables import define_tables  # noqa: PLC0415 - imports sqlalchemy

        return list(define_tables(sqlite.dialect(), prefix=self.prefix).ddl())


_HINT_CREATE = "create it by opening the storage once with auto_create=True"


def _listed(rows: list[Row]) -> str:
    return ", ".join(sorted(row[0].decode() for row in rows))


def _refused(found: object, hint: str) -> SchemaVersionError:
    return SchemaVersionError(backend=BACKEND, found=found, supported=SCHEMA_VERSION, hint=hint)
