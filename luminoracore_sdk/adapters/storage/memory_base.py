"""What the memory backend keeps, and how it finds it."""

from bisect import bisect_left, insort
from collections.abc import Iterable
from threading import RLock

import attrs

from luminoracore_sdk.adapters.storage.base import is_live
from luminoracore_sdk.adapters.storage.recoding import RecodingBase
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, MessageRecord, SessionRecord

__all__ = ["MemoryBase", "StoredSession", "is_gone"]


@attrs.define
class StoredSession:
    """A session; ``positions`` finds a message by its id."""

    header: SessionRecord
    messages: list[MessageRecord] = attrs.field(factory=list)
    positions: dict[str, int] = attrs.field(factory=dict)


def is_gone(entry: MemoryRecord, now_us: int) -> bool:
    """Tell whether a memory counts as absent."""
    return entry.expires_at_us is not None and entry.expires_at_us <= now_us


class MemoryBase(RecodingBase):
    """The records, and the lock under which every call is one step.

    Args:
        clock: Tells the time; the computer's own when None.
    """

    def __init__(self, *, clock: Clock | None = None) -> None:
        super().__init__(clock=clock)
        self._lock = RLock()
        self._sessions: dict[str, StoredSession] = {}
        self._order: list[tuple[int, str]] = []
        self._memories: dict[MemoryScope, dict[str, MemoryRecord]] = {}

    def adopt(
        self,
        header: SessionRecord,
        messages: Iterable[MessageRecord],
        memories: Iterable[MemoryRecord],
    ) -> None:
        """Take over a session of another storage with all it holds, stamps and version unchanged."""
        with self._lock:
            self._remove(header.session_id)
            kept = list(messages)
            positions = {message.message_id: message.position for message in kept}
            self._sessions[header.session_id] = StoredSession(header, kept, positions)
            insort(self._order, (header.created_at_us, header.session_id))
            scope = MemoryScope("session", header.session_id)
            self._memories[scope] = {memory.key: memory for memory in memories}

    def _live(self, session_id: str, now_us: int) -> StoredSession | None:
        stored = self._sessions.get(session_id)
        if stored is None or not is_live(stored.header.updated_at_us, stored.header.ttl_us, now_us):
            return None
        return stored

    def _existing(self, session_id: str, now_us: int) -> StoredSession:
        stored = self._live(session_id, now_us)
        if stored is None:
            raise self._not_found(session_id)
        return stored

    def _remove(self, session_id: str) -> None:
        stored = self._sessions.pop(session_id, None)
        if stored is None:
            return
        place = bisect_left(self._order, (stored.header.created_at_us, session_id))
        del self._order[place]
        self._memories.pop(MemoryScope("session", session_id), None)

    def _entries(self, scope: MemoryScope, now_us: int) -> dict[str, MemoryRecord]:
        if scope.kind == "session" and self._live(scope.owner_id, now_us) is None:
            return {}
        entries = self._memories.get(scope, {})
        return {key: entry for key, entry in entries.items() if not is_gone(entry, now_us)}
