"""Forks: a copy of a session up to a message, under a new id."""

import attrs

from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    MemoryScope,
    MessageRange,
    MessageRecord,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.tombstones import find_tombstone
from luminoracore_sdk.domain.errors import (
    ConflictError,
    MessageNotFoundError,
    SessionExistsError,
    SessionNotFoundError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.values import check_id

__all__ = ["PARENT", "Fork"]

PARENT = "parent"
"""The name in a session's metadata of the session and the position that it was forked from."""


_COPIED = "copied"
"""Is there, as false, until everything was copied."""


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
        parent: JSONObject = {"session_id": session_id, "position": position, _COPIED: False}
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
        if type(at) is int:
            position = at
        else:
            found = await self.storage.find_message(record.session_id, check_id(at, "message id"))
            place = {"backend": self.storage.backend, "session_id": record.session_id}
            position = -1 if found is None or find_tombstone(self.codec, found, **place) else found.position
        if not 0 <= position <= record.last_position:
            raise MessageNotFoundError(record.session_id, at, backend=self.storage.backend)
        return position

    async def begun(self, session_id: str, at: str | int | None, new_session_id: str) -> SessionRecord | None:
        """Return the header of a fork that was begun by the same call, or None if there is no session of the new id.

        Raises:
            SessionExistsError: The new id belongs to another session.
        """
        record = await self.storage.find_session(new_session_id)
        if record is None:
            return None
        parent = self._parent(record)
        source = await self.storage.find_session(session_id)
        is_other_users = source is not None and source.user_id != record.user_id  # any session may name any parent
        if parent.get("session_id") != session_id or is_other_users:
            raise SessionExistsError(new_session_id)
        if at is not None and (source is None or await self._position(source, at) != parent.get("position")):
            raise SessionExistsError(new_session_id)
        return record

    def is_complete(self, record: SessionRecord) -> bool:
        """Return whether everything was copied into a fork that was begun."""
        return _COPIED not in self._parent(record)

    def completed(self, session: Session) -> Session:
        """Return a fork into which everything was copied."""
        parent = session.metadata.get(PARENT)
        known = parent if isinstance(parent, dict) else {}
        rest = {name: value for name, value in known.items() if name != _COPIED}
        return attrs.evolve(session, metadata={**session.metadata, PARENT: rest})

    def _parent(self, record: SessionRecord) -> JSONObject:
        parent = self.codec.session(record, backend=self.storage.backend).metadata.get(PARENT)
        return parent if isinstance(parent, dict) else {}

    async def copy(self, session_id: str, record: SessionRecord) -> None:
        """Copy messages and memories; messages that were copied before are left as they are.

        Raises:
            ConflictError: The new session has other messages already, or the old one was changed during the copy.
        """
        position: int = self._parent(record).get("position", 0)
        copied, ends = 0, list[MessageRecord]()
        while copied < position:
            span = MessageRange(after=copied, before=position + 1, limit=MAX_BATCH)
            batch = await self.storage.read_messages(session_id, span)
            if not batch:
                raise self._changed(session_id)
            receipt = await self.storage.append_messages(record.session_id, batch, expected_last=copied)
            copied = receipt.last_position
            ends.append(batch[-1])
        for end in ends:
            span = MessageRange(after=end.position - 1, limit=1)
            now = await self.storage.read_messages(session_id, span)
            if [message.message_id for message in now] != [end.message_id]:
                raise self._changed(session_id)
        for memory in await self.storage.list_memories(MemoryScope("session", session_id)):
            await self.storage.put_memory(attrs.evolve(memory, scope=MemoryScope("session", record.session_id)))

    def _changed(self, session_id: str) -> ConflictError:
        return ConflictError(
            backend=self.storage.backend,
            key=f"session {session_id!a}",
            expected="the history that was there when the copy began",
            actual="one that was cut off during the copy",
        )
