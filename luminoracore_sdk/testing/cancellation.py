"""Cancellation at a chosen step: what a task's cancellation does, without guessing at moments."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

__all__ = ["CancelAt"]

T = TypeVar("T")


class CancelAt(Generic[T]):
    """Awaits something and cancels the running task at one of its suspensions.

    Args:
        awaitable: The call under test.
        step: Which suspension, from 0.
        late: False: at the moment the call suspends; what it waits for is cancelled too. True: after
            what it waited for is done, before the call learns of it.

    Attributes:
        reached: Whether the call had that many suspensions.
    """

    def __init__(self, awaitable: Awaitable[T], step: int, *, late: bool = False) -> None:
        self.reached = False
        self._awaitable = awaitable
        self._step = step
        self._late = late

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._awaitable.__await__()
        error: BaseException | None = None
        count = 0
        while True:
            try:
                waited_for = next(steps) if error is None else _throw(steps, error)
            except StopIteration as stop:
                result: T = stop.value
                return result
            here, count, error = count == self._step, count + 1, None
            if here:
                self.reached = True
            if here and not self._late:
                _running_task().cancel()
            try:
                yield waited_for
            except BaseException as exc:  # noqa: BLE001  # handed on to the call under test
                error = exc
            if here and self._late:
                error = asyncio.CancelledError()


def _throw(steps: Generator[Any, Any, T], error: BaseException) -> Any:
    return steps.throw(error)


def _running_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    if task is None:  # pragma: no cover  # only outside of asyncio
        raise RuntimeError("CancelAt needs a running asyncio task")
    return task
