"""The storage port: what every backend and every wrapper does, in the same way.

An adapter subclasses ``luminoracore_sdk.adapters.storage.base.BaseStorage``, which implements this
port once and asks a backend for the primitives; a wrapper subclasses ``StorageWrapper``.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Purged,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["SessionStorage"]


class SessionStorage(ABC):
    """Keeps sessions, messages and memory.

    Every method may also raise ``StorageUnavailableError`` (or a finer one: access, busy, full,
    read-only, timeout; its ``in_doubt`` says whether a write may have been done),
    ``StorageClosedError``, ``WrongEventLoopError`` and ``InvalidIdError``. Expired sessions and memories
    count as absent everywhere.

    A storage opens itself at first use. Cancelling a call leaves the store as it was or as the call
    would have left it, never in between.
    """

    @property
    @abstractmethod
    def backend(self) -> str:
        """The backend's short name, for errors and logs: memory, json, sqlite …."""

    # -- life ----------------------------------------------------------------------------------

    @abstractmethod
    async def open(self) -> None:
        """Make the storage ready; does nothing when it is open.

        Raises:
            SchemaVersionError: The store was made by another version; it is left as it is.
        """

    @abstractmethod
    async def close(self) -> None:
        """Wait for writes under way, then let go of what this storage opened; safe to call twice.

        A client that the caller passed in is left open.
        """

    @abstractmethod
    async def ping(self) -> None:
        """Do the cheapest round trip that shows the backend answers."""

    @abstractmethod
    async def schema_version(self) -> int:
        """Return the version of the layout that the store has."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # -- sessions ------------------------------------------------------------------------------

    @abstractmethod
    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Create or replace a session's header; its messages and memory stay.

        Args:
            record: With a payload. The store gives times, version and last position.
            expected_version: Only if the stored version is this one; 0: only if there is none.

        Returns:
            The header as stored, with the fields the store gave.

        Raises:
            ConflictError: Another version is stored; nothing was changed.
        """

    @abstractmethod
    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Return a session's header with its payload, or None."""

    @abstractmethod
    async def delete_session(self, session_id: str) -> bool:
        """Delete a session with its messages and memory, all or nothing; False: there was none."""

    @abstractmethod
    async def query_sessions(self, query: SessionQuery) -> Page:
        """Return one page of headers, without payloads.

        A session that is there throughout is listed exactly once, whatever else comes and goes.
        """

    # -- messages ------------------------------------------------------------------------------

    @abstractmethod
    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
    ) -> AppendReceipt:
        """Append 1..1,000 messages, all or none, at the next positions.

        The cost does not depend on the length of the history.

        Args:
            session_id: An existing session.
            messages: Their ids are distinct. If all of them are stored already, in this order, the
                first receipt is returned again and nothing is written, whatever ``expected_last`` is.
            expected_last: Only if the newest position is this one.

        Raises:
            SessionNotFoundError: No such session.
            ConflictError: The newest position is another, or some but not all of the ids are there;
                nothing was written.
            PayloadTooLargeError: A payload is above the backend's limit; nothing was written.
            ValidationError: No message, too many, or an id twice.
        """

    @abstractmethod
    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Return the messages of a range, oldest first.

        Raises:
            SessionNotFoundError: No such session.
            CorruptRecordError: A record of the range cannot be read.
        """

    @abstractmethod
    def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None, chunk: int = 500
    ) -> AsyncIterator[MessageRecord]:
        """Yield the messages of a range, oldest first, in constant memory.

        Args:
            session_id: An existing session.
            after: Positions above this one.
            before: Positions below this one; None: up to the newest when the stream gets there.
            chunk: Messages read at a time.
        """

    @abstractmethod
    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Remove every message above a position, all or nothing; the next append follows on it.

        Returns:
            How many were removed.

        Raises:
            SessionNotFoundError: No such session.
        """

    # -- memory --------------------------------------------------------------------------------

    @abstractmethod
    async def put_memory(self, record: MemoryRecord, *, max_entries: int | None = None) -> MemoryRecord:
        """Create or replace a memory.

        Args:
            record: A session-scoped one needs an existing session.
            max_entries: Afterwards the scope holds at most so many: those with the lowest retention
                went first, never the one just put. A call that was killed may leave one more, until
                the next put.

        Returns:
            The record as stored.

        Raises:
            SessionNotFoundError: The scope is a session that is not there.
        """

    @abstractmethod
    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Return one memory, or None."""

    @abstractmethod
    async def list_memories(self, scope: MemoryScope) -> list[MemoryRecord]:
        """Return the memories of a scope, by time of creation, then key; none for an unknown scope."""

    @abstractmethod
    async def list_memory_owners(self, *, after: str | None = None, limit: int = 1000) -> list[str]:
        """Return the ids of users that have memories, in a fixed order of the backend's own.

        A user that has a memory throughout is listed exactly once over all pages, whatever is put and
        deleted meanwhile. Sessions are listed by ``query_sessions``.

        Args:
            after: The last id of the page before; None: from the beginning.
            limit: Most ids in a page, 1..1000.

        Returns:
            0..limit ids; none: the end.
        """

    @abstractmethod
    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete one memory; False: there was none."""

    @abstractmethod
    async def clear_memories(self, scope: MemoryScope) -> int:
        """Delete every memory of a scope; returns how many were there."""

    @abstractmethod
    async def purge_expired(self) -> Purged:
        """Remove what has expired from the store, sessions (with all they hold) and memories."""

    # -- documents -----------------------------------------------------------------------------

    @abstractmethod
    async def save_session(self, session_id: str, data: JSONObject) -> bool:
        """Store any JSON object as the session's own document; messages and memory stay.

        Returns:
            True; every failure is an error.

        Raises:
            InvalidJSONError: Not a JSON object; nothing was written.
        """

    @abstractmethod
    async def load_session(self, session_id: str) -> JSONObject | None:
        """Return the session's own document, equal to what was saved, or None."""

    @abstractmethod
    async def list_sessions(self) -> list[str]:
        """Return the ids of all sessions, by time of creation, then id."""

    @abstractmethod
    async def session_exists(self, session_id: str) -> bool:
        """Tell whether there is such a session."""
