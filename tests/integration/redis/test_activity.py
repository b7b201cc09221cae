"""Listings by activity on Redis: which changes touch the index, and sessions that change all the time."""

from random import Random

import attrs
import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.domain.errors import CorruptRecordError
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.redis_calls import ALL, hooked
from tests.support.servers.valkey import ValkeyServer

_INDEX = "luminoracore:{0}:index"
_HEADER = "luminoracore:{0}:session:s"


def moved(server: ValkeyServer) -> int:
    """Return how often members of an index were replaced since the last call."""
    stats = server.command("INFO", "commandstats")
    server.command("CONFIG", "RESETSTAT")
    return int(stats.get("cmdstat_zrem", {"calls": 0})["calls"])


def listed(server: ValkeyServer, beginning: str) -> int:
    """Return how many members of the index begin with a text."""
    return len(server.command("ZRANGE", _INDEX, f"[{beginning}\0", f"({beginning}\1", "BYLEX"))


async def ids(storage: RedisStorage, *, limit: int = 2, **query: object) -> list[str]:
    """Return the ids of all pages, by activity."""
    asked = SessionQuery(by_activity=True, limit=limit, **query)  # type: ignore[arg-type]
    found: list[str] = []
    while True:
        page = await storage.query_sessions(asked)
        found.extend(record.session_id for record in page.sessions)
        if page.next_cursor is None:
            return found
        asked = attrs.evolve(asked, cursor=page.next_cursor)


async def test_a_session_that_changes_all_the_time_leaves_the_index_alone(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    await storage.put_session(session_record(user_id="u"))
    moved(server)
    for number in range(500):
        clock.advance_us(10_000)
        await storage.append_messages("s", [message_record(f"m{number}")])
    assert moved(server) == 12  # the first eight, then one in each of five seconds
    assert (listed(server, "hA"), listed(server, "A")) == (1, 0)
    clock.advance(2)
    await storage.append_messages("s", [message_record("later")])
    assert (listed(server, "hA"), listed(server, "A")) == (0, 1)


async def test_an_index_is_exact_for_sessions_that_rest_in_between(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    await storage.put_session(session_record())
    for number in range(20):
        clock.advance_us(1_000_001)
        await storage.append_messages("s", [message_record(f"m{number}")])
    assert (listed(server, "hA"), listed(server, "A")) == (0, 1)


@pytest.mark.parametrize("seed", range(4))
async def test_hot_sessions_are_listed_in_their_place(storage: RedisStorage, clock: ManualClock, seed: int) -> None:
    random = Random(seed)  # noqa: S311  # not a secret
    for number in range(12):
        await storage.put_session(session_record(f"s{number}", user_id="uv"[number % 2], tags=("t",)))
    for number in range(400):
        clock.advance_us(random.choice((0, 1, 1000, 20_000)))
        name = f"s{random.choice((0, 0, 1, 1, 2, 3, random.randrange(12)))}"
        await storage.append_messages(name, [message_record(f"m{number}")])
        if number % 40:
            continue
        page = await storage.query_sessions(SessionQuery(limit=1000))
        for newest_first in (False, True):
            keys = sorted(((r.updated_at_us, r.session_id) for r in page.sessions), reverse=newest_first)
            expected = [session_id for _, session_id in keys]
            for limit in (1, 3, 50):
                assert await ids(storage, newest_first=newest_first, limit=limit) == expected
                assert await ids(storage, newest_first=newest_first, limit=limit, tag="t") == expected
                of_user = [name for name in expected if int(name[1:]) % 2 == 0]
                assert await ids(storage, newest_first=newest_first, limit=limit, user_id="u") == of_user


async def test_a_session_that_moves_during_a_listing_disturbs_no_other(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    for name in ("a", "b", "c", "d", "e"):
        clock.advance(10)
        await storage.put_session(session_record(name))

    async def append() -> None:
        clock.advance(10)
        await storage.append_messages("c", [message_record(f"m{clock.now_us}")])

    async with hooked(server, append, clock) as reader:
        for newest_first, others in ((True, ["e", "d", "b", "a"]), (False, ["a", "b", "d", "e"])):
            found = await ids(reader, newest_first=newest_first)
            assert [name for name in found if name != "c"] == others


async def test_a_page_of_many_sessions_reads_few(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    for number in range(300):
        clock.advance_us(10)
        await storage.put_session(session_record(f"s{number:03}", user_id="u"))
        await storage.append_messages(f"s{number:03}", [message_record("m")])
    query = SessionQuery(user_id="u", by_activity=True, newest_first=True, limit=20)
    page = await storage.query_sessions(query)
    server.command("CONFIG", "RESETSTAT")
    page = await storage.query_sessions(attrs.evolve(query, cursor=page.next_cursor))
    assert [record.session_id for record in page.sessions] == [f"s{number:03}" for number in range(279, 259, -1)]
    stats = server.command("INFO", "commandstats")
    assert (stats["cmdstat_hmget"]["calls"], stats["cmdstat_zrange"]["calls"]) == (21, 2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("counters", "\0\0user\0x", id="counters"),
        pytest.param("counters", "user\x001", id="where they begin"),
        pytest.param("counters", "\0\0user", id="half of a counter"),
        pytest.param("first_brief", "1\0json", id="a brief"),
        pytest.param("last_brief", "x\0json\0null", id="its position"),
        pytest.param("card", "json", id="the card"),
        pytest.param("changes", "x u1", id="changes"),
        pytest.param("changes", "1 x1", id="a kind of change"),
        pytest.param("lease", "1\0h", id="the lease"),
    ],
)
async def test_a_damaged_field_of_a_header_is_an_error(
    storage: RedisStorage, server: ValkeyServer, field: str, value: str
) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", [message_record("m1")])
    server.command("HSET", _HEADER, field, value)
    if field == "counters":  # delays no append
        await storage.append_messages("s", [message_record("m2")])
    with pytest.raises(CorruptRecordError):
        await storage.find_session("s")
    if field not in {"changes", "lease"}:
        with pytest.raises(CorruptRecordError):
            await storage.query_sessions(SessionQuery())
    if field == "lease":
        with pytest.raises(CorruptRecordError):
            await storage.acquire_lease("s", holder="h", ttl_us=1)
    newest = "m2" if field == "counters" else "m1"
    assert (await storage.read_messages("s", ALL))[-1].message_id == newest
    assert await storage.delete_session("s") is True


@pytest.mark.parametrize("field", ["active", "counters"])
async def test_a_missing_field_of_a_header_is_an_error(storage: RedisStorage, server: ValkeyServer, field: str) -> None:
    await storage.put_session(session_record())
    server.command("HDEL", _HEADER, field)
    with pytest.raises(CorruptRecordError):
        await storage.append_messages("s", [message_record("m1")])
    with pytest.raises(CorruptRecordError):
        await (storage.put_session(session_record()) if field == "active" else storage.find_session("s"))
