"""Cancellation of a call at a chosen step, instead of at a random time."""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, Generic, TypeVar

__all__ = ["CancelAt"]

T = TypeVar("T")


class CancelAt(Generic[T]):
    """Awaits a call and cancels the running task when the call suspends for the nth time.

    Args:
        awaitable: The call under test.
        step: The number of the suspension, from 0.
        late: Whether to cancel after the awaited operation has completed, but before the call resumes. If
            False, the task is cancelled when the call suspends, which cancels the awaited operation too.

    Attributes:
        reached: Whether the call suspended that many times.
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
            except BaseException as exc:  # noqa: BLE001  # thrown into the call under test
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
