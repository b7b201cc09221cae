"""What callers may hand in, made into what the domain knows."""

from collections.abc import Mapping
from typing import Any

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message, MessageRole

__all__ = ["ABSENT", "check_count", "to_message"]

ABSENT: Any = object()
"""Stands for an argument that was not given."""


_ROLES = frozenset(MessageRole)


def to_message(role: Any, content: Any, metadata: JSONObject | None) -> Message:
    """Return the message that ``add_message`` was given in one of its forms.

    Raises:
        ValidationError: None of them.
    """
    if content is not ABSENT:
        return Message(role=role, content=content, metadata={} if metadata is None else metadata)
    if isinstance(role, Message):
        return role
    if isinstance(role, Mapping):
        return Message.from_dict(role)
    if not isinstance(role, str):
        raise ValidationError(f"a message is a Message, a dict or a text, not {type(role).__name__}")
    if role in _ROLES:
        raise ValidationError(f"a message of role {str(role)!r} needs a content")
    return Message(role=MessageRole.USER, content=role)


def check_count(value: int | None, name: str) -> None:
    """Refuse what is not None or a whole number of at least 0."""
    if value is not None and (type(value) is not int or value < 0):
        raise ValidationError(f"{name} must be a whole number of at least 0, not {value!r}")
