"""The contract: reading what a turn needs."""

from collections.abc import Callable

import pytest

from luminoracore_sdk.application.ports.records import MemoryScope, MessageRange, TurnRecords
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record

__all__ = ["TurnContract"]

_SCOPE = MemoryScope("session", "s")


class TurnContract(ContractBase):
    """``read_turn`` returns what three calls return."""

    async def assert_turn(self, storage: SessionStorage, newest: int) -> TurnRecords:
        """Assert that a turn is what the other reads return; return it."""
        turn = await storage.read_turn("s", newest=newest)
        assert turn is not None
        header = await storage.find_session("s")
        assert header is not None
        assert turn.session == header.of_turn()
        assert turn.memories == await storage.list_memories(_SCOPE)
        assert turn.messages == await storage.read_messages("s", MessageRange(limit=newest, newest=True))
        return turn

    async def test_a_turn_has_header_memories_and_newest_messages(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        await storage.put_session(session_record(user_id="u", tags=("t", "é"), ttl_us=60_000_000))
        for number in (3, 1, 2):
            await storage.append_messages("s", message_records(number, prefix=f"{number}-"))
            await storage.put_memory(memory_record(f"k{number}", value=number))
            clock.advance(1)
        await storage.put_memory(memory_record("k", kind="user", owner="s", value="of a user with the session's id"))
        turn = await self.assert_turn(storage, 4)
        assert [memory.key for memory in turn.memories] == ["k3", "k1", "k2"]
        assert [message.message_id for message in turn.messages] == ["3-3", "1-1", "2-1", "2-2"]
        for newest in (1, 6, 7, 1000):
            await self.assert_turn(storage, newest)

    async def test_a_turn_of_no_messages_has_header_and_memories(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await storage.put_memory(memory_record("k"))
        assert (await self.assert_turn(storage, 5)).messages == []
        await storage.append_messages("s", message_records(2))
        assert (await self.assert_turn(storage, 0)).messages == []
        with pytest.raises(ValidationError):
            await storage.read_turn("s", newest=-1)

    async def test_an_absent_or_expired_session_has_no_turn(self, storage: SessionStorage, clock: ManualClock) -> None:
        assert await storage.read_turn("s", newest=5) is None
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.append_messages("s", message_records(1))
        await storage.put_memory(memory_record("k", expires_at_us=clock.now_us + 5_000_000))
        assert (await self.assert_turn(storage, 5)).memories != []
        clock.advance(6)
        assert (await self.assert_turn(storage, 5)).memories == []
        clock.advance(6)
        assert await storage.read_turn("s", newest=5) is None
        assert await storage.delete_session("s") is False
        assert await storage.read_turn("s", newest=5) is None

    async def test_a_turn_follows_truncation_deletion_and_a_new_session(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=5)
        await self.assert_turn(storage, 3)
        await storage.truncate_messages("s", after=2)
        assert [message.position for message in (await self.assert_turn(storage, 3)).messages] == [1, 2]
        await storage.append_messages("s", message_records(2, prefix="again-"))
        assert (await self.assert_turn(storage, 3)).session.last_position == 4
        await storage.put_memory(memory_record("k"))
        await storage.delete_session("s")
        assert await storage.read_turn("s", newest=3) is None
        await self.begin(storage, messages=1)
        turn = await self.assert_turn(storage, 3)
        assert (len(turn.messages), turn.memories) == (1, [])

    async def test_a_turn_sees_the_writes_of_another_storage(
        self, storage: SessionStorage, another: Callable[[], SessionStorage]
    ) -> None:
        self.need("shares_between_instances")
        other = another()
        await self.begin(storage, messages=3)
        await self.assert_turn(storage, 2)
        await other.append_messages("s", message_records(2, prefix="other-"))
        await other.put_memory(memory_record("k"))
        turn = await self.assert_turn(storage, 2)
        assert [message.message_id for message in turn.messages] == ["other-1", "other-2"]
        assert [memory.key for memory in turn.memories] == ["k"]
        await other.truncate_messages("s", after=1)
        assert (await self.assert_turn(storage, 2)).session.last_position == 1

    async def test_a_turn_of_large_messages_is_whole(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        for number in range(3):
            large = [message_record(f"{number}-{part}", text="ü" * 400_000) for part in range(2)]
            await storage.append_messages("s", large)
        assert len((await self.assert_turn(storage, 5)).messages) == 5
