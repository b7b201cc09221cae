"""The encoding that every record would have if it were written now, through the wrappers of a storage."""

from collections.abc import Iterator

import attrs

from luminoracore_sdk.adapters.codec.values import JSON, JSON_WIDE
from luminoracore_sdk.adapters.compression.dictionary_store import STORE_SCOPE, load_dictionaries
from luminoracore_sdk.adapters.encryption.cipher import MARK
from luminoracore_sdk.adapters.encryption.rotation import KeyRotation
from luminoracore_sdk.adapters.optimizer import Optimizer as OwnOptimizer
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.adapters.wrappers.encrypted import EncryptedStorageWrapper
from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper
from luminoracore_sdk.adapters.wrappers.record_compression import RecordWriter, read_optimized
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.records import (
    HeaderTexts,
    IndexRecord,
    MemoryRecord,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import UnreadablePayloadError

__all__ = ["CurrentEncoding", "backend_of", "current_encoding"]


def _layers(storage: SessionStorage) -> Iterator[SessionStorage]:
    yield storage
    while isinstance(storage, StorageWrapper):
        storage = storage.base
        yield storage


def backend_of(storage: SessionStorage) -> SessionStorage:
    """Return the storage below all wrappers."""
    *_, backend = _layers(storage)
    return backend


async def current_encoding(storage: SessionStorage) -> "CurrentEncoding":
    """Return the encoding that a storage writes now; opens the storage.

    Args:
        storage: With all its wrappers.
    """
    optimizer, writer = None, None
    for layer in _layers(storage):
        if isinstance(layer, OptimizedStorageWrapper):
            optimizer, writer = layer.optimizer, await layer.writer()
    encoding = CurrentEncoding(storage, optimizer or OwnOptimizer(), writer)
    for layer in _layers(storage):
        if isinstance(layer, EncryptedStorageWrapper):
            rotation = await layer.rotation(rewrite=encoding.rewrite)
            encoding = attrs.evolve(encoding, rotation=rotation, own_rotation=await layer.rotation())
    return encoding


@attrs.frozen
class CurrentEncoding:
    """Return payloads in the encoding that would be written now; implements the port of ``StoreRewrite``.

    Attributes:
        storage: Holds the dictionaries.
        optimizer: Reads what a third-party optimizer wrote, if it is one.
        writer: Compresses; None: records are not compressed.
        rotation: Encrypts; None: records are not encrypted.
        own_rotation: Encrypts the store's own records, which are never compressed: a dictionary must not be
            needed to read the record that holds it.
    """

    storage: SessionStorage
    optimizer: Optimizer
    writer: RecordWriter | None
    rotation: KeyRotation | None = None
    own_rotation: KeyRotation | None = None

    @property
    def name(self) -> str:
        """A name that differs for every other encoding."""
        writer = "plain" if self.writer is None else self.writer.name
        return writer if self.rotation is None else f"{writer}, key {self.rotation.key_id}"

    def rewrite(self, payload: Payload) -> Payload:
        """Return a payload, before encryption, in the current encoding; the same object if it has it already.

        Raises:
            CorruptRecordError: The payload cannot be read.
        """
        backend = self.storage.backend
        plain = read_optimized(payload, self.optimizer, backend=backend, key="a record")
        if plain.encoding not in (JSON, JSON_WIDE):
            reason = f"its encoding is {plain.encoding!a}; switch on the wrapper that wrote it"
            raise UnreadablePayloadError(backend=backend, key="a record", reason=reason)
        new = plain if self.writer is None else self.writer.compress(plain)
        return payload if new == payload else new

    async def session(self, record: SessionRecord) -> Payload:
        """Return the payload of a header in the current encoding."""
        stored = record.payload or Payload("", b"")
        await self._load(stored)
        return self.rewrite(stored) if self.rotation is None else self.rotation.session(record) or stored

    async def texts(self, record: SessionRecord) -> HeaderTexts:
        """Return card and briefs of a header, which are encrypted but never compressed."""
        stored = record.texts
        return stored if self.rotation is None else self.rotation.texts(record) or stored

    async def message(self, session_id: str, record: MessageRecord) -> Payload:
        """Return the payload of a message in the current encoding."""
        stored = record.payload
        await self._load(stored)
        if self.rotation is None:
            return self.rewrite(stored)
        return self.rotation.message(session_id, record) or stored

    async def index(self, session_id: str, record: IndexRecord) -> Payload | None:
        """Return the index of a message, which is encrypted but never compressed."""
        stored = record.index
        return stored if self.rotation is None else self.rotation.index(session_id, record) or stored

    async def memory(self, record: MemoryRecord) -> Payload:
        """Return the payload of a memory in the current encoding."""
        stored = record.payload
        if record.scope == STORE_SCOPE:
            return stored if self.own_rotation is None else self.own_rotation.memory(record) or stored
        await self._load(stored)
        return self.rewrite(stored) if self.rotation is None else self.rotation.memory(record) or stored

    async def _load(self, payload: Payload) -> None:
        await load_dictionaries(self.storage, [payload.encoding.partition(f"+{MARK}:")[0]])
