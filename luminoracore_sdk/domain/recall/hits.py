"""What recall returns."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import attrs

from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.values import to_utc

__all__ = ["Hit", "HitKind"]

HitKind = Literal["message", "memory"]


@attrs.frozen(kw_only=True)
class Hit:
    """A message or memory that recall has found.

    Attributes:
        kind: ``message`` or ``memory``.
        session_id: The session of a message, or of a memory of a session; None: it is a memory of the user.
        position: The position of a message in its session; None: it is a memory.
        message_id: The id of a message; None: it is a memory.
        role: The role of a message; None: it is a memory.
        key: The key of a memory; None: it is a message.
        text: The text of the message, or the value of the memory, as JSON if it is not a string.
        timestamp: The time of the message, or that when the memory was last stored, UTC.
        score: Comparable within one list only.
        parts: What the score is made of, by name; empty unless it was asked for.
        around: The messages before and after it, oldest first, itself included; empty unless they were asked for.
    """

    kind: HitKind
    session_id: str | None = None
    position: int | None = None
    message_id: str | None = None
    role: str | None = None
    key: str | None = None
    text: str
    timestamp: datetime = attrs.field(converter=to_utc)
    score: float
    parts: Mapping[str, object] = attrs.field(factory=dict)
    around: tuple[Message, ...] = ()

    def to_dict(self) -> JSONObject:
        """Return a JSON object with an ISO 8601 time, without what is None or empty."""
        fields: JSONObject = {
            "kind": self.kind,
            "session_id": self.session_id,
            "position": self.position,
            "message_id": self.message_id,
            "role": self.role,
            "key": self.key,
            "text": self.text,
            "timestamp": self.timestamp.isoformat(),
            "score": self.score,
            "parts": dict(self.parts),
            "around": [message.to_dict() for message in self.around],
        }
        return {name: value for name, value in fields.items() if value not in (None, {}, [])}
