"""The rewriting port: replace a stored payload by another encoding of the same value, and nothing else.

It recompresses a store and rotates its keys while the store is in use. Backends implement it; wrappers do
not, because the encoding of a record is their own concern.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import attrs

from luminoracore_sdk.application.ports.records import (
    HeaderTexts,
    IndexRecord,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)

__all__ = ["PayloadRewrite", "RecordForms", "RewritingStorage"]


@attrs.frozen(kw_only=True)
class PayloadRewrite:
    """A new payload for one message.

    Attributes:
        position: The position of the message.
        message_id: The id that the message must have.
        old: The payload that it must have, encoding and bytes.
        new: The payload that replaces it.
    """

    position: int
    message_id: str
    old: Payload
    new: Payload

    def fits(self, message: MessageRecord) -> bool:
        """Return whether a stored message is the one that was read, unchanged."""
        found = (message.position, message.message_id, message.payload)
        return found == (self.position, self.message_id, self.old)


@runtime_checkable
class RewritingStorage(Protocol):
    """Replaces stored payloads, each only if it is still the one that the caller has read.

    Nothing else of a record changes: neither version, times, position, order nor expiry. The caller ensures
    that ``new`` encodes the same value as ``old``. Concurrent readers and writers see either payload as a
    whole; a call that failed or was cancelled may be repeated.

    Every method may raise ``PayloadTooLargeError`` for ``new``, in which case that record is unchanged, and
    the errors that every method of ``SessionStorage`` may raise.
    """

    async def rewrite_session(self, session_id: str, *, old: Payload, new: Payload) -> bool:
        """Replace the payload of a header; return False if there is no such session or its payload differs."""
        ...

    async def rewrite_texts(self, session_id: str, *, old: HeaderTexts, new: HeaderTexts) -> bool:
        """Replace card and briefs of a header; return False if there is no such session or one of them differs.

        Raises:
            ValidationError: One is too large.
        """
        ...

    async def rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite]) -> int:
        """Replace the payloads of 1..1,000 messages, in any order, each independently of the others.

        Returns:
            How many were replaced; 0 if there is no such session. A message that was removed, or that has
            another id or payload, is left unchanged and not counted.

        Raises:
            ValidationError: No change, too many, a position below 1, or a position twice.
        """
        ...

    async def rewrite_memory(self, scope: MemoryScope, key: str, *, old: Payload, new: Payload) -> bool:
        """Replace the payload of a memory; return False if there is no such memory or its payload differs."""
        ...


class RecordForms(Protocol):
    """Gives the payloads that records would have if they were written with the current settings.

    The records are those of the backend, below every wrapper. A payload that is up to date is returned
    unchanged, as the same object.

    Every method may raise ``CorruptRecordError`` for a record that cannot be read.
    """

    async def session(self, record: SessionRecord) -> Payload:
        """Return the payload that a header should have."""
        ...

    async def texts(self, record: SessionRecord) -> HeaderTexts:
        """Return the card and the briefs that a header should have."""
        ...

    async def message(self, session_id: str, record: MessageRecord) -> Payload:
        """Return the payload that a message should have."""
        ...

    async def index(self, session_id: str, record: IndexRecord) -> Payload | None:
        """Return the index that a message should have."""
        ...

    async def memory(self, record: MemoryRecord) -> Payload:
        """Return the payload that a memory should have."""
        ...
