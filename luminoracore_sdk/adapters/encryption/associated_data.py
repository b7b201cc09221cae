"""The associated data of encrypted payloads: what each payload is bound to, so that moved records are refused.

The associated data of two records never coincide: every part is preceded by its length, and the first part is
the kind of record.
"""

from luminoracore_sdk.adapters.encryption.cipher import pack
from luminoracore_sdk.application.ports.records import MemoryRecord, MessageRecord, SessionRecord

__all__ = ["brief_data", "card_data", "index_data", "memory_data", "message_data", "session_data"]


def session_data(stored: SessionRecord) -> bytes:
    """Return the associated data of a header: session id, user id, tags as they are stored."""
    user = b"" if stored.user_id is None else b"u" + stored.user_id.encode()
    return pack(b"session", stored.session_id.encode(), user, *(tag.encode() for tag in stored.tags))


def card_data(session_id: str) -> bytes:
    """Return the associated data of a card: session id."""
    return pack(b"card", session_id.encode())


def brief_data(session_id: str, position: int) -> bytes:
    """Return the associated data of a brief: session id, position of its message."""
    return pack(b"brief", session_id.encode(), b"%d" % position)


def message_data(session_id: str, message: MessageRecord, position: int) -> bytes:
    """Return the associated data of a message: session id, position, message id, role, time."""
    return pack(
        b"message",
        session_id.encode(),
        b"%d" % position,
        message.message_id.encode(),
        message.role.encode(),
        b"%d" % message.created_at_us,
    )


def index_data(session_id: str, position: int, message_id: str) -> bytes:
    """Return the associated data of the index of a message: session id, position, message id."""
    return pack(b"index", session_id.encode(), b"%d" % position, message_id.encode())


def memory_data(stored: MemoryRecord) -> bytes:
    """Return the associated data of a memory: scope, key as it is stored."""
    scope = stored.scope
    return pack(b"memory", scope.kind.encode(), scope.owner_id.encode(), stored.key.encode())
