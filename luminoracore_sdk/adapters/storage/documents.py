"""The documented document-level calls and the message stream, written once, on the primitives.

``BaseStorage`` (every backend) and ``StorageWrapper`` (every wrapper) both build on this, so that a
document saved through a wrapper goes through the wrapper's own primitives.
"""

from collections.abc import AsyncIterator

import attrs

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.listing import headers
from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import (
    MessageRange,
    MessageRecord,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    InvalidJSONError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["DocumentCalls"]


class DocumentCalls(SessionStorage):
    """``save_session``, ``load_session``, ``list_sessions``, ``session_exists``, ``stream_messages``."""

    _documents: ValueCodec = JsonCodec()

    async def save_session(self, session_id: str, data: JSONObject) -> bool:
        """Store a JSON object as the session's own document; see ``SessionStorage.save_session``."""
        if type(data) is not dict:
            raise InvalidJSONError("session document", f"type {type(data).__name__} is not a JSON object")
        payload = self._documents.encode(data, where="session document")
        while True:
            found = await self.find_session(session_id)
            record = found or SessionRecord(session_id=session_id, payload=None)
            try:
                await self.put_session(attrs.evolve(record, payload=payload), expected_version=record.version)
            except ConflictError:  # another writer came between: its owner and tags must stay
                continue
            return True

    async def load_session(self, session_id: str) -> JSONObject | None:
        """Return the session's own document; see ``SessionStorage.load_session``."""
        record = await self.find_session(session_id)
        if record is None:
            return None
        key = f"session {session_id!a}"
        if record.payload is None:
            raise CorruptRecordError(backend=self.backend, key=key, reason="it has no payload")
        document = self._documents.decode(record.payload, backend=self.backend, key=key)
        if type(document) is not dict:
            raise CorruptRecordError(
                backend=self.backend, key=key, reason="its document is not a JSON object"
            )
        return document

    async def list_sessions(self) -> list[str]:
        """Return every id, by time of creation; see ``SessionStorage.list_sessions``."""
        return [record.session_id async for record in headers(self, SessionQuery())]

    async def session_exists(self, session_id: str) -> bool:
        """Tell whether there is such a session."""
        return await self.find_session(session_id) is not None

    async def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None, chunk: int = 500
    ) -> AsyncIterator[MessageRecord]:
        """Yield a range in constant memory; see ``SessionStorage.stream_messages``."""
        if chunk < 1:
            raise ValidationError(f"a chunk holds at least 1 message, not {chunk}")
        while True:
            span = MessageRange(after=after, before=before, limit=chunk)
            messages = await self.read_messages(session_id, span)
            for message in messages:
                yield message
            if len(messages) < chunk:
                return
            after = messages[-1].position
