"""Letting go of PyMongo's AsyncMongoClient, where its own way is not enough."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo import AsyncMongoClient

__all__ = ["LEAVE_SECONDS", "close_client", "drop_transports"]

LEAVE_SECONDS = 1.0
"""Seconds for each step of closing a client that waits for a server."""


async def close_client(client: "AsyncMongoClient[dict[str, Any]]") -> None:
    """Close a client; takes a few seconds at most, whatever the server does."""
    await _stop_connecting(client)
    try:
        async with asyncio.timeout(LEAVE_SECONDS):
            await client.close()
    except TimeoutError:
        await client.close()  # it does not take leave twice


async def _stop_connecting(client: Any) -> None:
    """Let monitors that are connecting end their attempt, and begin no other.

    ``close`` would cancel them, and PyMongo 4.20 leaves the socket to the garbage collector then.
    """
    # ruff: disable[SLF001]
    for server in client._topology._servers.values():
        for monitor in (server._monitor, server._monitor._rtt_monitor):
            if monitor._pool._pending:
                monitor._executor._stopped = True
                await asyncio.wait([monitor._executor._task], timeout=LEAVE_SECONDS)
    # ruff: enable[SLF001]


def drop_transports(client: Any) -> None:
    """Close the sockets of a client whose event loop is closed.

    Its own ``close`` is a coroutine that needs that loop, and asyncio closes a socket in a callback on
    it; so what the two would do is done here. Written against PyMongo 4.20 and Python 3.11 to 3.13.
    """
    # ruff: disable[SLF001]
    for server in client._topology._servers.values():
        monitor = server._monitor
        for pool in (server._pool, monitor._pool, monitor._rtt_monitor._pool):
            for connection in pool.conns:
                transport = connection.conn.conn[0]
                with suppress(RuntimeError):  # it cannot schedule the callback
                    transport.abort()
                over_tls = getattr(transport, "_ssl_protocol", None)
                beneath = over_tls._transport if over_tls else transport
                with suppress(RuntimeError):
                    beneath._call_connection_lost(None)
            pool.conns.clear()
    client._closed = True
    # ruff: enable[SLF001]
