"""Compression between the use cases and a backend."""

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
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.adapters.wrappers.record_compression import (
    DictionaryCompression,
    NotationCompression,
    RecordCompression,
    RecordWriter,
    read_optimized,
)
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import CorruptRecordError, ValidationError

__all__ = ["OptimizedStorageWrapper"]


class OptimizedStorageWrapper(StorageWrapper):
    """Compresses on the way in, expands on the way out, over any storage; transparent.

    The package's own optimizer compresses each record with zstandard and a dictionary: the one that was
    trained on this store (``luminora optimize train``), else the package's own for chat. What it wrote is
    also read without the wrapper.

    Any other optimizer is not trusted: on each write the result is expanded again, and what does not come
    back to the same bytes is stored as it was. What it wrote needs it to be read.

    Either way a record that would not get smaller is stored as it was, and records say how they were
    made, so that the wrapper can be switched on, off, and to other settings over a live store.

    Args:
        base: The storage below.
        optimizer: Anything with ``compress`` and ``expand`` over JSON values.

    Attributes:
        optimizer: As it was given.
    """

    seconds_between_looks: ClassVar[float] = 60.0
    """After so long a write makes sure that the store still has the dictionary that is written with."""

    def __init__(self, base: SessionStorage, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ValidationError("an optimizer has the methods compress(data) and expand(data)")
        super().__init__(base)
        self.optimizer = optimizer
        self._writer: RecordWriter | None = None
        self._looked_at = 0.0
        self._compression: RecordCompression = (
            DictionaryCompression(optimizer.config.compression_level)
            if type(optimizer) is OwnOptimizer and optimizer.config.record_compression
            else NotationCompression(optimizer, base.backend)
        )

    @property
    def stored_plain(self) -> int:
        """How many records were stored as they were because the optimizer failed."""
        return self._compression.stored_plain

    async def open(self) -> None:
        """Open the storage below, and look which dictionary it has chosen.

        A choice that is damaged is told by the first write: whatever is there can be read without it. After
        any other error the storage below is closed again; after a cancelled opening it may be open.
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
        self._looked_at = time.monotonic()
        return self._writer

    # -- the way in ------------------------------------------------------------------------------

    async def writer(self) -> RecordWriter:
        """Return what makes of a plain payload the one that this wrapper stores now.

        Raises:
            CorruptRecordError: The store's choice of a dictionary is damaged.
        """
        if self._writer is None:
            return self._use(await chosen_dictionary(self.base))
        if time.monotonic() - self._looked_at > self.seconds_between_looks:
            self._looked_at = time.monotonic()
            await ensure_dictionary(self.base, self._writer.dictionary)
        return self._writer

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        """Compress, then put; see ``SessionStorage.put_session``."""
        if record.payload is None:
            return await self.base.put_session(record, expected_version=expected_version)
        small = attrs.evolve(record, payload=(await self.writer()).small(record.payload))
        stored = await self.base.put_session(small, expected_version=expected_version)
        return attrs.evolve(stored, payload=record.payload)

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
    ) -> AppendReceipt:
        """Compress, then append; see ``SessionStorage.append_messages``."""
        given = tuple(messages)  # the caller may change his list meanwhile
        writer = await self.writer()
        small = [attrs.evolve(message, payload=writer.small(message.payload)) for message in given]
        return await self.base.append_messages(session_id, small, expected_last=expected_last)

    async def put_memory(self, record: MemoryRecord, *, max_entries: int | None = None) -> MemoryRecord:
        """Compress, then put, but what the store keeps for itself; see ``SessionStorage.put_memory``."""
        if record.scope == STORE_SCOPE:
            return await self.base.put_memory(record, max_entries=max_entries)
        small = attrs.evolve(record, payload=(await self.writer()).small(record.payload))
        stored = await self.base.put_memory(small, max_entries=max_entries)
        return attrs.evolve(stored, payload=record.payload)

    # -- the way out -----------------------------------------------------------------------------

    def plain(self, payload: Payload, key: str) -> Payload:
        """Return the payload that was put, of one that is stored; see ``read_optimized``."""
        return read_optimized(payload, self.optimizer, backend=self.backend, key=key)

    def _expanded_memory(self, record: MemoryRecord) -> MemoryRecord:
        key = f"memory {record.key!a} of {record.scope.kind} {record.scope.owner_id!a}"
        return attrs.evolve(record, payload=self.plain(record.payload, key))

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Find, then expand; see ``SessionStorage.find_session``."""
        record = await self.base.find_session(session_id)
        if record is None or record.payload is None:
            return record
        return attrs.evolve(record, payload=self.plain(record.payload, f"session {session_id!a}"))

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Read, then expand; see ``SessionStorage.read_messages``."""
        key = f"a message of session {session_id!a}"
        return [
            attrs.evolve(message, payload=self.plain(message.payload, key))
            for message in await self.base.read_messages(session_id, span)
        ]

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Find, then expand; see ``SessionStorage.find_memory``."""
        record = await self.base.find_memory(scope, key)
        return None if record is None else self._expanded_memory(record)

    async def list_memories(self, scope: MemoryScope) -> list[MemoryRecord]:
        """List, then expand; see ``SessionStorage.list_memories``."""
        return [self._expanded_memory(record) for record in await self.base.list_memories(scope)]
