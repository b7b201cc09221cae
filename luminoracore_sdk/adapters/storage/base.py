"""What every backend shares: rules, life, time and expiry. A backend writes the primitives.

A backend subclasses ``BaseStorage``, sets ``backend_name`` and writes the methods that begin with one
underscore. They are called with checked arguments, on an open storage, with the present time; what
they must do is what ``SessionStorage`` says of the public method of the same name.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from luminoracore_sdk.adapters.compression.stored import load_dictionaries, tags_of
from luminoracore_sdk.adapters.storage.life import StorageLife
from luminoracore_sdk.adapters.storage.rules import (
    MAX_BATCH,
    MAX_PAGE,
    ROLES,
    check_times,
    is_live,
    replay_receipt,
)
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import (
    ConflictError,
    PayloadTooLargeError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.values import check_id

__all__ = ["MAX_BATCH", "MAX_PAGE", "BaseStorage", "is_live", "replay_receipt"]


def _check_scope(scope: MemoryScope) -> None:
    check_id(scope.owner_id, f"{scope.kind} id")


class BaseStorage(StorageLife):
    """Template of a backend.

    Args:
        clock: Tells the time for stamps and expiry; the computer's own when None.
    """

    max_payload_bytes: ClassVar[int] = 256 * 1024 * 1024
    """Largest payload of one record."""

    # -- for backends: the primitives ------------------------------------------------------------

    @abstractmethod
    async def _put_session(
        self, record: SessionRecord, expected_version: int | None, now_us: int
    ) -> SessionRecord: ...

    @abstractmethod
    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None: ...

    @abstractmethod
    async def _delete_session(self, session_id: str, now_us: int) -> bool: ...

    @abstractmethod
    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page: ...

    @abstractmethod
    async def _append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        expected_last: int | None,
        now_us: int,
    ) -> AppendReceipt: ...

    @abstractmethod
    async def _read_messages(
        self, session_id: str, span: MessageRange, now_us: int
    ) -> list[MessageRecord]: ...

    @abstractmethod
    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int: ...

    @abstractmethod
    async def _put_memory(
        self, record: MemoryRecord, max_entries: int | None, now_us: int
    ) -> MemoryRecord: ...

    @abstractmethod
    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None: ...

    @abstractmethod
    async def _list_memories(self, scope: MemoryScope, now_us: int) -> list[MemoryRecord]: ...

    @abstractmethod
    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool: ...

    @abstractmethod
    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int: ...

    @abstractmethod
    async def _purge_expired(self, now_us: int) -> Purged: ...

    # -- sessions --------------------------------------------------------------------------------

    async def put_session(
        self, record: SessionRecord, *, expected_version: int | None = None
    ) -> SessionRecord:
        """Create or replace a header; see ``SessionStorage.put_session``."""
        check_id(record.session_id)
        if record.user_id is not None:
            check_id(record.user_id, "user id")
        for tag in record.tags:
            check_id(tag, "tag")
        if record.payload is None:
            raise ValidationError("a session is stored with a payload")
        if record.ttl_us is not None and record.ttl_us <= 0:
            raise ValidationError(f"a session's ttl must be above 0, not {record.ttl_us} microseconds")
        check_times(record.ttl_us, record.created_at_us)
        self._check_size(record.payload, "the session document")
        return await self._put_session(record, expected_version, await self._ready())

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Return a header with its payload, or None."""
        check_id(session_id)
        record = await self._find_session(session_id, await self._ready())
        await load_dictionaries(self, tags_of([record] if record else []))
        return record

    async def delete_session(self, session_id: str) -> bool:
        """Delete a session with all it holds; see ``SessionStorage.delete_session``."""
        check_id(session_id)
        return await self._delete_session(session_id, await self._ready())

    async def query_sessions(self, query: SessionQuery) -> Page:
        """Return one page of headers; see ``SessionStorage.query_sessions``."""
        if not 1 <= query.limit <= MAX_PAGE:
            raise ValidationError(f"a page holds 1 to {MAX_PAGE} sessions, not {query.limit}")
        if query.user_id is not None:
            check_id(query.user_id, "user id")
        if query.tag is not None:
            check_id(query.tag, "tag")
        if query.cursor is not None:
            check_id(query.cursor[1], "cursor")
        return await self._query_sessions(query, await self._ready())

    # -- messages --------------------------------------------------------------------------------

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
    ) -> AppendReceipt:
        """Append all or none; see ``SessionStorage.append_messages``."""
        check_id(session_id)
        messages = tuple(messages)  # the caller may change his list while this waits
        if not 1 <= len(messages) <= MAX_BATCH:
            raise ValidationError(f"an append takes 1 to {MAX_BATCH} messages, not {len(messages)}")
        for message in messages:
            check_id(message.message_id, "message id")
            if message.role not in ROLES:
                raise ValidationError(f"role {message.role!a} is not one of: {', '.join(sorted(ROLES))}")
            self._check_size(message.payload, "the message")
            check_times(message.created_at_us)
        if len(messages) > 1 and len({message.message_id for message in messages}) < len(messages):
            raise ValidationError("a message id occurs twice in one append")
        return await self._append_messages(session_id, messages, expected_last, await self._ready())

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Return a range, oldest first; see ``SessionStorage.read_messages``."""
        check_id(session_id)
        if span.limit is not None and span.limit < 0:
            raise ValidationError(f"a limit is 0 or more, not {span.limit}")
        messages = await self._read_messages(session_id, span, await self._ready())
        await load_dictionaries(self, {message.payload.tag for message in messages})
        return messages

    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Remove what is above a position; see ``SessionStorage.truncate_messages``."""
        check_id(session_id)
        if after < 0:
            raise ValidationError(f"a position is 0 or more, not {after}")
        return await self._truncate_messages(session_id, after, await self._ready())

    # -- memory ----------------------------------------------------------------------------------

    async def put_memory(self, record: MemoryRecord, *, max_entries: int | None = None) -> MemoryRecord:
        """Create or replace a memory; see ``SessionStorage.put_memory``."""
        _check_scope(record.scope)
        check_id(record.key, "memory key")
        if max_entries is not None and max_entries < 1:
            raise ValidationError(f"max_entries must be at least 1, not {max_entries}")
        if isinstance(record.retention, float) and math.isnan(record.retention):
            raise ValidationError("a memory's retention is a number, not NaN")
        self._check_size(record.payload, "the memory")
        check_times(record.expires_at_us, record.created_at_us)
        return await self._put_memory(record, max_entries, await self._ready())

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Return one memory, or None."""
        _check_scope(scope)
        check_id(key, "memory key")
        record = await self._find_memory(scope, key, await self._ready())
        await load_dictionaries(self, tags_of([record] if record else []))
        return record

    async def list_memories(self, scope: MemoryScope) -> list[MemoryRecord]:
        """Return the memories of a scope, by time of creation, then key."""
        _check_scope(scope)
        memories = await self._list_memories(scope, await self._ready())
        await load_dictionaries(self, tags_of(memories))
        return memories

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete one memory; False: there was none."""
        _check_scope(scope)
        check_id(key, "memory key")
        return await self._delete_memory(scope, key, await self._ready())

    async def clear_memories(self, scope: MemoryScope) -> int:
        """Delete every memory of a scope; returns how many were there."""
        _check_scope(scope)
        return await self._clear_memories(scope, await self._ready())

    async def purge_expired(self) -> Purged:
        """Remove what has expired; see ``SessionStorage.purge_expired``."""
        return await self._purge_expired(await self._ready())

    # -- rules -----------------------------------------------------------------------------------

    def _check_size(self, payload: Payload, what: str) -> None:
        if len(payload.data) > self.max_payload_bytes:
            raise PayloadTooLargeError(
                backend=self.backend_name,
                key=what,
                size_bytes=len(payload.data),
                limit_bytes=self.max_payload_bytes,
            )

    def _not_found(self, session_id: str) -> SessionNotFoundError:
        return SessionNotFoundError(session_id, backend=self.backend_name)

    def _version_conflict(self, session_id: str, expected: int, actual: int) -> ConflictError:
        return ConflictError(
            backend=self.backend_name,
            key=f"session {session_id!a}",
            expected=f"version {expected}" if expected else "no such session",
            actual=f"version {actual}" if actual else "no such session",
        )

    def _position_conflict(self, session_id: str, expected: int, actual: int) -> ConflictError:
        return ConflictError(
            backend=self.backend_name,
            key=f"session {session_id!a}",
            expected=f"last position {expected}",
            actual=f"last position {actual}",
        )
