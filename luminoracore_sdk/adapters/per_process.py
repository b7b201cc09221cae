"""Objects that a forked process makes anew, and the base of the classes of ``luminoracore_sdk.sync``."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Generic, Self, TypeVar, cast

from luminoracore_sdk.adapters.portal import portal

__all__ = ["PerProcess", "SyncFacade", "unwrapped"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
R = TypeVar("R")


class PerProcess(Generic[T]):
    """An object whose coroutines run on the portal; a forked process makes another.

    Args:
        make: Makes it, now and in each forked process that uses it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._portal = portal()
        self._object = self._portal.adopt(make())

    def get(self) -> T:
        """Return the object of this process."""
        current = portal()
        if self._portal is not current:
            with current.lock:
                if self._portal is not current:
                    self._object = current.adopt(self._make())
                    self._portal = current
        return self._object


class SyncFacade(Generic[T_co]):
    """Makes the calls of an asynchronous object on the portal, and waits for their results.

    Args:
        make: Makes the object, now and in each forked process that uses it.
    """

    def __init__(self, make: Callable[[], T_co]) -> None:
        self._shared = PerProcess(make)

    @classmethod
    def over(cls, make: Callable[[], Any]) -> Self:
        """Return an instance over an object that exists already, whatever the constructor of the class takes."""
        made = cls.__new__(cls)
        SyncFacade.__init__(made, make)
        return made

    @property
    def asynchronous(self) -> T_co:
        """The asynchronous object, for code that runs on the event loop of these calls, such as a tool."""
        return self._shared.get()

    @staticmethod
    def _run(call: Coroutine[Any, Any, R]) -> R:
        return portal().run(call)

    @staticmethod
    @contextmanager
    def _within(context: AbstractAsyncContextManager[R]) -> Generator[R, None, None]:
        entered, process = portal().run(_awaited(context.__aenter__())), os.getpid()
        try:
            yield entered
        finally:
            if os.getpid() == process:  # what was entered is the parent's, which leaves it itself
                portal().run(_awaited(context.__aexit__(None, None, None)))

    @staticmethod
    def _iterate(stream: AsyncIterator[R]) -> Generator[R, None, None]:
        return portal().iterate(stream)


async def _awaited(call: Awaitable[T]) -> T:
    return await call


def unwrapped(value: SyncFacade[R] | R) -> R:
    """Return the asynchronous object of a synchronous one, and any other value unchanged."""
    return cast("R", value.asynchronous) if isinstance(value, SyncFacade) else value
