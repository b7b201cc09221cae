"""The port that says in which form a stored record would be written today."""

from typing import Protocol

from luminoracore_sdk.application.ports.records import MemoryRecord, MessageRecord, Payload, SessionRecord

__all__ = ["RecordForms"]


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
