"""What every backend shares: rules, life, time and expiry. A backend writes the primitives.

A backend subclasses ``BaseStorage``, sets ``backend_name`` and writes the methods that begin with one
underscore. They are called with checked arguments, on an open storage, with the present time; what
they must do is what ``SessionStorage`` says of the public method of the same name.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from luminoracore_sdk.adapters.clock import SystemClock
from luminoracore_sdk.adapters.storage.documents import DocumentCalls
from luminoracore_sdk.application.ports.clock import Clock
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
    StorageClosedError,
    ValidationError,
    WrongEventLoopError,
)
from luminoracore_sdk.domain.message import MessageRole
from luminoracore_sdk.domain.values import check_id, to_microseconds

__all__ = ["MAX_BATCH", "MAX_PAGE", "BaseStorage", "is_live", "replay_receipt"]

MAX_BATCH = 1000
"""Most messages in one append: six columns each stay below SQLite's and PostgreSQL's 32,766 parameters."""

MAX_PAGE = 1000
"""Most sessions in one page of a listing."""

MAX_MICROSECONDS = 2**62
"""Largest time or duration: the sum of two still fits the 64-bit integers of every backend."""

_ROLES = frozenset(role.value for role in MessageRole)


def is_live(updated_at_us: int, ttl_us: int | None, now_us: int) -> bool:
    """Tell whether a session of that age still counts as there."""
    return ttl_us is None or updated_at_us + ttl_us > now_us


def replay_receipt(
    backend: str, messages: Sequence[MessageRecord], stored: Mapping[str, int]
) -> AppendReceipt | None:
    """Decide what a batch is whose ids may be stored already.

    Args:
        backend: For the error.
        messages: The batch.
        stored: Positions of those of its ids that are stored.
    Returns:
        The first receipt, if the whole batch is stored as it is; None, if none of it is.
    Raises:
        ConflictError: Part of it is stored, or in another order.
    """
    if not stored:
        return None
    positions = [stored.get(message.message_id, 0) for message in messages]
    first = positions[0]
    if first and positions == list(range(first, first + len(messages))):
        return AppendReceipt(first_position=first, last_position=positions[-1], replayed=True)
    known = next(iter(stored))
    raise ConflictError(
        backend=backend,
        key=f"message id {known!a}",
        expected="a batch that is wholly new or wholly stored",
        actual=f"that id at position {stored[known]}",
    )


def _check_times(*microseconds: int | None) -> None:
    for value in microseconds:
        if value is not None and abs(value) > MAX_MICROSECONDS:
            raise ValidationError(f"{value} microseconds are beyond what every backend can keep")


class BaseStorage(DocumentCalls):
    """Template of a backend.

    Args:
        clock: Tells the time for stamps and expiry; the computer's own when None.
    """

    backend_name: ClassVar[str]
    """Short name, for errors and logs."""

    max_payload_bytes: ClassVar[int] = 256 * 1024 * 1024
    """Largest payload of one record."""

    loop_bound: ClassVar[bool] = False
    """Whether what ``_open`` makes belongs to the event loop it was made on."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._is_open = False
        self._is_closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turns: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None

    # -- for backends: the primitives ------------------------------------------------------------

    async def _open(self) -> None:
        """Connect, and make or check the layout; must leave nothing behind when it fails."""

    async def _close(self) -> None:
        """Let go of what ``_open`` made; wait for writes under way."""

    def _abandon(self) -> None:
        """Drop what ``_open`` made on an event loop that is closed by now; nothing can be awaited."""

    @abstractmethod
    async def _ping(self) -> None: ...

    @abstractmethod
    async def _schema_version(self) -> int: ...

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

    # -- life ------------------------------------------------------------------------------------

    @property
    def backend(self) -> str:
        """The backend's short name."""
        return self.backend_name

    async def open(self) -> None:
        """Make the storage ready; see ``SessionStorage.open``."""
        if self._is_open:
            self._check_loop()
        if self._is_open:
            return
        async with self._turn():
            if not self._is_open:
                await self._open()
                self._loop = asyncio.get_running_loop()
                self._is_open, self._is_closed = True, False

    async def close(self) -> None:
        """Let go of everything; see ``SessionStorage.close``."""
        async with self._turn():
            if self._is_open:
                self._check_loop()
            was_open, self._is_open, self._is_closed = self._is_open, False, True
            if was_open:
                await self._close()

    def _turn(self) -> asyncio.Lock:
        """Return the lock that keeps opening and closing apart on the running event loop."""
        loop = asyncio.get_running_loop()
        if self._turns is None or self._turns[0] is not loop:
            self._turns = (loop, asyncio.Lock())
        return self._turns[1]

    def _check_loop(self) -> None:
        if not self.loop_bound or self._loop is asyncio.get_running_loop():
            return
        if self._loop is None or not self._loop.is_closed():
            raise WrongEventLoopError(self.backend_name)
        self._abandon()
        self._is_open = False

    async def _ready(self) -> int:
        """Open at first use, refuse use after close; returns the present in microseconds."""
        if self._is_closed:
            raise StorageClosedError(self.backend_name)
        if not self._is_open or self.loop_bound:
            await self.open()
        return to_microseconds(self._clock.now())

    async def ping(self) -> None:
        """Do the cheapest round trip; see ``SessionStorage.ping``."""
        await self._ready()
        await self._ping()

    async def schema_version(self) -> int:
        """Return the version of the store's layout."""
        await self._ready()
        return await self._schema_version()

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
        _check_times(record.ttl_us, record.created_at_us)
        self._check_size(record.payload, "the session document")
        return await self._put_session(record, expected_version, await self._ready())

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Return a header with its payload, or None."""
        check_id(session_id)
        return await self._find_session(session_id, await self._ready())

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
        if not 1 <= len(messages) <= MAX_BATCH:
            raise ValidationError(f"an append takes 1 to {MAX_BATCH} messages, not {len(messages)}")
        for message in messages:
            check_id(message.message_id, "message id")
            if message.role not in _ROLES:
                raise ValidationError(f"role {message.role!a} is not one of: {', '.join(sorted(_ROLES))}")
            self._check_size(message.payload, "the message")
            _check_times(message.created_at_us)
        if len({message.message_id for message in messages}) < len(messages):
            raise ValidationError("a message id occurs twice in one append")
        return await self._append_messages(session_id, messages, expected_last, await self._ready())

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Return a range, oldest first; see ``SessionStorage.read_messages``."""
        check_id(session_id)
        if span.limit is not None and span.limit < 0:
            raise ValidationError(f"a limit is 0 or more, not {span.limit}")
        return await self._read_messages(session_id, span, await self._ready())

    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Remove what is above a position; see ``SessionStorage.truncate_messages``."""
        check_id(session_id)
        if after < 0:
            raise ValidationError(f"a position is 0 or more, not {after}")
        return await self._truncate_messages(session_id, after, await self._ready())

    # -- memory ----------------------------------------------------------------------------------

    async def put_memory(self, record: MemoryRecord, *, max_entries: int | None = None) -> MemoryRecord:
        """Create or replace a memory; see ``SessionStorage.put_memory``."""
        self._check_memory(record.scope, record.key)
        if max_entries is not None and max_entries < 1:
            raise ValidationError(f"max_entries must be at least 1, not {max_entries}")
        self._check_size(record.payload, "the memory")
        _check_times(record.expires_at_us, record.created_at_us)
        return await self._put_memory(record, max_entries, await self._ready())

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Return one memory, or None."""
        self._check_memory(scope, key)
        return await self._find_memory(scope, key, await self._ready())

    async def list_memories(self, scope: MemoryScope) -> list[MemoryRecord]:
        """Return the memories of a scope, by time of creation, then key."""
        self._check_memory(scope)
        return await self._list_memories(scope, await self._ready())

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete one memory; False: there was none."""
        self._check_memory(scope, key)
        return await self._delete_memory(scope, key, await self._ready())

    async def clear_memories(self, scope: MemoryScope) -> int:
        """Delete every memory of a scope; returns how many were there."""
        self._check_memory(scope)
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

    @staticmethod
    def _check_memory(scope: MemoryScope, key: str | None = None) -> None:
        check_id(scope.owner_id, f"{scope.kind} id")
        if key is not None:
            check_id(key, "memory key")

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
