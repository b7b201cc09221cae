"""How a backend opens and closes, and what it refuses when it is not open."""

import asyncio
import time
from abc import abstractmethod
from typing import ClassVar

from luminoracore_sdk.adapters.clock import SystemClock
from luminoracore_sdk.adapters.storage.documents import DocumentCalls
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.domain.errors import StorageClosedError, WrongEventLoopError
from luminoracore_sdk.domain.values import to_microseconds

__all__ = ["StorageLife"]


class StorageLife(DocumentCalls):
    """Opens at first use, refuses use after close and, for a backend bound to one, on another event loop.

    Args:
        clock: Tells the time for stamps and expiry; the computer's own when None.
    """

    backend_name: ClassVar[str]
    """Short name, for errors and logs."""

    loop_bound: ClassVar[bool] = False
    """Whether what ``_open`` makes belongs to the event loop it was made on."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._is_open = False
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    # -- for backends ----------------------------------------------------------------------------

    async def _open(self) -> None:
        """Connect, and make or check the layout; must leave nothing behind when it fails."""

    async def _close(self) -> None:
        """Let go of what ``_open`` made; wait for writes under way."""

    def _abandon(self) -> None:
        """Drop what ``_open`` made on an event loop that is closed by now; nothing can be awaited."""

    @abstractmethod
    async def _ping(self) -> None: ...

    @abstractmethod
    async def _schema_version(self) -> int: ...

    # -- life ------------------------------------------------------------------------------------

    @property
    def backend(self) -> str:
        """The backend's short name."""
        return self.backend_name

    async def open(self) -> None:
        """Make the storage ready; see ``SessionStorage.open``."""
        if self._is_open:
            self._check_loop()
        if self._is_open:
            return
        async with self._turn():
            if not self._is_open:
                await self._open()
                self._loop = asyncio.get_running_loop()
                self._is_open, self._is_closed = True, False

    async def close(self) -> None:
        """Let go of everything; see ``SessionStorage.close``."""
        async with self._turn():
            if self._is_open:
                self._check_loop()
            was_open, self._is_open, self._is_closed = self._is_open, False, True
            if was_open:
                await self._close()

    def _turn(self) -> asyncio.Lock:
        """Return the lock that keeps opening and closing apart on the running event loop."""
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = (loop, asyncio.Lock())
        return self._turns[1]

    def _check_loop(self) -> None:
        if not self.loop_bound or self._loop is asyncio.get_running_loop():
            return
        if self._loop is None or not self._loop.is_closed():
            raise WrongEventLoopError(self.backend_name)
        self._abandon()
        self._is_open = False

    async def _ready(self) -> int:
        """Open at first use, refuse use after close; returns the present in microseconds."""
        if self._is_closed:
            raise StorageClosedError(self.backend_name)
        if not self._is_open or (self.loop_bound and self._loop is not asyncio.get_running_loop()):
            await self.open()
        if type(self._clock) is SystemClock:  # the same number: 0.15 µs for 0.7, which is 11 with cold caches
            return time.time_ns() // 1000
        return to_microseconds(self._clock.now())

    async def ping(self) -> None:
        """Do the cheapest round trip; see ``SessionStorage.ping``."""
        await self._ready()
        await self._ping()

    async def schema_version(self) -> int:
        """Return the version of the store's layout."""
        await self._ready()
        return await self._schema_version()
