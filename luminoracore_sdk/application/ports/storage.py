"""The storage port: the contract of every backend and wrapper.

A backend subclasses ``luminoracore_sdk.adapters.storage.base.BaseStorage``, which implements this port on a
few primitives; a wrapper subclasses ``StorageWrapper``.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Self

from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    IndexRecord,
    IndexRewrite,
    Lease,
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    Purged,
    RewriteMessage,
    SessionQuery,
    SessionRecord,
    TailReceipt,
    TurnRecords,
)
from luminoracore_sdk.application.ports.watching import Change, Wakeup
from luminoracore_sdk.domain.errors import SessionNotFoundError
from luminoracore_sdk.domain.json_value import JSONObject

if TYPE_CHECKING:
    from luminoracore_sdk.application.ports.searching import Search

__all__ = ["SessionStorage"]


class SessionStorage(ABC):
    """Stores sessions, messages and memories.

    Every method may also raise ``StorageUnavailableError`` (or a subclass: access, busy, full, read-only,
    timeout; its ``in_doubt`` says whether a write may have been done), ``StorageClosedError``,
    ``WrongEventLoopError`` and ``InvalidIdError``. Expired sessions and memories count as absent everywhere.

    A storage opens itself at first use. A cancelled call has either its whole effect or none.
    """

    @property
    @abstractmethod
    def backend(self) -> str:
        """The short name of the backend, for errors and logs: memory, json, sqlite …."""

    @property
    def search(self) -> "Search | None":
        """How what is stored is found; None: search is off."""
        return None

    # -- lifecycle -----------------------------------------------------------------------------

    @abstractmethod
    async def open(self) -> None:
        """Open the storage; does nothing if it is open.

        Raises:
            SchemaVersionError: The layout of the store has another version; nothing was changed.
        """

    @abstractmethod
    async def close(self) -> None:
        """Wait for writes in progress, then release what this storage opened; may be called twice.

        A client that the caller passed in stays open.
        """

    @abstractmethod
    async def ping(self) -> None:
        """Make the cheapest round trip that shows that the backend responds."""

    @abstractmethod
    async def schema_version(self) -> int:
        """Return the version of the store's layout."""

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    # -- sessions ------------------------------------------------------------------------------

    @abstractmethod
    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Create or replace the header of a session; its messages and memories stay.

        Args:
            record: A header with a payload; the store assigns times, version and last position.
            expected_version: Write only if this version is stored; 0: only if no session is stored.

        Returns:
            The header as stored.

        Raises:
            ConflictError: Another version is stored; nothing was changed.
            PayloadTooLargeError: The payload exceeds the backend's limit; nothing was changed.
            ValidationError: The header has no payload, or its ttl is not above 0.
        """

    @abstractmethod
    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Return the header of a session with its payload, or None."""

    @abstractmethod
    async def delete_session(self, session_id: str) -> bool:
        """Delete a session with its messages and memories, all or nothing; return False if there is none."""

    @abstractmethod
    async def query_sessions(self, query: SessionQuery) -> Page:
        """Return one page of headers without payloads; no message is read.

        A session that exists throughout is listed exactly once over all pages, even if other sessions are
        created and deleted meanwhile.
        """

    @abstractmethod
    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        """Create a session with a copy of the messages of another one up to a position, all or nothing.

        Ids, times, positions and indexes stay. Afterwards the two are independent: changing, deleting or expiry of one
        does not affect the other. Memories are not copied.

        Args:
            source_id: An existing session.
            record: The header of the new session. Its summary gives the briefs, and counters besides those of roles,
                which are counted.
            at: The last position to copy, 0 to the newest of the source.
            rewrite: Returns each message as it is to be stored, with another payload and index; None: they stay. May
                be called in another thread, and more than once.

        Returns:
            The new header as stored.

        Raises:
            SessionNotFoundError: There is no source.
            ConflictError: The new session exists already, or the source ends below ``at``; nothing was changed.
            PayloadTooLargeError: A payload exceeds the backend's limit; nothing was changed.
            ValidationError: The header has no payload, or its ttl is not above 0.
        """

    # -- leases --------------------------------------------------------------------------------

    @abstractmethod
    async def acquire_lease(self, session_id: str, *, holder: str, ttl_us: int) -> Lease:
        """Take or renew the lease of a session; neither is a change of the session.

        The fence of the first lease is its time. A lease that has ended, or was released, passes to whoever asks, and
        its fence is incremented. The holder of a lease that has not ended renews it, and its fence stays. Whether it
        has ended is judged by the clock of the caller, so the clocks of processes must differ by less than ``ttl_us``;
        the fence protects what is stored even if they do not.

        Args:
            session_id: An existing session.
            holder: A name that no other holder uses.
            ttl_us: Microseconds from now until it ends.

        Raises:
            SessionNotFoundError: No such session.
            LeaseHeldError: Another holder has it.
            ValidationError: ``ttl_us`` is not a whole number above 0.
        """

    @abstractmethod
    async def release_lease(self, session_id: str, *, fence: int) -> bool:
        """End a lease; return False if it has passed to another holder, or there is no such session.

        Its fence stays valid for appends until another holder takes the lease.
        """

    # -- messages ------------------------------------------------------------------------------

    @abstractmethod
    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Append 1..1,000 messages, all or none, at the next positions, and fold them into the summary.

        The cost does not depend on the length of the history.

        Args:
            session_id: An existing session.
            messages: Messages with distinct ids. If all of them are stored already, in this order, nothing
                is written and their first receipt is returned, regardless of ``expected_last`` and ``fence``.
            expected_last: Append only if this is the newest position.
            fence: Append only if this is the fence of the latest lease, which may have ended.

        Raises:
            SessionNotFoundError: No such session.
            LeaseLostError: The lease has passed to another holder; nothing was written.
            ConflictError: The newest position is another, or some but not all of the ids are stored;
                nothing was written.
            PayloadTooLargeError: A payload exceeds the backend's limit; nothing was written.
            ValidationError: No message, too many, an id twice, an unknown role, a brief or index is too large, a
                number is no whole one, or no lease can have the fence.
        """

    @abstractmethod
    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Return the messages of a range, oldest first.

        Raises:
            SessionNotFoundError: No such session.
            CorruptRecordError: A record of the range cannot be read.
            ValidationError: A bound is no whole number, or a limit is below 0.
        """

    @abstractmethod
    def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None, chunk: int = 500
    ) -> AsyncIterator[MessageRecord]:
        """Yield the messages of a range, oldest first, in constant memory.

        Args:
            session_id: An existing session.
            after: Only positions above this one.
            before: Only positions below this one; None: up to the newest one when the stream gets there.
            chunk: Number of messages read at a time.

        Raises:
            SessionNotFoundError: No such session.
            CorruptRecordError: A record of the range cannot be read.
            ValidationError: A bound is no whole number, or a chunk holds no message.
        """

    @abstractmethod
    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Remove every message above a position, all or nothing; the next append continues from there.

        Returns:
            The number of removed messages.

        Raises:
            SessionNotFoundError: No such session.
        """

    @abstractmethod
    async def find_message(self, session_id: str, message_id: str) -> MessageRecord | None:
        """Return the message of an id, or None; does not search through the history."""

    @abstractmethod
    async def replace_tail(
        self,
        session_id: str,
        *,
        after: int,
        messages: Sequence[MessageRecord] = (),
        expected_last: int | None = None,
        expected_change: int | None = None,
        fence: int | None = None,
    ) -> TailReceipt:
        """Remove every message above a position and append others there, all or nothing.

        A pop, a rewind and a regenerated answer are cases of it. ``truncate_messages`` removes a tail of any length
        without reading it.

        Args:
            session_id: An existing session.
            after: The last position that is kept; the first of ``messages`` is stored behind it.
            messages: 0..1,000 messages with distinct ids. If all of them are stored already at these positions,
                nothing is changed, regardless of the conditions below.
            expected_last: Replace only if this is the newest position.
            expected_change: Replace only if this is the session's ``last_change``: if that was read before the
                tail, nothing in the tail was updated or replaced since.
            fence: Replace only if this is the fence of the latest lease, which may have ended.

        Raises:
            SessionNotFoundError: No such session.
            LeaseLostError: The lease has passed to another holder; nothing was changed.
            ConflictError: The newest position is not ``expected_last`` or is below ``after``, the latest change is not
                ``expected_change``, or an id is stored already, be it in the tail; nothing was changed.
            PayloadTooLargeError: A payload exceeds the backend's limit; nothing was changed.
            ValidationError: Too many messages, an id twice, an unknown role, a position below 0, a number is no
                whole one, or no lease can have the fence.
        """

    @abstractmethod
    async def update_message(
        self,
        session_id: str,
        position: int,
        *,
        payload: Payload,
        expected: Payload,
        brief: Payload | None = None,
        index: Payload | None = None,
    ) -> MessageRecord:
        """Replace the payload of a message, if it is the expected one.

        Id, role, time and position stay, and so does the session's time of change.

        Args:
            session_id: An existing session.
            position: The position of the message.
            payload: The new payload. If it is stored already, nothing is changed.
            expected: The payload that was read.
            brief: Replaces the brief of the message where the summary of the session has it; None: it is removed.
            index: Replaces the index of the message; None: it is removed.

        Returns:
            The message as it is now.

        Raises:
            SessionNotFoundError: No such session.
            ConflictError: There is no message at the position, or its payload is another one; nothing was changed.
            PayloadTooLargeError: The payload exceeds the backend's limit; nothing was changed.
        """

    @abstractmethod
    async def read_index(self, session_id: str, span: MessageRange) -> list[IndexRecord]:
        """Return what an index of the messages of a range is made of, oldest first; payloads are not read.

        An index in another process follows a session by its header: what is above the last position that it has seen
        is new, and ``last_change`` tells that something below it was updated or cut since. ``rewrite_index`` is no
        such change.

        Raises:
            SessionNotFoundError: No such session.
            CorruptRecordError: A record of the range cannot be read.
            ValidationError: A bound is no whole number, or a limit is below 0.
        """

    @abstractmethod
    async def rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite]) -> int:
        """Replace the indexes of 1..1,000 messages, in any order, each only if it is still the one that was read.

        Nothing else changes, neither times and version nor ``changes``.

        Returns:
            How many were replaced; 0 if there is no such session. A message that was removed, or that has another id
            or index, is left unchanged and not counted.

        Raises:
            ValidationError: No change, too many, a position below 1, a position twice, or an index is too large;
                nothing was changed.
            PayloadTooLargeError: The backend has no room for them beside the payloads; some may have been replaced.
        """

    @abstractmethod
    def watch(
        self, session_id: str, *, after: int = 0, seen: int | None = None, poll_seconds: float = 0.5
    ) -> AsyncIterator[Change]:
        """Yield what is stored above a position, then every change that follows, until the session is deleted.

        Applying the changes in order to a copy of the messages gives the stored messages. A change may be yielded
        more than once, and several that follow quickly may be yielded as one: a message that was appended and removed
        between two looks is not seen. Nothing is lost when a server is not reachable for a while: errors are raised
        to the caller, who watches again from the last position and number.

        Args:
            session_id: An existing session.
            after: The newest position that the caller knows. If the session ends below it, the first change is a cut.
            seen: The ``number`` of the latest change that the caller has followed: what was updated or cut since comes
                first. None: the caller knows the messages up to ``after`` as they are now.
            poll_seconds: Longest time between two looks; writers of the same storage, and of every storage where the
                server tells of changes, are seen at once.

        Raises:
            SessionNotFoundError: No such session.
            CorruptRecordError: A record cannot be read.
            ValidationError: ``after`` is no position, or ``seen`` no number.
        """

    @abstractmethod
    def wakeups(self, session_id: str) -> AbstractAsyncContextManager[Wakeup]:
        """Return what wakes a watcher of a session within the block; a wake-up may be missing, or come for nothing."""

    async def read_turn(self, session_id: str, *, newest: int) -> TurnRecords | None:
        """Return the header of a session, its memories and its newest messages, or None.

        This is what a turn reads. The backends of this package do it in one round trip; a storage that does not
        override it calls ``find_session``, ``list_memories`` and ``read_messages``, one after the other.

        Args:
            session_id: Any id.
            newest: Largest number of messages.

        Raises:
            CorruptRecordError: A record cannot be read.
        """
        session = await self.find_session(session_id)
        if session is None:
            return None
        memories = await self.list_memories(MemoryScope("session", session_id))
        try:
            messages = await self.read_messages(session_id, MessageRange(limit=newest, newest=True))
        except SessionNotFoundError:  # deleted meanwhile
            return None
        return TurnRecords(session=session.of_turn(), memories=memories, messages=messages)

    # -- memory --------------------------------------------------------------------------------

    async def put_memory(
        self, record: MemoryRecord, *, max_entries: int | None = None, expected_version: int | None = None
    ) -> MemoryRecord:
        """Create or replace a memory: ``change_memories`` with one put.

        Args:
            record: The memory. One of session scope needs an existing session.
            max_entries: Evict memories until the scope has at most so many, those with the lowest retention
                first, but never the new one. Those whose retention is ``NEVER_EVICTED`` or more stay, and do not
                count. A killed process may leave one more until the next put.
            expected_version: Write only if this version is stored; 0: only if none is.

        Returns:
            The record as stored.

        Raises:
            SessionNotFoundError: The scope is a session that does not exist.
            ConflictError: Another version is stored, or none; nothing was changed.
            PayloadTooLargeError: The payload exceeds the backend's limit; nothing was changed.
        """
        [stored] = await self.change_memories(
            record.scope, [MemoryPut(record, expected_version)], max_entries=max_entries
        )
        return stored

    @abstractmethod
    async def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        """Put and delete memories of one scope, all or nothing.

        Args:
            scope: The scope. A session must exist.
            puts: The memories to create or replace; each is of this scope.
            deletes: Keys to delete; those that are absent are ignored. With ``puts``, 1..1,000 distinct keys.
            max_entries: Afterwards evict memories until the scope has at most so many, see ``put_memory``, but never
                those that were put.

        Returns:
            The records as stored, in the order of ``puts``.

        Raises:
            SessionNotFoundError: The scope is a session that does not exist.
            ConflictError: Another version than an expected one is stored, or none; nothing was changed.
            PayloadTooLargeError: A payload, or all together, exceed the backend's limit; nothing was changed.
            ValidationError: No key, too many, a key twice, or a put of another scope or without payload.
        """

    @abstractmethod
    async def touch_memories(self, scope: MemoryScope, keys: Sequence[str], *, expires_at_us: int | None) -> int:
        """Change when memories expire, all or nothing; everything else stays, also their version.

        Args:
            scope: The scope.
            keys: 1..1,000 distinct keys; those that are absent are ignored.
            expires_at_us: The time from which they count as absent; None: never.

        Returns:
            The number of those that existed.
        """

    @abstractmethod
    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Return one memory, or None."""

    @abstractmethod
    async def list_memories(self, scope: MemoryScope, query: MemoryQuery | None = None) -> list[MemoryRecord]:
        """Return memories of a scope; none for an unknown scope.

        A memory that exists throughout is listed exactly once over all pages, even if others are put and deleted
        meanwhile. One call never returns a part of what ``change_memories`` changes.

        Args:
            scope: The scope.
            query: Which ones, by key; None: all, by time of creation, then key.
        """

    @abstractmethod
    async def list_memory_owners(self, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> list[str]:
        """Return one page of the ids of users that have memories, in a fixed order of the backend's own.

        A user that has a memory throughout is listed exactly once over all pages, even if other memories are
        put and deleted meanwhile. The reserved owner of a store's own records is never listed.

        Args:
            prefix: Only ids that begin with it.
            after: The last id of the previous page; None: the first page.
            limit: Largest number of ids in a page, 1..1000.

        Returns:
            0..limit ids; an empty page is the end.
        """

    @abstractmethod
    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delete one memory; return False if there is none."""

    @abstractmethod
    async def clear_memories(self, scope: MemoryScope) -> int:
        """Delete every memory of a scope; return their number."""

    @abstractmethod
    async def purge_expired(self) -> Purged:
        """Remove expired sessions, with their messages and memories, and expired memories."""

    # -- documents -----------------------------------------------------------------------------

    @abstractmethod
    async def save_session(self, session_id: str, data: JSONObject) -> bool:
        """Store any JSON object as the session's own document; its messages and memories stay.

        Returns:
            True; every failure raises an error.

        Raises:
            InvalidJSONError: ``data`` is not a JSON object; nothing was written.
        """

    @abstractmethod
    async def load_session(self, session_id: str) -> JSONObject | None:
        """Return the session's own document, equal to the saved one, or None."""

    @abstractmethod
    async def list_sessions(self) -> list[str]:
        """Return the ids of all sessions, by time of creation, then id."""

    @abstractmethod
    async def session_exists(self, session_id: str) -> bool:
        """Return whether there is such a session."""
