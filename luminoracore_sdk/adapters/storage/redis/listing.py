"""List the sessions, or the users with memories, of all buckets: many sorted indexes merged into one."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import attrs

from luminoracore_sdk.adapters.storage.redis.keys import IndexEntry, Keyspace, bounds, bounds_of_prefix, stamp, unstamp
from luminoracore_sdk.application.ports.records import SessionQuery, SessionRecord

__all__ = ["HOT_US", "IndexRange", "entries", "grown", "is_within"]

HOT_US = 1_000_000
"""How far the time of a hot session in the index may be ahead of its last change; see ``scripts/index.lua``."""

_MAX_PORTION = 1000

Read = Callable[..., Awaitable[list[Any]]]
"""Sends commands together, each given as its key, its name and its other words."""


@attrs.frozen
class IndexRange:
    """The members of an index that a listing reads.

    Attributes:
        low: Lower bound, as ZRANGE takes it.
        high: Upper bound.
        newest_first: Direction.
        ahead_us: How far the times of the members may be ahead of what the listing is ordered by.
    """

    low: bytes
    high: bytes
    newest_first: bool = False
    ahead_us: int = 0

    @classmethod
    def of_sessions(cls, query: SessionQuery) -> "tuple[IndexRange, ...]":
        """Return the smallest ranges that contain what a query looks for."""
        if query.user_id is not None:
            kind, owner = b"u", query.user_id.encode() + b"\0"
        elif query.tag is not None:
            kind, owner = b"t", query.tag.encode() + b"\0"
        else:
            kind, owner = b"a", b""
        if not query.by_activity:
            return (cls._of(kind + b"\0" + owner, query),)
        active = kind.upper() + b"\0" + owner
        return cls._of(active, query), cls._of(b"h" + active, query, HOT_US)

    @classmethod
    def _of(cls, beginning: bytes, query: SessionQuery, ahead_us: int = 0) -> "IndexRange":
        low, high = bounds(beginning)
        if query.created_after_us is not None and not query.by_activity:
            low = b"[" + beginning + stamp(query.created_after_us)
        if query.created_before_us is not None and not query.by_activity:
            high = b"(" + beginning + stamp(query.created_before_us)
        if query.cursor is not None:
            time_us, session_id = query.cursor
            cursor = b"(" + beginning + stamp(time_us) + b"\0" + session_id.encode()
            if query.newest_first:
                furthest = b"(" + beginning + stamp(time_us + ahead_us) + b"\1"
                high = min(high, furthest if ahead_us else cursor, key=_without_sign)
            else:
                low = max(low, b"[" + beginning + stamp(time_us) if ahead_us else cursor, key=_without_sign)
        return cls(low, high, query.newest_first, ahead_us)

    @classmethod
    def of_owners(cls, prefix: str, after: str | None) -> "IndexRange":
        """Return the range of the users with memories, by id."""
        return cls(*bounds_of_prefix(b"o\0\0", prefix, after))

    def behind(self, member: bytes) -> "IndexRange":
        """Return what is left of the range after a member."""
        bound = b"(" + member
        return attrs.evolve(self, high=bound) if self.newest_first else attrs.evolve(self, low=bound)

    def entry(self, member: bytes) -> IndexEntry:
        """Return the entry of a member of the range."""
        _, time, name = member.rsplit(b"\0", 2)
        if not self.ahead_us:
            return IndexEntry(time, name, time, time)
        earliest = stamp(unstamp(time) - self.ahead_us)
        return IndexEntry(time if self.newest_first else earliest, name, earliest, time)

    def command(self, index: bytes, count: int) -> tuple[bytes, ...]:
        """Return the command for the first members of the range."""
        limit = (b"LIMIT", b"0", b"%d" % count)
        if self.newest_first:
            return (index, b"ZRANGE", self.high, self.low, b"BYLEX", b"REV", *limit)
        return (index, b"ZRANGE", self.low, self.high, b"BYLEX", *limit)


def _without_sign(bound: bytes) -> bytes:
    return bound[1:]


def is_within(header: SessionRecord, query: SessionQuery) -> bool:
    """Return whether a session was created in the time that a query asks for, and is behind its cursor."""
    if query.created_after_us is not None and header.created_at_us < query.created_after_us:
        return False
    if query.created_before_us is not None and header.created_at_us >= query.created_before_us:
        return False
    if query.cursor is None:
        return True
    return query.key(header) < query.cursor if query.newest_first else query.key(header) > query.cursor


@attrs.define
class _Bucket:
    index: bytes
    left: IndexRange
    waiting: list[IndexEntry] = attrs.field(factory=list)
    ended: bool = False


async def entries(
    read: Read, keyspace: Keyspace, wanted: Sequence[IndexRange], count: int
) -> AsyncIterator[Sequence[IndexEntry]]:
    """Yield the entries of all buckets in one order, in portions.

    Args:
        read: Sends commands.
        keyspace: The buckets.
        wanted: The entries, in one direction.
        count: How many the caller probably needs; it decides how many each bucket is asked for at first.
    """
    buckets = [_Bucket(keyspace.index(number), part) for number in range(keyspace.buckets) for part in wanted]
    portion = count if len(buckets) == 1 else 2 * count // len(buckets) + 4
    while True:
        hungry = [bucket for bucket in buckets if not bucket.waiting and not bucket.ended]
        if hungry:
            replies = await read(*(bucket.left.command(bucket.index, portion) for bucket in hungry))
            for bucket, members in zip(hungry, replies, strict=True):
                bucket.waiting = [bucket.left.entry(member) for member in members]
                bucket.ended = len(members) < portion
                if members:
                    bucket.left = bucket.left.behind(members[-1])
            portion = grown(portion)
        if merged := _merged(buckets, newest_first=wanted[0].newest_first):
            yield merged
        elif all(bucket.ended for bucket in buckets):
            return


def grown(count: int) -> int:
    """Return how many to ask for next when so many did not suffice, as many may be of sessions that are gone."""
    return max(count, min(2 * count, _MAX_PORTION))


def _merged(buckets: Sequence[_Bucket], *, newest_first: bool) -> list[IndexEntry]:
    """Take out, in order, the entries before which no bucket can have any other."""
    ends = [bucket.waiting[-1] for bucket in buckets if bucket.waiting and not bucket.ended]
    horizon = (max(ends) if newest_first else min(ends)) if ends else None
    merged: list[IndexEntry] = []
    for bucket in buckets:
        kept: list[IndexEntry] = []
        for entry in bucket.waiting:
            is_safe = horizon is None or (entry >= horizon if newest_first else entry <= horizon)
            (merged if is_safe else kept).append(entry)
        bucket.waiting = kept
    merged.sort(reverse=newest_first)
    return merged
