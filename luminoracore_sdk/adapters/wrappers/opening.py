"""The opening and closing of a wrapper that holds resources of its own, such as keys."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import SessionLocks
from luminoracore_sdk.domain.errors import ConfigurationError, StorageClosedError

__all__ = ["Opening"]

T = TypeVar("T")


class Opening(Generic[T]):
    """Acquire a wrapper's resource once, and open and close the storage below with it.

    When opening fails, is cancelled, or the wrapper is closed meanwhile, the storage below is closed.

    Args:
        base: The storage below.
        acquire: Opens it and returns the resource.
    """

    def __init__(self, base: SessionStorage, acquire: Callable[[], Awaitable[T]]) -> None:
        self._base = base
        self._acquire = acquire
        self._locks = SessionLocks()
        self._opener: asyncio.Task[object] | None = None
        self._resource: T | None = None
        self._is_closed = False
        self._closings = 0

    async def open(self) -> None:
        """Acquire the resource; if it is held already, open the storage below.

        Raises:
            StorageClosedError: The wrapper was closed before it was open.
            ConfigurationError: Acquiring the resource uses the wrapper itself.
        """
        if self._opener is asyncio.current_task():
            raise ConfigurationError("keys() uses the storage whose keys it fetches")
        closings = self._closings
        async with self._locks.of("open").hold():
            self._opener = asyncio.current_task()
            try:
                await self._open(closings)
            finally:
                self._opener = None

    async def _open(self, closings: int) -> None:
        if self._resource is not None:
            await self._base.open()
            resource = self._resource
        else:
            try:
                resource = await self._acquire()
            except BaseException:
                await self._base.close()
                raise
        if resource is None or self._closings != closings:
            await self._base.close()
            raise StorageClosedError(self._base.backend)
        self._resource, self._is_closed = resource, False

    async def close(self) -> None:
        """Release the resource and close the storage below."""
        self._resource, self._is_closed = None, True
        self._closings += 1
        await self._base.close()

    async def ready(self) -> T:
        """Return the resource; open the wrapper at its first use.

        Raises:
            StorageClosedError: The wrapper was closed.
        """
        while self._resource is None:
            if self._is_closed:
                raise StorageClosedError(self._base.backend)
            await self.open()
        return self._resource
