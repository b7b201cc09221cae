"""The contract: leases, and appends that their fence protects."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import Lease
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConflictError,
    LeaseHeldError,
    LeaseLostError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase, spread
from luminoracore_sdk.testing.records import message_record, message_records, session_record

__all__ = ["LeaseContract"]

_SECOND = 1_000_000


class LeaseContract(ContractBase):
    """``acquire_lease``, ``release_lease`` and ``fence``."""

    async def test_one_holder_has_the_lease(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        lease = await storage.acquire_lease("s", holder="a", ttl_us=10 * _SECOND)
        assert lease == Lease(fence=clock.now_us, holder="a", until_us=clock.now_us + 10 * _SECOND)
        with pytest.raises(LeaseHeldError) as refused:
            await storage.acquire_lease("s", holder="b", ttl_us=_SECOND)
        assert (refused.value.until_us, refused.value.session_id) == (lease.until_us, "s")
        clock.advance(6)
        renewed = await storage.acquire_lease("s", holder="a", ttl_us=10 * _SECOND)
        assert renewed == Lease(fence=lease.fence, holder="a", until_us=clock.now_us + 10 * _SECOND)
        header = await storage.find_session("s")
        assert header is not None
        assert header.lease == renewed

    async def test_a_lease_that_ended_passes_on(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        first = await storage.acquire_lease("s", holder="a", ttl_us=10 * _SECOND)
        clock.advance(10)
        second = await storage.acquire_lease("s", holder="b", ttl_us=10 * _SECOND)
        assert (second.fence, second.holder) == (first.fence + 1, "b")
        clock.advance(11)
        again = await storage.acquire_lease("s", holder="b", ttl_us=10 * _SECOND)
        assert again.fence == first.fence + 2
        assert await storage.release_lease("s", fence=second.fence) is False
        assert await storage.release_lease("s", fence=again.fence) is True
        assert (await storage.acquire_lease("s", holder="a", ttl_us=_SECOND)).fence == first.fence + 3

    async def test_a_lease_is_no_change_of_the_session(self, storage: SessionStorage, clock: ManualClock) -> None:
        await storage.put_session(session_record(ttl_us=60 * _SECOND))
        before = await storage.find_session("s")
        clock.advance(1)
        lease = await storage.acquire_lease("s", holder="a", ttl_us=_SECOND)
        await storage.release_lease("s", fence=lease.fence)
        assert await storage.find_session("s") == before
        put = await storage.put_session(session_record())
        assert put.version == 2
        assert (await storage.acquire_lease("s", holder="b", ttl_us=_SECOND)).fence == lease.fence + 1

    async def test_a_fence_admits_the_latest_holder_only(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        with pytest.raises(LeaseLostError):
            await storage.append_messages("s", message_records(1), fence=1)
        old = (await storage.acquire_lease("s", holder="a", ttl_us=_SECOND)).fence
        await storage.append_messages("s", message_records(2), fence=old)
        clock.advance(5)  # ended, but no other holder has it
        await storage.append_messages("s", [message_record("m3")], fence=old, expected_last=2)
        new = (await storage.acquire_lease("s", holder="b", ttl_us=_SECOND)).fence
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: storage.append_messages("s", [message_record("late")], fence=old),
            lambda: storage.append_messages("s", message_records(2, prefix="late"), fence=old, expected_last=3),
            lambda: storage.append_messages("s", [message_record("early")], fence=new + 1),
            lambda: storage.replace_tail("s", after=1, fence=old),
            lambda: storage.replace_tail("s", after=1, messages=[message_record("late")], fence=old),
        ]
        for call in calls:
            with pytest.raises(LeaseLostError) as refused:
                await call()
            assert isinstance(refused.value, ConflictError)
        assert (await storage.append_messages("s", message_records(2), fence=old)).replayed
        assert await self.ids(storage) == ["m1", "m2", "m3"]
        await storage.append_messages("s", [message_record("m4")])  # without a fence
        await storage.append_messages("s", [message_record("m5")], fence=new)
        await storage.replace_tail("s", after=4, messages=[message_record("n5")], fence=new)
        assert (await storage.replace_tail("s", after=4, messages=[message_record("n5")], fence=old)).replayed
        assert await self.ids(storage) == ["m1", "m2", "m3", "m4", "n5"]

    async def test_a_released_lease_keeps_its_fence(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        fence = (await storage.acquire_lease("s", holder="a", ttl_us=60 * _SECOND)).fence
        assert await storage.release_lease("s", fence=fence) is True
        assert await storage.release_lease("s", fence=fence) is True
        await storage.append_messages("s", message_records(1), fence=fence)
        await storage.acquire_lease("s", holder="b", ttl_us=_SECOND)
        with pytest.raises(LeaseLostError):
            await storage.append_messages("s", [message_record("m2")], fence=fence)

    async def test_a_fence_does_not_outlive_its_session(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage)
        old = await storage.acquire_lease("s", holder="a", ttl_us=60 * _SECOND)
        await storage.delete_session("s")
        clock.advance(1)
        await self.begin(storage)
        new = await storage.acquire_lease("s", holder="b", ttl_us=60 * _SECOND)
        with pytest.raises(LeaseLostError):
            await storage.append_messages("s", [message_record("late")], fence=old.fence)
        await storage.append_messages("s", message_records(1), fence=new.fence)
        assert await self.ids(storage) == ["m1"]

    async def test_absent_sessions_have_no_lease(self, storage: SessionStorage, clock: ManualClock) -> None:
        with pytest.raises(SessionNotFoundError):
            await storage.acquire_lease("s", holder="a", ttl_us=_SECOND)
        assert await storage.release_lease("s", fence=1) is False
        with pytest.raises(SessionNotFoundError):
            await storage.append_messages("s", message_records(1), fence=1)
        await storage.put_session(session_record(ttl_us=_SECOND))
        await storage.acquire_lease("s", holder="a", ttl_us=60 * _SECOND)
        clock.advance(2)
        with pytest.raises(SessionNotFoundError):
            await storage.acquire_lease("s", holder="a", ttl_us=_SECOND)
        await self.begin(storage)
        assert (await storage.acquire_lease("s", holder="b", ttl_us=_SECOND)).fence == clock.now_us
        fraction: Any = 1.5  # which a store would keep
        for ttl_us in (0, -1, 2**63, fraction):
            with pytest.raises(ValidationError):
                await storage.acquire_lease("s", holder="b", ttl_us=ttl_us)
        fence: Any
        for fence in ("1", 1.0, True, 0, -1, 2**63):
            with pytest.raises(ValidationError):
                await storage.append_messages("s", message_records(1), fence=fence)
            with pytest.raises(ValidationError):
                await storage.replace_tail("s", after=0, messages=message_records(1), fence=fence)
            with pytest.raises(ValidationError):
                await storage.release_lease("s", fence=fence)
        assert await self.ids(storage) == []
        with pytest.raises(ValidationError):
            await storage.acquire_lease("s", holder="", ttl_us=_SECOND)

    async def test_a_fork_has_no_lease(self, storage: SessionStorage, clock: ManualClock) -> None:
        await self.begin(storage, messages=1)
        await storage.acquire_lease("s", holder="a", ttl_us=60 * _SECOND)
        clock.advance(1)
        await storage.fork_session("s", session_record("f"), at=1)
        assert (await storage.acquire_lease("f", holder="b", ttl_us=_SECOND)).fence == clock.now_us

    async def test_one_of_50_holders_gets_a_free_lease(self, writers: list[SessionStorage], clock: ManualClock) -> None:
        await self.begin(writers[0])
        calls = [
            storage.acquire_lease("s", holder=f"h{number}", ttl_us=60 * _SECOND)
            for storage, number in spread(writers, range(50))
        ]
        won, lost = await self.race(calls, LeaseHeldError)
        assert (len(won), len(lost), won[0].fence) == (1, 49, clock.now_us)

    async def test_an_old_holder_writes_nothing_behind_a_new_one(
        self, writers: list[SessionStorage], clock: ManualClock
    ) -> None:
        await self.begin(writers[0])
        for turn in range(1, 6):
            old = await writers[0].acquire_lease("s", holder=f"h{turn}", ttl_us=_SECOND)
            clock.advance(2)

            async def taken_over(turn: int) -> str:
                lease = await writers[-1].acquire_lease("s", holder=f"other{turn}", ttl_us=_SECOND)
                await writers[-1].append_messages("s", [message_record(f"new {turn}")], fence=lease.fence)
                return ""

            async def late(number: int, turn: int, fence: int = old.fence) -> str:
                message = attrs.evolve(message_record(f"old {turn} {number}"))
                await writers[0].append_messages("s", [message], fence=fence)
                return message.message_id

            done, _ = await self.race([taken_over(turn), *(late(number, turn) for number in range(8))], LeaseLostError)
            ids = await self.ids(writers[0])
            behind = ids[ids.index(f"new {turn}") + 1 :]
            assert behind == []
            assert set(filter(None, done)) <= set(ids)
            clock.advance(2)

    async def test_fenced_and_plain_appends_go_together(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        await self.begin(writers[0], session_id="t")
        fence = (await writers[0].acquire_lease("s", holder="a", ttl_us=60 * _SECOND)).fence
        fences = (None, fence, fence + 1)
        calls = [
            storage.append_messages("st"[number % 2], [message_record(f"m{number}")], fence=fences[number % 3])
            for storage, number in spread(writers, range(30))
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        right = [
            number for number in range(30) if fences[number % 3] in ((None, fence) if number % 2 == 0 else (None,))
        ]
        assert [number for number, outcome in enumerate(outcomes) if not isinstance(outcome, Exception)] == right
        assert {type(outcome) for number, outcome in enumerate(outcomes) if number not in right} == {LeaseLostError}
        stored = [*await self.ids(writers[0]), *await self.ids(writers[0], "t")]
        assert sorted(stored) == sorted(f"m{number}" for number in right)
