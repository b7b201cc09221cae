"""The database file: how it is made, opened and written in transactions. Blocking calls, for a thread."""

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND, is_busy
from luminoracore_sdk.domain.errors import ConfigurationError, StorageUnavailableError

__all__ = ["SQLiteFile", "transaction", "under_lock"]

_WAL_RETRY_SECONDS = 0.01

_creating = threading.Lock()


@attrs.frozen(kw_only=True)
class SQLiteFile:
    """A database file and how to open it.

    Attributes:
        path: Absolute.
        busy_timeout: Seconds to wait for another connection's lock.
        synchronous: The pragma of that name.
    """

    path: Path
    busy_timeout: float
    synchronous: str

    def create(self) -> None:
        """Make the file (mode 0600) and missing folders above it (0700), if there is none."""
        folders = [folder for folder in self.path.parents if not folder.exists()]
        for folder in reversed(folders):
            folder.mkdir(mode=0o700, exist_ok=True)
        # Closing a file drops every POSIX lock that this process has on it
        # (https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_),
        # so a file that exists is not opened here, and no other thread connects to a new one too early.
        with _creating, contextlib.suppress(FileExistsError):
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))

    def connect(self) -> sqlite3.Connection:
        """Open the file in autocommit mode; text comes back as UTF-8 bytes. Changes nothing in the file.

        Raises:
            ConfigurationError: There is a folder at the path.
            sqlite3.Error: As SQLite gives it.
        """
        if self.path.is_dir():
            raise ConfigurationError(f"{str(self.path)!a} is a folder; SQLiteStorage needs the path of a file")
        connection = sqlite3.connect(self.path, timeout=self.busy_timeout, isolation_level=None)
        try:
            connection.text_factory = bytes
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA synchronous = {self.synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_for_reading(self) -> sqlite3.Connection:
        """Open the file as ``connect`` does, and refuse every write."""
        connection = self.connect()
        connection.execute("PRAGMA query_only = ON")
        return connection

    def switch_to_wal(self, connection: sqlite3.Connection) -> None:
        """Set the database to write-ahead mode, which it keeps.

        Raises:
            StorageUnavailableError: The file system cannot do that.
            sqlite3.Error: As SQLite gives it.
        """
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


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a block under the write lock: all of its statements or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite has rolled back already on a full disk
            connection.execute("ROLLBACK")
        raise


@contextmanager
def under_lock(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a block under the write lock; with what was done before, if a transaction is under way."""
    if connection.in_transaction:
        yield
    else:
        with transaction(connection):
            yield
