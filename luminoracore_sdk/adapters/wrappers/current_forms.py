"""The forms that records have under the wrappers that are switched on now."""

from collections.abc import Iterator

import attrs

from luminoracore_sdk.adapters.codec.values import JSON, JSON_WIDE
from luminoracore_sdk.adapters.compression.dictionary_store import STORE_SCOPE, load_dictionaries
from luminoracore_sdk.adapters.encryption.cipher import MARK
from luminoracore_sdk.adapters.encryption.rotation import Rotation
from luminoracore_sdk.adapters.optimizer import Optimizer as OwnOptimizer
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.adapters.wrappers.encrypted import EncryptedStorageWrapper
from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper
from luminoracore_sdk.adapters.wrappers.record_compression import RecordWriter, read_optimized
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.records import MemoryRecord, MessageRecord, Payload, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import UnreadablePayloadError

__all__ = ["CurrentForms", "backend_of", "current_forms"]


def _layers(storage: SessionStorage) -> Iterator[SessionStorage]:
    yield storage
    while isinstance(storage, StorageWrapper):
        storage = storage.base
        yield storage


def backend_of(storage: SessionStorage) -> SessionStorage:
    """Return the storage below every wrapper."""
    *_, backend = _layers(storage)
    return backend


async def current_forms(storage: SessionStorage) -> "CurrentForms":
    """Return the forms that a storage writes now, which is opened for that.

    Args:
        storage: With all its wrappers.
    """
    optimizer, writer = None, None
    for layer in _layers(storage):
        if isinstance(layer, OptimizedStorageWrapper):
            optimizer, writer = layer.optimizer, await layer.writer()
    forms = CurrentForms(storage, optimizer or OwnOptimizer(), writer)
    for layer in _layers(storage):
        if isinstance(layer, EncryptedStorageWrapper):
            rotation, plain = await layer.rotation(change=forms.change), await layer.rotation()
            forms = attrs.evolve(forms, rotation=rotation, rotation_of_own=plain)
    return forms


@attrs.frozen
class CurrentForms:
    """The forms that records would be written in now; see ``RecordForms``.

    Attributes:
        storage: Has the dictionaries.
        optimizer: Reads what a foreign optimizer wrote, if it is one.
        writer: Compresses; None: records are written plain.
        rotation: Encrypts; None: records are not encrypted.
        rotation_of_own: The same for what the store keeps for itself, which is never compressed: a
            dictionary must not be needed to read what leads to it.
    """

    storage: SessionStorage
    optimizer: Optimizer
    writer: RecordWriter | None
    rotation: Rotation | None = None
    rotation_of_own: Rotation | None = None

    @property
    def name(self) -> str:
        """What tells these forms from others."""
        writer = "plain" if self.writer is None else self.writer.name
        return writer if self.rotation is None else f"{writer}, key {self.rotation.key_id}"

    def change(self, payload: Payload) -> Payload:
        """Return the form of a payload before it is encrypted; the payload itself where it has it.

        Raises:
            CorruptRecordError: It cannot be read.
        """
        backend = self.storage.backend
        plain = read_optimized(payload, self.optimizer, backend=backend, key="a record")
        if plain.encoding not in (JSON, JSON_WIDE):
            reason = f"it is tagged {plain.encoding!a}; switch on the wrapper that wrote it"
            raise UnreadablePayloadError(backend=backend, key="a record", reason=reason)
        new = plain if self.writer is None else self.writer.small(plain)
        return payload if new == payload else new

    async def session(self, record: SessionRecord) -> Payload:
        """Return the payload of a header; see ``RecordForms``."""
        stored = record.payload or Payload("", b"")
        await self._load(stored)
        return self.change(stored) if self.rotation is None else self.rotation.session(record) or stored

    async def message(self, session_id: str, record: MessageRecord) -> Payload:
        """Return the payload of a message; see ``RecordForms``."""
        stored = record.payload
        await self._load(stored)
        if self.rotation is None:
            return self.change(stored)
        return self.rotation.message(session_id, record) or stored

    async def memory(self, record: MemoryRecord) -> Payload:
        """Return the payload of a memory; see ``RecordForms``."""
        stored = record.payload
        if record.scope == STORE_SCOPE:
            return stored if self.rotation_of_own is None else self.rotation_of_own.memory(record) or stored
        await self._load(stored)
        return self.change(stored) if self.rotation is None else self.rotation.memory(record) or stored

    async def _load(self, payload: Payload) -> None:
        await load_dictionaries(self.storage, [payload.encoding.partition(f"+{MARK}:")[0]])
