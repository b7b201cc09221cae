"""The codec port: JSON values and entities to payloads, and back."""

from typing import Protocol, TypeVar

from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session

__all__ = ["EntityCodec", "ValueCodec"]

T = TypeVar("T")


class ValueCodec(Protocol):
    """Any JSON value to a payload and back, equal."""

    def encode(self, value: object, *, where: str = "value") -> Payload:
        """Return the payload of a JSON value.

        Raises:
            InvalidJSONError: Not JSON; names the place.
        """
        ...

    def decode(self, payload: Payload, *, backend: str, key: str) -> JSONValue:
        """Return the value of a payload, equal to what was encoded.

        Raises:
            CorruptRecordError: The bytes are damaged; carries backend and key.
            UnreadablePayloadError: The tag names a transformation this codec does not know.
        """
        ...


class EntityCodec(Protocol):
    """Entities to records and back; reads records of every earlier version too."""

    def settings(self, kind: type[T], data: object) -> T:
        """Return a settings object: ``data`` itself when it is one already, else made of a mapping.

        Raises:
            ValidationError: Not a mapping, an unknown key, a wrong value.
        """
        ...

    def session_record(self, session: Session) -> SessionRecord:
        """Return the record of a session; never holds a secret."""
        ...

    def session(self, record: SessionRecord, *, backend: str) -> Session:
        """Return the session of a record.

        Raises:
            CorruptRecordError: The payload is damaged or is not a session's.
        """
        ...

    def message_record(self, message: Message) -> MessageRecord:
        """Return the record of a message that has an id and a timestamp."""
        ...

    def message(self, record: MessageRecord, *, backend: str, session_id: str) -> Message:
        """Return the message of a record.

        Raises:
            CorruptRecordError: The payload is damaged.
        """
        ...

    def memory_record(self, scope: MemoryScope, entry: MemoryEntry, *, decay_factor: float) -> MemoryRecord:
        """Return the record of a memory entry."""
        ...

    def memory(self, record: MemoryRecord, *, backend: str) -> MemoryEntry:
        """Return the entry of a record.

        Raises:
            CorruptRecordError: The payload is damaged.
        """
        ...
