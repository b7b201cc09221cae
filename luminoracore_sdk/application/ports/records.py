"""What crosses the storage port: plain indexed fields and an opaque payload.

Times are whole microseconds since 1970-01-01 UTC, as every backend can keep and compare them.
Payloads are bytes with a tag that says how they were made, so that a store can hold records of
several makes and a backend needs to know nothing of entities.
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
    "stored_record",
]


MAX_BATCH = 1000
"""Most messages in one append: six columns each stay below SQLite's and PostgreSQL's 32,766 parameters."""

MAX_PAGE = 1000
"""Most sessions in one page of a listing."""


@attrs.frozen
class Payload:
    """Opaque bytes that say how to read themselves.

    Attributes:
        encoding: ``json``, ``json-wide``, ``json+opt1`` …: the encoding, then each transformation in the
            order it was applied. Tags that begin with ``json`` and hold no other transformation than
            text ones are UTF-8 text without a raw newline; see ``is_text``.
        data: The bytes.
    """

    encoding: str
    data: bytes

    @property
    def is_text(self) -> bool:
        """Whether the bytes are UTF-8 text on one line, which a backend may keep readable."""
        return all(step in _TEXT_STEPS for step in self.encoding.split("+"))


def _sorted(tags: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(tags)))


_TEXT_STEPS = frozenset({"json", "json-wide", "opt1", "opt0"})


@attrs.frozen(kw_only=True)
class SessionRecord:
    """The header of a session.

    Attributes:
        session_id: Its id.
        user_id: Whose it is; None: nobody's.
        tags: Labels, sorted and distinct.
        ttl_us: Microseconds after ``updated_at_us`` at which it is gone; None: never.
        payload: The session's own document; None in listings.
        created_at_us: At the first put as given, or the present when 0; kept by later puts.
        updated_at_us: Given by the store: the last put, append or truncate, whichever is newest.
        version: Given by the store: 1, 2, 3 … one up with each put; not changed by appends.
        last_position: Given by the store: the position of the newest message; 0: none.
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
        created_at_us: When it was said; the caller's.
        payload: Content and metadata.
        position: 1, 2, 3 … given by the store; 0 before that.
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
    """Return a message as a backend read it, in half the time that ``MessageRecord(…)`` takes.

    Every message of a long read passes here, and nothing of it is converted or checked.
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
    """What an append did.

    Attributes:
        first_position: Of the batch.
        last_position: Of the batch; ``first_position + number - 1``.
        replayed: True: every message of the batch was there already under its id, and nothing was
            written; the positions are those of the first time.
    """

    first_position: int
    last_position: int
    replayed: bool = False


@attrs.frozen(kw_only=True)
class MessageRange:
    """Which messages to read. The result is always oldest first.

    Attributes:
        after: Positions above this one.
        before: Positions below this one; None: no bound.
        limit: At most so many; None: all.
        newest: True: ``limit`` keeps the newest of the range; False: the oldest.
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
    """Whose memory: a session's or a user's.

    Attributes:
        kind: ``session`` (deleted with it) or ``user``.
        owner_id: The id of the session or user.
    """

    kind: str = attrs.field(validator=_check_kind)
    owner_id: str


@attrs.frozen(kw_only=True)
class MemoryRecord:
    """One remembered value.

    Attributes:
        scope: Whose it is.
        key: Unique within the scope.
        expires_at_us: From then on it counts as absent; None: never.
        retention: When a scope is full, the lowest goes first, then the oldest ``updated_at_us``.
        payload: The entry's own document.
        created_at_us: At the first put as given, or the present when 0; kept by later puts (not by
            one that replaces an expired record).
        updated_at_us: Given by the store at each put.
    """

    scope: MemoryScope
    key: str
    payload: Payload
    expires_at_us: int | None = None
    retention: float = 0.0
    created_at_us: int = 0
    updated_at_us: int = 0


@attrs.frozen(kw_only=True)
class SessionQuery:
    """Which sessions to list, by time of creation, then id.

    Attributes:
        user_id: Only this user's; None: everybody's.
        tag: Only those with this label.
        created_after_us: Only those created at or after.
        created_before_us: Only those created before.
        newest_first: Direction.
        limit: At most so many in a page, 1..1000.
        cursor: Where the page before ended (``Page.next_cursor``); None: the first page.
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
        next_cursor: For the next page: creation time and id of the last one; None: this was the last page.
    """

    sessions: tuple[SessionRecord, ...]
    next_cursor: tuple[int, str] | None


@attrs.frozen(kw_only=True)
class Purged:
    """How many expired records were removed."""

    sessions: int
    memories: int
