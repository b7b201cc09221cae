"""Erasure of a user: everything that is stored of one, verified, with a receipt."""

import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import datetime

import attrs

from luminoracore_sdk.application.ports.records import MemoryScope, SessionQuery, SessionRecord
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import SessionAccess, headers
from luminoracore_sdk.application.tombstones import put_tombstone
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["MAX_PASSES", "Erasure", "ErasureReceipt"]

logger = logging.getLogger(__name__)

MAX_PASSES = 20
"""After so many passes that found something, another process keeps on writing for the user."""


@attrs.frozen(kw_only=True)
class ErasureReceipt:
    """What one erasure of a user deleted.

    Attributes:
        sessions: The number of sessions.
        messages: The number of their messages; alternatives of a message are not counted apart.
        memories: The number of memories, those of the sessions and those of the user.
        verified: Whether the last pass over the store found nothing more of the user.
        started_at: The time at which it began, UTC.
        finished_at: The time at which it ended, UTC.
    """

    sessions: int
    messages: int
    memories: int
    verified: bool
    started_at: datetime
    finished_at: datetime

    def to_dict(self) -> JSONObject:
        """Return a JSON object with ISO 8601 times."""
        times = {"started_at": self.started_at.isoformat(), "finished_at": self.finished_at.isoformat()}
        return {**attrs.asdict(self), **times}


@attrs.define(kw_only=True)
class Erasure:
    """One erasure of a user, and its counts so far.

    Attributes:
        user_id: The user.
        access: Reads and locks sessions, of whatever user.
        services: The other ports.
        delete: Deletes a session.
    """

    user_id: str
    access: SessionAccess
    services: Services
    delete: Callable[[str], Awaitable[bool]]
    _sessions: int = attrs.field(default=0, init=False)
    _messages: int = attrs.field(default=0, init=False)
    _memories: int = attrs.field(default=0, init=False)

    async def run(self) -> ErasureReceipt:
        """Erase everything, again until a pass finds nothing; see ``Sessions.erase_user``."""
        started_at = self.services.clock.now()
        await put_tombstone(self.access.storage, MemoryScope("user", self.user_id), self.services)
        verified = False
        for _ in range(MAX_PASSES):
            if not await self._pass():
                verified = True
                break
        await self.access.storage.purge_expired()  # sessions of the user may be among what no listing shows
        return ErasureReceipt(
            sessions=self._sessions,
            messages=self._messages,
            memories=self._memories,
            verified=verified,
            started_at=started_at,
            finished_at=self.services.clock.now(),
        )

    async def _pass(self) -> bool:
        """Delete what is found of the user; return whether anything was."""
        is_found = False
        query = SessionQuery(user_id=self.user_id)
        async with aclosing(headers(self.access.storage, query)) as listed:
            async for header in listed:
                await self._erase(header)
                is_found = True
        memories = await self.access.storage.clear_memories(MemoryScope("user", self.user_id))
        self._memories += memories
        return is_found or memories > 0

    async def _erase(self, listed: SessionRecord) -> None:
        """Delete a session, if it still belongs to the user."""
        session_id, storage = listed.session_id, self.access.storage
        async with self.access.lock(session_id).interrupting():  # what a turn stores until then is counted
            try:
                header = await storage.find_session(session_id)
                memories = len(await storage.list_memories(MemoryScope("session", session_id)))
            except CorruptRecordError:
                logger.warning("a session that cannot be read is erased; its memories are not counted")
                header, memories = listed, 0
            if header is None or header.user_id != self.user_id:
                return
            await put_tombstone(storage, MemoryScope("session", session_id), self.services)
            if not await self.delete(session_id):
                return
        self._sessions += 1
        self._messages += header.last_position
        self._memories += memories
