"""Measure a store: bytes as JSON and as stored, tokens as JSON and in the prompt."""

from collections import deque
from collections.abc import AsyncGenerator, Iterable

import attrs

from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.prompt_tokens import PromptTokens, prompt_tokens
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import headers, indexes
from luminoracore_sdk.domain.errors import CorruptRecordError, SessionNotFoundError
from luminoracore_sdk.domain.message import not_deleted
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.settings import SessionType
from luminoracore_sdk.domain.values import STORE_OWNER

__all__ = ["SessionFigures", "StoreFigures"]


@attrs.frozen(kw_only=True)
class SessionFigures:
    """The figures of one session with its messages and memories.

    Attributes:
        session_id: The id of the session.
        messages: The number of messages.
        memories: The number of memories.
        json_bytes: The size of all its records as compact JSON in UTF-8.
        stored_bytes: Their size as stored: payloads, indexes of messages, and the names of their encodings.
        tokens: The tokens of what would be sent to a model now; None: not counted, or the session's document
            was not written by a SessionManager.
        reason: Why the session cannot be read, in which case all figures are 0; else None.
    """

    session_id: str
    messages: int = 0
    memories: int = 0
    json_bytes: int = 0
    stored_bytes: int = 0
    tokens: PromptTokens | None = None
    reason: str | None = None


class StoreFigures:
    """Measures the sessions of a store, which is only read and may be in use.

    Args:
        storage: The storage with the wrappers that decode its payloads.
        backend: The same storage below all wrappers.
        values: Decodes payloads.
        services: Counts tokens; None: tokens are not counted.
    """

    def __init__(
        self, storage: SessionStorage, backend: SessionStorage, *, values: ValueCodec, services: Services | None
    ) -> None:
        self._storage = storage
        self._backend = backend
        self._values = values
        self._services = services

    async def run(self, query: SessionQuery | None = None) -> AsyncGenerator[SessionFigures, None]:
        """Yield the figures of each session, by time of creation, in constant memory.

        A session that is deleted meanwhile is skipped.

        Args:
            query: The sessions to measure; None: all.
        """
        async for header in headers(self._storage, query or SessionQuery()):
            try:
                yield await self._session(header.session_id)
            except SessionNotFoundError:
                continue
            except CorruptRecordError as exc:
                yield SessionFigures(session_id=header.session_id, reason=str(exc))

    async def own_bytes(self) -> int:
        """Return the size of the store's own records: dictionaries and marks."""
        return _stored(await self._backend.list_memories(MemoryScope("user", STORE_OWNER)))

    async def _session(self, session_id: str) -> SessionFigures:
        record = await self._storage.find_session(session_id)
        stored = await self._backend.find_session(session_id)
        if record is None or record.payload is None or stored is None or stored.payload is None:
            raise SessionNotFoundError(session_id, backend=self._backend.backend)
        session = self._managed(record, record.payload)
        window, messages, json_bytes = await self._messages(record, session)
        scope = MemoryScope("session", session_id)
        memories = await self._storage.list_memories(scope)
        for memory in memories:
            json_bytes += self._json(memory.payload, f"memory {memory.key!a} of session {session_id!a}")
        stored_bytes = _size(stored.payload) + _stored(await self._backend.list_memories(scope))
        async for message in self._backend.stream_messages(session_id, before=record.last_position + 1):
            stored_bytes += _size(message.payload)
        async for one in indexes(self._backend, session_id, before=record.last_position + 1):
            stored_bytes += 0 if one.index is None else _size(one.index)
        tokens = None
        if self._services is not None and session is not None:
            tokens = _tokens(self._services, session, window, memories, self._backend.backend)
        return SessionFigures(
            session_id=session_id,
            messages=messages,
            memories=len(memories),
            json_bytes=json_bytes + len(record.payload.data),
            stored_bytes=stored_bytes,
            tokens=tokens,
        )

    async def _messages(
        self, record: SessionRecord, session: Session | None
    ) -> tuple[Iterable[MessageRecord], int, int]:
        """Return the newest messages that a prompt may contain, and the number and JSON size of all messages."""
        window = deque[MessageRecord](maxlen=_window_size(session))
        count = json_bytes = 0
        messages = self._storage.stream_messages(record.session_id, before=record.last_position + 1)
        async for message in messages:
            key = f"message {message.position} of session {record.session_id!a}"
            json_bytes += self._json(message.payload, key)
            count += 1
            window.append(message)
        return window, count, json_bytes

    def _managed(self, record: SessionRecord, payload: Payload) -> Session | None:
        """Return the session of a record, if tokens are counted and its document is that of a SessionManager.

        Raises:
            CorruptRecordError: The document is damaged.
        """
        key = f"session {record.session_id!a}"
        document = self._values.decode(payload, backend=self._backend.backend, key=key)
        if self._services is None or not (isinstance(document, dict) and "v" in document):
            return None  # ``SessionStorage.save_session`` stores any document
        return self._services.codec.session(record, backend=self._backend.backend)

    def _json(self, payload: Payload, key: str) -> int:
        """Return the size of a decoded payload, or raise an error if it is unreadable."""
        self._values.decode(payload, backend=self._backend.backend, key=key)
        return len(payload.data)


def _window_size(session: Session | None) -> int:
    if session is None or session.config.session_type is SessionType.STATELESS:
        return 0
    # message_count keeps the bound below 64 bits, which a deque requires
    return min(session.config.max_history_length, session.config.max_history, session.message_count)


def _tokens(
    services: Services,
    session: Session,
    window: Iterable[MessageRecord],
    memories: Iterable[MemoryRecord],
    backend: str,
) -> PromptTokens:
    codec, session_id = services.codec, session.session_id
    is_remembered = session.config.include_context_in_prompt and session.config.memory_enabled
    return prompt_tokens(
        not_deleted(codec.message(message, backend=backend, session_id=session_id) for message in window),
        [codec.memory(memory, backend=backend) for memory in memories if is_remembered],
        services.tokens,
        services.notations,
    )


def _size(payload: Payload) -> int:
    return len(payload.data) + len(payload.encoding)


def _stored(memories: Iterable[MemoryRecord]) -> int:
    return sum(_size(memory.payload) for memory in memories)
