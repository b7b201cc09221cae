"""Group commit: writes that wait at the same time are sent in one request.

A backend whose writes are round trips holds a ``GroupCommit`` and passes it two functions: one does a single
write, the other does several in one request. A write that finds no other in its way is done at once, in the
caller's task. When the request limit is reached, new writes queue and are flushed together. Callers that one request
has answered and that write again at once are flushed together too: 64 writers on MongoDB take two thirds of the CPU
time that they take if the first of them is sent ahead. A long queue is divided among the requests that may begin, so
that the server works on one while the client prepares the next: 64 writers take 10 to 40 % less time.
"""

import asyncio
import copy
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Iterable, Sequence
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import attrs

from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, StorageBusyError, StorageUnavailableError

__all__ = ["GroupCommit", "Write", "own_copy"]

_MOST_RECORDS = 1000
_MOST_BYTES = 4 * 1024 * 1024

_SLOW_SECONDS = 0.1
"""A request that takes longer no longer counts toward the limit, so that others need not wait for it."""

_CANCEL_SECONDS = 1.0
"""Longest time that a cancelled caller waits for the request that holds its write."""


class Write(Protocol):
    """What a request writes."""

    @property
    @abstractmethod
    def lane(self) -> Hashable:
        """Whatever it belongs to, such as a session: writes of one lane are done in the order of their calls."""

    @property
    @abstractmethod
    def is_exclusive(self) -> bool:
        """Whether a request may hold no other write of its lane."""

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of records."""

    @property
    @abstractmethod
    def size_bytes(self) -> int:
        """Their size."""


W = TypeVar("W", bound=Write)
R = TypeVar("R")
Error = TypeVar("Error", bound=BaseException)

Alone = Callable[[W], Coroutine[Any, Any, R]]
Together = Callable[[Sequence[W]], Coroutine[Any, Any, Sequence[R | LuminoraCoreSDKError | None]]]


@attrs.define(eq=False)
class _Waiting(Generic[W, R]):
    """A queued write; ``result`` is its outcome, ``request`` the task that does it, once there is one."""

    write: W
    since: float
    result: asyncio.Future[R]
    request: asyncio.Task[Any] | None = None


@attrs.define(eq=False)
class _Request:
    """A request in progress; an exempt one does not count toward the limit."""

    since: float
    lanes: frozenset[Hashable]
    is_exempt: bool = False


class GroupCommit(Generic[W, R]):
    """Do concurrent writes in as few requests as possible; bound to the running event loop.

    The writes of one lane are done in the order of their calls: none is sent while an earlier one is in
    progress. Across lanes they are sent in the order of their calls too, at most 1,000 records and 4 MB in a
    request (a larger write is sent by itself).

    Args:
        backend: The backend's name, for errors.
        alone: Does one write.
        together: Does several writes: of each lane either one exclusive write, or others in order. It returns
            for each its result; or the error to raise to its caller; or None: nothing was written, write it
            alone. A ``StorageUnavailableError`` that it raises is raised to every caller. After any other error
            each write is done alone, so the request must have written nothing, or ``alone`` recognize what it
            wrote.
        most_requests: Requests in progress at which new writes queue; those that take longer than 0.1 s do
            not count.
        least_share: Writes that each of several requests must have for the queue to be divided among them.
        timeout: Longest time that a write may queue, in seconds.
    """

    def __init__(
        self,
        backend: str,
        *,
        alone: Alone[W, R],
        together: Together[W, R],
        most_requests: int,
        least_share: int = 32,
        timeout: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._backend = backend
        self._alone = alone
        self._together = together
        self._most_requests = most_requests
        self._least_share = least_share
        self._timeout = timeout
        self._queue: deque[_Waiting[W, R]] = deque()
        self._requests: set[_Request] = set()
        self._busy: set[Hashable] = set()  # the lanes of all requests in progress
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._is_starting = False

    async def write(self, write: W) -> R:
        """Do a write, alone or with others, and return when it is committed.

        If the caller is cancelled while the write is queued, it is not done. If it was sent with others, their
        request continues, and the cancelled call waits up to a second for it. If it was sent alone, the backend
        decides what becomes of the statement.

        Args:
            write: What to write.

        Returns:
            What ``alone`` or ``together`` returned for it.

        Raises:
            StorageBusyError: The write was queued for ``timeout`` seconds; nothing was written.
        """
        if self._queue or self._is_starting or write.lane in self._busy or self._room() < 1:
            return await self._enqueue(write)
        request = self._begin([write])
        try:
            return await self._alone(write)
        finally:
            self._end(request)

    async def drain(self) -> None:
        """Wait until no write is queued or in progress."""
        while self._queue or self._requests:
            self._idle.clear()
            await self._idle.wait()

    # -- queue -----------------------------------------------------------------------------------

    async def _enqueue(self, write: W) -> R:
        waiting: _Waiting[W, R] = _Waiting(write, self._loop.time(), self._loop.create_future())
        self._queue.append(waiting)
        self._start_soon()
        self._timer = self._timer or self._loop.call_later(_SLOW_SECONDS, self._tick)
        try:
            return await waiting.result
        except asyncio.CancelledError:
            if waiting.request is not None:
                await asyncio.wait([waiting.request], timeout=_CANCEL_SECONDS)
            raise

    def _tick(self) -> None:
        """Exempt slow requests from the limit and fail writes that were queued for too long."""
        now = self._loop.time()
        for request in self._requests:
            request.is_exempt |= request.since <= now - _SLOW_SECONDS
        for waiting in self._queue:  # the oldest first
            if waiting.since > now - self._timeout:
                break
            if not waiting.result.done():
                reason = f"other writes took longer than {self._timeout:g} seconds"
                waiting.result.set_exception(StorageBusyError(self._backend, reason))
        self._start()
        self._timer = self._loop.call_later(_SLOW_SECONDS, self._tick) if self._queue else None

    def _next_group(self, most: int) -> list[_Waiting[W, R]]:
        """Take from the queue what the next request may hold, in order of arrival, at most so many writes."""
        group: list[_Waiting[W, R]] = []
        skipped: deque[_Waiting[W, R]] = deque()
        closed = set(self._busy)  # lanes of which nothing more may be taken
        taken: set[Hashable] = set()
        count = size_bytes = 0
        while self._queue and len(group) < most:
            waiting = self._queue.popleft()
            write = waiting.write
            if waiting.result.done():  # cancelled or timed out
                continue
            if write.lane in closed or (write.is_exclusive and write.lane in taken):
                closed.add(write.lane)
                skipped.append(waiting)
                continue
            count, size_bytes = count + write.count, size_bytes + write.size_bytes
            if group and (count > _MOST_RECORDS or size_bytes > _MOST_BYTES):
                skipped.append(waiting)
                break
            group.append(waiting)
            (closed if write.is_exclusive else taken).add(write.lane)
        self._queue.extendleft(reversed(skipped))
        return group

    # -- requests --------------------------------------------------------------------------------

    def _room(self) -> int:
        """Return how many requests may begin."""
        return self._most_requests - sum(not request.is_exempt for request in self._requests)

    def _begin(self, writes: Iterable[W], *, is_exempt: bool = False) -> _Request:
        lanes = frozenset(write.lane for write in writes)
        request = _Request(self._loop.time(), lanes, is_exempt)
        self._requests.add(request)
        self._busy |= lanes
        return request

    def _end(self, request: _Request) -> None:
        self._requests.discard(request)
        self._busy -= request.lanes
        if self._queue or len(request.lanes) > 1:  # a caller that is alone writes again at once
            self._start_soon()
        self._check_idle()

    def _start_soon(self) -> None:
        """Start requests after the callers that were answered just now had the chance to write again, together."""
        if not self._is_starting and not self._loop.is_closed():
            self._is_starting = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._is_starting = False
        while (room := self._room()) > 0:
            count = len(self._queue)
            most = count if count < room * self._least_share else -(-count // room)
            if not (group := self._next_group(most)):
                break
            self._send(group)
        self._check_idle()

    def _check_idle(self) -> None:
        if not self._queue and not self._requests:
            self._idle.set()

    def _send(
        self, group: Sequence[_Waiting[W, R]], *, following: Sequence[_Waiting[W, R]] = (), is_exempt: bool = False
    ) -> None:
        """Start a request.

        Args:
            group: What it writes.
            following: Writes of the same lane that are done after it, each alone.
            is_exempt: Whether it is left out of the limit.
        """
        writes = [waiting.write for waiting in group]
        request = self._begin(writes, is_exempt=is_exempt)
        coroutine = self._write_one(writes[0]) if len(writes) == 1 else self._together(writes)
        task: asyncio.Task[Sequence[R | LuminoraCoreSDKError | None]] = self._loop.create_task(coroutine)
        for waiting in group:
            waiting.request = task
        task.add_done_callback(partial(self._settle, group, following, request))

    async def _write_one(self, write: W) -> Sequence[R]:
        return [await self._alone(write)]

    def _settle(
        self,
        group: Sequence[_Waiting[W, R]],
        following: Sequence[_Waiting[W, R]],
        request: _Request,
        task: asyncio.Task[Sequence[R | LuminoraCoreSDKError | None]],
    ) -> None:
        """Give each caller its own outcome; write alone what the request did not write."""
        unwritten: dict[Hashable, list[_Waiting[W, R]]] = {}
        for waiting, outcome in zip(group, _outcomes(task, len(group)), strict=True):
            if waiting.result.done():  # its caller was cancelled
                continue
            if outcome is None:
                unwritten.setdefault(waiting.write.lane, []).append(waiting)
            elif isinstance(outcome, asyncio.CancelledError):
                waiting.result.cancel()
            elif isinstance(outcome, BaseException):
                waiting.result.set_exception(outcome)
            else:
                waiting.result.set_result(outcome)
        self._end(request)
        if left := [waiting for waiting in following if not waiting.result.done()]:
            unwritten[left[0].write.lane] = left
        for first, *rest in unwritten.values():
            # exempt: it may have to wait for a writer in another process
            self._send([first], following=rest, is_exempt=True)


def _outcomes(
    task: asyncio.Task[Sequence[R | LuminoraCoreSDKError | None]], count: int
) -> Sequence[R | BaseException | None]:
    """Return what a finished request means for each of its writes."""
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
