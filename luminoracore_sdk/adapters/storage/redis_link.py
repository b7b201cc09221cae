"""How requests reach a server and answers come back: on raw connections of redis-py's pools.

redis-py's own ``execute_command`` does not tell whether a request had been sent when something went wrong,
and repeats requests in places. Here a request is sent once: connecting and talking are two steps with a
time limit each, and what fails in the first one has changed nothing.
"""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import attrs
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import NoScriptError, RedisError, ResponseError

from luminoracore_sdk.adapters.storage.redis_errors import connecting, from_reply, talking
from luminoracore_sdk.adapters.storage.redis_lua import Script
from luminoracore_sdk.adapters.storage.redis_records import BACKEND
from luminoracore_sdk.domain.errors import StorageBusyError

__all__ = ["Limits", "Link", "PoolLink", "Request", "ScriptCall", "talk"]

Reply = Any
"""What a server answers: bytes, int, None, a list of such; or a ``ResponseError``."""


@attrs.frozen
class Request:
    """One command.

    Attributes:
        key: Which decides where it goes on a cluster.
        words: As they are sent.
    """

    key: bytes
    words: tuple[bytes, ...]


@attrs.frozen
class ScriptCall:
    """One call of a script: its keys, of one hash tag, and its arguments."""

    keys: Sequence[bytes]
    arguments: Sequence[bytes]

    def request(self, verb: bytes, body: bytes) -> Request:
        """Return the command that makes it."""
        count = b"%d" % len(self.keys)
        return Request(self.keys[0], (verb, body, count, *self.keys, *self.arguments))


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

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.requests)
        self._active = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def send(self, requests: Sequence[Request], *, writes: bool) -> list[Reply]:
        """Send requests, together as far as they go to one server, and return their answers in order.

        Args:
            requests: Not atomic together.
            writes: Whether one of them writes, so that a missing answer leaves it in doubt.
        Raises:
            StorageUnavailableError: Or a finer one. An answer that is an error does not raise.
        """
        async with self._slot():
            return await self._send(requests, writes=writes)

    async def read(self, requests: Sequence[Request]) -> list[Reply]:
        """Send requests that write nothing; an answer that is an error raises."""
        replies = await self.send(requests, writes=False)
        return [checked(reply, writes=False) for reply in replies]

    async def run(self, script: Script, calls: Sequence[ScriptCall], *, writes: bool) -> list[Reply]:
        """Call a script, once or more often; an answer that is an error raises.

        A server that does not know the script, for it was started anew, gets the source.
        """
        replies = await self.send([call.request(b"EVALSHA", script.digest) for call in calls], writes=writes)
        unknown = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if unknown:
            again = [calls[place].request(b"EVAL", script.source) for place in unknown]
            for place, reply in zip(unknown, await self.send(again, writes=writes), strict=True):
                replies[place] = reply
        return [checked(reply, writes=writes) for reply in replies]

    async def close(self) -> None:
        """Wait for requests under way, then let go of what this link made. Cancelled, it drops all that."""
        try:
            await self._idle.wait()
            with contextlib.suppress(
                RedisError
            ):  # of a server that is gone; the sockets are closed all the same
                await self._close()
        except asyncio.CancelledError:
            for connection in self._connections():
                _drop(connection)
            raise

    def abandon(self) -> None:
        """Drop the connections; their event loop is closed."""
        for connection in self._connections():
            _discard(connection)

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        self._active += 1
        self._idle.clear()
        try:
            await self._wait_for_slot()
            try:
                yield
            finally:
                self._slots.release()
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
    async def _send(self, requests: Sequence[Request], *, writes: bool) -> list[Reply]: ...

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

    def __init__(
        self, limits: Limits, pool: ConnectionPool, *, owned: bool, sentinels: Sentinel | None = None
    ) -> None:
        super().__init__(limits)
        self._pool = pool
        self._owned = owned
        self._sentinels = sentinels.sentinels if sentinels else []

    async def _send(self, requests: Sequence[Request], *, writes: bool) -> list[Reply]:
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


async def talk(
    connection: AbstractConnection, requests: Sequence[Request], seconds: float, *, writes: bool
) -> list[Reply]:
    """Send requests over a connection and return the answers, as bytes whatever the client decodes.

    A connection on which this fails, or is cancelled, is closed by redis-py: no late answer can be taken
    for that of the next request.
    """
    with talking(seconds, in_doubt=writes):
        async with asyncio.timeout(seconds):
            packed = connection.pack_commands([request.words for request in requests])
            await connection.send_packed_command(packed, check_health=False)
            return [await _reply(connection) for _ in requests]


async def _reply(connection: AbstractConnection) -> Reply:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as exc:
        return exc


def checked(reply: Reply, *, writes: bool) -> Reply:
    """Return an answer, or raise what it means if it is an error."""
    if isinstance(reply, ResponseError):
        raise from_reply(reply, in_doubt=writes) from reply
    return reply


def _drop(connection: AbstractConnection) -> asyncio.WriteTransport | None:
    """Close a connection's socket; a request under way hears of it from the event loop."""
    writer = connection._writer  # noqa: SLF001 - redis-py can only close in an orderly way
    connection._reader = connection._writer = None  # noqa: SLF001
    if writer is None:
        return None
    with contextlib.suppress(RuntimeError):  # of a closed event loop
        writer.transport.abort()
    return writer.transport


def _discard(connection: AbstractConnection) -> None:
    """Close a connection's socket without its event loop, which can neither run nor take callbacks."""
    transport = _drop(connection)  # which asks the closed loop to do what the next call does
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    if lost := getattr(inner, "_call_connection_lost", None):
        with contextlib.suppress(RuntimeError):
            lost(None)
