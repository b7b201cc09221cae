"""Appends that wait for a thread: those of one session are handed to it together."""

import asyncio
import copy
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

import attrs

from luminoracore_sdk.adapters.storage.json_file_append import Outcome
from luminoracore_sdk.adapters.storage.json_file_io import BACKEND
from luminoracore_sdk.adapters.storage.waiting_appends import Append
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, StorageBusyError, StorageClosedError

__all__ = ["AppendQueue"]

_MOST_MESSAGES = 1000
_MOST_BYTES = 4 * 1024 * 1024

Write = Callable[[str, Sequence[Append], float], Sequence[Outcome]]


@attrs.define(eq=False)
class _Waiting:
    """An append, who waits for it, and from when on he waits no longer for other writers."""

    append: Append
    deadline: float
    loop: asyncio.AbstractEventLoop
    receipt: asyncio.Future[AppendReceipt]


class AppendQueue:
    """Hands appends to worker threads; used by any number of event loops at the same time.

    A lone append goes to a thread at once. Those of a session that come while it is being written wait, and
    are written together by the thread that wrote the ones before. Sessions take turns. What waits takes no
    memory but the callers' own records.

    Args:
        pool: Its threads.
        workers: How many of them may write appends.
        timeout: Longest wait in seconds for other writers of the session.
        write: Writes appends to one session, given the time (``time.monotonic``) until when it may wait for
            its lock. Returns an outcome for each; raises what is each one's error.
    """

    def __init__(self, pool: ThreadPoolExecutor, *, workers: int, timeout: float, write: Write) -> None:
        self._pool = pool
        self._idle = workers
        self._timeout = timeout
        self._write = write
        self._lock = Lock()  # of all below
        self._queues: dict[str, deque[_Waiting]] = {}  # of the sessions that are ready or being written
        self._ready = deque[str]()
        self._outcomes: dict[asyncio.AbstractEventLoop, list[tuple[_Waiting, Outcome | BaseException]]] = {}
        self._is_closed = False

    async def put(self, append: Append) -> AppendReceipt:
        """Write an append; once a thread has begun, it ends, whether or not the caller still waits."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(append, time.monotonic() + self._timeout, loop, loop.create_future())
        with self._lock:
            if self._is_closed:  # since this call began
                raise StorageClosedError(BACKEND)
            queue = self._queues.get(append.session_id)
            if queue is not None:
                queue.append(waiting)
            else:
                self._queues[append.session_id] = deque((waiting,))
                self._ready.append(append.session_id)
                if self._idle:
                    self._idle -= 1
                    self._pool.submit(self._work)
        return await waiting.receipt

    def close(self) -> None:
        """Take no more; what waits is written before the pool is shut down."""
        with self._lock:
            self._is_closed = True

    # -- on a thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        """Write until no session is ready."""
        try:
            while self._write_next():
                pass
        except BaseException:  # a defect, or no memory, which its callers were told: on with the others
            self._work()
            raise

    def _write_next(self) -> bool:
        """Write what waits for the session that is ready longest; False: none is, and this thread is free."""
        with self._lock:
            if not self._ready:
                self._idle += 1
                return False
            session_id = self._ready.popleft()
            group = _taken(self._queues[session_id])
        patient: Sequence[_Waiting] = ()
        try:
            if group:
                patient = self._written(session_id, group)
        finally:
            with self._lock:
                queue = self._queues[session_id]
                queue.extendleft(reversed(patient))
                if queue:
                    self._ready.append(session_id)
                else:
                    del self._queues[session_id]
        return True

    def _written(self, session_id: str, group: Sequence[_Waiting]) -> Sequence[_Waiting]:
        """Write some and tell their callers; returns those who may still wait for the session's lock."""
        patient: Sequence[_Waiting] = ()
        outcomes: Iterable[Outcome | BaseException]
        try:
            outcomes = self._write(session_id, [waiting.append for waiting in group], group[0].deadline)
        except StorageBusyError as exc:
            now = time.monotonic()
            patient = [waiting for waiting in group if waiting.deadline > now]
            group = [waiting for waiting in group if waiting.deadline <= now]
            outcomes = [_copy(exc) for _ in group]
        except LuminoraCoreSDKError as exc:
            outcomes = [_copy(exc) for _ in group]
        except BaseException as exc:
            self._tell((waiting, exc) for waiting in group)
            raise
        self._tell(zip(group, outcomes, strict=True))
        return patient

    def _tell(self, outcomes: Iterable[tuple[_Waiting, Outcome | BaseException]]) -> None:
        """Wake the callers: each event loop once for all that it was not told yet."""
        woken: list[asyncio.AbstractEventLoop] = []
        with self._lock:
            for waiting, outcome in outcomes:
                untold = self._outcomes.get(waiting.loop)
                if untold is None:
                    untold = self._outcomes[waiting.loop] = []
                    woken.append(waiting.loop)
                untold.append((waiting, outcome))
        for loop in woken:
            try:
                loop.call_soon_threadsafe(self._deliver, loop)
            except RuntimeError:  # it was closed: nobody waits any more
                with self._lock, suppress(KeyError):
                    del self._outcomes[loop]

    # -- on an event loop ------------------------------------------------------------------------

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            outcomes = self._outcomes.pop(loop, ())
        for waiting, outcome in outcomes:
            if waiting.receipt.done():  # cancelled
                continue
            if isinstance(outcome, BaseException):
                waiting.receipt.set_exception(outcome)
            else:
                waiting.receipt.set_result(outcome)


def _taken(queue: deque[_Waiting]) -> list[_Waiting]:
    """Take from a queue what is written together: up to 1,000 messages and 4 MB, but at least one append."""
    group: list[_Waiting] = []
    messages = size = 0
    while queue:
        append = queue[0].append
        messages += len(append.messages)
        size += append.size_bytes
        if group and (messages > _MOST_MESSAGES or size > _MOST_BYTES):
            break
        waiting = queue.popleft()
        if not waiting.receipt.cancelled():
            group.append(waiting)
    return group


def _copy(error: LuminoraCoreSDKError) -> LuminoraCoreSDKError:
    """Return an error of his own for one of several callers, with the same cause."""
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied
