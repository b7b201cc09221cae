"""Compression between the use cases and a backend."""

import logging
from collections.abc import Sequence

import attrs

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.optimizer.notation import MARK
from luminoracore_sdk.adapters.optimizer.optimizer import Optimizer as OwnOptimizer
from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
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
from luminoracore_sdk.domain.errors import CorruptRecordError, UnreadablePayloadError, ValidationError

__all__ = ["OptimizedStorageWrapper"]

logger = logging.getLogger(__name__)

_PLAIN_TAGS = ("json", "json-wide")
_OWN = f"+{MARK}"
_FOREIGN = "+opt0"


class OptimizedStorageWrapper(StorageWrapper):
    """Compresses on the way in, expands on the way out, over any storage; transparent.

    The optimizer is not trusted: on each write the result is expanded again, and what does not come
    back to the same bytes, or is not smaller, is stored as it was. Records say how they were made, so
    the wrapper can be switched on over a store that was written without it. Records of the package's
    own optimizer are also read without the wrapper; records of a foreign one need it.

    Args:
        base: The storage below.
        optimizer: Anything with ``compress`` and ``expand`` over JSON values.
    """

    def __init__(self, base: SessionStorage, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ValidationError("an optimizer has the methods compress(data) and expand(data)")
        super().__init__(base)
        self.optimizer = optimizer
        self.stored_plain = 0
        self._codec = JsonCodec()
        self._suffix = _OWN if type(optimizer) is OwnOptimizer else _FOREIGN
        self._reported = False

    # -- the way in ------------------------------------------------------------------------------

    def _compressed(self, payload: Payload) -> Payload:
        if payload.tag not in _PLAIN_TAGS:
            return payload
        try:
            value = self._codec.decode(payload, backend=self.backend, key="a record")
            smaller = self._codec.encode(self.optimizer.compress(value), where="optimizer.compress()")
            restored = self._codec.decode(smaller, backend=self.backend, key="optimizer.compress()")
            if self._codec.encode(self.optimizer.expand(restored)) != payload:
                self._report("it does not restore what it was given")
                return payload
        except Exception as exc:  # noqa: BLE001  # not trusted: whatever it raises, the record is kept
            self._report(f"it raised {type(exc).__name__}")
            return payload
        if len(smaller.data) + len(self._suffix) >= len(payload.data):
            return payload
        return Payload(smaller.tag + self._suffix, smaller.data)

    def _report(self, reason: str) -> None:
        self.stored_plain += 1
        if not self._reported:
            self._reported = True
            logger.warning(
                "optimizer %s: %s; such records are stored as they are (said once)",
                type(self.optimizer).__name__,
                reason,
            )

    async def put_session(
        self, record: SessionRecord, *, expected_version: int | None = None
    ) -> SessionRecord:
        """Compress, then put; see ``SessionStorage.put_session``."""
        if record.payload is None:
            return await self.base.put_session(record, expected_version=expected_version)
        small = attrs.evolve(record, payload=self._compressed(record.payload))
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
        small = [attrs.evolve(message, payload=self._compressed(message.payload)) for message in messages]
        return await self.base.append_messages(session_id, small, expected_last=expected_last)

    async def put_memory(self, record: MemoryRecord, *, max_entries: int | None = None) -> MemoryRecord:
        """Compress, then put; see ``SessionStorage.put_memory``."""
        small = attrs.evolve(record, payload=self._compressed(record.payload))
        stored = await self.base.put_memory(small, max_entries=max_entries)
        return attrs.evolve(stored, payload=record.payload)

    # -- the way out -----------------------------------------------------------------------------

    def _expanded(self, payload: Payload, key: str) -> Payload:
        plain_tag, plus, step = payload.tag.rpartition("+")
        if plain_tag not in _PLAIN_TAGS or plus + step not in (_OWN, _FOREIGN):
            return payload
        if plus + step == _FOREIGN and self._suffix == _OWN:
            raise UnreadablePayloadError(
                backend=self.backend, key=key, reason="it was written through another optimizer"
            )
        expand = OwnOptimizer().expand if plus + step == _OWN else self.optimizer.expand
        value = self._codec.decode(Payload(plain_tag, payload.data), backend=self.backend, key=key)
        try:
            return self._codec.encode(expand(value))
        except Exception as exc:
            raise CorruptRecordError(
                backend=self.backend, key=key, reason="the optimizer cannot expand it"
            ) from exc

    def _expanded_memory(self, record: MemoryRecord) -> MemoryRecord:
        key = f"memory {record.key!a} of {record.scope.kind} {record.scope.owner_id!a}"
        return attrs.evolve(record, payload=self._expanded(record.payload, key))

    async def find_session(self, session_id: str) -> SessionRecord | None:
        """Find, then expand; see ``SessionStorage.find_session``."""
        record = await self.base.find_session(session_id)
        if record is None or record.payload is None:
            return record
        return attrs.evolve(record, payload=self._expanded(record.payload, f"session {session_id!a}"))

    async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
        """Read, then expand; see ``SessionStorage.read_messages``."""
        key = f"a message of session {session_id!a}"
        return [
            attrs.evolve(message, payload=self._expanded(message.payload, key))
            for message in await self.base.read_messages(session_id, span)
        ]

    async def find_memory(self, scope: MemoryScope, key: str) -> MemoryRecord | None:
        """Find, then expand; see ``SessionStorage.find_memory``."""
        record = await self.base.find_memory(scope, key)
        return None if record is None else self._expanded_memory(record)

    async def list_memories(self, scope: MemoryScope) -> list[MemoryRecord]:
        """List, then expand; see ``SessionStorage.list_memories``."""
        return [self._expanded_memory(record) for record in await self.base.list_memories(scope)]
