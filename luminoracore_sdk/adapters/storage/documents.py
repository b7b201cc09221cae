"""The document-level calls and the message stream, implemented once on the storage primitives.

``BaseStorage`` and ``StorageWrapper`` both delegate to these functions, so a document saved through a wrapper
passes through the wrapper's own primitives.
"""

from collections.abc import AsyncIterator

import attrs

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.ports.records import (
    MessageRange,
    MessageRecord,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    InvalidJSONError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["list_sessions", "load_session", "save_session", "stream_messages"]

_CODEC = JsonCodec()


async def save_session(storage: SessionStorage, session_id: str, data: JSONObject) -> bool:
    """Store a JSON object as a session's document; see ``SessionStorage.save_session``."""
    if type(data) is not dict:
        raise InvalidJSONError("session document", f"type {type(data).__name__} is not a JSON object")
    payload = _CODEC.encode(data, where="session document")
    while True:
        found = await storage.find_session(session_id)
        record = found or SessionRecord(session_id=session_id, payload=None)
        try:
            await storage.put_session(attrs.evolve(record, payload=payload), expected_version=record.version)
        except ConflictError:  # a concurrent put changed the header; its owner and tags must be kept
            continue
        return True


async def load_session(storage: SessionStorage, session_id: str) -> JSONObject | None:
    """Return a session's document, or None; see ``SessionStorage.load_session``."""
    record = await storage.find_session(session_id)
    if record is None:
        return None
    key = f"session {session_id!a}"
    if record.payload is None:
        raise CorruptRecordError(backend=storage.backend, key=key, reason="it has no payload")
    document = _CODEC.decode(record.payload, backend=storage.backend, key=key)
    if type(document) is not dict:
        raise CorruptRecordError(backend=storage.backend, key=key, reason="its document is not a JSON object")
    return document


async def list_sessions(storage: SessionStorage) -> list[str]:
    """Return every session id by time of creation; see ``SessionStorage.list_sessions``."""
    return [record.session_id async for record in headers(storage, SessionQuery())]


async def stream_messages(
    storage: SessionStorage, session_id: str, *, after: int, before: int | None, chunk: int
) -> AsyncIterator[MessageRecord]:
    """Yield a range of messages in constant memory; see ``SessionStorage.stream_messages``."""
    if chunk < 1:
        raise ValidationError(f"a chunk holds at least 1 message, not {chunk}")
    while True:
        span = MessageRange(after=after, before=before, limit=chunk)
        messages = await storage.read_messages(session_id, span)
        for message in messages:
            yield message
        if len(messages) < chunk:
            return
        after = messages[-1].position
