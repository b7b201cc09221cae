"""Connections of redis-py's, as the links use them: readied, talked over, dropped."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import attrs
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from luminoracore_sdk.adapters.storage.redis.errors import connecting, talking
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["Reply", "Request", "ScriptCall", "discard", "drop", "ready", "talk"]

Reply = Any
"""What a server answers: bytes, int, None, a list of such; or an error, its own or of the way to it."""


@attrs.frozen
class Request:
    """One command.

    Attributes:
        key: Which decides where it goes on a cluster.
        words: As they are sent.
    """

    key: bytes
    words: Sequence[bytes]


@attrs.frozen
class ScriptCall:
    """One call of a script: its keys, of one hash tag, and its arguments."""

    keys: Sequence[bytes]
    arguments: Sequence[bytes]

    def request(self, verb: bytes, body: bytes) -> Request:
        """Return the command that makes it."""
        count = b"%d" % len(self.keys)
        return Request(self.keys[0], (verb, body, count, *self.keys, *self.arguments))


async def ready(connection: AbstractConnection, seconds: float) -> None:
    """Connect, and connect again if the server has closed the connection meanwhile.

    Raises:
        StorageUnavailableError: Or a finer one; nothing is in doubt.
    """
    marked = getattr(connection, "should_reconnect", bool)  # redis-py 7.1 and newer
    can_read = getattr(connection, "can_read", None) or connection.can_read_destructive  # before 8
    with connecting(seconds):
        if connection.is_connected and (marked() or await can_read()):
            await connection.disconnect(nowait=True)
        if not connection.is_connected:
            async with asyncio.timeout(seconds):
                await connection.connect()  # type: ignore[no-untyped-call]


async def talk(
    connection: AbstractConnection, requests: Sequence[Request], seconds: float, *, writes: bool
) -> list[Reply]:
    """Send requests over a connection and return the answers, as bytes whatever the client decodes.

    When this fails, or is cancelled, redis-py closes the connection: no late answer can be taken for that
    of the next request. What was answered before stays answered; each of the others has the error.
    """
    replies: list[Reply] = []
    try:
        with talking(seconds, in_doubt=writes):
            async with asyncio.timeout(seconds):
                await connection.send_packed_command(_packed(requests), check_health=False)
                for _ in requests:
                    replies.append(await _reply(connection))  # noqa: PERF401 - to have those before a failure
    except StorageUnavailableError as exc:
        replies += [exc] * (len(requests) - len(replies))
    return replies


def _packed(requests: Sequence[Request]) -> bytes:
    """Return requests as they go over the wire; redis-py, which takes any kind of word, needs 15 µs more."""
    parts = list[bytes]()
    for request in requests:
        parts.append(b"*%d\r\n" % len(request.words))
        parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in request.words]
    return b"".join(parts)


async def _reply(connection: AbstractConnection) -> Reply:
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as exc:
        return exc


def drop(connection: AbstractConnection) -> asyncio.WriteTransport | None:
    """Close a connection's socket; a request under way hears of it from the event loop."""
    writer = connection._writer  # noqa: SLF001 - redis-py can only close in an orderly way
    connection._reader = connection._writer = None  # noqa: SLF001
    if writer is None:
        return None
    with contextlib.suppress(RuntimeError):  # of a closed event loop
        writer.transport.abort()
    return writer.transport


def discard(connection: AbstractConnection) -> None:
    """Close a connection's socket without its event loop, which can neither run nor take callbacks."""
    transport = drop(connection)  # which asks the closed loop to do what the next call does
    inner = getattr(getattr(transport, "_ssl_protocol", None), "_transport", transport)
    if lost := getattr(inner, "_call_connection_lost", None):
        with contextlib.suppress(RuntimeError):
            lost(None)
