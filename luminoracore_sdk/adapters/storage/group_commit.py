"""Group commit: appends that wait at the same time are written in one request.

A backend whose writes are round trips holds one ``GroupCommit`` and passes it two functions: one writes a
single append, the other writes several in one request. An append that finds no other in its way is written at
once, in the caller's task. When the request limit is reached, new appends queue and are flushed together.
"""

import asyncio
import copy
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

import attrs

from luminoracore_sdk.adapters.storage.base import Append
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, StorageBusyError, StorageUnavailableError

__all__ = ["GroupCommit", "own_copy"]

_MOST_MESSAGES = 1000
_MOST_BYTES = 4 * 1024 * 1024

_SLOW_SECONDS = 0.1
"""A request that takes longer no longer counts toward the limit, so that others need not wait for it."""

_CANCEL_SECONDS = 1.0
"""Longest time that a cancelled caller waits for the request that holds its append."""


Outcome = AppendReceipt | LuminoraCoreSDKError | None

Alone = Callable[[Append], Coroutine[Any, Any, AppendReceipt]]
Together = Callable[[Sequence[Append]], Coroutine[Any, Any, Sequence[Outcome]]]

Error = TypeVar("Error", bound=BaseException)


@attrs.define(eq=False)
class _Waiting:
    """A queued append; ``receipt`` is its outcome, ``request`` the task that writes it, once there is one."""

    append: Append
    since: float
    receipt: asyncio.Future[AppendReceipt]
    request: asyncio.Task[Any] | None = None


@attrs.define(eq=False)
class _Request:
    """A request in progress; an exempt one does not count toward the limit."""

    since: float
    session_ids: frozenset[str]
    is_exempt: bool = False


class GroupCommit:
    """Write concurrent appends in as few requests as possible; bound to the running event loop.

    The appends to one session are written in the order of their calls: none is sent while an earlier one is in
    progress. Across sessions they are sent in the order of their calls too, at most 1,000 messages and 4 MB in a
    request (a larger append is sent by itself).

    Args:
        backend: The backend's name, for errors.
        alone: Writes one append.
        together: Writes several appends: of each session either one conditional append, or unconditional ones
            in order. It returns for each a receipt; or the error to raise to its caller; or None: nothing was
            written, write it alone. A ``StorageUnavailableError`` that it raises is raised to every caller. After
            any other error each append is written alone; one that was written already is recognized by its ids.
        most_requests: Requests in progress at which new appends queue; those that take longer than 0.1 s do
            not count.
        timeout: Longest time that an append may queue, in seconds.
    """

    def __init__(self, backend: str, *, alone: Alone, together: Together, most_requests: int, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._backend = backend
        self._alone = alone
        self._together = together
        self._most_requests = most_requests
        self._timeout = timeout
        self._queue: deque[_Waiting] = deque()
        self._requests: set[_Request] = set()
        self._busy: set[str] = set()  # the sessions of all requests in progress
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_starting = False

    async def append(self, append: Append) -> AppendReceipt:
        """Write an append, alone or with others, and return when it is committed.

        If the caller is cancelled while the append is queued, it is not written. If it was sent with others, their
        request continues, and the cancelled call waits up to a second for it. If it was sent alone, the backend
        decides what becomes of the statement.

        Args:
            append: What to write.

        Returns:
            The receipt of this append.

        Raises:
            StorageBusyError: The append was queued for ``timeout`` seconds; nothing was written.
        """
        if self._queue or append.session_id in self._busy or not self._has_room():
            return await self._enqueue(append)
        request = self._begin([append])
        try:
            return await self._alone(append)
        finally:
            self._end(request)

    async def drain(self) -> None:
        """Wait until no append is queued or in progress."""
        while self._queue or self._requests:
            self._idle.clear()
            await self._idle.wait()

    # -- queue -----------------------------------------------------------------------------------

    async def _enqueue(self, append: Append) -> AppendReceipt:
        waiting = _Waiting(append, self._loop.time(), self._loop.create_future())
        self._queue.append(waiting)
        self._start_soon()
        self._timer = self._timer or self._loop.call_later(_SLOW_SECONDS, self._tick)
        try:
            return await waiting.receipt
        except asyncio.CancelledError:
            if waiting.request is not None:
                await asyncio.wait([waiting.request], timeout=_CANCEL_SECONDS)
            raise

    def _tick(self) -> None:
        """Exempt slow requests from the limit and fail appends that were queued for too long."""
        now = self._loop.time()
        for request in self._requests:
            request.is_exempt |= request.since <= now - _SLOW_SECONDS
        for waiting in self._queue:  # the oldest first
            if waiting.since > now - self._timeout:
                break
            if not waiting.receipt.done():
                reason = f"other appends took longer than {self._timeout:g} seconds"
                waiting.receipt.set_exception(StorageBusyError(self._backend, reason))
        self._start()
        self._timer = self._loop.call_later(_SLOW_SECONDS, self._tick) if self._queue else None

    def _next_group(self) -> list[_Waiting]:
        """Take from the queue what the next request may hold, in order of arrival."""
        group: list[_Waiting] = []
        skipped: deque[_Waiting] = deque()
        closed = set(self._busy)  # sessions of which nothing more may be taken
        taken: set[str] = set()
        messages = size_bytes = 0
        while self._queue:
            waiting = self._queue.popleft()
            append = waiting.append
            if waiting.receipt.done():  # cancelled or timed out
                continue
            is_conditional = append.expected_last is not None
            if append.session_id in closed or (is_conditional and append.session_id in taken):
                closed.add(append.session_id)
                skipped.append(waiting)
                continue
            messages, size_bytes = messages + len(append.messages), size_bytes + append.size_bytes
            if group and (messages > _MOST_MESSAGES or size_bytes > _MOST_BYTES):
                skipped.append(waiting)
                break
            group.append(waiting)
            (closed if is_conditional else taken).add(append.session_id)
        self._queue.extendleft(reversed(skipped))
        return group

    # -- requests --------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        return sum(not request.is_exempt for request in self._requests) < self._most_requests

    def _begin(self, appends: Iterable[Append], *, is_exempt: bool = False) -> _Request:
        session_ids = frozenset(append.session_id for append in appends)
        request = _Request(self._loop.time(), session_ids, is_exempt)
        self._requests.add(request)
        self._busy |= session_ids
        return request

    def _end(self, request: _Request) -> None:
        self._requests.discard(request)
        self._busy -= request.session_ids
        self._start_soon()
        self._check_idle()

    def _start_soon(self) -> None:
        """Start requests after the callers that were answered just now had the chance to append again."""
        if self._queue and not self._is_starting and not self._loop.is_closed():
            self._is_starting = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._is_starting = False
        while self._has_room() and (group := self._next_group()):
            self._write(group)
        self._check_idle()

    def _check_idle(self) -> None:
        if not self._queue and not self._requests:
            self._idle.set()

    def _write(self, group: Sequence[_Waiting], *, following: Sequence[_Waiting] = (), is_exempt: bool = False) -> None:
        """Start a request.

        Args:
            group: What it writes.
            following: Appends to the same session that are written after it, each alone.
            is_exempt: Whether it is left out of the limit.
        """
        appends = [waiting.append for waiting in group]
        request = self._begin(appends, is_exempt=is_exempt)
        coroutine = self._write_one(appends[0]) if len(appends) == 1 else self._together(appends)
        task: asyncio.Task[Sequence[Outcome]] = self._loop.create_task(coroutine)
        for waiting in group:
            waiting.request = task
        task.add_done_callback(partial(self._settle, group, following, request))

    async def _write_one(self, append: Append) -> Sequence[Outcome]:
        return [await self._alone(append)]

    def _settle(
        self,
        group: Sequence[_Waiting],
        following: Sequence[_Waiting],
        request: _Request,
        task: asyncio.Task[Sequence[Outcome]],
    ) -> None:
        """Give each caller its own outcome; write alone what the request did not write."""
        unwritten: dict[str, list[_Waiting]] = {}
        for waiting, outcome in zip(group, _outcomes(task, len(group)), strict=True):
            if waiting.receipt.done():  # its caller was cancelled
                continue
            if outcome is None:
                unwritten.setdefault(waiting.append.session_id, []).append(waiting)
            elif isinstance(outcome, asyncio.CancelledError):
                waiting.receipt.cancel()
            elif isinstance(outcome, BaseException):
                waiting.receipt.set_exception(outcome)
            else:
                waiting.receipt.set_result(outcome)
        self._end(request)
        if left := [waiting for waiting in following if not waiting.receipt.done()]:
            unwritten[left[0].append.session_id] = left
        for first, *rest in unwritten.values():
            # exempt: it may have to wait for a writer in another process
            self._write([first], following=rest, is_exempt=True)


def _outcomes(task: asyncio.Task[Sequence[Outcome]], count: int) -> Sequence[Outcome | BaseException]:
    """Return what a finished request means for each of its appends."""
    if task.cancelled():
        return [asyncio.CancelledError()] * count
    error = task.exception()
    if error is None:
        return task.result()
    if count == 1:
        return [error]
    if isinstance(error, StorageUnavailableError):
        return [own_copy(error) for _ in range(count)]
    return [None] * count


def own_copy(error: Error) -> Error:
    """Return a copy of an error with the same cause, so that each of several callers raises an object of its own."""
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied
