"""Forks: a copy of a session up to a message, under a new id."""

import attrs

from luminoracore_sdk.application.deleted_messages import REMOVED_TEXT, find_tombstone
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.records import (
    Brief,
    MemoryScope,
    MessageRange,
    MessageRecord,
    SessionRecord,
    SessionSummary,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
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
"""Is there, as false, until the memories were copied."""

_LOOKED_AT = 20
"""Messages up to the fork among which the newest with a text is looked for."""


@attrs.frozen(kw_only=True)
class Fork:
    """Copies a session: its messages in one step of the storage, then its memories, which may be repeated.

    Attributes:
        storage: Holds both sessions.
        codec: Converts their records.
        clock: Tells the time.
    """

    storage: SessionStorage
    codec: EntityCodec
    clock: Clock

    async def make(self, session_id: str, at: str | int | None, new_session_id: str, metadata: JSONObject) -> bool:
        """Create the new session, or continue where the same call was killed.

        Returns:
            Whether memories were copied; ``completed`` is to be stored then.

        Raises:
            SessionNotFoundError: No such session.
            MessageNotFoundError: No such message.
            SessionExistsError: The new id belongs to another session.
            ConflictError: The session was cut off meanwhile; nothing was created.
        """
        made = await self._begun(session_id, at, new_session_id)
        if made is None:
            source = await self._source(session_id)
            position = await self._position(source, at)
            memories = await self.storage.list_memories(MemoryScope("session", session_id))
            record = await self._header(source, position, new_session_id, metadata, has_memories=bool(memories))
            try:
                made = await self.storage.fork_session(session_id, record, at=position)
                if await self._is_changed(source):  # its briefs may be those of messages that are redacted now
                    await self.storage.delete_session(new_session_id)
                    return await self.make(session_id, at, new_session_id, metadata)
            except ConflictError:
                made = await self._begun(session_id, at, new_session_id)
                if made is None:  # the source was cut off
                    raise
        if _COPIED in self._parent(made):
            for memory in await self.storage.list_memories(MemoryScope("session", session_id)):
                await self.storage.put_memory(attrs.evolve(memory, scope=MemoryScope("session", new_session_id)))
            return True
        return False

    async def _is_changed(self, source: SessionRecord) -> bool:
        """Return whether messages of a session were changed since its header was read."""
        now = await self.storage.find_session(source.session_id)
        return now is not None and now.changes != source.changes

    async def _source(self, session_id: str) -> SessionRecord:
        record = await self.storage.find_session(session_id)
        if record is None:
            raise SessionNotFoundError(session_id, backend=self.storage.backend)
        return record

    async def _header(
        self, source: SessionRecord, position: int, new_session_id: str, metadata: JSONObject, *, has_memories: bool
    ) -> SessionRecord:
        session = self.codec.session(source, backend=self.storage.backend)
        now = self.clock.now()
        parent: JSONObject = {"session_id": source.session_id, "position": position}
        if has_memories:
            parent[_COPIED] = False
        record = self.codec.session_record(
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
        first = source.summary.first
        return attrs.evolve(
            record,
            summary=SessionSummary(
                first=first if first is not None and first.position <= position else None,
                last=await self._last(source, position),
            ),
        )

    async def _last(self, source: SessionRecord, position: int) -> Brief | None:
        """Return the brief of the newest message up to a position that has one."""
        last = source.summary.last
        if last is not None and last.position <= position and last.payload != REMOVED_TEXT:
            return last
        span = MessageRange(before=position + 1, limit=_LOOKED_AT, newest=True)
        for record in reversed(await self.storage.read_messages(source.session_id, span)):
            brief = self._brief(source.session_id, record)
            if brief is not None:
                return brief
        return None

    def _brief(self, session_id: str, record: MessageRecord) -> Brief | None:
        message = self.codec.message(record, backend=self.storage.backend, session_id=session_id)
        payload = self.codec.message_record(message, counted=False).brief
        return None if payload in (None, REMOVED_TEXT) else Brief(record.position, payload)

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

    async def _begun(self, session_id: str, at: str | int | None, new_session_id: str) -> SessionRecord | None:
        """Return the header of a fork that the same call has made, or None if there is no session of the new id.

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

    def completed(self, session: Session) -> Session:
        """Return a fork into which the memories were copied."""
        parent = session.metadata.get(PARENT)
        known = parent if isinstance(parent, dict) else {}
        rest = {name: value for name, value in known.items() if name != _COPIED}
        return attrs.evolve(session, metadata={**session.metadata, PARENT: rest})

    def _parent(self, record: SessionRecord) -> JSONObject:
        parent = self.codec.session(record, backend=self.storage.backend).metadata.get(PARENT)
        return parent if isinstance(parent, dict) else {}
