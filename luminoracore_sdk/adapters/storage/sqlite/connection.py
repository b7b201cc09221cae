"""One SQLite connection in a thread of its own, and transactions on it.

Calls of sqlite3 block, so they run in a thread. A whole transaction is one function for that thread: no other
function runs between its statements, and once begun it ends, with COMMIT or ROLLBACK, even if the task that
waits for it is cancelled.
"""

import asyncio
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from threading import Event, Lock, Thread, local
from typing import Any, TypeVar
from weakref import WeakSet

from luminoracore_sdk.adapters.inbox import Inbox, loop_inbox
from luminoracore_sdk.adapters.storage.sql import Statement
from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND
from luminoracore_sdk.domain.errors import StorageClosedError, StorageUnavailableError

__all__ = ["Row", "SQLiteConnection", "change", "change_many", "fetch", "fetch_row", "snapshot", "transaction"]

T = TypeVar("T")

Row = Sequence[Any]

Work = Callable[[sqlite3.Connection], T]


class _Worker:
    """A thread that calls functions in order, until ``end``.

    That of an executor ends with the main thread: other threads could write no more, and the exit close nothing.
    """

    def __init__(self) -> None:
        self._functions: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = Lock()
        self._has_ended = False
        Thread(target=_serve, args=(self._functions,), name="luminora-sqlite", daemon=True).start()

    def call(self, function: Callable[[], object]) -> None:
        """Have a function called, which must not raise an exception.

        Raises:
            StorageClosedError: The thread was told to end.
        """
        with self._lock:
            if self._has_ended:
                raise StorageClosedError(BACKEND)
            self._functions.put(function)

    def end(self) -> None:
        """Let the thread end after the functions that it was given."""
        with self._lock:
            self._has_ended = True
            self._functions.put(None)


def _serve(functions: "SimpleQueue[Callable[[], object] | None]") -> None:
    while (function := functions.get()) is not None:
        function()
        del function  # it may refer to a dropped storage


class SQLiteConnection:
    """Run functions on one connection, one after the other, in its thread.

    The thread ends with ``close``, when the object is collected, and at the exit of the interpreter.

    Args:
        connect: Opens the connection; called in the thread.
    """

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None
        self._is_open = False
        self._worker = _Worker()
        self._calls = Inbox(self._worker.call)
        self._process = os.getpid()

    async def open(self) -> None:
        """Open the connection, for the running event loop; leave no thread behind on failure."""
        self._results = loop_inbox(asyncio.get_running_loop())
        try:
            await self._submit(self._open)
        except BaseException:
            self._end()
            raise

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        """Return the result of a function that is called with the connection, in the thread.

        When the task is cancelled before the function has begun, it is not called; when it has begun, it ends.

        Raises:
            StorageUnavailableError: This process is a fork of the one that opened the connection.
        """
        return self._submit(partial(self._call, work))

    async def close(self) -> None:
        """Close the connection and end the thread after the functions that were submitted before."""
        await asyncio.shield(self._end())

    def _submit(self, function: Callable[[], T]) -> asyncio.Future[T]:
        if self._process != os.getpid():  # SQLite's locks and the thread stayed in the parent
            reason = "opened before a fork; create a new SQLiteStorage in the child process"
            raise StorageUnavailableError(BACKEND, reason)
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.post(partial(_call_once, [function], result, self._results))
        return result

    def _end(self) -> asyncio.Future[None]:
        closed = self._submit(self._close)
        self._worker.end()
        return closed

    def hold(self, resume: Event) -> None:
        """Close the connection until the event is set; the next call opens it again.

        A process that forks does so. SQLite keeps the locks of open files in memory, and a child would take the
        parent's for its own: what it commits once the parent has closed the file would be lost.
        """
        held = Event()

        def wait_for_the_fork() -> None:
            self._disconnect()
            held.set()
            resume.wait()

        with suppress(StorageClosedError):
            self._worker.call(wait_for_the_fork)
            held.wait()

    def _open(self) -> None:
        self._connection = self._connect()
        self._is_open = True
        _connections.add(self)

    def _call(self, work: Work[T]) -> T:
        if not self._is_open:
            raise StorageClosedError(BACKEND)
        if self._connection is None:  # since a fork
            self._connection = self._connect()
        return work(self._connection)

    def _close(self) -> None:
        self._is_open = False
        _connections.discard(self)
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __del__(self) -> None:
        self._worker.end()
        if self._connection is not None:
            warnings.warn("a SQLiteStorage was dropped without close()", ResourceWarning, stacklevel=2, source=self)


_connections: "WeakSet[SQLiteConnection]" = WeakSet()
_fork = local()


def _before_fork() -> None:
    _fork.resume = Event()
    for connection in list(_connections):
        connection.hold(_fork.resume)


def _after_fork() -> None:
    _fork.resume.set()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_connections.clear)


def _call_once(functions: list[Callable[[], T]], result: asyncio.Future[T], results: Inbox) -> None:
    """Call a function, unless its result is no longer wanted.

    It is taken from a list, because an argument would keep a dropped storage alive until the caller has resumed.
    """
    if not result.cancelled():
        results.post(partial(_settle, result, *_outcome(functions)))


def _outcome(functions: list[Callable[[], T]]) -> tuple[T, None] | tuple[None, BaseException]:
    try:
        return functions.pop()(), None
    except BaseException as exc:  # noqa: BLE001  # it is raised to the caller
        return None, exc


def _settle(result: asyncio.Future[T], value: T, error: BaseException | None) -> None:
    if error is not None and not result.done():
        result.set_exception(error)
    elif not result.done():
        result.set_result(value)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run a block under the write lock: all of its statements or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # not on a full disk, where SQLite has rolled back already
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let all statements of a block read the database as of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:  # not after an I/O error
            connection.execute("ROLLBACK")


def fetch(connection: sqlite3.Connection, statement: Statement, **given: object) -> list[Row]:
    """Run a statement to its end and return all rows."""
    return connection.execute(statement.sql, given).fetchall()


def fetch_row(connection: sqlite3.Connection, statement: Statement, **given: object) -> Row | None:
    """Run a statement to its end and return the first row, or None."""
    return next(iter(fetch(connection, statement, **given)), None)


def change(connection: sqlite3.Connection, statement: Statement, **given: object) -> int:
    """Run a statement that returns no rows; return the number of rows that it changed."""
    return connection.execute(statement.sql, given).rowcount


def change_many(connection: sqlite3.Connection, statement: Statement, given: Sequence[Mapping[str, object]]) -> int:
    """Run a statement once for each mapping; return the number of rows that were changed in all."""
    return connection.executemany(statement.sql, given).rowcount if given else 0
