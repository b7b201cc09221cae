"""What a list of conversations shows of each one, and the changes that a watcher receives."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Literal

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, copy_json
from luminoracore_sdk.domain.message import Message, MessageRole
from luminoracore_sdk.domain.unchecked import unchecked
from luminoracore_sdk.domain.usage import Usage
from luminoracore_sdk.domain.values import to_utc

__all__ = ["ConversationPage", "ConversationSummary", "SessionChange", "stored_conversation", "watched_from"]

_ROLES = frozenset(role.value for role in MessageRole)


@attrs.frozen(kw_only=True)
class ConversationSummary:
    """One row of a list of conversations.

    Attributes:
        session_id: The id of the session.
        user_id: The id of its user, or None.
        title: Its title, or None.
        attributes: The application's own JSON object.
        tags: Its tags.
        archived: Whether it is archived.
        pinned: Whether it is pinned.
        first_text: The beginning of the first message of the user, at most 200 characters; None: there is none, or it
            was removed.
        last_text: The beginning of the newest message of user or assistant, likewise.
        counters: Sums by name, of which ``messages`` and ``usage`` are made.
        message_count: The number of messages, deleted ones included: the position of the newest one.
        created_at: The time of its creation, UTC.
        last_activity: The time of its last change, UTC.
    """

    session_id: str
    user_id: str | None = None
    title: str | None = None
    attributes: JSONObject = attrs.field(factory=dict)
    tags: tuple[str, ...] = ()
    archived: bool = False
    pinned: bool = False
    first_text: str | None = None
    last_text: str | None = None
    counters: Mapping[str, int] = attrs.field(factory=dict)
    message_count: int = 0
    created_at: datetime = attrs.field(converter=to_utc)
    last_activity: datetime = attrs.field(converter=to_utc)

    @property
    def messages(self) -> dict[str, int]:
        """The number of messages by role, deleted ones included."""
        return {name: number for name, number in self.counters.items() if name in _ROLES}

    @property
    def usage(self) -> Usage:
        """The tokens of all turns, those that were replaced or removed since included."""
        return Usage.of_counters(self.counters)

    def to_dict(self) -> JSONObject:
        """Return a JSON object with ISO 8601 times."""
        return {
            "session_id": self.session_id,
            "user_id": self.user_id,
            "title": self.title,
            "attributes": copy_json(self.attributes),
            "tags": list(self.tags),
            "archived": self.archived,
            "pinned": self.pinned,
            "first_text": self.first_text,
            "last_text": self.last_text,
            "messages": self.messages,
            "message_count": self.message_count,
            "usage": self.usage.to_dict(),
            "created_at": self.created_at.isoformat(),
            "last_activity": self.last_activity.isoformat(),
        }


stored_conversation = unchecked(ConversationSummary)


@attrs.frozen(kw_only=True)
class ConversationPage:
    """One page of a list of conversations.

    Attributes:
        conversations: The rows.
        next_cursor: Passed to the next call; None: this is the last page.
    """

    conversations: list[ConversationSummary]
    next_cursor: str | None = None

    def to_dict(self) -> JSONObject:
        """Return a JSON object."""
        return {
            "conversations": [row.to_dict() for row in self.conversations],
            "next_cursor": self.next_cursor,
        }


@attrs.frozen
class SessionChange:
    """A change of a conversation, in the order in which a copy of it has to follow.

    Attributes:
        kind: ``appended``: a message is behind all others; ``updated``: a message has changed; ``cut``: all messages
            above the position were removed; ``deleted``: the session is gone, the last change.
        position: That of the message, the last that stayed, or 0.
        message: The message that was appended or updated; None for the others.
        cursor: Names the place behind this change; a watcher that comes back passes it as ``after``.
    """

    kind: Literal["appended", "updated", "cut", "deleted"]
    position: int
    message: Message | None = None
    cursor: str = attrs.field(default="0", eq=False)

    def to_dict(self) -> JSONObject:
        """Return a JSON object."""
        message = None if self.message is None else self.message.to_dict()
        return {"kind": self.kind, "position": self.position, "message": message, "cursor": self.cursor}


_CURSOR = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,15}))?")


def watched_from(after: int | str) -> tuple[int, int | None]:
    """Return the position in a cursor, and the number of the latest change of what was stored before, or None.

    Raises:
        ValidationError: It is neither a position nor a cursor.
    """
    if type(after) is int and after >= 0:
        return after, None
    if isinstance(after, str) and (found := _CURSOR.fullmatch(after)):
        position, number = found.groups()
        return int(position), None if number is None else int(number)
    raise ValidationError(f"{after!a:.40} is no position; pass the cursor of a change as it is")
