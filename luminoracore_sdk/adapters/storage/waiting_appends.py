"""Appends that wait to be written, and in which order they are."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence

import attrs

from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord

__all__ = ["Append", "Waiting", "WaitingAppends"]

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
                if (following := self._wanted(session_id)) and not _is_conditional(
                    first, following[0].append
                ):
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
