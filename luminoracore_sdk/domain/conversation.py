"""A conversation: a snapshot of its newest messages."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Self

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.values import check_id, parse_time, to_utc

__all__ = ["Conversation"]


@attrs.frozen
class Conversation:
    """The newest messages of one session, oldest first.

    Attributes:
        session_id: The id of the session.
        messages: The messages, a copy; changing it does not change the store.
        metadata: A JSON object.
        created_at: The time of the session's creation, UTC.
        updated_at: The time of its last change, UTC.
    """

    session_id: str
    messages: list[Message] = attrs.field(factory=list)
    metadata: JSONObject = attrs.field(factory=dict)
    created_at: datetime = attrs.field(kw_only=True, converter=to_utc)
    updated_at: datetime = attrs.field(kw_only=True, converter=to_utc)

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(self.messages)

    def __bool__(self) -> bool:
        """Return True, also for a conversation without messages."""
        return True

    def get_recent_messages(self, count: int) -> list[Message]:
        """Return the newest ``count`` messages, oldest first; an empty list for 0 or less."""
        return self.messages[-count:] if count > 0 else []

    def to_dict(self) -> JSONObject:
        """Return a JSON object with ISO 8601 times."""
        return {
            "session_id": self.session_id,
            "messages": [message.to_dict() for message in self.messages],
            "metadata": self.metadata,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Parse the result of ``to_dict``.

        Raises:
            ValidationError: A field is missing, unknown or invalid.
        """
        if not isinstance(data, Mapping):
            raise ValidationError(f"a conversation must be a JSON object, not {type(data).__name__}")
        fields = {"session_id", "messages", "metadata", "created_at", "updated_at"}
        if unknown := sorted(map(str, set(data) - fields)):
            raise ValidationError(f"a conversation has no field {unknown[0]!a}")
        if missing := [name for name in ("session_id", "created_at", "updated_at") if name not in data]:
            raise ValidationError(f"a conversation needs the field {missing[0]!r}")
        messages, metadata = data.get("messages", []), data.get("metadata", {})
        if not isinstance(messages, list) or not isinstance(metadata, dict):
            raise ValidationError("a conversation has a list 'messages' and a JSON object 'metadata'")
        return cls(
            session_id=check_id(data["session_id"]),
            messages=[Message.from_dict(item) for item in messages],
            metadata=dict(metadata),
            created_at=parse_time(data["created_at"]),
            updated_at=parse_time(data["updated_at"]),
        )
