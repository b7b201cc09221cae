"""The names of what the Redis backend stores: keys, and the members of its indexes.

A session belongs to one of the store's buckets. All its keys and the bucket's index carry the bucket's number as
their hash tag, so that one script may write all of them on a cluster too. Ids come last in a key, behind the hash
tag, so that no id can form the key of another one.
"""

from typing import NamedTuple
from zlib import crc32

import attrs

from luminoracore_sdk.application.ports.records import MemoryScope

__all__ = [
    "IndexEntry",
    "Keyspace",
    "SessionKeys",
    "bounds",
    "bounds_of_prefix",
    "memory_entry",
    "stamp",
    "stamps",
    "unstamp",
]

_BIAS = 2**63


def stamp(microseconds: int) -> bytes:
    """Return a time as 16 hexadecimal digits, which sort as the times do; beyond 64 bits, the nearest."""
    return b"%016x" % max(0, min(microseconds + _BIAS, 2 * _BIAS - 1))


def stamps(now_us: int, span_us: int) -> bytes:
    """Return the stamps of a clock's time, of a span before it and of one after it, separated by spaces."""
    now = now_us + _BIAS
    return b"%016x %016x %016x" % (now, now - span_us, now + span_us)


def unstamp(digits: bytes) -> int:
    """Return the time of a stamp.

    Raises:
        ValueError: The digits are no stamp.
    """
    return int(digits, 16) - _BIAS


class SessionKeys(NamedTuple):
    """The keys of a session and the index of its bucket, in the order in which scripts take them."""

    session: bytes
    messages: bytes
    ids: bytes
    memories: bytes
    retention: bytes
    bucket_index: bytes


class IndexEntry(NamedTuple):
    """A session, or a user with memories, in an index. Entries sort as listings do.

    Attributes:
        time: A stamp: where the entry is in the order. Empty for a user.
        name: The id.
        earliest: The earliest stamp of what the listing is ordered by.
        latest: The latest one.
    """

    time: bytes
    name: bytes
    earliest: bytes
    latest: bytes


@attrs.frozen
class Keyspace:
    """The keys of one store.

    Attributes:
        prefix: Begins every key; contains no brace.
        buckets: Number of parts into which the store is divided.
    """

    prefix: str
    buckets: int

    @property
    def meta(self) -> bytes:
        """The hash with the schema version and the number of buckets."""
        return f"{self.prefix}meta".encode()

    def index(self, bucket: int) -> bytes:
        """Return the key of a bucket's index."""
        return f"{self.prefix}{{{bucket}}}:index".encode()

    def bucket_of(self, session_id: str) -> int:
        """Return the number of a session's bucket."""
        return crc32(session_id.encode()) % self.buckets

    def session(self, session_id: str) -> SessionKeys:
        """Return the keys of a session."""
        name = session_id.encode()
        bucket = self._bucket(name)
        return SessionKeys(
            session=bucket + b"session:" + name,
            messages=bucket + b"messages:" + name,
            ids=bucket + b"ids:" + name,
            memories=bucket + b"memories:" + name,
            retention=bucket + b"retention:" + name,
            bucket_index=bucket + b"index",
        )

    def copy(self, session_id: str, name: str) -> tuple[bytes, bytes]:
        """Return the keys of the messages and ids of a session that is being made, by a name of their own."""
        bucket = self._bucket(session_id.encode())
        return bucket + b"copied-messages:" + name.encode(), bucket + b"copied-ids:" + name.encode()

    def memories(self, scope: MemoryScope) -> tuple[bytes, ...]:
        """Return the keys for scripts on memories; the last three are memories, their order, and the index."""
        if scope.kind == "session":
            return self.session(scope.owner_id)
        name = scope.owner_id.encode()
        bucket = self._bucket(name)
        return bucket + b"user-memories:" + name, bucket + b"user-retention:" + name, bucket + b"index"

    def _bucket(self, name: bytes) -> bytes:
        """Return the beginning of all keys of an id's bucket."""
        return f"{self.prefix}{{{crc32(name) % self.buckets}}}:".encode()


def bounds(beginning: bytes) -> tuple[bytes, bytes]:
    """Return the range of the index members that begin with a text, which ends with NUL, for ZRANGE."""
    return b"[" + beginning, b"(" + beginning[:-1] + b"\1"


def bounds_of_prefix(
    beginning: bytes, prefix: str, after: str | None, *, descending: bool = False
) -> tuple[bytes, bytes]:
    """Return the range of the index members that continue with a prefix and are behind a name, for ZRANGE."""
    low, high = b"[" + beginning + prefix.encode(), b"(" + beginning + prefix.encode() + b"\xff"  # no byte of UTF-8
    if after is None:
        return low, high
    bound = b"(" + beginning + after.encode()
    if descending:
        return low, min(high, bound)
    return max(bound, low, key=lambda end: end[1:]), high  # of equal ones, the exclusive bound


def memory_entry(member: bytes) -> tuple[MemoryScope, bytes, bytes]:
    """Return scope, expiry (a stamp) and key of an index member of the kind m."""
    _, kind, owner, expires, key = member.split(b"\0")
    return MemoryScope("user" if kind == b"u" else "session", owner.decode()), expires, key
