"""Names on Redis: stamps, keys, index members."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.storage.redis.keys import (
    IndexEntry,
    Keyspace,
    bounds,
    memory_entry,
    stamp,
    stamps,
    unstamp,
)
from luminoracore_sdk.adapters.storage.redis.listing import IndexRange
from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.testing.records import VALID_IDS

_TIMES = st.integers(-(2**62), 2**62)


@given(_TIMES, _TIMES)
def test_stamps_sort_as_times_do_and_come_back_equal(one: int, other: int) -> None:
    assert (stamp(one) < stamp(other)) == (one < other)
    assert (unstamp(stamp(one)), len(stamp(one))) == (one, 16)


@pytest.mark.parametrize(
    ("time", "digits"),
    [
        (0, b"8000000000000000"),
        (-1, b"7fffffffffffffff"),
        (2**70, b"f" * 16),
        (-(2**70), b"0" * 16),
    ],
)
def test_a_stamp_is_16_digits_for_any_time(time: int, digits: bytes) -> None:
    assert stamp(time) == digits


def test_stamps_around_a_time_are_those_of_three_times() -> None:
    assert stamps(5, 7) == b" ".join(map(stamp, (5, -2, 12)))


def test_keys_are_readable_and_begin_with_prefix_and_bucket() -> None:
    keyspace = Keyspace("app:", 1)
    assert keyspace.meta == b"app:meta"
    assert keyspace.session("id:x") == (
        *(b"app:{0}:session:id:x", b"app:{0}:messages:id:x", b"app:{0}:ids:id:x"),
        *(b"app:{0}:memories:id:x", b"app:{0}:retention:id:x", b"app:{0}:index"),
    )
    assert keyspace.memories(MemoryScope("user", "é")) == (
        *("app:{0}:user-memories:é".encode(), "app:{0}:user-retention:é".encode(), b"app:{0}:index"),
    )
    assert keyspace.memories(MemoryScope("session", "a")) == keyspace.session("a")


def test_no_two_ids_share_a_key() -> None:
    keyspace = Keyspace("p", 16)
    names = [*VALID_IDS, "{1}:session:x", "session:a", "a:messages:b", "}", "{"]
    keys = [key for name in names for key in keyspace.session(name)[:5]]
    keys += [key for name in names for key in keyspace.memories(MemoryScope("user", name))[:2]]
    assert len(set(keys)) == len(keys) == 7 * len(names)


def test_a_bucket_does_not_change_between_versions() -> None:
    keyspace = Keyspace("p:", 128)
    buckets = [keyspace.session(name).bucket_index for name in ("s", "é", "x" * 512)]
    assert buckets == [b"p:{11}:index", b"p:{62}:index", b"p:{93}:index"]


def test_an_index_member_contains_time_and_id() -> None:
    place = stamp(5) + b"\0id"
    exact, hot = IndexRange(b"-", b"+"), IndexRange(b"-", b"+", ahead_us=3)
    for member in (b"a\0" + place, b"u\0user\0" + place, b"T\0a tag\0" + place):
        assert exact.entry(member) == IndexEntry(stamp(5), b"id", stamp(5), stamp(5))
        assert hot.entry(member) == IndexEntry(stamp(2), b"id", stamp(2), stamp(5))
        assert attrs.evolve(hot, newest_first=True).entry(member) == IndexEntry(stamp(5), b"id", stamp(2), stamp(5))
    assert exact.entry(b"o\0\0owner") == IndexEntry(b"", b"owner", b"", b"")
    assert memory_entry(b"m\0u\0owner\0" + stamp(7) + b"\0a key") == (
        *(MemoryScope("user", "owner"), stamp(7), b"a key"),
    )


def test_bounds_contain_what_begins_so_and_nothing_else() -> None:
    low, high = bounds(b"u\0ab\0")
    inside = [b"u\0ab\0" + stamp(0) + b"\0x", b"u\0ab\0\xff"]
    outside = [b"u\0ab", b"u\0abc\0" + stamp(0), b"u\0aa\0" + stamp(0), b"u\0ab\1"]
    assert [low[1:] <= member < high[1:] for member in (*inside, *outside)] == [True] * 2 + [False] * 4
