"""The contract: headers of sessions."""

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    MemoryScope,
    MessageRange,
    Payload,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConflictError,
    PayloadTooLargeError,
    ValidationError,
)
from luminoracore_sdk.testing.builders import (
    json_payload,
    memory_record,
    message_record,
    message_records,
    session_record,
)
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract_base import ContractBase

__all__ = ["SessionContract"]

_ALL = MessageRange()


class SessionContract(ContractBase):
    """Put, find, delete."""

    async def test_put_returns_the_header_with_what_the_store_gives(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        record = session_record("s", user_id="u", tags=("b", "a", "b"), ttl_us=10**12)
        expected = attrs.evolve(
            record, tags=("a", "b"), created_at_us=clock.now_us, updated_at_us=clock.now_us, version=1
        )
        assert await storage.put_session(record) == expected
        assert await storage.find_session("s") == expected

    async def test_update_time_version_and_last_position_of_the_caller_are_ignored(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        claimed = attrs.evolve(session_record(), updated_at_us=2, version=70, last_position=80)
        stored = await storage.put_session(claimed)
        assert (stored.updated_at_us, stored.version, stored.last_position) == (clock.now_us, 1, 0)
        assert await storage.find_session("s") == stored

    async def test_a_given_time_of_creation_counts_at_the_first_put_only(
        self, storage: SessionStorage
    ) -> None:
        await storage.put_session(session_record("now"))
        record = attrs.evolve(session_record(), created_at_us=1_000_000)
        assert (await storage.put_session(record)).created_at_us == 1_000_000
        assert await storage.list_sessions() == ["s", "now"]
        later = attrs.evolve(record, created_at_us=2_000_000)
        assert (await storage.put_session(later)).created_at_us == 1_000_000
        found = await storage.find_session("s")
        assert found is not None
        assert found.created_at_us == 1_000_000

    async def test_a_session_that_was_never_put_is_none(self, storage: SessionStorage) -> None:
        assert await storage.find_session("nobody") is None

    async def test_a_second_put_replaces_every_field_of_the_caller(self, storage: SessionStorage) -> None:
        await storage.put_session(session_record("s", user_id="u", tags=("a",), ttl_us=10**12))
        await storage.put_session(session_record("s", text="new", tags=("b",)))
        found = await storage.find_session("s")
        assert found is not None
        assert (found.payload, found.user_id) == (json_payload({"text": "new"}), None)
        assert (found.tags, found.ttl_us) == (("b",), None)

    async def test_a_second_put_keeps_created_at_and_moves_updated_at_and_version(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
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

    async def test_append_and_truncate_move_updated_at_but_not_the_version(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        header = await storage.put_session(session_record())
        clock.advance(1)
        await storage.append_messages("s", message_records(2))
        appended = attrs.evolve(header, updated_at_us=clock.now_us, last_position=2)
        assert await storage.find_session("s") == appended
        clock.advance(1)
        await storage.truncate_messages("s", after=1)
        truncated = attrs.evolve(header, updated_at_us=clock.now_us, last_position=1)
        assert await storage.find_session("s") == truncated

    @pytest.mark.parametrize("expected", [0, 1, 3])
    async def test_a_put_with_the_wrong_version_conflicts_and_changes_nothing(
        self, storage: SessionStorage, expected: int
    ) -> None:
        await storage.put_session(session_record())
        before = await storage.put_session(session_record())
        with pytest.raises(ConflictError):
            await storage.put_session(session_record(text="late"), expected_version=expected)
        assert await storage.find_session("s") == before

    async def test_a_put_with_the_right_version_goes_through(self, storage: SessionStorage) -> None:
        assert (await storage.put_session(session_record(), expected_version=0)).version == 1
        assert (await storage.put_session(session_record(), expected_version=1)).version == 2

    async def test_a_put_that_expects_a_version_does_not_create_a_session(
        self, storage: SessionStorage
    ) -> None:
        with pytest.raises(ConflictError):
            await storage.put_session(session_record(), expected_version=1)
        assert await storage.find_session("s") is None

    async def test_versions_are_not_changed_by_appends(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=2)
        assert (await storage.put_session(session_record(), expected_version=1)).version == 2

    async def test_delete_takes_messages_and_session_memory_but_not_the_users(
        self, storage: SessionStorage
    ) -> None:
        await self.begin(storage, messages=2)
        await storage.put_memory(memory_record("k"))
        await storage.put_memory(memory_record("k", kind="user"))
        assert await storage.delete_session("s") is True
        assert await storage.find_session("s") is None
        await storage.put_session(session_record())
        assert await storage.read_messages("s", _ALL) == []
        assert await storage.list_memories(MemoryScope("session", "s")) == []
        assert [m.key for m in await storage.list_memories(MemoryScope("user", "s"))] == ["k"]

    async def test_delete_of_an_unknown_session_is_false(self, storage: SessionStorage) -> None:
        assert await storage.delete_session("nobody") is False
        await storage.put_session(session_record())
        assert [await storage.delete_session("s"), await storage.delete_session("s")] == [True, False]

    async def test_a_session_put_again_after_delete_is_a_new_one(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await self.begin(storage, messages=2)
        await storage.put_session(session_record())
        await storage.delete_session("s")
        clock.advance(1)
        again = await storage.put_session(session_record(), expected_version=0)
        assert (again.version, again.last_position, again.created_at_us) == (1, 0, clock.now_us)
        receipt = await storage.append_messages("s", [message_record("m1")])
        assert (receipt.first_position, receipt.replayed) == (1, False)

    async def test_delete_leaves_other_sessions_alone(self, storage: SessionStorage) -> None:
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
        ],
    )
    async def test_a_header_that_breaks_a_rule_is_refused(
        self, storage: SessionStorage, record: SessionRecord
    ) -> None:
        with pytest.raises(ValidationError):
            await storage.put_session(record)
        assert await storage.find_session("s") is None

    async def test_a_header_above_the_limit_is_refused(self, storage: SessionStorage) -> None:
        huge = Payload("json+zstd", bytes(self.max_payload_bytes + 1))
        with pytest.raises(PayloadTooLargeError):
            await storage.put_session(SessionRecord(session_id="s", payload=huge))
        assert await storage.find_session("s") is None
