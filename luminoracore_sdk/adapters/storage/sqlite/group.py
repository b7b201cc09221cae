"""Group commit: appends that wait for the thread at the same time share one transaction.

The thread is the queue: while it writes, callers join the group that comes next. A lone caller is a group of
one, whose statement commits by itself.
"""

import asyncio
import contextlib
import copy
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from luminoracore_sdk.adapters.storage.sqlite.errors import is_full
from luminoracore_sdk.adapters.storage.sqlite.file import transaction

__all__ = ["Group", "Outcome", "Work", "hand_over", "outcome_of"]

T = TypeVar("T")

Work = Callable[[sqlite3.Connection], T]
Outcome = tuple[Any, BaseException | None]
"""A result and None, or None and an error."""

_MOST_MESSAGES = 1000
_MOST_BYTES = 4 * 1024 * 1024


class Group:
    """Functions that are run in one transaction, in the order in which they came.

    More may join until the thread begins, or until there are 1,000 messages or 4 MB; what is larger by itself
    has a group of its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.Future[Any], Work[Any]]] = []
        self._messages = self._size_bytes = 0
        self._is_open = True

    def join(self, future: asyncio.Future[T], work: Work[T], messages: int, size_bytes: int) -> bool:
        """Add a function that writes with one statement at most; False: too late, or no room."""
        with self._lock:
            self._messages += messages
            self._size_bytes += size_bytes
            if self._waiting and (self._messages > _MOST_MESSAGES or self._size_bytes > _MOST_BYTES):
                self._is_open = False  # or a smaller one could overtake this
            if self._is_open:
                self._waiting.append((future, work))
            return self._is_open

    def run(self, connection: sqlite3.Connection) -> None:
        """Run what somebody still waits for, commit, and then tell the callers; on the thread."""
        with self._lock:
            self._is_open = False
            taken, self._waiting = self._waiting, []
        taken = [(future, work) for future, work in taken if not future.cancelled()]
        futures = [future for future, _ in taken]
        outcomes = _outcomes(connection, [work for _, work in taken])
        del taken  # before a caller goes on, who may drop the storage that his work belongs to
        hand_over(futures, outcomes)


def _outcomes(connection: sqlite3.Connection, group: Sequence[Work[Any]]) -> list[Outcome]:
    """Run functions and commit once.

    An error of one is its own: SQLite undoes its statement alone. If the transaction fails, nothing of the
    group is written and each has that error; only where there was no room or no memory, each is tried alone,
    as there may be enough for some.
    """
    if len(group) < 2:
        return [outcome_of(work, connection) for work in group]
    outcomes = list[Outcome]()
    try:
        with transaction(connection):
            for work in group:
                outcomes.append(outcome := outcome_of(work, connection))
                if outcome[1] is not None and not connection.in_transaction:
                    raise outcome[1]  # noqa: TRY301 - SQLite has undone the others too
    except BaseException as exc:  # noqa: BLE001 - it goes to the callers
        if isinstance(exc, MemoryError) or (isinstance(exc, sqlite3.Error) and is_full(exc)):
            return [outcome_of(work, connection) for work in group]
        return [(None, copy.copy(exc)) for _ in group]
    return outcomes


def outcome_of(work: Callable[..., object], *given: object) -> Outcome:
    """Return a function's result, or its error."""
    try:
        return work(*given), None
    except BaseException as exc:  # noqa: BLE001 - it goes to the caller
        return None, exc


def hand_over(futures: Sequence[asyncio.Future[Any]], outcomes: Sequence[Outcome]) -> None:
    """Tell callers on one event loop, from another thread, with one call for all of them."""

    def settle() -> None:
        for future, (result, error) in zip(futures, outcomes, strict=True):
            if future.done():
                continue
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    if futures:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            futures[0].get_loop().call_soon_threadsafe(settle)
