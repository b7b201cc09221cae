"""One message of a conversation."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.values import NamedValue, check_id, parse_time, to_utc

__all__ = ["Message", "MessageRole", "at_position", "message_text", "stamped", "stored_message"]


class MessageRole(NamedValue):
    """Who speaks. A ``str``: ``message.role == "user"`` works."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


_ROLES: dict[object, MessageRole] = {role.value: role for role in MessageRole}


def _to_role(value: object) -> MessageRole:
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
        role: user, assistant, system or tool; text is converted.
        content: What was said: mostly text, but any JSON value (a list of parts, say).
        timestamp: Aware; kept in UTC to the microsecond. None means: the manager stamps it when it
            is added.
        metadata: A JSON object of the caller's. ``tool_calls`` on an assistant message and
            ``tool_call_id`` on a tool message carry a tool call and its result.
        id: Unique within its session. A message added again under the same id is the same message:
            it is stored once. None means: the manager gives one.
        position: 1, 2, 3 … within the session, given by the store; None before that.
    """

    role: MessageRole = attrs.field(converter=_to_role)
    content: JSONValue
    timestamp: datetime | None = attrs.field(default=None, converter=_to_optional_utc)
    metadata: JSONObject = attrs.field(factory=dict, validator=_check_metadata)
    id: str | None = attrs.field(default=None, kw_only=True, validator=_check_optional_id)
    position: int | None = attrs.field(default=None, kw_only=True)

    def to_dict(self) -> JSONObject:
        """Return a JSON object; ``id`` and ``position`` only when they are set."""
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
        """Read what ``to_dict`` writes.

        Raises:
            ValidationError: A field is missing, unknown or wrong.
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
    """Return a message with an id and a time, and without a position; all else is as it was.

    Raises:
        ValidationError: The id or the time is wrong.
    """
    return _with_facts(message, check_id(id, "message id"), to_utc(timestamp), None)


def at_position(message: Message, position: int) -> Message:
    """Return a message with the position that the store gave it; all else is as it was."""
    return _with_facts(message, message.id, message.timestamp, position)


def _with_facts(message: Message, message_id: str | None, timestamp: datetime | None, position: int | None) -> Message:
    if type(message) is not Message:  # a subclass may have fields of its own
        return attrs.evolve(message, id=message_id, timestamp=timestamp, position=position)
    return _made(message.role, message.content, timestamp, message.metadata, message_id, position)


def stored_message(
    role: str, content: JSONValue, timestamp: datetime, metadata: JSONObject, message_id: str, position: int
) -> Message:
    """Return a message as it was stored.

    What a damaged record can get wrong is checked as by ``Message`` itself.

    Args:
        role: Its text.
        content: Any JSON value.
        timestamp: In UTC already.
        metadata: A JSON object.
        message_id: Its id.
        position: Its position.

    Raises:
        ValidationError: An unknown role, metadata that is no object, an impossible id.
    """
    _check_metadata(None, None, metadata)
    return _made(_to_role(role), content, timestamp, metadata, check_id(message_id, "message id"), position)


_new = object.__new__
_set_role, _set_content, _set_timestamp, _set_metadata, _set_id, _set_position = (
    getattr(Message, field.name).__set__ for field in attrs.fields(Message)
)


def _made(
    role: MessageRole,
    content: JSONValue,
    timestamp: datetime | None,
    metadata: JSONObject,
    message_id: str | None,
    position: int | None,
) -> Message:
    """Make a message of what is checked already: a third of the time of ``Message()``, a fifth of ``evolve``.

    A message that is added passes here twice, one that is read once.
    """
    message = _new(Message)
    _set_role(message, role)
    _set_content(message, content)
    _set_timestamp(message, timestamp)
    _set_metadata(message, metadata)
    _set_id(message, message_id)
    _set_position(message, position)
    return message


def message_text(message: Message) -> str:
    """Return the text in a message: its content, or the text parts of a list of parts, joined."""
    if isinstance(message.content, str):
        return message.content
    if isinstance(message.content, list):
        parts = (part.get("text") if isinstance(part, dict) else part for part in message.content)
        return "\n".join(part for part in parts if isinstance(part, str))
    return ""
