"""The records of the storage port: plain indexed fields and an opaque payload.

Times are integers, microseconds since 1970-01-01 UTC, which every backend can store and compare. A payload
names its encoding, so that a store can hold records of several encodings and a backend does not need to know
the entities.
"""

from collections.abc import Iterable

import attrs

from luminoracore_sdk.domain.errors import ValidationError

__all__ = [
    "MAX_BATCH",
    "MAX_PAGE",
    "AppendReceipt",
    "MemoryRecord",
    "MemoryScope",
    "MessageRange",
    "MessageRecord",
    "Page",
    "Payload",
    "Purged",
    "SessionQuery",
    "SessionRecord",
    "TailReceipt",
    "TurnRecords",
    "stored_record",
]


MAX_BATCH = 1000
"""Most messages in one append: with six columns each they stay below 32,766 parameters of a statement."""

MAX_PAGE = 1000
"""Most sessions or users in one page of a listing."""


@attrs.frozen
class Payload:
    """Opaque bytes with the name of their encoding.

    Attributes:
        encoding: ``json``, ``json-wide``, ``json+opt1`` …: the format, then each transformation in the order
            in which it was applied.
        data: The bytes.
    """

    encoding: str
    data: bytes

    @property
    def is_text(self) -> bool:
        """Whether the bytes are one line of UTF-8 text, which a backend may store as text."""
        return all(step in _TEXT_STEPS for step in self.encoding.split("+"))


_TEXT_STEPS = frozenset({"json", "json-wide", "opt1", "opt0"})


def _sorted(tags: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(tags)))


@attrs.frozen(kw_only=True)
class SessionRecord:
    """The header of a session.

    Attributes:
        session_id: The id of the session.
        user_id: The id of its user, or None.
        tags: Its tags, sorted and distinct.
        ttl_us: Microseconds after ``updated_at_us`` at which it expires; None: never.
        payload: The session's own document; None in listings.
        created_at_us: The value of the first put, or its time if that is 0; later puts do not change it.
        updated_at_us: Assigned by the store: the time of the latest put, append or truncation.
        version: Assigned by the store: 1, 2, 3 …, incremented by each put and not by appends.
        last_position: Assigned by the store: the position of the newest message; 0: none.
    """

    session_id: str
    payload: Payload | None
    user_id: str | None = None
    tags: tuple[str, ...] = attrs.field(default=(), converter=_sorted)
    ttl_us: int | None = None
    created_at_us: int = 0
    updated_at_us: int = 0
    version: int = 0
    last_position: int = 0


@attrs.frozen(kw_only=True)
class MessageRecord:
    """One message.

    Attributes:
        message_id: Unique within the session.
        role: user, assistant, system or tool.
        created_at_us: The time of the message, set by the caller.
        payload: Content and metadata.
        position: Assigned by the store: 1, 2, 3 …; 0 before that.
    """

    message_id: str
    role: str
    created_at_us: int
    payload: Payload
    position: int = 0


_new = object.__new__
_set_encoding, _set_data = (getattr(Payload, field.name).__set__ for field in attrs.fields(Payload))
_set_id, _set_role, _set_created_at_us, _set_payload, _set_position = (
    getattr(MessageRecord, field.name).__set__ for field in attrs.fields(MessageRecord)
)


def stored_record(
    position: int, message_id: str, role: str, created_at_us: int, encoding: str, data: bytes
) -> MessageRecord:
    """Return a ``MessageRecord`` in half the time of its constructor, for backends.

    It is called for every message of a read; nothing is converted or checked.
    """
    payload = _new(Payload)
    _set_encoding(payload, encoding)
    _set_data(payload, data)
    record = _new(MessageRecord)
    _set_id(record, message_id)
    _set_role(record, role)
    _set_created_at_us(record, created_at_us)
    _set_payload(record, payload)
    _set_position(record, position)
    return record


@attrs.frozen(kw_only=True)
class AppendReceipt:
    """The result of an append.

    Attributes:
        first_position: The position of the first message of the batch.
        last_position: The position of the last one.
        replayed: Whether every message of the batch was stored already under its id. Nothing was written
            then, and the positions are those of the stored messages.
    """

    first_position: int
    last_position: int
    replayed: bool = False


@attrs.frozen(kw_only=True)
class MessageRange:
    """The messages to read; the result is always oldest first.

    Attributes:
        after: Only positions above this one.
        before: Only positions below this one; None: no bound.
        limit: At most so many messages; None: all.
        newest: Whether ``limit`` selects the newest messages of the range instead of the oldest.
    """

    after: int = 0
    before: int | None = None
    limit: int | None = None
    newest: bool = False


def _check_kind(_: object, __: object, value: str) -> None:
    if value not in ("session", "user"):
        raise ValidationError(f"a memory scope is of kind session or user, not {value!a}")


@attrs.frozen
class MemoryScope:
    """The owner of memories: a session or a user.

    Attributes:
        kind: ``session`` (the memories are deleted with it) or ``user``.
        owner_id: The id of the session or user.
    """

    kind: str = attrs.field(validator=_check_kind)
    owner_id: str


@attrs.frozen(kw_only=True)
class TailReceipt:
    """The result of ``replace_tail``.

    Attributes:
        removed: The messages that were removed, oldest first; none if the call is a repeated one.
        last_position: The newest position afterwards.
        replayed: Whether the messages were stored already, so that nothing was changed.
    """

    removed: list[MessageRecord]
    last_position: int
    replayed: bool = False


@attrs.frozen(kw_only=True)
class MemoryRecord:
    """One memory.

    Attributes:
        scope: Its owner.
        key: Unique within the scope.
        expires_at_us: The time from which it counts as absent; None: never.
        retention: The rank for eviction: a full scope evicts the lowest first, then the oldest
            ``updated_at_us``.
        payload: The entry's own document.
        created_at_us: The value of the first put, or its time if that is 0; later puts do not change it,
            except a put that replaces an expired record.
        updated_at_us: Assigned by the store: the time of the latest put.
    """

    scope: MemoryScope
    key: str
    payload: Payload
    expires_at_us: int | None = None
    retention: float = 0.0
    created_at_us: int = 0
    updated_at_us: int = 0


@attrs.frozen(kw_only=True)
class TurnRecords:
    """What one turn needs of a session.

    Attributes:
        session: Its header with the payload.
        memories: Its memories, in the order of ``list_memories``.
        messages: Its newest messages, oldest first.
    """

    session: SessionRecord
    memories: list[MemoryRecord]
    messages: list[MessageRecord]


@attrs.frozen(kw_only=True)
class SessionQuery:
    """The sessions to list, by time of creation, then id.

    Attributes:
        user_id: Only those of this user; None: all.
        tag: Only those with this tag; None: all.
        created_after_us: Only those created at this time or later.
        created_before_us: Only those created before this time.
        newest_first: Whether to list in reverse order.
        limit: Largest number of sessions in a page, 1..1000.
        cursor: The ``next_cursor`` of the previous page; None: the first page.
    """

    user_id: str | None = None
    tag: str | None = None
    created_after_us: int | None = None
    created_before_us: int | None = None
    newest_first: bool = False
    limit: int = 100
    cursor: tuple[int, str] | None = None


@attrs.frozen(kw_only=True)
class Page:
    """One page of a listing.

    Attributes:
        sessions: Headers without payload.
        next_cursor: The cursor of the next page: creation time and id; None: this is the last page.
    """

    sessions: tuple[SessionRecord, ...]
    next_cursor: tuple[int, str] | None


@attrs.frozen(kw_only=True)
class Purged:
    """The number of expired records that were removed."""

    sessions: int
    memories: int
