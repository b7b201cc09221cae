"""The recoding port: another form of the same value in place of the stored one, and nothing else.

Used to recompress a store and to rotate keys while others read and write it. The backends have it;
wrappers do not, since a record's form is their own affair.
"""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import attrs

from luminoracore_sdk.application.ports.records import MemoryScope, MessageRecord, Payload

__all__ = ["PayloadChange", "RecodingStorage"]


@attrs.frozen(kw_only=True)
class PayloadChange:
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
class RecodingStorage(Protocol):
    """Replaces stored payloads, each only where it is still the one the caller has read.

    Nothing else of a record changes: no version, no time, no position, no order, no expiry. That
    ``new`` says the same as ``old`` is up to the caller. Readers and writers meanwhile see the one or
    the other, whole; a call that failed or was cancelled may be repeated.

    Every method may raise ``PayloadTooLargeError`` for ``new`` (nothing of that record was changed), and
    what every method of ``SessionStorage`` may raise.
    """

    async def recode_session(self, session_id: str, *, old: Payload, new: Payload) -> bool:
        """Replace the payload of a header; False: no such session, or its payload is not ``old``."""
        ...

    async def recode_messages(self, session_id: str, changes: Sequence[PayloadChange]) -> int:
        """Replace the payloads of 1..1,000 messages, in any order; each is replaced or not by itself.

        Returns:
            How many were replaced; 0 when there is no such session. A message that is not there any
            more, or is another one, or has another payload, is left and does not count.
        Raises:
            ValidationError: No change, too many, a position below 1, or a position twice.
        """
        ...

    async def recode_memory(self, scope: MemoryScope, key: str, *, old: Payload, new: Payload) -> bool:
        """Replace the payload of a memory; False: no such memory, or its payload is not ``old``."""
        ...
