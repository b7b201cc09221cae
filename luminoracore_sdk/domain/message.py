"""One message of a conversation."""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, Self

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.unchecked import unchecked
from luminoracore_sdk.domain.values import NamedValue, check_id, parse_time, to_utc

__all__ = [
    "DELETED",
    "OLDER_DELETED",
    "REDACTED",
    "Message",
    "MessageRole",
    "at_position",
    "brief_text",
    "ends_history",
    "is_deleted",
    "is_redacted",
    "message_text",
    "not_deleted",
    "stamped",
    "stored_message",
    "to_role",
]

DELETED: JSONObject = {"deleted": True}
"""The metadata of a deleted message, whose content is empty."""

OLDER_DELETED: JSONObject = {**DELETED, "older_deleted": True}
"""The metadata of a deleted message before which every message is deleted too."""


REDACTED = "redacted"
"""The name of true in the metadata of a redacted message, whose content is empty."""


class MessageRole(NamedValue):
    """The author of a message. Members are strings: ``message.role == "user"`` works."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


_ROLES: dict[object, MessageRole] = {role.value: role for role in MessageRole}


def to_role(value: object) -> MessageRole:
    """Return a role.

    Raises:
        ValidationError: There is no such role.
    """
    try:
        return _ROLES[value]
    except (KeyError, TypeError):
        valid = ", ".join(role.value for role in MessageRole)
        raise ValidationError(f"role {ascii(value)[:40]} is not one of: {valid}") from None


def _to_optional_utc(value: datetime | None) -> datetime | None:
    return None if value is None else to_utc(value)


def _check_optional_id(_: Any, __: Any, value: str | None) -> None:
    if value is not None:
        check_id(value, "message id")


def _check_metadata(_: Any, __: Any, value: object) -> None:
    if type(value) is not dict:
        raise ValidationError(f"message metadata must be a dict, not {type(value).__name__}")


@attrs.frozen
class Message:
    """One message.

    Attributes:
        role: user, assistant, system or tool; a string is converted.
        content: The content: usually a string, but any JSON value, such as a list of parts.
        timestamp: The time of the message, aware, converted to UTC; None: the manager sets the time at
            which it is added.
        metadata: A JSON object. ``tool_calls`` of an assistant message and ``tool_call_id`` of a tool
            message represent a tool call and its result.
        id: Unique within its session. A message that is added again under the same id is stored once.
            None: the manager generates one.
        position: 1, 2, 3 … within the session, assigned by the store; None before that.
    """

    role: MessageRole = attrs.field(converter=to_role)
    content: JSONValue
    timestamp: datetime | None = attrs.field(default=None, converter=_to_optional_utc)
    metadata: JSONObject = attrs.field(factory=dict, validator=_check_metadata)
    id: str | None = attrs.field(default=None, kw_only=True, validator=_check_optional_id)
    position: int | None = attrs.field(default=None, kw_only=True)

    def to_dict(self) -> JSONObject:
        """Return a JSON object; it contains ``id`` and ``position`` only if they are set."""
        data: JSONObject = {
            "role": self.role.value,
            "content": self.content,
            "timestamp": self.timestamp.isoformat() if self.timestamp else None,
            "metadata": self.metadata,
        }
        if self.id is not None:
            data["id"] = self.id
        if self.position is not None:
            data["position"] = self.position
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Parse the result of ``to_dict``.

        Raises:
            ValidationError: A field is missing, unknown or invalid.
        """
        if not isinstance(data, Mapping):
            raise ValidationError(f"a message must be a JSON object, not {type(data).__name__}")
        fields = {"role", "content", "timestamp", "metadata", "id", "position"}
        if unknown := sorted(map(str, set(data) - fields)):
            raise ValidationError(f"a message has no field {unknown[0]!a}")
        if missing := sorted({"role", "content"} - set(data)):
            raise ValidationError(f"a message needs the field {missing[0]!r}")
        timestamp = data.get("timestamp")
        return cls(
            role=data["role"],
            content=data["content"],
            timestamp=None if timestamp is None else parse_time(timestamp),
            metadata={} if data.get("metadata") is None else data["metadata"],
            id=data.get("id"),
            position=data.get("position"),
        )


def stamped(message: Message, *, id: str, timestamp: datetime) -> Message:  # noqa: A002  # as the field
    """Return a copy of a message with this id and time, and without a position.

    Raises:
        ValidationError: The id or the time is invalid.
    """
    return _with_facts(message, check_id(id, "message id"), to_utc(timestamp), None)


def at_position(message: Message, position: int) -> Message:
    """Return a copy of a message with this position."""
    return _with_facts(message, message.id, message.timestamp, position)


def _with_facts(message: Message, message_id: str | None, timestamp: datetime | None, position: int | None) -> Message:
    if type(message) is not Message:  # a subclass may have other fields
        return attrs.evolve(message, id=message_id, timestamp=timestamp, position=position)
    return _made(message.role, message.content, timestamp, message.metadata, message_id, position)


def stored_message(
    role: str, content: JSONValue, timestamp: datetime, metadata: JSONObject, message_id: str, position: int
) -> Message:
    """Return a stored message, validating only what a damaged record could contain.

    Args:
        role: The role.
        content: Any JSON value.
        timestamp: The time, in UTC.
        metadata: A JSON object.
        message_id: The id.
        position: The position.

    Raises:
        ValidationError: The role is unknown, the metadata is not an object, or the id is invalid.
    """
    _check_metadata(None, None, metadata)
    return _made(to_role(role), content, timestamp, metadata, check_id(message_id, "message id"), position)


_made: Callable[[MessageRole, JSONValue, datetime | None, JSONObject, str | None, int | None], Message] = unchecked(
    Message
)
"""Of validated fields: it is called twice for each added message, and once for each message that is read."""


_BRIEF_CHARACTERS = 200
_LOOKED_AT = 2000
"""Characters of a long text of which its brief is made."""


def brief_text(message: Message) -> str:
    """Return the beginning of a message's text in one line, at most 200 characters."""
    content = message.content
    if isinstance(content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in content)
        content = next((part for part in parts if isinstance(part, str) and part.strip()), "")
    return " ".join(content[:_LOOKED_AT].split())[:_BRIEF_CHARACTERS] if isinstance(content, str) else ""


def message_text(message: Message) -> str:
    """Return the text of a message: its content, or the joined text parts of a list of parts."""
    if isinstance(message.content, str):
        return message.content
    if isinstance(message.content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in message.content)
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""


def is_deleted(message: Message) -> bool:
    """Return whether a message was deleted: nothing but id, role, time and position is left of it."""
    return message.content == "" and message.metadata in (DELETED, OLDER_DELETED)


def is_redacted(message: Message) -> bool:
    """Return whether the content of a message was removed."""
    return message.content == "" and message.metadata.get(REDACTED) is True


def ends_history(message: Message) -> bool:
    """Return whether a message and every older one are known to be deleted."""
    return message.content == "" and message.metadata == OLDER_DELETED


def not_deleted(messages: Iterable[Message]) -> list[Message]:
    """Return those messages that were not deleted."""
    return [message for message in messages if not is_deleted(message)]
