"""The document-level calls, the message stream and the watch, implemented once on the storage primitives.

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
from luminoracore_sdk.application.ports.watching import Change
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    InvalidJSONError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["list_sessions", "load_session", "save_session", "stream_messages", "watch"]

_CODEC = JsonCodec()

_WATCHED_AT_ONCE = 500
"""Messages that a watch reads at a time."""


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
    if type(chunk) is not int or chunk < 1:
        raise ValidationError(f"a chunk holds at least 1 message, not {chunk!a:.80}")
    while True:
        span = MessageRange(after=after, before=before, limit=chunk)
        messages = await storage.read_messages(session_id, span)
        for message in messages:
            yield message
        if len(messages) < chunk:
            return
        after = messages[-1].position


async def watch(
    storage: SessionStorage, session_id: str, *, after: int, seen: int | None, poll_seconds: float
) -> AsyncIterator[Change]:
    """Yield the changes of a session; see ``SessionStorage.watch``.

    A look reads the header, then what it says has changed. What changes between the two is in the next header too, so
    the copy of the caller ends up right.
    """
    async with storage.wakeups(session_id) as wakeup:
        header = await storage.find_session(session_id)
        if header is None:
            raise SessionNotFoundError(session_id, backend=storage.backend)
        seen, position = _newest_change(header) if seen is None else seen, after
        if seen > _newest_change(header):  # of an earlier session of this id
            seen, position = _newest_change(header), 0
            yield Change("cut", position, number=seen)
        if position > header.last_position:
            position = header.last_position
            yield Change("cut", position, number=seen)
        while True:
            try:
                async for change in _changes(storage, header, seen, position):
                    position = change.position if change.kind != "updated" else position
                    yield change
                seen = _newest_change(header)
                await wakeup.wait(poll_seconds)
            except SessionNotFoundError:
                break
            found = await storage.find_session(session_id)
            if found is None or found.created_at_us != header.created_at_us or _newest_change(found) < seen:
                break  # deleted, and perhaps created again
            header = found
    yield Change("deleted", 0)


def _newest_change(header: SessionRecord) -> int:
    return header.changes[-1].number if header.changes else 0


async def _changes(storage: SessionStorage, header: SessionRecord, seen: int, position: int) -> AsyncIterator[Change]:
    """Yield what a header says that a watcher has not seen.

    Args:
        storage: The storage.
        header: The header.
        seen: The number of the newest change that the watcher has seen.
        position: The newest position that the watcher knows.
    """
    session_id = header.session_id
    for change in header.changes:
        if change.number <= seen or change.position > position:
            continue
        if change.kind == "cut":
            if change.position < position:
                position = change.position
                yield Change("cut", position, number=change.number)
            continue
        for message in await storage.read_messages(session_id, MessageRange(after=change.position - 1, limit=1)):
            if message.position == change.position:
                yield Change("updated", message.position, message, change.number)
    while position < header.last_position:
        span = MessageRange(after=position, before=header.last_position + 1, limit=_WATCHED_AT_ONCE)
        messages = await storage.read_messages(session_id, span)
        for message in messages:
            position = message.position
            yield Change("appended", position, message, _newest_change(header))
        if not messages:  # cut off since the header was read
            return
