"""Tombstones: what is left of a message that was deleted from the middle of a conversation.

Id, role, time and position stay. The positions of a conversation are contiguous on every backend, and a caller that
pages by them goes on where it was.
"""

from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.records import MessageRecord, Payload
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import DELETED, Message, MessageRole, is_deleted
from luminoracore_sdk.domain.pieces import LARGE
from luminoracore_sdk.domain.values import from_microseconds

__all__ = ["REMOVED_TEXT", "find_tombstone", "tombstone"]

REMOVED_TEXT = Payload("json", b"null")
"""The brief of a question whose text was removed: with none, the next question would be taken for the first one."""


def tombstone(codec: EntityCodec, record: MessageRecord, metadata: JSONObject = DELETED) -> MessageRecord:
    """Return a message as it is stored once it is deleted."""
    time = from_microseconds(record.created_at_us)
    return codec.message_record(Message(MessageRole.USER, "", time, metadata, id=record.message_id))


def find_tombstone(codec: EntityCodec, record: MessageRecord, *, backend: str, session_id: str) -> Message | None:
    """Return what is left of a message, or None if it was not deleted; one that cannot be read was not."""
    if len(record.payload.data) > LARGE:
        return None
    try:
        message = codec.message(record, backend=backend, session_id=session_id)
    except CorruptRecordError:
        return None
    return message if is_deleted(message) else None
