"""Appends that wait for a thread: those of one session are handed to it together."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

import attrs

from luminoracore_sdk.adapters.storage.group_commit import Append, own_copy
from luminoracore_sdk.adapters.storage.json_file.append import Outcome
from luminoracore_sdk.adapters.storage.json_file.io import BACKEND, Syncing
from luminoracore_sdk.adapters.storage.json_file.sync import Syncs
from luminoracore_sdk.adapters.storage.json_file.workers import SLOW, Workers
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import (
    LuminoraCoreSDKError,
    StorageBusyError,
    StorageClosedError,
    StorageUnavailableError,
)

__all__ = ["AppendQueue"]

_MOST_MESSAGES = 1000
_MOST_BYTES = 4 * 1024 * 1024
_MOST_SESSIONS = 64
Write = Callable[[str, Sequence[Append], float], Syncing[Sequence[Outcome]]]


@attrs.define(eq=False)
class _Waiting:
    """An append, who waits for it, and from when on he waits no longer for other writers."""

    append: Append
    deadline: float
    loop: asyncio.AbstractEventLoop
    receipt: asyncio.Future[AppendReceipt]


class AppendQueue:
    """Hands appends to worker threads; used by any number of event loops at the same time.

    A lone append goes to a thread at once. What comes while that writes waits, and is taken by the same
    thread next: of each session all that wait, of up to 64 sessions, which take turns. It writes the lines of
    all and then syncs their logs at the same time, so that the disk commits them together. Another thread
    writes only beside one that is slow: threads of Python wait for each other at every system call, and with
    16 of them 64 writers got half as far. A lock that others have is waited for by a thread of its own.

    Args:
        pool: Its threads.
        workers: How many of them may be busy with appends.
        timeout: Longest wait in seconds for other writers of the session.
        write: Writes appends to one session, given the time (``time.monotonic``) until when it may wait for
            its lock, and keeps that until its end. Returns an outcome for each; raises what is each one's
            error.
    """

    def __init__(self, pool: ThreadPoolExecutor, *, workers: int, timeout: float, write: Write) -> None:
        self._timeout = timeout
        self._write = write
        self._syncs = Syncs()
        self._lock = Lock()  # of all below
        self._queues: dict[str, deque[_Waiting]] = {}  # of the sessions that are ready or being written
        self._ready = deque[str]()
        self._held = deque[str]()  # ready too, but others have their locks
        self._workers = Workers(pool, workers, self._lock, self._work)
        self._looking: set[asyncio.AbstractEventLoop] = set()  # those that look after what is ready
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
                self._begin(waiting)
        return await waiting.receipt

    def _begin(self, waiting: _Waiting) -> None:
        """Have the first append of a session written by a thread that begins now, or by one that goes on."""
        session_id = waiting.append.session_id
        self._queues[session_id] = deque((waiting,))
        self._ready.append(session_id)
        try:
            self._start()
        except StorageUnavailableError:
            self._ready.pop()
            del self._queues[session_id]
            raise
        if not self._workers.is_starting and waiting.loop not in self._looking:
            self._looking = {loop for loop in self._looking if not loop.is_closed()} | {waiting.loop}
            waiting.loop.call_later(SLOW, self._look, waiting.loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let another thread begin beside one that is slow; on an event loop."""
        with self._lock:
            with suppress(StorageUnavailableError):  # no thread yet
                self._start()
            if self._ready:
                loop.call_later(SLOW, self._look, loop)
            else:
                self._looking.discard(loop)

    def close(self) -> None:
        """Take no more; what waits is written before the pool is shut down."""
        with self._lock:
            self._is_closed = True

    def end(self) -> None:
        """End the threads that sync, once those of the pool have ended."""
        self._syncs.close()

    # -- on a thread -----------------------------------------------------------------------------

    def _work(self) -> None:
        """Write until no session is ready."""
        try:
            while writings := self._taken():
                self._write_together(writings)
        except BaseException:  # a defect, or no memory, which its callers were told: on with the others
            self._work()
            raise

    def _taken(self) -> list["_Writing"]:
        """Take what is ready longest, or one session whose lock others have; none: this thread is free."""
        with self._lock:
            self._workers.looks()
            taken: list[_Writing] = []
            if self._ready and self._workers.may_write():
                count = min(len(self._ready), _MOST_SESSIONS)
                taken = [_Writing(self._ready.popleft()) for _ in range(count)]
                self._workers.writes()
            elif self._held and self._workers.may_wait():
                taken = [_Writing(self._held.popleft())]
                self._workers.waits()
            for writing in taken:
                writing.group = _group(self._queues[writing.session_id])
            if taken:
                self._start()
            else:
                self._workers.rest()
        return taken

    def _start(self) -> None:
        """Let another thread begin, if there is work for it."""
        workers = self._workers
        if (self._ready and workers.may_write()) or (self._held and workers.may_wait()):
            workers.start()

    def _write_together(self, writings: Sequence["_Writing"]) -> None:
        """Write to some sessions, sync their files at the same time, and tell all callers.

        Of what was ready it takes the sessions whose locks are free: it may have others, and whoever waits
        while he has one can wait for ever. For the lock of one that was held this thread waits.
        """
        alone = self._workers.is_waiting
        try:
            for writing in writings:
                if writing.group:
                    appends = [waiting.append for waiting in writing.group]
                    deadline = writing.group[0].deadline if alone else 0.0
                    writing.work = self._write(writing.session_id, appends, deadline)
                    writing.go_on(None)
            while unsynced := [writing for writing in writings if writing.fd is not None]:
                errors = self._syncs.run([writing.fd for writing in unsynced if writing.fd is not None])
                for writing, error in zip(unsynced, errors, strict=True):
                    writing.go_on(error)
        except BaseException as exc:
            for writing in writings:
                writing.give_up(exc)
            raise
        finally:
            self._put_back(writings)
            self._tell(outcome for writing in writings for outcome in writing.outcomes)

    def _put_back(self, writings: Sequence["_Writing"]) -> None:
        """Have the sessions written again for which somebody waits."""
        with self._lock:
            for writing in writings:
                queue = self._queues[writing.session_id]
                queue.extendleft(reversed(writing.patient))
                if not queue:
                    del self._queues[writing.session_id]
                elif writing.patient:
                    self._held.append(writing.session_id)
                else:
                    self._ready.append(writing.session_id)

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


@attrs.define(eq=False)
class _Writing:
    """The appends to one session, on their way.

    Attributes:
        group: Who waits for them.
        work: Does it.
        fd: What is to be synced before it can go on; None: it has ended.
        outcomes: What is to be told to whom, at its end.
        patient: Who may still wait for the session's lock.
    """

    session_id: str
    group: list[_Waiting] = attrs.field(factory=list)
    work: Syncing[Sequence[Outcome]] | None = None
    fd: int | None = None
    outcomes: Sequence[tuple[_Waiting, Outcome | BaseException]] = ()
    patient: Sequence[_Waiting] = ()

    def go_on(self, error: BaseException | None) -> None:
        """Write until there is something to sync, or the end.

        Args:
            error: What the sync before it raised.
        """
        if self.work is None:
            return
        self.fd = None
        try:
            self.fd = next(self.work) if error is None else self.work.throw(error)
        except StopIteration as end:
            self.outcomes = list(zip(self.group, end.value, strict=True))
        except StorageBusyError as exc:
            now = time.monotonic()
            self.patient = [waiting for waiting in self.group if waiting.deadline > now]
            self._fail(exc, [waiting for waiting in self.group if waiting.deadline <= now])
        except LuminoraCoreSDKError as exc:
            self._fail(exc, self.group)
        except BaseException as exc:  # noqa: BLE001 - a defect, or no memory: not that of the other sessions
            self.give_up(exc)

    def give_up(self, error: BaseException) -> None:
        """Undo what was not synced, and let all fail who were not told."""
        self.fd = None
        if self.work is not None:
            with suppress(OSError, LuminoraCoreSDKError):  # what cannot be undone either
                self.work.close()
        if not self.outcomes:
            self.outcomes, self.patient = [(waiting, error) for waiting in self.group], ()

    def _fail(self, error: LuminoraCoreSDKError, group: Sequence[_Waiting]) -> None:
        self.outcomes = [(waiting, own_copy(error)) for waiting in group]


def _group(queue: deque[_Waiting]) -> list[_Waiting]:
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
