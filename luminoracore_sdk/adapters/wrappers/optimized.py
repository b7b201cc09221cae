"""Compression of records over any storage."""

import time
from collections.abc import Sequence
from contextlib import suppress
from typing import ClassVar

import attrs

from luminoracore_sdk.adapters.compression.dictionary import Dictionary
from luminoracore_sdk.adapters.compression.dictionary_store import (
    STORE_SCOPE,
    chosen_dictionary,
    ensure_dictionary,
)
from luminoracore_sdk.adapters.optimizer import Optimizer as OwnOptimizer
from luminoracore_sdk.adapters.storage.base import payload_conflict
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper, read_message
from luminoracore_sdk.adapters.wrappers.record_compression import (
    DictionaryCompression,
    NotationCompression,
    RecordCompression,
    RecordWriter,
    read_optimized,
)
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.records import (
    NO_PAYLOAD,
    AppendReceipt,
    MemoryPut,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    RewriteMessage,
    SessionRecord,
    TailReceipt,
    TurnRecords,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import CorruptRecordError, ValidationError

__all__ = ["OptimizedStorageWrapper"]


class OptimizedStorageWrapper(StorageWrapper):
    """Compress records before they are stored and expand them when they are read, over any storage.

    The package's own optimizer compresses each record with zstandard and a dictionary: one trained on this store
    (``luminora optimize train``), or the package's own for chat. Its records can also be read without the
    wrapper.

    Every write through a third-party optimizer is verified: a record that does not expand to the same bytes is
    stored uncompressed. Its records can only be read with that optimizer.

    A record that would not get smaller is stored uncompressed. Each payload names its encoding, so the wrapper
    can be added, removed or given other settings over a live store.

    Args:
        base: The storage below.
        optimizer: Anything with ``compress`` and ``expand`` for JSON values.

    Attributes:
        optimizer: The optimizer.
    """

    check_interval: ClassVar[float] = 60.0
    """Seconds after which a write verifies again that the store still has the dictionary in use."""

    def __init__(self, base: SessionStorage, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ValidationError("an optimizer must have the methods compress(data) and expand(data)")
        super().__init__(base)
        self.optimizer = optimizer
        self._writer: RecordWriter | None = None
        self._checked_at = 0.0
        self._compression: RecordCompression = (
            DictionaryCompression(optimizer.config.compression_level)
            if type(optimizer) is OwnOptimizer and optimizer.config.record_compression
            else NotationCompression(optimizer, base.backend)
        )

    @property
    def stored_plain(self) -> int:
        """Number of records that were stored uncompressed because the optimizer failed."""
        return self._compression.stored_plain

    async def open(self) -> None:
        """Open the storage below, and read which dictionary new records are written with.

        If that record is damaged, the first write raises the error; reads do not need it. After any other error
        the storage below is closed again. After a cancelled opening it may be open.
        """
        await super().open()
        try:
            with suppress(CorruptRecordError):
                self._use(await chosen_dictionary(self.base))
        except Exception:
            await super().close()
            raise

    def _use(self, dictionary: Dictionary) -> RecordWriter:
        self._writer = RecordWriter(self._compression, dictionary)
        self._checked_at = time.monotonic()
        return self._writer

    # -- writes ----------------------------------------------------------------------------------

    async def writer(self) -> RecordWriter:
        """Return the writer that compresses plain payloads with the current settings.

        Raises:
            CorruptRecordError: The record that names the store's dictionary is damaged.
        """
        if self._writer is None:
            return self._use(await chosen_dictionary(self.base))
        if time.monotonic() - self._checked_at > self.check_interval:
            self._checked_at = time.monotonic()
            await ensure_dictionary(self.base, self._writer.dictionary)
        return self._writer

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Compress, then put; see ``SessionStorage.put_session``."""
        if record.payload is None:
            return await self.base.put_session(record, expected_version=expected_version)
        compressed = attrs.evolve(record, payload=(await self.writer()).compress(record.payload))
        stored = await self.base.put_session(compressed, expected_version=expected_version)
        return attrs.evolve(stored, payload=record.payload)

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        """Compress the header, then fork; see ``SessionStorage.fork_session``. Messages stay as they are."""
        if record.payload is None:
            return await self.base.fork_session(source_id, record, at=at, rewrite=rewrite)
        writer = await self.writer()

        def rewritten(message: MessageRecord) -> MessageRecord:
            (plain,) = self._expanded_messages(source_id, [message])
            new = plain if rewrite is None else rewrite(plain)
            return attrs.evolve(new, payload=writer.compress(new.payload))

        if rewrite is not None:
            async for _ in self.base.stream_messages(source_id, before=at + 1):
                pass  # what it reads, it can expand: it has loaded the dictionaries
        compressed = attrs.evolve(record, payload=writer.compress(record.payload))
        stored = await self.base.fork_session(
            source_id, compressed, at=at, rewrite=None if rewrite is None else rewritten
        )
        return attrs.evolve(stored, payload=record.payload)

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Compress, then append; see ``SessionStorage.append_messages``."""
        messages = tuple(messages)  # the caller may change its list during the await
        writer = await self.writer()
        compressed = [attrs.evolve(message, payload=writer.compress(message.payload)) for message in messages]
        return await self.base.append_messages(session_id, compressed, expected_last=expected_last, fence=fence)

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
        """Compress, then replace; see ``SessionStorage.replace_tail``."""
        messages = tuple(messages)  # the caller may change its list during the await
        writer = await self.writer()
        compressed = [attrs.evolve(message, payload=writer.compress(message.payload)) for message in messages]
        receipt = await self.base.replace_tail(
            session_id,
            after=after,
            messages=compressed,
            expected_last=expected_last,
            expected_change=expected_change,
            fence=fence,
        )
        return attrs.evolve(receipt, removed=self._expanded_messages(session_id, receipt.removed))

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
        """Compress, then update; see ``SessionStorage.update_message``."""
        writer = await self.writer()
        stored = await read_message(self.base, session_id, position)
        if stored is not None:
            (plain,) = self._expanded_messages(session_id, [stored])
            if plain.payload == payload:
                return plain
            if plain.payload == expected:
                await self.base.update_message(
                    session_id,
                    position,
                    payload=writer.compress(payload),
                    expected=stored.payload,
                    brief=brief,
                    index=index,
                )
                return attrs.evolve(plain, payload=payload)
        raise payload_conflict(self.backend, session_id, position)

    async def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        """Compress, then change, except the store's own records; see ``SessionStorage.change_memories``."""
        puts = tuple(puts)  # the caller may change its list during the await
        if scope == STORE_SCOPE or not puts:
            return await self.base.change_memories(scope, puts, deletes=deletes, max_entries=max_entries)
        writer, deletes = await self.writer(), tuple(deletes)
        compressed = [_with_payload(put, writer.compress(put.record.payload)) for put in puts]
        stored = await self.base.change_memories(scope, compressed, deletes=deletes, max_entries=max_entries)
        return [attrs.evolve(record, payload=put.record.payload) for record, put in zip(stored, puts, strict=True)]

    # -- reads -----------------------------------------------------------------------------------

    def plain(self, payload: Payload, key: str) -> Payload:
        """Return the plain payload of a stored one; see ``read_optimized``."""
        return read_optimized(payload, self.optimizer, backend=self.backend, key=key)

    def _expanded_memory(self, record: MemoryRecord) -> MemoryRecord:
        if record.payload is NO_PAYLOAD:
            return record
        key = f"memory {record.key!a} of {record.scope.kind} {record.scope.owner_id!a}"
        return attrs.evolve(record, payload=self.plain(record.payload, key))

    def _expanded_session(self, record: SessionRecord) -> SessionRecord:
        if record.payload is None:
            return record
        return attrs.evolve(record, payload=self.plain(record.payload, f"session {record.session_id!a}"))

    def _expanded_messages(self, session_id: str, messages: Sequence[MessageRecord]) -> list[MessageRecord]:
        key = f"a message of session {session_id!a}"
        return [attrs.evolve(message, payload=self.plain(message.payload, key)) for message in messages]

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Find, then expand; see ``SessionStorage.find_session``."""
        record = await self.base.find_session(session_id)
        return None if record is None else self._expanded_session(record)

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Read, then expand; see ``SessionStorage.read_messages``."""
        return self._expanded_messages(session_id, await self.base.read_messages(session_id, span))

    async def find_message(self, session_id: str, message_id: str) -> MessageRecord | None:
        """Find, then expand; see ``SessionStorage.find_message``."""
        found = await self.base.find_message(session_id, message_id)
        return None if found is None else self._expanded_messages(session_id, [found])[0]

    async def read_turn(self, session_id: str, *, newest: int) -> TurnRecords | None:
        """Read, then expand; see ``SessionStorage.read_turn``."""
        found = await self.base.read_turn(session_id, newest=newest)
        if found is None:
            return None
        return TurnRecords(
            session=self._expanded_session(found.session),
            memories=[self._expanded_memory(record) for record in found.memories],
            messages=self._expanded_messages(session_id, found.messages),
        )

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Find, then expand; see ``SessionStorage.find_memory``."""
        record = await self.base.find_memory(scope, key)
        return None if record is None else self._expanded_memory(record)

    async def list_memories(self, scope: MemoryScope, query: MemoryQuery | None = None) -> list[MemoryRecord]:
        """List, then expand; see ``SessionStorage.list_memories``."""
        return (query or MemoryQuery()).intact(self._expanded_memory, await self.base.list_memories(scope, query))


def _with_payload(put: MemoryPut, payload: Payload) -> MemoryPut:
    return attrs.evolve(put, record=attrs.evolve(put.record, payload=payload))
