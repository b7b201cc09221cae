"""Forks on Redis: within a node and between nodes, among writers, and what an interrupted one leaves behind."""

from collections.abc import AsyncIterator, Awaitable, Callable

import attrs
import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.adapters.storage.redis.storage import COPY_MS
from luminoracore_sdk.application.ports.records import MessageRecord
from luminoracore_sdk.domain.errors import (
    ConflictError,
    CorruptRecordError,
    SessionNotFoundError,
    StorageBusyError,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import json_payload, message_record, message_records, session_record
from tests.support.redis_calls import ALL, hooked
from tests.support.servers.valkey import ValkeyServer

Hook = Callable[[], Awaitable[object]]


@pytest.fixture(params=[1, 16], ids=["one bucket", "two buckets"])
def buckets(request: pytest.FixtureRequest) -> int:
    """Return the buckets of a store: one, or so many that ``s`` and ``f`` are in different ones."""
    return int(request.param)


@pytest.fixture
async def parted(server: ValkeyServer, clock: ManualClock, buckets: int) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(server.url, clock=clock, buckets=buckets) as storage:
        yield storage


def left_behind(server: ValkeyServer) -> list[str]:
    """Return the keys of copies."""
    return sorted(key for key in server.command("KEYS", "*") if "copied" in key)


def at_request(number: int, action: Hook) -> Hook:
    """Return a hook that does something after one of a storage's requests."""
    count = 0

    async def hook() -> None:
        nonlocal count
        count += 1
        if count == number:
            await action()

    return hook


async def fill(storage: RedisStorage, *, parts: int = 4) -> None:
    """Put session ``s`` with messages of 2 MB, which are copied in several steps."""
    await storage.put_session(session_record())
    for part in range(parts):
        batch = [message_record(f"{part}-{number}", text="x" * 500) for number in range(1000)]
        await storage.append_messages("s", batch)


def same(message: MessageRecord) -> MessageRecord:
    return message


@pytest.mark.parametrize("rewrite", [None, same])
async def test_a_long_history_is_copied_in_steps(
    parted: RedisStorage, server: ValkeyServer, rewrite: Callable[[MessageRecord], MessageRecord] | None
) -> None:
    await fill(parted)
    await parted.fork_session("s", session_record("warm"), at=1, rewrite=rewrite)
    server.command("CONFIG", "RESETSTAT")
    await parted.fork_session("s", session_record("f"), at=3999, rewrite=rewrite)
    stats = server.command("INFO", "commandstats")
    assert 3 <= stats["cmdstat_evalsha"]["calls"] <= 9
    assert stats["cmdstat_evalsha"]["usec"] / stats["cmdstat_evalsha"]["calls"] < 50_000
    assert await parted.read_messages("f", ALL) == (await parted.read_messages("s", ALL))[:3999]
    assert left_behind(server) == []
    assert (await parted.append_messages("f", [message_record("next")])).first_position == 4000


@pytest.mark.parametrize("rewrite", [None, same])
@pytest.mark.parametrize("change", ["cut", "update"])
async def test_a_copy_of_a_history_that_changes_begins_anew(
    parted: RedisStorage,
    server: ValkeyServer,
    clock: ManualClock,
    rewrite: Callable[[MessageRecord], MessageRecord] | None,
    change: str,
) -> None:
    await fill(parted)
    first = (await parted.read_messages("s", ALL))[0]

    async def interrupt() -> None:
        if change == "cut":
            await parted.replace_tail("s", after=3990, messages=message_records(10, prefix="new"))
        else:
            await parted.update_message("s", 1, payload=json_payload("new"), expected=first.payload)

    async with hooked(server, at_request(1, interrupt), clock) as forking:
        await forking.fork_session("s", session_record("f"), at=4000, rewrite=rewrite)
    assert await parted.read_messages("f", ALL) == await parted.read_messages("s", ALL)


async def test_a_history_that_changes_all_the_time_is_forked_in_one_step(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    await fill(storage)
    count = 0

    async def interrupt() -> None:
        nonlocal count
        count += 1
        await storage.replace_tail("s", after=3999, messages=[message_record(f"new {count}")])

    async with hooked(server, interrupt, clock) as forking:
        await forking.fork_session("s", session_record("f"), at=4000)
    found = await storage.read_messages("f", ALL)
    assert found[:3999] == (await storage.read_messages("s", ALL))[:3999]
    assert found[3999].message_id in {f"new {number}" for number in range(count)}


async def test_a_source_deleted_meanwhile_is_not_forked(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    async with hooked(server, at_request(1, lambda: storage.delete_session("s")), clock) as forking:
        with pytest.raises(SessionNotFoundError):
            await forking.fork_session("s", session_record("f"), at=3)
    assert await storage.find_session("f") is None
    assert left_behind(server) == []


async def test_a_target_made_meanwhile_stays(
    parted: RedisStorage, server: ValkeyServer, clock: ManualClock, buckets: int
) -> None:
    await parted.put_session(session_record())
    await parted.append_messages("s", message_records(3))

    async def make() -> None:
        await parted.put_session(session_record("f", text="the first"))
        await parted.append_messages("f", [message_record("its own")])

    async with hooked(server, at_request(1, make), clock) as forking:
        with pytest.raises(ConflictError):
            await forking.fork_session("s", session_record("f"), at=3)
    assert [message.message_id for message in await parted.read_messages("f", ALL)] == ["its own"]
    assert left_behind(server) == []


async def test_an_interrupted_fork_leaves_what_the_server_removes(
    parted: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    await fill(parted)

    async def kill() -> None:
        raise KeyboardInterrupt

    await parted.fork_session("s", session_record("warm"), at=1)  # the server learns the scripts
    async with hooked(server, at_request(2, kill), clock) as forking:
        with pytest.raises(KeyboardInterrupt):
            await forking.fork_session("s", session_record("f"), at=4000)
    assert await parted.find_session("f") is None
    keys = left_behind(server)
    assert len(keys) == 2
    assert all(0 < server.command("PTTL", key) <= COPY_MS for key in keys)
    await parted.fork_session("s", session_record("f"), at=4000)
    assert len(await parted.read_messages("f", ALL)) == 4000


async def test_a_copy_that_the_server_removes_too_early_is_no_fork(
    storage: RedisStorage, server: ValkeyServer, clock: ManualClock
) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))

    async def lose() -> None:
        server.command("DEL", *(left_behind(server) or ["none"]))

    async with hooked(server, lose, clock) as forking:
        with pytest.raises(StorageBusyError):
            await forking.fork_session("s", session_record("f"), at=3)
    assert await storage.find_session("f") is None


@pytest.mark.parametrize("rewrite", [None, same])
async def test_a_damaged_message_is_not_copied(
    storage: RedisStorage, server: ValkeyServer, rewrite: Callable[[MessageRecord], MessageRecord] | None
) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    server.command("LSET", "luminoracore:{0}:messages:s", 1, "nonsense")
    with pytest.raises(CorruptRecordError):
        await storage.fork_session("s", session_record("f"), at=3, rewrite=rewrite)
    assert await storage.find_session("f") is None


async def test_a_fork_with_a_ttl_ends_as_a_whole(storage: RedisStorage, server: ValkeyServer) -> None:
    await storage.put_session(session_record())
    await storage.append_messages("s", message_records(3))
    await storage.fork_session("s", session_record("f", ttl_us=100_000_000), at=3)
    await storage.fork_session("s", session_record("kept"), at=3)
    kinds = ("session", "messages", "ids")
    ends = {server.command("PEXPIRETIME", f"luminoracore:{{0}}:{kind}:f") for kind in kinds}
    assert len(ends) == 1
    assert ends.pop() > 0
    assert {server.command("PTTL", f"luminoracore:{{0}}:{kind}:kept") for kind in kinds} == {-1}
    assert attrs.asdict(await storage.fork_session("s", session_record("empty"), at=0))["last_position"] == 0
