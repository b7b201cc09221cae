"""Group commit: appends that wait at the same time are written in one request.

A backend whose writes are round trips holds one ``GroupCommit`` and passes it two functions: one writes a
single append, the other several in one request. A lone append is written at once in the caller's task. When
the request limit is reached, new appends queue and are flushed together.
"""

import asyncio
import copy
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

import attrs

from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, StorageBusyError, StorageUnavailableError

__all__ = [
    "Append",
    "GroupCommit",
    "Waiting",
    "WaitingAppends",
    "own_copy",
]


_MOST_MESSAGES = 1000
_MOST_BYTES = 4 * 1024 * 1024


@attrs.frozen
class Append:
    """One call of ``append_messages``, checked.

    Attributes:
        session_id: Where to.
        messages: What.
        expected_last: Only if the newest position is this one; None: in any case.
        now_us: When it was asked for.
        deadline: Until when it may take, by the event loop's clock, for backends that limit their calls.
    """

    session_id: str
    messages: Sequence[MessageRecord]
    expected_last: int | None
    now_us: int
    deadline: float = math.inf

    @property
    def size_bytes(self) -> int:
        """What its payloads take."""
        return sum(len(message.payload.data) for message in self.messages)


@attrs.define(eq=False)
class Waiting:
    """An append that somebody waits for.

    Attributes:
        append: What to write.
        since: When it was asked for, by the event loop's clock.
        receipt: Its outcome; done early if the caller was cancelled.
        request: What writes it, once it is under way.
    """

    append: Append
    since: float
    receipt: asyncio.Future[AppendReceipt]
    request: "asyncio.Task[None] | None" = None

    def succeed(self, receipt: AppendReceipt) -> None:
        """Tell the caller, if he is still there."""
        if not self.receipt.done():
            self.receipt.set_result(receipt)

    def fail(self, error: BaseException) -> None:
        """Tell the caller, if he is still there."""
        if not self.receipt.done():
            self.receipt.set_exception(error)


class WaitingAppends:
    """A queue for each session; sessions take turns."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Waiting]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def put(self, waiting: Waiting) -> None:
        """Add one behind those of its session."""
        self._queues.setdefault(waiting.append.session_id, deque()).append(waiting)

    def take(self, busy: Collection[str]) -> list[Waiting]:
        """Take what is to be written together: of each session one append, then of each the next ….

        At most 1,000 messages and 4 MB, unless the first alone is more. Of one session either one conditional
        append or unconditional ones.

        Args:
            busy: Sessions that are left out.
        """
        group = list[Waiting]()
        messages = size = 0
        ready = [session_id for session_id in self._queues if session_id not in busy]
        while ready:
            again = list[str]()
            for session_id in ready:
                queue = self._wanted(session_id)
                if not queue:
                    continue
                first = queue[0].append
                messages, size = messages + len(first.messages), size + first.size_bytes
                if group and (messages > _MOST_MESSAGES or size > _MOST_BYTES):
                    self._served(group)
                    return group
                group.append(queue.popleft())
                if (following := self._wanted(session_id)) and not _is_conditional(first, following[0].append):
                    again.append(session_id)
            ready = again
        return group

    def remove(self, is_due: Callable[[Waiting], bool]) -> list[Waiting]:
        """Take out those at the head of their queues of which something is true."""
        removed = list[Waiting]()
        for session_id in list(self._queues):
            while (queue := self._wanted(session_id)) and is_due(queue[0]):
                removed.append(queue.popleft())
        return removed

    def _wanted(self, session_id: str) -> deque[Waiting]:
        """Return a session's queue without those at its head who wait no more; an empty one is dropped."""
        queue = self._queues[session_id]
        while queue and queue[0].receipt.done():
            queue.popleft()
        if not queue:
            del self._queues[session_id]
        return queue

    def _served(self, group: Sequence[Waiting]) -> None:
        """Put the sessions of a full group behind the others."""
        for session_id in dict.fromkeys(waiting.append.session_id for waiting in group):
            if session_id in self._queues:
                self._queues[session_id] = self._queues.pop(session_id)


def _is_conditional(*appends: Append) -> bool:
    return any(append.expected_last is not None for append in appends)


_SLOW = 0.1
"""Seconds after which a request is slow: others need not wait for it any longer."""
_PATIENCE = 1.0
"""Seconds for which a cancelled caller waits for the request that its append is part of."""

Alone = Callable[[Append], Awaitable[AppendReceipt]]
Together = Callable[[Sequence[Append]], Awaitable[Sequence[AppendReceipt | LuminoraCoreSDKError | None]]]

Error = TypeVar("Error", bound=BaseException)


class _Request:
    """What is under way: since when, and the sessions that are busy because of it."""

    __slots__ = ("names", "since", "slow")

    def __init__(self, since: float, names: set[str]) -> None:
        self.since = since
        self.names = names
        self.slow = False


class GroupCommit:
    """Decides which appends are written together; belongs to one event loop.

    The appends to one session are written in the order in which they were asked for: none is sent while
    another of its session is under way. Sessions take turns, so that one with many waiting appends does not
    keep the others waiting. What waits takes no memory but the callers' own records; what is sent at once is
    limited, see ``WaitingAppends.take``.

    Args:
        backend: Its name, for errors.
        alone: Writes one append.
        together: Writes several, for each session one conditional append or any number of unconditional
            ones, in order. Returns their receipts; an error: that goes to its caller; None: nothing was
            written of it, it is to be tried alone.
            A ``StorageUnavailableError`` that it raises goes to each caller. After any other error each is
            tried alone: what was written all the same is recognised by its ids.
        most_requests: How many may be under way before others wait, slow ones not counted.
        timeout: Seconds that an append may wait.
    """

    def __init__(self, backend: str, *, alone: Alone, together: Together, most_requests: int, timeout: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._backend = backend
        self._alone = alone
        self._together = together
        self._most_requests = most_requests
        self._timeout = timeout
        self._waiting = WaitingAppends()
        self._busy: set[str] = set()  # sessions of which an append is under way
        self._requests: set[_Request] = set()
        self._counted = 0  # of the requests, those that are not slow
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._starting = False
        self._idle: asyncio.Future[None] | None = None

    async def append(self, append: Append) -> AppendReceipt:
        """Write one append, alone or with others, and return when it is committed.

        When a caller is cancelled whose append still waits, it is not written; if its request is under way,
        that goes on, and is waited for up to a second.

        Raises:
            StorageBusyError: It waited for ``timeout``; nothing was written.
        """
        if self._waiting or self._counted >= self._most_requests or append.session_id in self._busy:
            return await self._queued(append)
        request = _Request(self._loop.time(), {append.session_id})
        self._begin(request)
        try:
            return await self._alone(append)
        finally:
            self._end(request)

    async def drain(self) -> None:
        """Wait until no append waits or is under way."""
        while self._waiting or self._busy:
            self._idle = self._idle or self._loop.create_future()
            await asyncio.shield(self._idle)

    # -- waiting ---------------------------------------------------------------------------------

    async def _queued(self, append: Append) -> AppendReceipt:
        waiting = Waiting(append, self._loop.time(), self._loop.create_future())
        self._waiting.put(waiting)
        self._start_soon()
        self._timer = self._timer or self._loop.call_later(_SLOW, self._look_after)
        try:
            return await waiting.receipt
        except asyncio.CancelledError:
            if waiting.request is not None:
                await asyncio.wait([waiting.request], timeout=_PATIENCE)
            raise

    def _look_after(self) -> None:
        """Wait no longer for slow requests, and let nobody wait longer than the time limit."""
        now = self._loop.time()
        for request in self._requests:
            if not request.slow and request.since <= now - _SLOW:
                request.slow = True
                self._counted -= 1
        for late in self._waiting.remove(lambda waiting: waiting.since <= now - self._timeout):
            reason = f"other appends took longer than {self._timeout:g} seconds"
            late.fail(StorageBusyError(self._backend, reason))
        self._start()
        self._timer = self._loop.call_later(_SLOW, self._look_after) if self._waiting else None

    # -- requests --------------------------------------------------------------------------------

    def _begin(self, request: _Request) -> None:
        self._requests.add(request)
        self._counted += 1
        self._busy |= request.names

    def _end(self, request: _Request) -> None:
        self._uncount(request)
        self._free(request, request.names)

    def _uncount(self, request: _Request) -> None:
        if request in self._requests:
            self._requests.discard(request)
            self._counted -= not request.slow

    def _free(self, request: _Request, names: set[str]) -> None:
        """Let the appends come next that wait for sessions of a request."""
        self._busy -= names
        request.names = request.names - names
        if self._waiting or self._idle is not None:
            self._start_soon()
            self._tell_if_idle()

    def _start_soon(self) -> None:
        """Begin the next request once those who were told just now had the time to come again."""
        if self._waiting and not self._starting and self._counted < self._most_requests:
            if self._loop.is_closed():  # the caller is what the collector of garbage found
                return
            self._starting = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._starting = False
        while self._counted < self._most_requests and (group := self._waiting.take(self._busy)):
            request = _Request(self._loop.time(), {waiting.append.session_id for waiting in group})
            self._begin(request)
            task = self._loop.create_task(self._write(group, request))
            self._tasks.add(task)
            task.add_done_callback(partial(self._done, group, request))
            for waiting in group:
                waiting.request = task
        self._tell_if_idle()

    def _done(self, group: Sequence[Waiting], request: _Request, task: asyncio.Task[None]) -> None:
        """Let nobody wait for a task that has ended, not even for one that was cancelled before it began."""
        self._tasks.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            for waiting in group:
                waiting.fail(error)
        self._end(request)

    async def _write(self, group: Sequence[Waiting], request: _Request) -> None:
        if len(group) == 1:
            await self._write_alone(group)
            return
        left = dict[str, list[Waiting]]()
        for waiting in await self._write_together(group):
            left.setdefault(waiting.append.session_id, []).append(waiting)
        # those left may have to wait for writers elsewhere: nobody waits for them meanwhile
        self._uncount(request)
        self._free(request, request.names - left.keys())
        await asyncio.gather(*(self._write_rest(request, name, some) for name, some in left.items()))

    async def _write_rest(self, request: _Request, name: str, some: Sequence[Waiting]) -> None:
        await self._write_alone(some)
        self._free(request, {name})

    async def _write_together(self, group: Sequence[Waiting]) -> Sequence[Waiting]:
        """Write a group in one request; returns those that are to be tried alone."""
        receipts: Sequence[AppendReceipt | LuminoraCoreSDKError | None]
        try:
            receipts = await self._together([waiting.append for waiting in group])
        except StorageUnavailableError as exc:
            for waiting in group:
                waiting.fail(own_copy(exc))
            return ()
        except Exception:  # noqa: BLE001 - somebody's: each will see whether it is his own
            receipts = [None] * len(group)
        left = list[Waiting]()
        for waiting, receipt in zip(group, receipts, strict=True):
            if isinstance(receipt, LuminoraCoreSDKError):
                waiting.fail(receipt)
            elif receipt is not None:
                waiting.succeed(receipt)
            elif not waiting.receipt.done():
                left.append(waiting)
        return left

    async def _write_alone(self, some: Sequence[Waiting]) -> None:
        """Write appends one after the other."""
        for waiting in some:
            try:
                waiting.succeed(await self._alone(waiting.append))
            except Exception as exc:  # noqa: BLE001 - it goes to the caller
                waiting.fail(exc)

    def _tell_if_idle(self) -> None:
        if self._idle is not None and not self._waiting and not self._busy:
            self._idle.set_result(None)
            self._idle = None


def own_copy(error: Error) -> Error:
    """Return an error of his own for one of several callers, with the same cause."""
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied
