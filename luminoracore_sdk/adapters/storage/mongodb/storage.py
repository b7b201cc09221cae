"""The MongoDB backend, with motor or with PyMongo's AsyncMongoClient."""

from collections.abc import Sequence

from luminoracore_sdk.adapters.storage.base import BaseStorage
from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.mongodb.base import MongoDBBase
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
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.errors import PayloadTooLargeError

__all__ = ["MongoDBStorage"]


class MongoDBStorage(MongoDBBase, BaseStorage):
    """Keeps everything in four collections of one MongoDB database, version 5.0 or newer.

    A standalone server gives the same guarantees as a replica set. No call needs a transaction: an append
    is one inserted document, which holds the whole batch, at a position that a unique index gives away
    once; put, truncate and delete are one change of the session's header, through which alone its
    messages and memory are found. What is no longer found is removed afterwards, and by ``purge_expired``
    if the process ended before that. Appends that wait at the same time are inserted together.

    A truncation or deletion leaves small documents without content behind, which keep positions taken from
    writers who do not know of it yet; ``purge_expired`` removes them a day later. The clocks of all who use
    a store have to agree to within a day (``mongodb_closing`` says why).

    Clients made here write with ``w=majority`` and ``journal=true`` and repeat nothing by themselves
    (``retryWrites=false``, ``retryReads=false``), unless the URL says otherwise: a repeated append is
    recognised by its ids. Everything is read from the primary.

    A document has at most 16 MB: so has one batch, all its messages together (``PayloadTooLargeError``),
    but not a history. Rewriting that would make a batch larger raises the same and leaves that batch as it
    was; messages of other batches may have been rewritten by then.

    When a call is cancelled, a write that was sent is given up to a second to end. motor's threads cannot
    be interrupted: if the server does not answer, such a thread, and its connection, is busy until
    ``timeout``; with ``driver="pymongo"`` the connection is closed at once.

    Belongs to the event loop it was opened on. Needs the ``mongodb`` extra.

    Args:
        url: ``mongodb://…`` or ``mongodb+srv://…``; its options take precedence over the ones here.
        client: Instead of a URL, a client of either driver, which is never closed. Its options hold;
            it should not have ``w=0``.
        database: Where to keep the collections; the one that the URL names when None, else
            ``luminoracore``.
        collection_prefix: Begins the names of the collections, so that the database may hold others.
        driver: Which client is made of the URL.
        max_pool_size: Connections at most.
        connect_timeout: Seconds to find a server (``StorageUnavailableError``) and to wait for a free
            connection (``StorageBusyError``).
        timeout: Seconds to wait for the answer to a command (``StorageTimeoutError``). A whole call takes
            at most this and ``connect_timeout`` together, also with a client passed in; of
            ``purge_expired``, each step of 200 sessions or owners does.
        clock: Tells the time; the computer's own when None.

    Raises:
        ConfigurationError: An option that cannot work.
        MissingDependencyError: The extra is not installed.
    """

    # -- sessions --------------------------------------------------------------------------------

    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        return await self._write(self._store.sessions.put(record, expected_version, now_us))

    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        return await self._read(self._store.sessions.find(session_id, now_us))

    async def _delete_session(self, session_id: str, now_us: int) -> bool:
        return await self._write(self._store.delete_session(session_id, now_us))

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        return await self._read(self._store.sessions.query(query, now_us))

    # -- messages --------------------------------------------------------------------------------

    async def _append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        expected_last: int | None,
        now_us: int,
    ) -> AppendReceipt:
        size = sum(len(message.payload.data) for message in messages)
        if size > self.max_payload_bytes:
            raise PayloadTooLargeError(
                backend=self.backend_name,
                key=f"the batch of {len(messages)} messages",
                size_bytes=size,
                limit_bytes=self.max_payload_bytes,
            )
        return await self._append(Append(session_id, messages, expected_last, now_us))

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        return await self._read(self._store.messages.read(session_id, span, now_us))

    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        return await self._write(self._store.truncate(session_id, after, now_us))

    # -- memory ----------------------------------------------------------------------------------

    async def _put_memory(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        return await self._write(self._store.memories.put(record, max_entries, now_us))

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        return await self._read(self._store.memories.find(scope, key, now_us))

    async def _list_memories(self, scope: MemoryScope, now_us: int) -> list[MemoryRecord]:
        return await self._read(self._store.memories.list(scope, now_us))

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        return await self._write(self._store.memories.delete(scope, key, now_us))

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        return await self._write(self._store.memories.clear(scope, now_us))

    async def _purge_expired(self, now_us: int) -> Purged:
        steps, sessions, memories = self._store.purge(now_us), 0, 0

        async def step() -> Purged | None:
            return await anext(steps, None)

        while (removed := await self._write(step())) is not None:
            sessions, memories = sessions + removed.sessions, memories + removed.memories
        return Purged(sessions=sessions, memories=memories)

    # -- other forms -----------------------------------------------------------------------------

    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        return await self._write(self._store.rewriting.session(session_id, old, new, now_us))

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], now_us: int) -> int:
        return await self._write(self._store.rewriting.messages(session_id, changes, now_us))

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        return await self._write(self._store.rewriting.memory(scope, key, old, new, now_us))
