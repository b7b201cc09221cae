"""One client per event loop."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["LoopClients"]

C = TypeVar("C")


class LoopClients(Generic[C]):
    """Creates a client for each event loop at its first use.

    A client is closed by ``close``, or when its loop ends (``asyncio.run`` does that). One provider may therefore
    serve several loops, in sequence or in several threads.

    Args:
        make: Creates a client.
        close: Closes one.
    """

    def __init__(self, make: Callable[[], C], close: Callable[[C], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._clients: dict[asyncio.AbstractEventLoop, tuple[C, AsyncGenerator[None]]] = {}

    async def get(self) -> C:
        """Return the client of the running loop."""
        self._forget_ended_loops()
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            client = self._make()
            closing = self._close_at_end(client)
            self._clients[loop] = client, closing
            await anext(closing)
        return self._clients[loop][0]

    async def close(self) -> None:
        """Close the client of the running loop; the next call of ``get`` creates a new one."""
        self._forget_ended_loops()
        _, closing = self._clients.pop(asyncio.get_running_loop(), (None, None))
        if closing is not None:
            await closing.aclose()

    async def _close_at_end(self, client: C) -> AsyncGenerator[None]:
        """Close a client when this generator is closed.

        Before it ends, an event loop closes the generators that were started on it (PEP 525,
        ``loop.shutdown_asyncgens``): the last moment at which the client can close its sockets.
        """
        try:
            yield
        finally:
            await self._close(client)

    def _forget_ended_loops(self) -> None:
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            self._clients.pop(loop, None)
