"""The records of the storage port: plain indexed fields and an opaque payload.

Times are integers, microseconds since 1970-01-01 UTC, which every backend can store and compare. A payload
names its encoding, so that a store can hold records of several encodings and a backend does not need to know
the entities.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Self, TypeVar

import attrs

from luminoracore_sdk.domain.errors import CorruptRecordError, UnreadablePayloadError, ValidationError
from luminoracore_sdk.domain.message import MessageRole
from luminoracore_sdk.domain.unchecked import unchecked

__all__ = [
    "MAX_BATCH",
    "MAX_CHANGES",
    "MAX_PAGE",
    "NEVER_EVICTED",
    "NO_PAYLOAD",
    "ROLES",
    "AppendReceipt",
    "Brief",
    "HeaderTexts",
    "HistoryChange",
    "IndexRecord",
    "IndexRewrite",
    "Lease",
    "MemoryPut",
    "MemoryQuery",
    "MemoryRecord",
    "MemoryScope",
    "MessageRange",
    "MessageRecord",
    "Page",
    "Payload",
    "Purged",
    "RewriteMessage",
    "SessionQuery",
    "SessionRecord",
    "SessionSummary",
    "TailReceipt",
    "TurnRecords",
    "noted",
    "stored_brief",
    "stored_header",
    "stored_index",
    "stored_payload",
    "stored_receipt",
    "stored_record",
    "stored_summary",
    "with_indexes",
    "without_zeros",
]


MAX_BATCH = 1000
"""Most messages in one append: with six columns each they stay below 32,766 parameters of a statement. Also most keys
in one change of memories."""

MAX_PAGE = 1000
"""Most sessions, users or memories in one page of a listing."""

ROLES = frozenset(role.value for role in MessageRole)
"""The roles of messages."""

NEVER_EVICTED = 1e300
"""A memory of this retention or more is not evicted, and does not count against ``max_entries``."""

MAX_CHANGES = 32
"""Most changes that a header lists; see ``HistoryChange``."""


T = TypeVar("T")
R = TypeVar("R")


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

NO_PAYLOAD = Payload("", b"")
"""Stands for the payload of a memory that was listed without it; it cannot be decoded or stored."""


def _sorted(tags: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(tags)))


@attrs.frozen
class Brief:
    """The short text of a message, as listings show it.

    Attributes:
        position: The position of the message.
        payload: The text.
    """

    position: int
    payload: Payload


_NO_COUNTERS: Mapping[str, int] = {}


@attrs.frozen(kw_only=True)
class SessionSummary:
    """What a header says of its messages, so that a listing reads none of them.

    Every append updates it in its own step. It never holds more than the two briefs and the counters.

    Attributes:
        first: The brief of the first message of role ``user`` that has one; None: none, or it was removed.
        last: The brief of the newest message that has one; None: none, or it was removed since.
        counters: Sums by name. Those named by a role are the numbers of stored messages of that role; the others
            change only by what appends add: what removed messages have added stays. None is 0.
    """

    first: Brief | None = None
    last: Brief | None = None
    counters: Mapping[str, int] = attrs.field(default=_NO_COUNTERS)

    def appended(self, messages: Sequence["MessageRecord"], first_position: int) -> Self:
        """Return the summary once messages are stored from a position on."""
        first, last, counters = self.first, self.last, dict(self.counters)
        for position, message in enumerate(messages, start=first_position):
            counters[message.role] = counters.get(message.role, 0) + 1
            for name, number in message.adds.items():
                counters[name] = counters.get(name, 0) + number
            if message.brief is not None:
                last = Brief(position, message.brief)
                if first is None and message.role == "user":
                    first = last
        return attrs.evolve(self, first=first, last=last, counters=without_zeros(counters))

    def copied(self, roles: Iterable[str]) -> Self:
        """Return the summary of a fork whose messages have these roles; only the counters are made of them."""
        counters = dict(self.counters)
        for role in roles:
            counters[role] = counters.get(role, 0) + 1
        return attrs.evolve(self, counters=counters)

    def cut(self, after: int, removed: Iterable[str]) -> Self:
        """Return the summary once the messages above a position are removed.

        Args:
            after: The last position that stays.
            removed: The role of each removed message.
        """
        counters = dict(self.counters)
        for role in removed:
            counters[role] -= 1
            if not counters[role]:
                del counters[role]
        first = self.first if self.first is not None and self.first.position <= after else None
        last = self.last if self.last is not None and self.last.position <= after else None
        return attrs.evolve(self, first=first, last=last, counters=counters)

    def lacking(self, wanted: Self) -> dict[str, int]:
        """Return what has to be added to the counters, besides those of roles, to make them the wanted ones."""
        names = (wanted.counters.keys() | self.counters.keys()) - ROLES
        differences = {name: wanted.counters.get(name, 0) - self.counters.get(name, 0) for name in names}
        return without_zeros(differences)

    def updated(self, position: int, brief: Payload | None) -> Self:
        """Return the summary once the message at a position has another brief, or none."""
        new = None if brief is None else Brief(position, brief)
        first = new if self.first is not None and self.first.position == position else self.first
        last = new if self.last is not None and self.last.position == position else self.last
        return attrs.evolve(self, first=first, last=last)


_NO_SUMMARY = SessionSummary()


def without_zeros(counters: dict[str, int]) -> dict[str, int]:
    """Return counters without those of 0."""
    return {name: number for name, number in counters.items() if number} if 0 in counters.values() else counters


@attrs.frozen(kw_only=True)
class HeaderTexts:
    """The payloads that a listing shows of one session: the card and the two briefs."""

    card: Payload | None
    first: Brief | None
    last: Brief | None


@attrs.frozen
class HistoryChange:
    """A change of messages that were stored before.

    A header lists the latest ``MAX_CHANGES``, numbered 1, 2, 3 …. When there would be more, the two oldest become
    one: a cut that covers both.

    Attributes:
        number: Its number within the session.
        kind: ``updated``: one message has another payload; ``cut``: all above a position were removed.
        position: That of the updated message, or the last position that stayed.
    """

    number: int
    kind: Literal["updated", "cut"]
    position: int


def noted(
    changes: Sequence[HistoryChange], kind: Literal["updated", "cut"], position: int
) -> tuple[HistoryChange, ...]:
    """Return the changes of a header once another one is made."""
    number = changes[-1].number + 1 if changes else 1
    found = (*changes, HistoryChange(number, kind, position))
    if len(found) <= MAX_CHANGES:
        return found
    oldest, second, *rest = found
    position = min(change.position - (change.kind == "updated") for change in (oldest, second))
    return (HistoryChange(second.number, "cut", position), *rest)


@attrs.frozen(kw_only=True)
class Lease:
    """The right of one holder to write to a session for a time.

    Attributes:
        fence: The time of the session's first lease in microseconds, so that those of a session that was deleted and
            created again differ; incremented whenever the lease passes to another holder. An append with an older
            fence is refused.
        holder: The name that the holder gave itself.
        until_us: When the lease ends unless it is renewed.
    """

    fence: int
    holder: str
    until_us: int


@attrs.frozen(kw_only=True)
class SessionRecord:
    """The header of a session.

    Attributes:
        session_id: The id of the session.
        user_id: The id of its user, or None.
        tags: Its tags, sorted and distinct.
        ttl_us: Microseconds after ``updated_at_us`` at which it expires; None: never.
        payload: The session's own document; None in listings.
        card: What listings show of the document; None: nothing. Not part of what ``read_turn`` returns.
        created_at_us: The value of the first put, or its time if that is 0; later puts do not change it.
        updated_at_us: Assigned by the store: the time of the latest put, append or truncation.
        version: Assigned by the store: 1, 2, 3 …, incremented by each put and not by appends.
        last_position: Assigned by the store: the position of the newest message; 0: none.
        summary: Assigned by the store, except that a put or fork that creates a session begins with what it is
            given, but for the counters of roles. Not part of what ``read_turn`` returns.
        last_change: Assigned by the store: the ``number`` of the latest of ``changes``; 0: there was none. Not part of
            what ``read_turn`` returns.
        changes: Assigned by the store: the latest changes of what was stored before. Not part of what listings and
            ``read_turn`` return.
        lease: Assigned by the store: the latest lease, which may have ended; None: there was none. Not part of what
            listings and ``read_turn`` return.
    """

    session_id: str
    payload: Payload | None
    card: Payload | None = None
    user_id: str | None = None
    tags: tuple[str, ...] = attrs.field(default=(), converter=_sorted)
    ttl_us: int | None = None
    created_at_us: int = 0
    updated_at_us: int = 0
    version: int = 0
    last_position: int = 0
    last_change: int = attrs.field(default=0, eq=False)
    summary: SessionSummary = _NO_SUMMARY
    changes: tuple[HistoryChange, ...] = attrs.field(default=(), eq=False)
    lease: Lease | None = attrs.field(default=None, eq=False)

    def of_turn(self) -> Self:
        """Return the header without what ``read_turn`` does not return."""
        return attrs.evolve(self, card=None, summary=_NO_SUMMARY, last_change=0, changes=(), lease=None)

    def listed(self, *, texts: bool) -> Self:
        """Return the header as a listing shows it; see ``SessionQuery.texts``."""
        card, summary = (self.card, self.summary) if texts else (None, _NO_SUMMARY)
        return attrs.evolve(self, payload=None, card=card, summary=summary, changes=(), lease=None)

    @property
    def texts(self) -> HeaderTexts:
        """The card and the briefs."""
        return HeaderTexts(card=self.card, first=self.summary.first, last=self.summary.last)

    def with_change(self, kind: Literal["updated", "cut"], position: int) -> Self:
        """Return the header once another change of stored messages is made; see ``HistoryChange``."""
        changes = noted(self.changes, kind, position)
        return attrs.evolve(self, last_change=changes[-1].number, changes=changes)

    def with_texts(self, texts: HeaderTexts) -> Self:
        """Return the header with another card and other briefs."""
        return attrs.evolve(
            self, card=texts.card, summary=attrs.evolve(self.summary, first=texts.first, last=texts.last)
        )


@attrs.frozen(kw_only=True)
class MessageRecord:
    """One message.

    Attributes:
        message_id: Unique within the session.
        role: user, assistant, system or tool.
        created_at_us: The time of the message, set by the caller.
        payload: Content and metadata.
        position: Assigned by the store: 1, 2, 3 …; 0 before that.
        brief: Its short text for the summary of its session; None: it has none. Only given, never returned.
        adds: What it adds to the counters of its session, besides 1 to that of its role; to others than those of
            roles, numbers below 0 too. Only given, never returned.
        index: What an index of the messages is made of, at most 256 KiB; None: it has none. Only given; returned by
            ``read_index``.
    """

    message_id: str
    role: str
    created_at_us: int
    payload: Payload
    position: int = 0
    brief: Payload | None = attrs.field(default=None, eq=False)
    adds: Mapping[str, int] = attrs.field(default=_NO_COUNTERS, eq=False)
    index: Payload | None = attrs.field(default=None, eq=False)


RewriteMessage = Callable[[MessageRecord], MessageRecord]
"""Returns a message, which is given with its ``index``, with another payload and index."""


@attrs.frozen(kw_only=True)
class IndexRecord:
    """A message without its payload, and what an index of the messages is made of.

    Attributes:
        position: The position of the message.
        message_id: Its id.
        role: Its role.
        created_at_us: Its time.
        index: Its ``MessageRecord.index``; None: it has none.
    """

    position: int
    message_id: str
    role: str
    created_at_us: int
    index: Payload | None

    @classmethod
    def of(cls, message: MessageRecord) -> Self:
        """Return that of a message that has its index."""
        return cls(
            position=message.position,
            message_id=message.message_id,
            role=message.role,
            created_at_us=message.created_at_us,
            index=message.index,
        )


@attrs.frozen(kw_only=True)
class IndexRewrite:
    """Another ``MessageRecord.index`` for one message.

    Attributes:
        position: The position of the message.
        message_id: The id that the message must have.
        old: The index that it must have; None: none.
        new: The index that replaces it; None: it is removed.
    """

    position: int
    message_id: str
    old: Payload | None
    new: Payload | None

    def fits(self, record: IndexRecord | MessageRecord) -> bool:
        """Return whether a message, given with its index, is the one that was read, unchanged."""
        return (record.position, record.message_id, record.index) == (self.position, self.message_id, self.old)


def with_indexes(messages: Sequence[MessageRecord], records: Sequence[IndexRecord]) -> list[MessageRecord]:
    """Return messages that were read, each with its index if ``read_index`` has returned one."""
    found = {(record.position, record.message_id): record.index for record in records if record.index is not None}
    indexes = [found.get((message.position, message.message_id)) for message in messages]
    return [
        message if index is None else attrs.evolve(message, index=index)
        for message, index in zip(messages, indexes, strict=True)
    ]


# What backends read is made without converters and checks, in a fraction of the time; see ``unchecked``.

stored_payload: Callable[[str, bytes], Payload] = unchecked(Payload)
stored_brief: Callable[[int, Payload], Brief] = unchecked(Brief)
stored_summary: Callable[[Brief | None, Brief | None, Mapping[str, int]], SessionSummary] = unchecked(SessionSummary)
stored_index: Callable[[int, str, str, int, Payload | None], IndexRecord] = unchecked(IndexRecord)

_unchecked_message = unchecked(MessageRecord)
_unchecked_header = unchecked(SessionRecord)


def stored_record(
    position: int, message_id: str, role: str, created_at_us: int, encoding: str, data: bytes
) -> MessageRecord:
    """Return a ``MessageRecord`` that was read; it is called for every message of a read."""
    payload = stored_payload(encoding, data)
    return _unchecked_message(message_id, role, created_at_us, payload, position, None, _NO_COUNTERS, None)


def stored_header(  # the columns of a listing
    session_id: str,
    user_id: str | None,
    tags: tuple[str, ...],
    ttl_us: int | None,
    created_at_us: int,
    updated_at_us: int,
    version: int,
    last_position: int,
    last_change: int,
    card: Payload | None = None,
    summary: SessionSummary = _NO_SUMMARY,
) -> SessionRecord:
    """Return a ``SessionRecord`` without payload, changes and lease; it is called for every session of a page."""
    return _unchecked_header(
        session_id,
        None,
        card,
        user_id,
        tags,
        ttl_us,
        created_at_us,
        updated_at_us,
        version,
        last_position,
        last_change,
        summary,
        (),
        None,
    )


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


stored_receipt: Callable[[int, int, bool], AppendReceipt] = unchecked(AppendReceipt)


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
            ``updated_at_us``. From ``NEVER_EVICTED`` on it is never evicted.
        payload: The entry's own document; ``NO_PAYLOAD`` if a listing left it out.
        created_at_us: The value of the first put, or its time if that is 0; later puts do not change it,
            except a put that replaces an expired record.
        updated_at_us: Assigned by the store: the time of the latest put.
        version: Assigned by the store: the number of puts, 1, 2, 3 …; a put that replaces an expired record begins
            at 1 again. 0 before the first put.
    """

    scope: MemoryScope
    key: str
    payload: Payload
    expires_at_us: int | None = None
    retention: float = 0.0
    created_at_us: int = 0
    updated_at_us: int = 0
    version: int = 0


@attrs.frozen
class MemoryPut:
    """A memory to create or replace.

    Attributes:
        record: The memory; the store assigns its times and version.
        expected_version: Write only if this version is stored; 0: only if none is; None: in any case.
    """

    record: MemoryRecord
    expected_version: int | None = None


@attrs.frozen(kw_only=True)
class MemoryQuery:
    """The memories of a scope to list, by key in the order of code points.

    Attributes:
        prefix: Only keys that begin with it.
        after: Only keys behind this one in the order of the listing; None: from the beginning.
        limit: Largest number of memories, 1..1000; None: all.
        descending: Whether to list in reverse order.
        with_payload: Whether to read the payloads; if not, the records have ``NO_PAYLOAD``.
        on_damage: Is called with the error of each memory that is damaged and left out, as far as the backend can tell
            them apart; a page may then be shorter than ``limit``. None: the first error is raised.
    """

    prefix: str = ""
    after: str | None = None
    limit: int | None = None
    descending: bool = False
    with_payload: bool = True
    on_damage: Callable[[CorruptRecordError], None] | None = attrs.field(default=None, eq=False)

    def intact(self, read: Callable[[T], R], stored: Iterable[T]) -> list[R]:
        """Return what a function reads of stored memories, without those that ``on_damage`` takes.

        Raises:
            CorruptRecordError: One is damaged and ``on_damage`` is None, or a wrapper is not configured.
        """
        found = list[R]()
        for one in stored:
            try:
                found.append(read(one))
            except CorruptRecordError as exc:
                if self.on_damage is None or isinstance(exc, UnreadablePayloadError):
                    raise
                self.on_damage(exc)
        return found

    def page(self, memories: Iterable[MemoryRecord]) -> list[MemoryRecord]:
        """Return those of all memories of a scope that the query asks for."""
        found = [memory for memory in memories if memory.key.startswith(self.prefix) and self._is_behind(memory.key)]
        found.sort(key=lambda memory: memory.key, reverse=self.descending)
        found = found[: self.limit]
        return found if self.with_payload else [attrs.evolve(memory, payload=NO_PAYLOAD) for memory in found]

    def _is_behind(self, key: str) -> bool:
        if self.after is None:
            return True
        return key < self.after if self.descending else key > self.after


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
    """The sessions to list, by time of creation or of the last change, then id.

    Attributes:
        user_id: Only those of this user; None: all.
        tag: Only those with this tag; None: all.
        without_tag: Only those that do not have this tag; None: all.
        by_activity: Whether to list by ``updated_at_us`` instead of ``created_at_us``. A session that is written
            meanwhile moves, so that it may be listed twice or on no page; every other one is listed exactly once.
        created_after_us: Only those created at this time or later.
        created_before_us: Only those created before this time.
        newest_first: Whether to list in reverse order.
        texts: Whether headers have card and summary. Without them a page takes a quarter of the time on most backends.
        limit: Largest number of sessions in a page, 1..1000.
        cursor: The ``next_cursor`` of the previous page; None: the first page.
    """

    user_id: str | None = None
    tag: str | None = None
    without_tag: str | None = None
    by_activity: bool = False
    created_after_us: int | None = None
    created_before_us: int | None = None
    newest_first: bool = False
    texts: bool = True
    limit: int = 100
    cursor: tuple[int, str] | None = None

    def key(self, record: SessionRecord) -> tuple[int, str]:
        """Return the place of a session in the order of the query, which is its cursor too."""
        return record.updated_at_us if self.by_activity else record.created_at_us, record.session_id


@attrs.frozen(kw_only=True)
class Page:
    """One page of a listing.

    Attributes:
        sessions: Headers without payload.
        next_cursor: The cursor of the next page: the key of the last session; None: this is the last page.
    """

    sessions: tuple[SessionRecord, ...]
    next_cursor: tuple[int, str] | None


@attrs.frozen(kw_only=True)
class Purged:
    """The number of expired records that were removed."""

    sessions: int
    memories: int
