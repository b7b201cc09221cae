"""What a wrapper makes when it is opened, and lets go of when it is closed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import SessionLocks
from luminoracore_sdk.domain.errors import ConfigurationError, StorageClosedError

__all__ = ["Opening"]

T = TypeVar("T")


class Opening(Generic[T]):
    """Makes what an open wrapper needs, once, and opens and closes the storage below with it.

    However an opening ends other than well, the storage below is closed: also when it is cancelled, and
    when somebody closes the wrapper meanwhile.

    Args:
        base: The storage below.
        make: Opens it, and returns what is needed.
    """

    def __init__(self, base: SessionStorage, make: Callable[[], Awaitable[T]]) -> None:
        self._base = base
        self._make = make
        self._turns = SessionLocks()
        self._opener: asyncio.Task[object] | None = None
        self._made: T | None = None
        self._is_closed = False
        self._closings = 0

    async def open(self) -> None:
        """Open, or ask an open storage below to be so.

        Raises:
            StorageClosedError: It was closed before it was open.
            ConfigurationError: What it is made with uses the wrapper itself.
        """
        if self._opener is asyncio.current_task():
            raise ConfigurationError("keys() uses the storage that it fetches the keys of")
        closings = self._closings
        async with self._turns.of("open").hold():
            self._opener = asyncio.current_task()
            try:
                await self._open(closings)
            finally:
                self._opener = None

    async def _open(self, closings: int) -> None:
        if self._made is not None:
            await self._base.open()
            made = self._made
        else:
            try:
                made = await self._make()
            except BaseException:
                await self._base.close()
                raise
        if made is None or self._closings != closings:
            await self._base.close()
            raise StorageClosedError(self._base.backend)
        self._made, self._is_closed = made, False

    async def close(self) -> None:
        """Let go of what was made, and close the storage below."""
        self._made, self._is_closed = None, True
        self._closings += 1
        await self._base.close()

    async def ready(self) -> T:
        """Return what was made, by an opening now if need be.

        Raises:
            StorageClosedError: It was closed.
        """
        while self._made is None:
            if self._is_closed:
                raise StorageClosedError(self._base.backend)
            await self.open()
        return self._made
