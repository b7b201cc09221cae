"""The contract: session headers and their expiry."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    HistoryChange,
    Lease,
    MemoryScope,
    MessageRange,
    Payload,
    Purged,
    SessionQuery,
    SessionRecord,
    SessionSummary,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError, PayloadTooLargeError, SessionNotFoundError, ValidationError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase, spread
from luminoracore_sdk.testing.records import (
    json_payload,
    memory_record,
    message_record,
    message_records,
    session_record,
)

__all__ = ["ExpiryContract", "SessionContract"]


_ALL = MessageRange()
_FRACTION: Any = 1.5


class SessionContract(ContractBase):
    """Put, find and delete headers."""

    async def test_put_returns_the_header_as_stored(self, storage: SessionStorage, clock: ManualClock) -> None:
        record = session_record("s", user_id="u", tags=("b", "a", "b"), ttl_us=10**12)
        expected = attrs.evolve(
            record, tags=("a", "b"), created_at_us=clock.now_us, updated_at_us=clock.now_us, version=1
        )
        assert await storage.put_session(record) == expected
        assert await storage.find_session("s") == expected

    @pytest.mark.parametrize("expected_version", [None, 0])
    async def test_assigned_fields_of_the_caller_are_ignored(
        self, storage: SessionStorage, clock: ManualClock, expected_version: int | None
    ) -> None:
        claimed = attrs.evolve(
            session_record(),
            updated_at_us=2,
            version=70,
            last_position=80,
            changes=(HistoryChange(7, "cut", 3),),
            lease=Lease(fence=9, holder="h", until_us=2**60),
        )
        stored = await storage.put_session(claimed, expected_version=expected_version)
        assert (stored.updated_at_us, stored.version, stored.last_position) == (clock.now_us, 1, 0)
        found = await storage.find_session("s")
        assert found == stored
        assert found is not None
        assert (found.changes, found.lease) == ((), None)
        assert (await storage.append_messages("s", message_records(1), expected_last=0)).last_position == 1

    async def test_only_the_first_put_sets_created_at(self, storage: SessionStorage) -> None:
        await storage.put_session(session_record("now"))
        record = attrs.evolve(session_record(), created_at_us=1_000_000)
        assert (await storage.put_session(record)).created_at_us == 1_000_000
        assert await storage.list_sessions() == ["s", "now"]
        later = attrs.evolve(record, created_at_us=2_000_000)
        assert (await storage.put_session(later)).created_at_us == 1_000_000
        found = await storage.find_session("s")
        assert found is not None
        assert found.created_at_us == 1_000_000

    async def test_an_unknown_session_is_none(self, storage: SessionStorage) -> None:
        assert await storage.find_session("nobody") is None

    async def test_a_second_put_replaces_every_field(self, storage: SessionStorage) -> None:
        await storage.put_session(session_record("s", user_id="u", tags=("a",), ttl_us=10**12))
        await storage.put_session(session_record("s", text="new", tags=("b",)))
        found = await storage.find_session("s")
        assert found is not None
        assert (found.payload, found.user_id) == (json_payload({"text": "new"}), None)
        assert (found.tags, found.ttl_us) == (("b",), None)

    async def test_a_second_put_keeps_created_at(self, storage: SessionStorage, clock: ManualClock) -> None:
        first = await storage.put_session(session_record())
        clock.advance_us(1)
        second = await storage.put_session(session_record())
        assert (second.created_at_us, second.updated_at_us) == (first.created_at_us, clock.now_us)
        assert (first.version, second.version) == (1, 2)

    async def test_a_put_keeps_messages_and_memory(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=3)
        await storage.put_memory(memory_record("k"))
        stored = await storage.put_session(session_record(text="new"))
        assert stored.last_position == 3
        assert [m.message_id for m in await storage.read_messages("s", _ALL)] == ["m1", "m2", "m3"]
        assert [m.key for m in await storage.list_memories(MemoryScope("session", "s"))] == ["k"]

    async def test_append_and_truncate_update_updated_at_only(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        header = await storage.put_session(session_record())
        clock.advance(1)
        await storage.append_messages("s", message_records(2))
        summary = SessionSummary(counters={"user": 2})
        appended = attrs.evolve(header, updated_at_us=clock.now_us, last_position=2, summary=summary)
        assert await storage.find_session("s") == appended
        clock.advance(1)
        await storage.truncate_messages("s", after=1)
        summary = SessionSummary(counters={"user": 1})
        truncated = attrs.evolve(header, updated_at_us=clock.now_us, last_position=1, summary=summary)
        assert await storage.find_session("s") == truncated

    @pytest.mark.parametrize("expected", [0, 1, 3])
    async def test_a_put_with_a_wrong_version_conflicts(self, storage: SessionStorage, expected: int) -> None:
        await storage.put_session(session_record())
        before = await storage.put_session(session_record())
        with pytest.raises(ConflictError):
            await storage.put_session(session_record(text="late"), expected_version=expected)
        assert await storage.find_session("s") == before

    async def test_a_put_with_the_right_version_succeeds(self, storage: SessionStorage) -> None:
        assert (await storage.put_session(session_record(), expected_version=0)).version == 1
        assert (await storage.put_session(session_record(), expected_version=1)).version == 2

    async def test_a_put_that_expects_a_version_creates_nothing(self, storage: SessionStorage) -> None:
        with pytest.raises(ConflictError):
            await storage.put_session(session_record(), expected_version=1)
        assert await storage.find_session("s") is None

    async def test_delete_removes_messages_and_session_memories(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=2)
        await storage.put_memory(memory_record("k"))
        await storage.put_memory(memory_record("k", kind="user"))
        assert await storage.delete_session("s") is True
        assert await storage.find_session("s") is None
        await storage.put_session(session_record())
        assert await storage.read_messages("s", _ALL) == []
        assert await storage.list_memories(MemoryScope("session", "s")) == []
        assert [m.key for m in await storage.list_memories(MemoryScope("user", "s"))] == ["k"]

    async def test_delete_of_an_unknown_session_returns_false(self, storage: SessionStorage) -> None:
        assert await storage.delete_session("nobody") is False
        await storage.put_session(session_record())
        assert [await storage.delete_session("s"), await storage.delete_session("s")] == [True, False]

    async def test_a_session_put_after_its_deletion_is_new(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage, messages=2)
        await storage.put_session(session_record())
        await storage.delete_session("s")
        clock.advance(1)
        again = await storage.put_session(session_record(), expected_version=0)
        assert (again.version, again.last_position, again.created_at_us) == (1, 0, clock.now_us)
        receipt = await storage.append_messages("s", [message_record("m1")])
        assert (receipt.first_position, receipt.replayed) == (1, False)

    async def test_delete_does_not_affect_other_sessions(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=2, session_id="a")
        await self.begin(storage, messages=2, session_id="a2")
        await storage.delete_session("a")
        assert len(await storage.read_messages("a2", _ALL)) == 2

    @pytest.mark.parametrize(
        "record",
        [
            pytest.param(SessionRecord(session_id="s", payload=None), id="no payload"),
            pytest.param(session_record(ttl_us=0), id="ttl 0"),
            pytest.param(session_record(ttl_us=-1), id="ttl below 0"),
            pytest.param(session_record(ttl_us=_FRACTION), id="a fraction of a ttl"),
        ],
    )
    async def test_an_invalid_header_is_refused(self, storage: SessionStorage, record: SessionRecord) -> None:
        with pytest.raises(ValidationError):
            await storage.put_session(record)
        assert await storage.find_session("s") is None

    async def test_a_header_above_the_limit_is_refused(self, storage: SessionStorage) -> None:
        huge = Payload("json+zstd", bytes(self.max_payload_bytes + 1))
        with pytest.raises(PayloadTooLargeError):
            await storage.put_session(SessionRecord(session_id="s", payload=huge))
        assert await storage.find_session("s") is None


class ExpiryContract(ContractBase):
    """Expired sessions count as absent everywhere."""

    async def begin_expiring(self, storage: SessionStorage, clock: ManualClock) -> None:
        """Put session ``s`` with two messages and a memory, and let it expire."""
        await storage.put_session(session_record("s", user_id="u", tags=("t",), ttl_us=10_000_000))
        await storage.append_messages("s", message_records(2))
        await storage.put_memory(memory_record("k"))
        clock.advance(10)

    async def test_a_session_expires_exactly_after_its_ttl(self, storage: SessionStorage, clock: ManualClock) -> None:
        await storage.put_session(session_record(ttl_us=5))
        clock.advance_us(4)
        assert await storage.session_exists("s") is True
        clock.advance_us(1)
        assert await storage.session_exists("s") is False

    async def test_an_expired_session_is_absent_from_every_read(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await self.begin_expiring(storage, clock)
        assert await storage.find_session("s") is None
        assert await storage.load_session("s") is None
        assert await storage.list_sessions() == []
        assert (await storage.query_sessions(SessionQuery(user_id="u", tag="t"))).sessions == ()
        assert await storage.find_memory(MemoryScope("session", "s"), "k") is None
        assert await storage.list_memories(MemoryScope("session", "s")) == []
        with pytest.raises(SessionNotFoundError):
            await storage.read_messages("s", _ALL)

    async def test_an_expired_session_is_absent_for_every_write(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await self.begin_expiring(storage, clock)
        assert await storage.delete_memory(MemoryScope("session", "s"), "k") is False
        assert await storage.clear_memories(MemoryScope("session", "s")) == 0
        for batch in (message_records(1), message_records(1, prefix="new")):  # known ids and new ones
            with pytest.raises(SessionNotFoundError):
                await storage.append_messages("s", batch)
        with pytest.raises(SessionNotFoundError):
            await storage.truncate_messages("s", after=0)
        with pytest.raises(SessionNotFoundError):
            await storage.put_memory(memory_record("k"))
        with pytest.raises(ConflictError):
            await storage.put_session(session_record(), expected_version=1)
        assert await storage.delete_session("s") is False

    @pytest.mark.parametrize("expected_version", [None, 0])
    async def test_a_put_over_an_expired_session_starts_empty(
        self, storage: SessionStorage, clock: ManualClock, expected_version: int | None
    ) -> None:
        await self.begin_expiring(storage, clock)
        stored = await storage.put_session(session_record(), expected_version=expected_version)
        assert (stored.version, stored.last_position, stored.created_at_us) == (1, 0, clock.now_us)
        assert await storage.read_messages("s", _ALL) == []
        assert await storage.list_memories(MemoryScope("session", "s")) == []
        assert (await storage.append_messages("s", message_records(1))).replayed is False
        assert await storage.list_sessions() == ["s"]

    async def test_put_append_and_truncate_extend_the_lifetime(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await storage.put_session(session_record(ttl_us=10_000_000))
        clock.advance(9)
        await storage.append_messages("s", message_records(2))
        clock.advance(9)
        await storage.truncate_messages("s", after=1)
        clock.advance(9)
        await storage.put_session(session_record(ttl_us=10_000_000))
        clock.advance(9)
        assert await storage.session_exists("s") is True
        clock.advance(1)
        assert await storage.session_exists("s") is False

    async def test_reads_and_replays_do_not_extend_the_lifetime(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.append_messages("s", message_records(2))
        before = await storage.find_session("s")
        clock.advance(9)
        assert (await storage.append_messages("s", message_records(2))).replayed is True
        assert len(await storage.read_messages("s", _ALL)) == 2
        assert await storage.find_session("s") == before
        clock.advance(1)
        assert await storage.session_exists("s") is False

    async def test_purge_counts_what_it_removes(self, storage: SessionStorage, clock: ManualClock) -> None:
        for session_id in ("gone-1", "gone-2"):
            await storage.put_session(session_record(session_id, ttl_us=10_000_000))
        await storage.put_session(session_record("stays", ttl_us=60_000_000))
        await storage.append_messages("stays", message_records(2))
        end = clock.now_us + 10_000_000
        await storage.put_memory(memory_record("gone", owner="stays", expires_at_us=end))
        await storage.put_memory(memory_record("stays", owner="stays", expires_at_us=end + 1))
        await storage.put_memory(memory_record("gone", kind="user", expires_at_us=end))
        assert await storage.purge_expired() == Purged(sessions=0, memories=0)
        clock.advance(10)
        assert await storage.purge_expired() == Purged(sessions=2, memories=2)
        assert await storage.purge_expired() == Purged(sessions=0, memories=0)
        assert await storage.list_sessions() == ["stays"]
        assert len(await storage.read_messages("stays", _ALL)) == 2
        left = await storage.list_memories(MemoryScope("session", "stays"))
        assert [memory.key for memory in left] == ["stays"]

    @pytest.mark.parametrize("year", [1990, 2500])
    async def test_expiry_follows_the_clock_of_the_storage(
        self, storage: SessionStorage, clock: ManualClock, year: int
    ) -> None:
        clock.set(datetime(year, 1, 1, tzinfo=UTC))
        end = clock.now_us + 10_000_000
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.put_memory(memory_record("k", expires_at_us=end))
        await storage.put_memory(memory_record("k", kind="user", expires_at_us=end))
        session, user = MemoryScope("session", "s"), MemoryScope("user", "s")
        clock.advance_us(9_999_999)
        assert await storage.purge_expired() == Purged(sessions=0, memories=0)
        assert await storage.list_sessions() == ["s"]
        assert [len(await storage.list_memories(scope)) for scope in (session, user)] == [1, 1]
        clock.advance_us(1)
        assert await storage.list_sessions() == []
        assert await storage.list_memories(user) == []
        assert (await storage.purge_expired()).sessions == 1
        assert await storage.list_memories(session) == []

    @pytest.mark.parametrize(("ttl_us", "lives_us"), [(None, 10**17), (2**62, 10**17), (3, 2)])
    async def test_a_put_replaces_the_time_to_live(
        self, storage: SessionStorage, clock: ManualClock, ttl_us: int | None, lives_us: int
    ) -> None:
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.append_messages("s", message_records(1))
        put = await storage.put_session(session_record(ttl_us=ttl_us))
        clock.advance_us(lives_us)
        assert put.ttl_us == ttl_us
        assert await storage.find_session("s") == put
        assert len(await storage.read_messages("s", _ALL)) == 1

    async def test_an_append_at_the_last_moment_extends_the_lifetime(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await storage.put_session(session_record(user_id="u", tags=("t",), ttl_us=10_000_000))
        await storage.append_messages("s", message_records(2))
        await storage.put_memory(memory_record("k"))
        clock.advance_us(9_999_999)
        await storage.append_messages("s", [message_record("m3")])
        clock.advance_us(9_999_999)
        assert len(await storage.read_messages("s", _ALL)) == 3
        assert len(await storage.list_memories(MemoryScope("session", "s"))) == 1
        (listed,) = (await storage.query_sessions(SessionQuery(user_id="u", tag="t"))).sessions
        assert listed.last_position == 3

    async def test_a_session_put_over_an_expired_one_is_listed_once(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await self.begin_expiring(storage, clock)
        await storage.put_session(session_record("s", user_id="v", tags=("x",)))
        queries = [SessionQuery(user_id="u"), SessionQuery(tag="t")]
        queries += [SessionQuery(user_id="v"), SessionQuery(tag="x"), SessionQuery()]
        pages = [await storage.query_sessions(query) for query in queries]
        assert [len(page.sessions) for page in pages] == [0, 0, 1, 1, 1]
        assert await storage.purge_expired() == Purged(sessions=0, memories=0)

    async def test_a_purged_session_leaves_nothing_behind(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin_expiring(storage, clock)
        assert (await storage.purge_expired()).sessions == 1
        stored = await storage.put_session(session_record(), expected_version=0)
        assert (stored.version, stored.last_position) == (1, 0)
        assert await storage.list_memories(MemoryScope("session", "s")) == []
        assert (await storage.append_messages("s", message_records(2))).replayed is False

    async def test_concurrent_purges_count_each_session_once(
        self, writers: list[SessionStorage], clock: ManualClock
    ) -> None:
        for number in range(20):
            await writers[0].put_session(session_record(f"s{number}", ttl_us=5))
        clock.advance_us(5)
        purged = await asyncio.gather(*(writer.purge_expired() for writer, _ in spread(writers, range(5))))
        assert sum(count.sessions for count in purged) == 20

    async def test_sessions_put_again_during_a_purge_stay(
        self, writers: list[SessionStorage], clock: ManualClock
    ) -> None:
        names = [f"s{number}" for number in range(20)]
        for name in names:
            await writers[0].put_session(session_record(name, ttl_us=5))
            await writers[0].append_messages(name, message_records(1))
        clock.advance_us(5)

        async def put_again(name: str) -> int:
            header = await writers[-1].put_session(session_record(name), expected_version=0)
            await writers[-1].append_messages(name, message_records(2, prefix="again"))
            return header.version

        async def purge(storage: SessionStorage) -> int:
            return (await storage.purge_expired()).sessions

        puts = [put_again(name) for name in names]
        first, last = purge(writers[0]), purge(writers[-1])
        purged, *versions, purged_too = await asyncio.gather(first, *puts, last)
        assert versions == [1] * 20
        assert purged + purged_too <= 20
        for name in names:
            assert await self.ids(writers[0], name) == ["again1", "again2"]
        assert sorted(await writers[-1].list_sessions()) == sorted(names)
