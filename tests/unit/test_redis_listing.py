"""Listings over all buckets: many sorted indexes merged into one."""

from bisect import bisect_left, bisect_right
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.storage.redis.keys import IndexEntry, Keyspace, stamp, unstamp
from luminoracore_sdk.adapters.storage.redis.listing import IndexRange, entries
from luminoracore_sdk.application.ports.records import MemoryScope, SessionQuery


class Server:
    """Knows ZRANGE … BYLEX over lists of members."""

    def __init__(self, indexes: dict[bytes, list[bytes]]) -> None:
        self.indexes = {name: sorted(members) for name, members in indexes.items()}
        self.asked = 0
        self.answered = 0

    async def read(self, *commands: tuple[bytes, ...]) -> list[Any]:
        self.asked += len(commands)
        replies = [self._one(*command) for command in commands]
        self.answered += sum(map(len, replies))
        return replies

    def _one(self, index: bytes, verb: bytes, start: bytes, stop: bytes, *words: bytes) -> list[bytes]:
        assert (verb, words[0], words[-3:-1]) == (b"ZRANGE", b"BYLEX", (b"LIMIT", b"0"))
        newest_first = b"REV" in words
        low, high = (stop, start) if newest_first else (start, stop)
        members = self.indexes.get(index, [])
        first = (bisect_left if low[:1] == b"[" else bisect_right)(members, low[1:])
        last = (bisect_right if high[:1] == b"[" else bisect_left)(members, high[1:])
        found = members[first:last]
        return (found[::-1] if newest_first else found)[: int(words[-1])]


async def listed(
    sessions: list[tuple[int, str]], query: SessionQuery, buckets: int
) -> tuple[list[tuple[int, str]], Server]:
    """Return what a query lists of sessions, given by time of creation and id, and the server asked."""
    keyspace = Keyspace("p:", buckets)
    indexes: dict[bytes, list[bytes]] = {}
    for created, name in sessions:
        members = indexes.setdefault(keyspace.session(name).bucket_index, [])
        members.append(b"a\0" + stamp(created) + b"\0" + name.encode())
        members.append(b"t\0other\0" + stamp(created) + b"\0" + name.encode())
    server = Server(indexes)
    found: list[IndexEntry] = []
    async for portion in entries(server.read, keyspace, IndexRange.of_sessions(query), query.limit + 1):
        found += portion
    return [(unstamp(one.time), one.name.decode()) for one in found], server


_SESSIONS = st.lists(st.tuples(st.integers(-3, 3), st.text("abcé\U0001f600", min_size=1)), unique_by=lambda s: s[1])


@given(
    sessions=_SESSIONS,
    buckets=st.sampled_from((1, 2, 5, 128)),
    limit=st.integers(1, 5),
    newest_first=st.booleans(),
    since=st.none() | st.integers(-4, 4) | st.just(-(2**70)),
    until=st.none() | st.integers(-4, 4) | st.just(2**70),
    cursor=st.none() | st.tuples(st.integers(-4, 4), st.text("abcé", min_size=1)),
)
async def test_a_listing_is_complete_and_sorted(
    sessions: list[tuple[int, str]],
    buckets: int,
    limit: int,
    newest_first: bool,
    since: int | None,
    until: int | None,
    cursor: tuple[int, str] | None,
) -> None:
    query = SessionQuery(
        limit=limit,
        newest_first=newest_first,
        created_after_us=since,
        created_before_us=until,
        cursor=cursor,
    )
    found, _ = await listed(sessions, query, buckets)
    assert found == sorted(
        (
            session
            for session in sessions
            if (since is None or session[0] >= since)
            and (until is None or session[0] < until)
            and (cursor is None or (session < cursor if newest_first else session > cursor))
        ),
        reverse=newest_first,
    )


async def test_a_page_asks_each_bucket_for_its_share() -> None:
    sessions = [(number, f"s{number}") for number in range(10_000)]
    keyspace = Keyspace("p:", 128)
    _, server = await listed(sessions, SessionQuery(limit=1000), 128)
    assert server.answered == 10_000
    server.asked = server.answered = 0
    async for portion in entries(server.read, keyspace, IndexRange.of_sessions(SessionQuery(limit=1000)), 1001):
        assert len(portion) > 300
        break
    assert (server.asked, server.answered) == (128, 128 * 19)


@given(
    owners=st.sets(st.text("abcé\U0001f600", min_size=1, max_size=3)),
    buckets=st.sampled_from((1, 5)),
    after=st.none() | st.text("abcé", min_size=1, max_size=3),
)
async def test_a_listing_of_owners_is_complete_and_sorted(owners: set[str], buckets: int, after: str | None) -> None:
    keyspace = Keyspace("p:", buckets)
    indexes: dict[bytes, list[bytes]] = {}
    for owner in owners:
        members = indexes.setdefault(keyspace.memories(MemoryScope("user", owner))[-1], [])
        members += [b"o\0\0" + owner.encode(), b"m\0u\0" + owner.encode() + b"\0" + stamp(1) + b"\0k"]
    found: list[str] = []
    async for portion in entries(Server(indexes).read, keyspace, [IndexRange.of_owners("", after)], 2):
        found += [entry.name.decode() for entry in portion]
    assert found == sorted(owner for owner in owners if after is None or owner > after)
