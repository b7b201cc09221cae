"""List the sessions, or the users with memories, of all buckets: many sorted indexes merged into one."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import attrs

from luminoracore_sdk.adapters.storage.redis.keys import IndexEntry, Keyspace, bounds, stamp
from luminoracore_sdk.application.ports.records import SessionQuery

__all__ = ["IndexRange", "entries", "grown"]

_MAX_PORTION = 1000

Read = Callable[..., Awaitable[list[Any]]]
"""Sends commands together, each given as its key, its name and its other words."""


@attrs.frozen
class IndexRange:
    """The members of an index that a listing reads.

    Attributes:
        low: Lower bound, as ZRANGE takes it.
        high: Upper bound.
        beginning: The beginning of all members.
        newest_first: Direction.
    """

    low: bytes
    high: bytes
    beginning: bytes
    newest_first: bool = False

    @classmethod
    def of_sessions(cls, query: SessionQuery) -> "IndexRange":
        """Return the smallest range that contains what a query looks for."""
        if query.user_id is not None:
            kind, words = b"u", (query.user_id.encode(), b"")
        elif query.tag is not None:
            kind, words = b"t", (query.tag.encode(), b"")
        else:
            kind, words = b"a", (b"",)
        beginning = b"\0".join((kind.upper() if query.by_activity else kind, *words))
        low, high = bounds(beginning)
        if query.created_after_us is not None and not query.by_activity:
            low = b"[" + beginning + stamp(query.created_after_us)
        if query.created_before_us is not None and not query.by_activity:
            high = b"(" + beginning + stamp(query.created_before_us)
        if query.cursor is not None:
            time_us, session_id = query.cursor
            cursor = b"(" + beginning + stamp(time_us) + b"\0" + session_id.encode()
            if query.newest_first:
                high = min(high, cursor, key=_without_sign)
            else:
                low = max(low, cursor, key=_without_sign)
        return cls(low, high, beginning, query.newest_first)

    @classmethod
    def of_owners(cls, after: str | None) -> "IndexRange":
        """Return the range of the users with memories, by id."""
        low, high = bounds(b"o\0\0")
        return cls(low if after is None else b"(o\0\0" + after.encode(), high, b"o\0")

    def behind(self, entry: IndexEntry) -> "IndexRange":
        """Return what is left of the range after an entry."""
        bound = b"(" + self.beginning + b"\0".join(entry)
        return attrs.evolve(self, high=bound) if self.newest_first else attrs.evolve(self, low=bound)

    def command(self, index: bytes, count: int) -> tuple[bytes, ...]:
        """Return the command for the first members of the range."""
        limit = (b"LIMIT", b"0", b"%d" % count)
        if self.newest_first:
            return (index, b"ZRANGE", self.high, self.low, b"BYLEX", b"REV", *limit)
        return (index, b"ZRANGE", self.low, self.high, b"BYLEX", *limit)


def _without_sign(bound: bytes) -> bytes:
    return bound[1:]


@attrs.define
class _Bucket:
    index: bytes
    left: IndexRange
    waiting: list[IndexEntry] = attrs.field(factory=list)
    ended: bool = False


async def entries(
    read: Read, keyspace: Keyspace, wanted: IndexRange, count: int
) -> AsyncIterator[Sequence[IndexEntry]]:
    """Yield the entries of all buckets in one order, in portions.

    Args:
        read: Sends commands.
        keyspace: The buckets.
        wanted: The entries.
        count: How many the caller probably needs; it decides how many each bucket is asked for at first.
    """
    buckets = [_Bucket(keyspace.index(number), wanted) for number in range(keyspace.buckets)]
    portion = count if len(buckets) == 1 else 2 * count // len(buckets) + 4
    while True:
        hungry = [bucket for bucket in buckets if not bucket.waiting and not bucket.ended]
        if hungry:
            replies = await read(*(bucket.left.command(bucket.index, portion) for bucket in hungry))
            for bucket, members in zip(hungry, replies, strict=True):
                bucket.waiting = [IndexEntry.of(member) for member in members]
                bucket.ended = len(members) < portion
                if members:
                    bucket.left = bucket.left.behind(bucket.waiting[-1])
            portion = grown(portion)
        if merged := _merged(buckets, newest_first=wanted.newest_first):
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
