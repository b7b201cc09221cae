"""How requests reach a server and answers come back: on raw connections of redis-py's pools.

redis-py's own ``execute_command`` does not tell whether a request had been sent when something went wrong,
and repeats requests in places. Here a request is sent once: connecting and talking are two steps with a
time limit each, and what fails in the first one has changed nothing.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import attrs
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import AskError, NoScriptError, RedisError, ResponseError, TryAgainError

from luminoracore_sdk.adapters.storage.redis.errors import connecting, from_reply
from luminoracore_sdk.adapters.storage.redis.lua import Script
from luminoracore_sdk.adapters.storage.redis.records import BACKEND
from luminoracore_sdk.adapters.storage.redis.wire import (
    Reply,
    Request,
    ScriptCall,
    discard,
    drop,
    ready,
    talk,
)
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, StorageBusyError, StorageUnavailableError

__all__ = ["Limits", "Link", "PoolLink", "Request", "ScriptCall", "checked"]


@attrs.frozen(kw_only=True)
class Limits:
    """How much and how long.

    Attributes:
        requests: At most so many at once.
        connect_seconds: For a new connection.
        seconds: For the wait for a free connection, and then for an answer.
    """

    requests: int
    connect_seconds: float
    seconds: float


class Link(ABC):
    """Sends requests, within limits."""

    has_places: ClassVar[bool] = False
    """Whether keys lie on several servers; see ``place``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.requests)
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def read(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests that write nothing; an answer that is an error raises."""
        replies = await self._sent(requests, writes=False)
        return [checked(reply, writes=False) for reply in replies]

    async def run(self, script: Script, calls: Sequence[ScriptCall], *, writes: bool) -> list[Reply]:
        """Call a script, once or more often; an answer that is an error raises."""
        return [checked(reply, writes=writes) for reply in await self._answers(script, calls, writes=writes)]

    async def outcomes(self, script: Script, calls: Sequence[ScriptCall]) -> list[Reply]:
        """Call a script that writes, and return what became of each call: its answer, or its error.

        The calls go together as far as they go to one server; each is atomic, and fails, by itself. None:
        it was not done, for another node has its keys, or will have; that is not waited for here.
        """
        return [_outcome(reply) for reply in await self._answers(script, calls, writes=True, follow=False)]

    async def _answers(
        self, script: Script, calls: Sequence[ScriptCall], *, writes: bool, follow: bool = True
    ) -> list[Reply]:
        """Call a script, once or more often, and return the answers in order; some may be errors.

        A server that does not know the script, for it was started anew, gets the source.

        Args:
            script: Which.
            calls: Its keys and arguments each time.
            writes: Whether it writes, so that a missing answer leaves a call in doubt.
            follow: Whether calls are sent on to where a cluster says; else what it says is the answer.
        """
        requests = [call.request(b"EVALSHA", script.digest) for call in calls]
        replies = await self._sent(requests, writes=writes, follow=follow)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = [calls[place].request(b"EVAL", script.source) for place in unknown]
            for place, reply in zip(unknown, await self._sent(again, writes=writes, follow=follow), strict=True):
                replies[place] = reply
        return replies

    def place(self, key: bytes) -> str:  # noqa: ARG002 - a cluster has several
        """Return a name of the server that has a key, as far as is known; empty: there is one only."""
        return ""

    async def close(self) -> None:
        """Wait for requests under way, then let go of what this link made. Cancelled, it drops all that."""
        try:
            await self._idle.wait()
            with contextlib.suppress(RedisError):  # of a server that is gone; the sockets are closed all the same
                await self._close()
        except asyncio.CancelledError:
            self.drop()
            raise

    def drop(self) -> None:
        """Drop the connections that this link made."""
        for connection in self._connections():
            drop(connection)

    def abandon(self) -> None:
        """Drop the connections; their event loop is closed."""
        for connection in self._connections():
            discard(connection)

    async def _sent(self, requests: Sequence[Request], *, writes: bool, follow: bool = True) -> list[Reply]:
        """Send requests within the limits; what is not answered has the error in the place of its answer."""
        self._active += 1
        self._idle.clear()
        try:
            await self._wait_for_slot()
            try:
                return await self._send(requests, writes=writes, follow=follow)
            finally:
                self._slots.release()
        except StorageUnavailableError as exc:
            return [exc] * len(requests)
        finally:
            self._active -= 1
            if not self._active:
                self._idle.set()

    async def _wait_for_slot(self) -> None:
        if not self._slots.locked():
            await self._slots.acquire()  # does not suspend
            return
        try:
            async with asyncio.timeout(self._limits.seconds):
                await self._slots.acquire()
        except TimeoutError as exc:
            raise StorageBusyError(
                BACKEND,
                f"none of {self._limits.requests} connections was free within {self._limits.seconds:g} s",
            ) from exc

    @abstractmethod
    async def _send(self, requests: Sequence[Request], *, writes: bool, follow: bool = True) -> list[Reply]: ...

    @abstractmethod
    async def _close(self) -> None: ...

    @abstractmethod
    def _connections(self) -> Iterable[AbstractConnection]:
        """Return the connections that this link made."""


class PoolLink(Link):
    """Sends to one server: that of a connection pool.

    Args:
        limits: How much and how long.
        pool: Where connections come from.
        owned: Whether the pool is closed with the link.
        sentinels: Who tell the pool where the master is; closed with the link.
    """

    def __init__(self, limits: Limits, pool: ConnectionPool, *, owned: bool, sentinels: Sentinel | None = None) -> None:
        super().__init__(limits)
        self._pool = pool
        self._owned = owned
        self._sentinels = sentinels.sentinels if sentinels else []

    async def _send(
        self,
        requests: Sequence[Request],
        *,
        writes: bool,
        follow: bool = True,  # noqa: ARG002 - there is one place only
    ) -> list[Reply]:
        if not self._owned:
            return await self._send_as_guest(requests, writes=writes)
        # Nobody else uses this pool: without its lock and its counters, a request takes 25 µs less.
        connection = self._pool.get_available_connection()  # type: ignore[no-untyped-call]
        try:
            await ready(connection, self._limits.connect_seconds)
            return await talk(connection, requests, self._limits.seconds, writes=writes)
        finally:
            self._pool._in_use_connections.remove(connection)  # noqa: SLF001 - as its release does
            self._pool._available_connections.append(connection)  # noqa: SLF001

    async def _send_as_guest(self, requests: Sequence[Request], *, writes: bool) -> list[Reply]:
        with connecting(self._limits.connect_seconds):
            async with asyncio.timeout(self._limits.connect_seconds):
                connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            return await talk(connection, requests, self._limits.seconds, writes=writes)
        finally:
            await self._pool.release(connection)

    async def _close(self) -> None:
        if self._owned:
            for pool in self._pools():
                await pool.aclose()

    def _connections(self) -> Iterable[AbstractConnection]:
        if self._owned:
            for pool in self._pools():
                yield from pool._available_connections  # noqa: SLF001 - redis-py has no other way
                yield from pool._in_use_connections  # noqa: SLF001

    def _pools(self) -> list[ConnectionPool]:
        return [self._pool, *(sentinel.connection_pool for sentinel in self._sentinels)]


def checked(reply: Reply, *, writes: bool) -> Reply:
    """Return an answer, or raise what it means if it is an error."""
    if isinstance(reply, ResponseError):
        raise from_reply(reply, in_doubt=writes) from reply
    if isinstance(reply, LuminoraCoreSDKError):
        raise reply
    return reply


def _outcome(reply: Reply) -> Reply:
    if isinstance(reply, (AskError, TryAgainError)):  # a MovedError is an AskError
        return None
    if isinstance(reply, ResponseError):
        error = from_reply(reply, in_doubt=True)
        error.__cause__ = reply
        return error
    return reply
