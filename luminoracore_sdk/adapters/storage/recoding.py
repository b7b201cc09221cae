"""What every backend shares where payloads are replaced: the rules; see ``RecodingStorage``.

A backend that can do it subclasses ``RecodingBase`` in place of ``BaseStorage`` and writes three more
primitives, called with checked arguments, on an open storage, with the present time.
"""

from abc import abstractmethod
from collections.abc import Sequence

from luminoracore_sdk.adapters.storage.base import BaseStorage
from luminoracore_sdk.adapters.storage.rules import MAX_BATCH
from luminoracore_sdk.application.ports.recoding import PayloadChange
from luminoracore_sdk.application.ports.records import MemoryScope, Payload
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.values import check_id

__all__ = ["RecodingBase"]


class RecodingBase(BaseStorage):
    """Template of a backend that can replace payloads."""

    # -- for backends: the primitives ------------------------------------------------------------

    @abstractmethod
    async def _recode_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool: ...

    @abstractmethod
    async def _recode_messages(
        self, session_id: str, changes: Sequence[PayloadChange], now_us: int
    ) -> int: ...

    @abstractmethod
    async def _recode_memory(
        self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int
    ) -> bool: ...

    # -- the port --------------------------------------------------------------------------------

    async def recode_session(self, session_id: str, *, old: Payload, new: Payload) -> bool:
        """Replace the payload of a header; see ``RecodingStorage.recode_session``."""
        check_id(session_id)
        self._check_size(new, "the session document")
        return await self._recode_session(session_id, old, new, await self._ready())

    async def recode_messages(self, session_id: str, changes: Sequence[PayloadChange]) -> int:
        """Replace the payloads of messages; see ``RecodingStorage.recode_messages``."""
        check_id(session_id)
        if not 1 <= len(changes) <= MAX_BATCH:
            raise ValidationError(f"1 to {MAX_BATCH} messages are recoded at a time, not {len(changes)}")
        for change in changes:
            check_id(change.message_id, "message id")
            if change.position < 1:
                raise ValidationError(f"the position of a message is 1 or more, not {change.position}")
            self._check_size(change.new, "the message")
        if len({change.position for change in changes}) < len(changes):
            raise ValidationError("a position occurs twice in one batch")
        return await self._recode_messages(session_id, changes, await self._ready())

    async def recode_memory(self, scope: MemoryScope, key: str, *, old: Payload, new: Payload) -> bool:
        """Replace the payload of a memory; see ``RecodingStorage.recode_memory``."""
        check_id(scope.owner_id, f"{scope.kind} id")
        check_id(key, "memory key")
        self._check_size(new, "the memory")
        return await self._recode_memory(scope, key, old, new, await self._ready())
