"""The codec ports: JSON values and entities to payloads, and back."""

from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, MessageRecord, Payload, SessionRecord
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.summaries import ConversationSummary

if TYPE_CHECKING:
    from luminoracore_sdk.domain.recall.analyzer import Analyzer

__all__ = ["EntityCodec", "ValueCodec"]

T = TypeVar("T")


class ValueCodec(Protocol):
    """Encodes any JSON value as a payload and decodes it to an equal value."""

    def encode(self, value: object, *, where: str = "value") -> Payload:
        """Return the payload of a JSON value.

        Raises:
            InvalidJSONError: The value is not JSON; the error names the place in it.
        """
        ...

    def decode(self, payload: Payload, *, backend: str, key: str) -> JSONValue:
        """Return the value of a payload, equal to the encoded one.

        Raises:
            CorruptRecordError: The bytes are damaged; the error names backend and key.
            UnreadablePayloadError: The encoding contains a transformation that this codec does not know.
        """
        ...


class EntityCodec(Protocol):
    """Converts entities to records and back; also reads records of every earlier version.

    Large messages are converted in threads, several at the same time.
    """

    def indexing(self, analyzer: "Analyzer") -> Self:
        """Return a codec whose messages have the terms of their texts as ``index``."""
        ...

    def settings(self, kind: type[T], data: object) -> T:
        """Return a settings object: ``data`` itself if it is one, else the settings in a mapping.

        Raises:
            ValidationError: ``data`` is not a mapping, or has an unknown key or an invalid value.
        """
        ...

    def session_record(self, session: Session) -> SessionRecord:
        """Return the record of a session, without secrets."""
        ...

    def session(self, record: SessionRecord, *, backend: str) -> Session:
        """Return the session of a record.

        Raises:
            CorruptRecordError: The payload is damaged or not that of a session.
        """
        ...

    def summary(self, record: SessionRecord, *, backend: str) -> ConversationSummary:
        """Return what a list of conversations shows of a record without payload.

        Raises:
            CorruptRecordError: The card or a brief is damaged.
        """
        ...

    def message_record(self, message: Message, *, counted: bool = True) -> MessageRecord:
        """Return the record of a message that has an id and a timestamp, with its brief.

        Args:
            message: The message.
            counted: Whether the tokens that it has used are added to those of its session.
        """
        ...

    def message(self, record: MessageRecord, *, backend: str, session_id: str) -> Message:
        """Return the message of a record.

        Raises:
            CorruptRecordError: The payload is damaged.
        """
        ...

    def memory_record(self, scope: MemoryScope, entry: MemoryEntry, *, decay_factor: float | None) -> MemoryRecord:
        """Return the record of a memory entry, which is never evicted if the decay factor is None."""
        ...

    def memory(self, record: MemoryRecord, *, backend: str) -> MemoryEntry:
        """Return the entry of a record.

        Raises:
            CorruptRecordError: The payload is damaged.
        """
        ...
