"""The rewriting port: replace stored payloads by another encoding of the same value, and nothing else.

Used to recompress a store and to rotate keys while others read and write it. Backends implement it;
wrappers do not, because the encoding of a record is their own concern.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import attrs

from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)

__all__ = [
    "PayloadRewrite",
    "RecordForms",
    "RewritingStorage",
]


@attrs.frozen(kw_only=True)
class PayloadRewrite:
    """Another payload for one message.

    Attributes:
        position: Where the message lies.
        message_id: What must lie there.
        old: What its payload must be, tag and bytes.
        new: What it becomes.
    """

    position: int
    message_id: str
    old: Payload
    new: Payload

    def fits(self, message: MessageRecord) -> bool:
        """Tell whether a stored message is the one that this is for, still as it was read."""
        there = (message.position, message.message_id, message.payload)
        return there == (self.position, self.message_id, self.old)


@runtime_checkable
class RewritingStorage(Protocol):
    """Replaces stored payloads, each only where it is still the one the caller has read.

    Nothing else of a record changes: no version, no time, no position, no order, no expiry. That
    ``new`` says the same as ``old`` is up to the caller. Readers and writers meanwhile see the one or
    the other, whole; a call that failed or was cancelled may be repeated.

    Every method may raise ``PayloadTooLargeError`` for ``new`` (nothing of that record was changed), and
    what every method of ``SessionStorage`` may raise.
    """

    async def rewrite_session(self, session_id: str, *, old: Payload, new: Payload) -> bool:
        """Replace the payload of a header; False: no such session, or its payload is not ``old``."""
        ...

    async def rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite]) -> int:
        """Replace the payloads of 1..1,000 messages, in any order; each is replaced or not by itself.

        Returns:
            How many were replaced; 0 when there is no such session. A message that is not there any
            more, or is another one, or has another payload, is left and does not count.

        Raises:
            ValidationError: No change, too many, a position below 1, or a position twice.
        """
        ...

    async def rewrite_memory(self, scope: MemoryScope, key: str, *, old: Payload, new: Payload) -> bool:
        """Replace the payload of a memory; False: no such memory, or its payload is not ``old``."""
        ...


class RecordForms(Protocol):
    """Payloads as they lie in a store, and as they would be written with the present settings.

    The records are those of the backend itself, below every wrapper. What is in its present form already
    is returned as it is, the same object.

    Every method may raise ``CorruptRecordError`` for a record that cannot be read.
    """

    async def session(self, record: SessionRecord) -> Payload:
        """Return the payload that a header should have."""
        ...

    async def message(self, session_id: str, record: MessageRecord) -> Payload:
        """Return the payload that a message should have."""
        ...

    async def memory(self, record: MemoryRecord) -> Payload:
        """Return the payload that a memory should have."""
        ...
