"""A proxy that delays, cuts or refuses connections when a test says so."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

import attrs

from tests.support.servers.process import free_port

__all__ = ["FaultProxy", "unanswering_port"]

_HOST = "127.0.0.1"
_CHUNK = 65_536
_COMMAND_SECONDS = 10.0


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@attrs.define
class _Link:
    """A client's connection and the one to the server, which end together."""

    client: _Stream
    server: _Stream
    tail: bytes = b""  # the end of the last data, as the marker may be split
    loses_answer: bool = False


class FaultProxy:
    """Forward connections to a server on 127.0.0.1 until a fault is set.

    It runs on a thread with an event loop of its own. Its methods return when the fault is in force, and may
    be called from any thread.

    Args:
        target: The server's port.

    Attributes:
        port: The port to connect to.
        strikes: The number of connections that ``cut_after`` and ``lose_answer`` have cut.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.strikes = 0
        self._target = target
        self._links: set[asyncio.Task[None]] = set()
        self._allowance: int | None = None
        self._marker: bytes | None = None
        self._listener: socket.socket | None = None
        self._loop = asyncio.new_event_loop()
        self._flows = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy of {target}", daemon=True)

    def open(self) -> Self:
        """Listen."""
        self._thread.start()
        self.pass_on()
        return self

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Cut all connections and end the thread."""
        self._do(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def open_links(self) -> int:
        """The number of open connections."""
        return len(self._links)

    # -- faults ----------------------------------------------------------------------------------

    def pass_on(self) -> None:
        """Forward everything, including what ``hang`` held back."""
        self._do(self._pass_on())

    def refuse(self) -> None:
        """Cut every connection and refuse new ones."""
        self._do(self._refuse())

    def cut(self) -> None:
        """Cut every open connection; new ones work."""
        self._do(self._cut())

    def hang(self) -> None:
        """Accept connections and forward nothing, in either direction."""
        self._do(self._set(self._flows.clear))

    def cut_after(self, count: int) -> None:
        """Forward a number of bytes from clients, then cut the connection that would exceed it."""
        self._do(self._set(lambda: setattr(self, "_allowance", count)))

    def lose_answer(self, marker: bytes) -> None:
        """Forward the next request that contains a marker, and cut its connection at the answer."""
        self._do(self._set(lambda: setattr(self, "_marker", marker)))

    # -- on the proxy's thread -------------------------------------------------------------------

    def _do(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_COMMAND_SECONDS)

    async def _set(self, change: Callable[[], None]) -> None:
        change()

    async def _pass_on(self) -> None:
        self._allowance = self._marker = None
        self._flows.set()
        if self._listener is None:
            self._listener = socket.create_server((_HOST, self.port))
            self._listener.setblocking(False)
            self._loop.add_reader(self._listener, self._accept, self._listener)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _cut(self) -> None:
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = listener.accept()
            link = self._loop.create_task(self._serve(client))
            self._links.add(link)
            link.add_done_callback(self._links.discard)
            link.add_done_callback(lambda _: client.close())  # also if the task never started

    async def _serve(self, connection: socket.socket) -> None:
        async with contextlib.AsyncExitStack() as ends:
            client = await asyncio.open_connection(sock=connection)
            ends.callback(client[1].transport.abort)
            try:
                server = await asyncio.open_connection(_HOST, self._target)
            except OSError:  # the server does not run
                return
            ends.callback(server[1].transport.abort)
            server[1].transport.set_write_buffer_limits(0)  # drain() then waits until all is sent
            link = _Link(client, server)
            pumps = [asyncio.create_task(_till_the_end(pump(link))) for pump in (self._requests, self._answers)]
            ends.push_async_callback(asyncio.wait, pumps)
            for pump in pumps:
                ends.callback(pump.cancel)
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)

    async def _requests(self, link: _Link) -> None:
        (reader, _), (_, writer) = link.client, link.server
        while data := await reader.read(_CHUNK):
            await self._flows.wait()
            self._look_for_marker(link, data)
            allowed = self._allowed(len(data))
            writer.write(data[:allowed])
            await writer.drain()
            if allowed < len(data):
                self.strikes += 1
                return

    async def _answers(self, link: _Link) -> None:
        (_, writer), (reader, _) = link.client, link.server
        while data := await reader.read(_CHUNK):
            await self._flows.wait()
            if link.loses_answer:
                self.strikes += 1
                return
            writer.write(data)
            await writer.drain()

    def _look_for_marker(self, link: _Link, data: bytes) -> None:
        if self._marker is None:
            return
        seen = link.tail + data
        link.tail = seen[-len(self._marker) :]
        if self._marker in seen:
            link.loses_answer, self._marker = True, None

    def _allowed(self, count: int) -> int:
        if self._allowance is None:
            return count
        allowed = min(count, self._allowance)
        self._allowance = self._allowance - allowed if allowed == count else None
        return allowed


async def _till_the_end(pump: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(ConnectionError):  # one of the two hung up
        await pump


@contextlib.contextmanager
def unanswering_port() -> Iterator[int]:
    """Yield a port on which connecting never ends, as with an unreachable host."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind((_HOST, free_port()))
        listener.listen(0)
        for _ in range(4):  # when the queue is full, Linux drops further connections
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
