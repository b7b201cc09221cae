"""Forks: a copy of a session up to a message, under a new id."""

import attrs

from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.records import MAX_BATCH, MemoryScope, MessageRecord, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError, MessageNotFoundError, SessionNotFoundError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["PARENT", "Fork"]

PARENT = "parent"
"""The name in a session's metadata of the session and the position that it was forked from."""


@attrs.frozen(kw_only=True)
class Fork:
    """Copies a session, step by step; each step may be repeated.

    Attributes:
        storage: Holds both sessions.
        codec: Converts their records.
        clock: Tells the time.
    """

    storage: SessionStorage
    codec: EntityCodec
    clock: Clock

    async def header(
        self, session_id: str, at: str | int | None, new_session_id: str, metadata: JSONObject
    ) -> SessionRecord:
        """Return the header of the new session.

        Raises:
            SessionNotFoundError: No such session.
            MessageNotFoundError: No such message.
        """
        record = await self.storage.find_session(session_id)
        if record is None:
            raise SessionNotFoundError(session_id, backend=self.storage.backend)
        position = await self._position(record, at)
        session = self.codec.session(record, backend=self.storage.backend)
        now = self.clock.now()
        parent: JSONObject = {"session_id": session_id, "position": position}
        return self.codec.session_record(
            attrs.evolve(
                session,
                session_id=new_session_id,
                config=attrs.evolve(session.config, session_id=new_session_id),
                created_at=now,
                last_activity=now,
                message_count=0,
                version=0,
                metadata={**session.metadata, **metadata, PARENT: parent},
            )
        )

    async def _position(self, record: SessionRecord, at: str | int | None) -> int:
        if at is None:
            return record.last_position
        if isinstance(at, str):
            message = await self.storage.find_message(record.session_id, at)
            position = message.position if message else -1
        else:
            position = at
        if not 0 <= position <= record.last_position:
            raise MessageNotFoundError(record.session_id, at, backend=self.storage.backend)
        return position

    async def is_begun(self, record: SessionRecord) -> bool:
        """Return whether the new session is stored already, as a fork of the same session at the same position."""
        stored = await self.storage.find_session(record.session_id)
        return stored is not None and self._parent(stored) == self._parent(record)

    def _parent(self, record: SessionRecord) -> object:
        return self.codec.session(record, backend=self.storage.backend).metadata.get(PARENT)

    async def copy(self, session_id: str, record: SessionRecord) -> None:
        """Copy messages and memories; what was copied before is left as it is.

        Raises:
            ConflictError: The new session has other messages already, or the old one was cut off meanwhile.
        """
        parent = self._parent(record)
        position = parent["position"] if isinstance(parent, dict) else 0
        batch = list[MessageRecord]()
        copied = 0
        async for message in self.storage.stream_messages(session_id, before=position + 1):
            batch.append(message)
            if len(batch) == MAX_BATCH:
                copied = await self._append(record.session_id, batch, copied)
                batch = []
        if batch:
            copied = await self._append(record.session_id, batch, copied)
        if copied < position:
            raise ConflictError(
                backend=self.storage.backend,
                key=f"session {session_id!a}",
                expected=f"{position} messages",
                actual=f"{copied}: it was cut off during the copy",
            )
        for memory in await self.storage.list_memories(MemoryScope("session", session_id)):
            await self.storage.put_memory(attrs.evolve(memory, scope=MemoryScope("session", record.session_id)))

    async def _append(self, session_id: str, batch: list[MessageRecord], copied: int) -> int:
        receipt = await self.storage.append_messages(session_id, batch, expected_last=copied)
        return receipt.last_position
