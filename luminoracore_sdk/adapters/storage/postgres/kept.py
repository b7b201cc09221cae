"""Connections that stay checked out of asyncpg's pool from one call to the next."""

import asyncio
from collections.abc import Awaitable, Callable

from luminoracore_sdk.adapters.storage.postgres.driver import Connection, InterfaceError

__all__ = ["KeptConnections"]

_KEPT_SECONDS = 1.0


class KeptConnections:
    """Keeps connections that calls are done with, for the calls that come next.

    To check one out and in again takes asyncpg a task, a proxy and three timers: a quarter of what the
    quickest durable append takes (0.1 ms of 0.4). Each second all go back, so that the pool can close those
    that nobody needs.

    Args:
        give_back: Returns a connection to its pool. None: none is kept, as others use the pool too.
    """

    def __init__(self, give_back: Callable[[Connection], Awaitable[None]] | None) -> None:
        self._give_back = give_back
        self._kept: list[Connection] = []
        self._returns: set[asyncio.Future[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.wanted = 0
        """How many wait for the pool to give them one; while any does, none is kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def take(self) -> Connection | None:
        """Return the one that was used last, if there is one; no longer kept."""
        while self._kept:
            connection = self._kept.pop()
            try:
                if not connection.is_closed():
                    return connection
            except InterfaceError:  # the pool has noticed, and has taken it back
                continue
            self._return(connection)
        return None

    def keep(self, connection: Connection) -> bool:
        """Keep one on which nothing is under way; False: give it back."""
        if self._give_back is None or self.wanted:
            return False
        self._kept.append(connection)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self.clear)
        return True

    def clear(self) -> None:
        """Begin to give all back; closing the pool waits for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._kept:
            self._return(self._kept.pop())

    def _return(self, connection: Connection) -> None:
        if self._give_back is not None:
            task = asyncio.ensure_future(self._give_back(connection))
            self._returns.add(task)
            task.add_done_callback(self._returns.discard)
