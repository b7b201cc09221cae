"""The base of every wrapper: a storage that delegates every call to another storage."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from luminoracore_sdk.adapters.storage import documents
from luminoracore_sdk.adapters.storage.base import check_position
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
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.ports.watching import Change, Wakeup
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.values import check_id

if TYPE_CHECKING:
    from luminoracore_sdk.application.ports.searching import Search

__all__ = ["StorageWrapper", "read_message"]


async def read_message(storage: SessionStorage, session_id: str, position: int) -> MessageRecord | None:
    """Return the message at a position, or None.

    Raises:
        SessionNotFoundError: No such session.
    """
    span = MessageRange(after=position - 1, limit=1) if position > 0 else MessageRange(limit=0)
    found = await storage.read_messages(session_id, span)
    return found[0] if found else None


class StorageWrapper(SessionStorage):
    """Delegate every primitive to a storage below; subclasses override those that they change.

    The document calls and the stream are built on the wrapper's own primitives, so that they pass through its
    changes. Opening and closing a wrapper opens and closes the storage below.

    Args:
        base: The storage below.

    Attributes:
        base: The storage below.
    """

    def __init__(self, base: SessionStorage) -> None:
        self.base = base

    def _target(self, session_id: str) -> SessionStorage:  # noqa: ARG002  # for wrappers that choose by it
        """Return the storage that calls about a session are delegated to."""
        return self.base

    def _memory_target(self, scope: MemoryScope) -> SessionStorage:
        """Return the storage that calls about a memory scope are delegated to."""
        return self._target(scope.owner_id) if scope.kind == "session" else self.base

    @property
    def backend(self) -> str:
        """The short name of the backend."""
        return self.base.backend

    @property
    def search(self) -> "Search | None":
        """How what is stored is found; None: search is off."""
        return self.base.search

    async def open(self) -> None:
        """Open the storage below."""
        await self.base.open()

    async def close(self) -> None:
        """Close the storage below."""
        await self.base.close()

    async def ping(self) -> None:
        """Ping the storage below."""
        await self.base.ping()

    async def schema_version(self) -> int:
        """Return the version of the layout of the storage below."""
        return await self.base.schema_version()

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Delegate; see ``SessionStorage.put_session``."""
        return await self._target(record.session_id).put_session(record, expected_version=expected_version)

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Delegate; see ``SessionStorage.find_session``."""
        return await self._target(session_id).find_session(session_id)

    async def delete_session(self, session_id: str) -> bool:
        """Delegate; see ``SessionStorage.delete_session``."""
        return await self.base.delete_session(session_id)

    async def query_sessions(self, query: SessionQuery) -> Page:
        """Delegate; see ``SessionStorage.query_sessions``."""
        return await self.base.query_sessions(query)

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        """Delegate; see ``SessionStorage.fork_session``."""
        return await self._target(source_id).fork_session(source_id, record, at=at, rewrite=rewrite)

    async def acquire_lease(self, session_id: str, *, holder: str, ttl_us: int) -> Lease:
        """Delegate; see ``SessionStorage.acquire_lease``."""
        return await self._target(session_id).acquire_lease(session_id, holder=holder, ttl_us=ttl_us)

    async def release_lease(self, session_id: str, *, fence: int) -> bool:
        """Delegate; see ``SessionStorage.release_lease``."""
        return await self._target(session_id).release_lease(session_id, fence=fence)

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Delegate; see ``SessionStorage.append_messages``."""
        target = self._target(session_id)
        return await target.append_messages(session_id, messages, expected_last=expected_last, fence=fence)

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Delegate; see ``SessionStorage.read_messages``."""
        return await self._target(session_id).read_messages(session_id, span)

    async def find_message(self, session_id: str, message_id: str) -> MessageRecord | None:
        """Delegate; see ``SessionStorage.find_message``."""
        return await self._target(session_id).find_message(session_id, message_id)

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
        """Delegate; see ``SessionStorage.replace_tail``."""
        return await self._target(session_id).replace_tail(
            session_id,
            after=after,
            messages=messages,
            expected_last=expected_last,
            expected_change=expected_change,
            fence=fence,
        )

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
        """Delegate; see ``SessionStorage.update_message``."""
        target = self._target(session_id)
        return await target.update_message(
            session_id, position, payload=payload, expected=expected, brief=brief, index=index
        )

    async def read_index(self, session_id: str, span: MessageRange) -> list[IndexRecord]:
        """Delegate; see ``SessionStorage.read_index``."""
        return await self._target(session_id).read_index(session_id, span)

    async def rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite]) -> int:
        """Delegate; see ``SessionStorage.rewrite_index``."""
        return await self._target(session_id).rewrite_index(session_id, changes)

    def watch(
        self, session_id: str, *, after: int = 0, seen: int | None = None, poll_seconds: float = 0.5
    ) -> AsyncIterator[Change]:
        """Yield the changes of a session; see ``SessionStorage.watch``."""
        check_id(session_id)
        check_position(after)
        check_position(0 if seen is None else seen)
        return documents.watch(self, session_id, after=after, seen=seen, poll_seconds=poll_seconds)

    def wakeups(self, session_id: str) -> AbstractAsyncContextManager[Wakeup]:
        """Delegate; see ``SessionStorage.wakeups``."""
        return self._target(session_id).wakeups(session_id)

    async def truncate_messages(self, session_id: str, *, after: int) -> int:
        """Delegate; see ``SessionStorage.truncate_messages``."""
        return await self._target(session_id).truncate_messages(session_id, after=after)

    async def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        """Delegate, as ``put_memory`` does through it; see ``SessionStorage.change_memories``."""
        target = self._memory_target(scope)
        return await target.change_memories(scope, puts, deletes=deletes, max_entries=max_entries)

    async def touch_memories(self, scope: MemoryScope, keys: Sequence[str], *, expires_at_us: int | None) -> int:
        """Delegate; see ``SessionStorage.touch_memories``."""
        return await self._memory_target(scope).touch_memories(scope, keys, expires_at_us=expires_at_us)

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Delegate; see ``SessionStorage.find_memory``."""
        return await self._memory_target(scope).find_memory(scope, key)

    async def list_memories(self, scope: MemoryScope, query: MemoryQuery | None = None) -> list[MemoryRecord]:
        """Delegate; see ``SessionStorage.list_memories``."""
        return await self._memory_target(scope).list_memories(scope, query)

    async def list_memory_owners(self, *, prefix: str = "", after: str | None = None, limit: int = 1000) -> list[str]:
        """Delegate; see ``SessionStorage.list_memory_owners``."""
        return await self.base.list_memory_owners(prefix=prefix, after=after, limit=limit)

    async def delete_memory(self, scope: MemoryScope, key: str) -> bool:
        """Delegate; see ``SessionStorage.delete_memory``."""
        return await self._memory_target(scope).delete_memory(scope, key)

    async def clear_memories(self, scope: MemoryScope) -> int:
        """Delegate; see ``SessionStorage.clear_memories``."""
        return await self._memory_target(scope).clear_memories(scope)

    async def purge_expired(self) -> Purged:
        """Delegate; see ``SessionStorage.purge_expired``."""
        return await self.base.purge_expired()

    # -- documents -------------------------------------------------------------------------------

    async def save_session(self, session_id: str, data: JSONObject) -> bool:
        """Store a JSON object as the session's document; see ``SessionStorage.save_session``."""
        return await documents.save_session(self, session_id, data)

    async def load_session(self, session_id: str) -> JSONObject | None:
        """Return the session's document; see ``SessionStorage.load_session``."""
        return await documents.load_session(self, session_id)

    async def list_sessions(self) -> list[str]:
        """Return every id by time of creation; see ``SessionStorage.list_sessions``."""
        return await documents.list_sessions(self)

    async def session_exists(self, session_id: str) -> bool:
        """Return whether a session exists."""
        return await self.find_session(session_id) is not None

    def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None, chunk: int = 500
    ) -> AsyncIterator[MessageRecord]:
        """Yield a range in constant memory; see ``SessionStorage.stream_messages``."""
        return documents.stream_messages(self, session_id, after=after, before=before, chunk=chunk)
