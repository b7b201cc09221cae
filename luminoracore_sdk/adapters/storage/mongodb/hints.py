"""What a writer remembers of the sessions that it appends to; see ``mongodb_closing``."""

import asyncio
import time
from collections import OrderedDict

import attrs

from luminoracore_sdk.adapters.storage.mongodb.documents import End

__all__ = ["Hint", "Hints"]

_MOST = 10_000
_SECONDS = 60


@attrs.frozen
class Hint:
    """Where a session went on when somebody looked.

    Attributes:
        end: Behind which position.
        ttl_us: The session's time to live.
        since: When that was so at the earliest, by the monotonic clock.
        since_us: The same by the storage's clock.
    """

    end: End
    ttl_us: int | None
    since: float
    since_us: int

    @property
    def is_fresh(self) -> bool:
        """Tell whether an append that relied on it counts, if its session has no time to live."""
        return time.monotonic() - self.since < _SECONDS


class Hints:
    """The hints of one storage: the latest ones, each for one append."""

    def __init__(self) -> None:
        self._hints: OrderedDict[str, Hint] = OrderedDict()

    def take(self, session_id: str, now_us: int) -> Hint | None:
        """Return a session's hint, if it is fresh, and forget it."""
        hint = self._hints.pop(session_id, None)
        # the monotonic clock may stand still while the computer sleeps, the other one may be set back
        if hint is None or not hint.is_fresh or now_us - hint.since_us >= _SECONDS * 1_000_000:
            return None
        return hint

    def put(self, session_id: str, hint: Hint) -> None:
        """Remember a hint; not one from a call that was given up, nor one that an append has gone beyond."""
        task, known = asyncio.current_task(), self._hints.get(session_id)
        if task is not None and task.cancelling():
            return
        if known is not None and known.end.history == hint.end.history and known.end.last > hint.end.last:
            return
        self._hints[session_id] = hint
        if len(self._hints) > _MOST:
            self._hints.popitem(last=False)

    def forget(self, session_id: str) -> None:
        """Forget a session's hint."""
        self._hints.pop(session_id, None)
