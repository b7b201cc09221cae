"""What an encrypted payload is bound to: a record that lies anywhere else is refused.

Each place is one text of bytes that no other place gives: the parts stand behind their lengths, and the
kind of record is the first.
"""

from luminoracore_sdk.adapters.encryption.cipher import packed
from luminoracore_sdk.application.ports.records import (
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    SessionRecord,
)
from luminoracore_sdk.domain.values import check_id

__all__ = [
    "check_place",
    "memory_name",
    "memory_place",
    "message_name",
    "message_place",
    "session_name",
    "session_place",
]


def session_place(stored: SessionRecord) -> bytes:
    """Return the place of a header: session id, user id, labels as they are stored."""
    user = b"" if stored.user_id is None else b"u" + stored.user_id.encode()
    labels = (tag.encode() for tag in stored.tags)
    return packed(b"session", stored.session_id.encode(), user, *labels)


def message_place(session_id: str, message: MessageRecord, position: int) -> bytes:
    """Return the place of a message: session id, position, message id, role, time."""
    return packed(
        b"message",
        session_id.encode(),
        b"%d" % position,
        message.message_id.encode(),
        message.role.encode(),
        b"%d" % message.created_at_us,
    )


def check_place(scope: MemoryScope, key: str) -> None:
    """Refuse ids that no memory has, before they are encrypted."""
    check_id(scope.owner_id, f"{scope.kind} id")
    check_id(key, "memory key")


def memory_place(stored: MemoryRecord) -> bytes:
    """Return the place of a memory: scope, key as it is stored."""
    scope = stored.scope
    return packed(b"memory", scope.kind.encode(), scope.owner_id.encode(), stored.key.encode())


def session_name(session_id: str) -> str:
    """Return how errors name a header."""
    return f"session {session_id!a}"


def message_name(session_id: str, position: int) -> str:
    """Return how errors name a message."""
    return f"message {position} of session {session_id!a}"


def memory_name(stored: MemoryRecord) -> str:
    """Return how errors name a memory: by its key as it is stored."""
    return f"memory {stored.key!a} of {stored.scope.kind} {stored.scope.owner_id!a}"
