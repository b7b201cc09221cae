"""One SQLite connection on a thread of its own.

aiosqlite owns the thread, its queue and the connection. Work goes into that queue as whole functions
instead of through aiosqlite's calls, which gives three things. A transaction of many statements is one trip
to the thread. Nothing can come between its statements, not even a cancelled caller. And a result that nobody
waits for any more, because the event loop is closed, is dropped, where aiosqlite 0.22.1 lets the thread die
with a traceback. SQLAlchemy's dialect reaches for the same attributes, ``_tx`` and ``_thread``.
"""
# ruff: noqa: SLF001 - as said above

import asyncio
import sqlite3
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, Self, TypeVar

import aiosqlite

from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND
from luminoracore_sdk.adapters.storage.sqlite.group import Group, Work, hand_over, outcome_of
from luminoracore_sdk.domain.errors import StorageClosedError

__all__ = ["SQLiteConnection"]

T = TypeVar("T")

_ROWS_AT_A_TIME = 64  # of aiosqlite's cursors, which are not used here


class SQLiteConnection:
    """Runs functions on one connection, one after the other, on its thread."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._owner = aiosqlite.Connection(connect, _ROWS_AT_A_TIME)
        self._owner._thread.daemon = True  # an unclosed storage must not keep the interpreter from ending
        self._stopped = False
        self._group: Group | None = None  # the last in the queue, if it is one

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection]) -> Self:
        """Start the thread and connect there; leaves nothing behind when that fails."""
        made = cls(connect)
        owner = made._owner

        def connected() -> None:
            owner._connection = connect()

        owner._thread.start()
        try:
            await made._queue(connected)
        except BaseException:
            made.abandon()
            raise
        return made

    def run(self, work: Work[T]) -> asyncio.Future[T]:
        """Queue a function for the thread.

        It runs even if the future is cancelled meanwhile, unless its turn has not come yet by then.

        Returns:
            A future of its result.

        Raises:
            StorageClosedError: ``close`` or ``abandon`` was called.
        """
        owner = self._owner
        return self._queue(lambda: work(owner._conn))

    def run_with_others(self, work: Work[T], *, messages: int, size_bytes: int) -> asyncio.Future[T]:
        """Queue a function that writes with one statement at most: it may share its transaction.

        As ``run``; those that are queued one behind the other are committed together.

        Args:
            work: May be run again, after its transaction was undone.
            messages: How many it writes.
            size_bytes: What they take.
        """
        future: asyncio.Future[T] = self._running_loop().create_future()
        if self._group is None or not self._group.join(future, work, messages, size_bytes):
            self._group = Group()
            self._group.join(future, work, messages, size_bytes)
            self._owner._tx.put_nowait((None, partial(_run_group, [(self._group, self._owner)])))
        return future

    def close(self) -> asyncio.Future[None]:
        """Queue the end of the connection and its thread behind the work that is queued already."""
        closed = self.run(sqlite3.Connection.close)
        self.abandon()
        return closed

    def abandon(self) -> None:
        """End connection and thread behind the queued work, without a word to any event loop."""
        if not self._stopped:
            self._stopped = True
            # called on the thread, where there is no loop whose future it could make
            self._owner._tx.put_nowait((None, self._owner.stop))

    def __del__(self) -> None:
        # aiosqlite warns too, but through the event loop, which may be closed before the thread ends
        if not self._stopped:
            self.abandon()
            warnings.warn("a SQLiteStorage was dropped without close()", ResourceWarning, stacklevel=2)

    def _queue(self, work: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._running_loop().create_future()
        self._group = None  # what comes later does not overtake this
        self._owner._tx.put_nowait((None, partial(_run_alone, [(work, future)])))
        return future

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._stopped:
            raise StorageClosedError(BACKEND)
        return asyncio.get_running_loop()


# The thread keeps its last job, which must not keep what it did: it may be all that keeps the storage.


def _run_alone(pending: list[tuple[Callable[[], Any], asyncio.Future[Any]]]) -> None:
    work, future = pending.pop()
    if future.cancelled():
        return
    outcome = outcome_of(work)
    del work  # before the caller goes on, who may drop the storage that it belongs to
    hand_over([future], [outcome])


def _run_group(pending: list[tuple[Group, aiosqlite.Connection]]) -> None:
    group, owner = pending.pop()
    group.run(owner._conn)
