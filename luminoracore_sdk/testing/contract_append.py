"""The contract: appending, which loses nothing and writes nothing twice."""

import asyncio
from collections.abc import Sequence

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    MessageRange,
    MessageRecord,
    Payload,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConflictError,
    PayloadTooLargeError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.testing.builders import message_record, message_records
from luminoracore_sdk.testing.cancelling import CancelAt
from luminoracore_sdk.testing.contract_base import ContractBase

__all__ = ["AppendContract"]

_ENOUGH_STEPS = 200


class AppendContract(ContractBase):
    """Positions, conflicts, replays, cancellation."""

    async def test_positions_are_1_2_3_across_batches(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        receipts = [
            await storage.append_messages("s", message_records(3, prefix="a")),
            await storage.append_messages("s", message_records(1, prefix="b")),
            await storage.append_messages("s", message_records(2, prefix="c")),
        ]
        assert receipts == [
            AppendReceipt(first_position=1, last_position=3),
            AppendReceipt(first_position=4, last_position=4),
            AppendReceipt(first_position=5, last_position=6),
        ]
        assert await self.ids(storage) == ["a1", "a2", "a3", "b1", "c1", "c2"]

    async def test_a_position_of_the_caller_is_ignored(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=1)
        await storage.append_messages("s", [attrs.evolve(message_record("claims"), position=77)])
        assert await self.ids(storage) == ["m1", "claims"]

    async def test_an_unknown_session_takes_no_messages(self, storage: SessionStorage) -> None:
        with pytest.raises(SessionNotFoundError):
            await storage.append_messages("nobody", message_records(1))
        assert await storage.session_exists("nobody") is False

    async def test_the_expected_last_position_lets_an_append_through(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        first = await storage.append_messages("s", message_records(2), expected_last=0)
        second = await storage.append_messages("s", [message_record("m3")], expected_last=2)
        assert (first.first_position, second.first_position) == (1, 3)

    @pytest.mark.parametrize("expected_last", [0, 1, 3])
    async def test_another_last_position_conflicts_and_writes_nothing(
        self, storage: SessionStorage, expected_last: int
    ) -> None:
        await self.begin(storage, messages=2)
        before = await storage.find_session("s")
        with pytest.raises(ConflictError):
            await storage.append_messages("s", message_records(2, prefix="x"), expected_last=expected_last)
        assert await self.ids(storage) == ["m1", "m2"]
        assert await storage.find_session("s") == before

    @pytest.mark.parametrize("expected_last", [None, 0, 3, 99])
    @pytest.mark.parametrize("numbers", [(1, 2, 3), (2,), (2, 3), (3, 4, 5), (1, 2, 3, 4, 5)])
    async def test_a_replay_returns_the_first_positions_and_writes_nothing(
        self, storage: SessionStorage, numbers: tuple[int, ...], expected_last: int | None
    ) -> None:
        await self.begin(storage, messages=3)
        await storage.append_messages("s", [message_record("m4"), message_record("m5")])
        before = await storage.find_session("s")
        again = [message_record(f"m{number}", text="another text") for number in numbers]
        receipt = await storage.append_messages("s", again, expected_last=expected_last)
        assert receipt == AppendReceipt(first_position=numbers[0], last_position=numbers[-1], replayed=True)
        assert await self.ids(storage) == ["m1", "m2", "m3", "m4", "m5"]
        (kept,) = await storage.read_messages("s", MessageRange(after=numbers[0] - 1, limit=1))
        assert kept.payload == message_record(f"m{numbers[0]}").payload
        assert await storage.find_session("s") == before

    @pytest.mark.parametrize(
        "batch", [("m1", "new"), ("new", "m1"), ("m2", "new", "m3"), ("m3", "new"), ("m2", "m1")]
    )
    async def test_a_batch_that_is_stored_in_part_or_in_another_order_conflicts(
        self, storage: SessionStorage, batch: Sequence[str]
    ) -> None:
        await self.begin(storage, messages=3)
        with pytest.raises(ConflictError):
            await storage.append_messages("s", [message_record(message_id) for message_id in batch])
        assert await self.ids(storage) == ["m1", "m2", "m3"]

    async def test_a_batch_of_1000_is_taken_and_1001_are_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        with pytest.raises(ValidationError):
            await storage.append_messages("s", message_records(1001))
        assert await self.ids(storage) == []
        receipt = await storage.append_messages("s", message_records(1000))
        assert (receipt.first_position, receipt.last_position) == (1, 1000)
        assert await self.ids(storage) == [f"m{number}" for number in range(1, 1001)]
        assert (await storage.append_messages("s", message_records(1000))).replayed is True

    @pytest.mark.parametrize(
        "batch",
        [
            pytest.param([], id="nothing"),
            pytest.param([message_record("x"), message_record("x")], id="an id twice"),
            pytest.param([message_record("x", role="robot")], id="an unknown role"),
            pytest.param([message_record("x"), message_record("")], id="an empty id"),
        ],
    )
    async def test_a_batch_that_breaks_a_rule_is_refused(
        self, storage: SessionStorage, batch: list[MessageRecord]
    ) -> None:
        await self.begin(storage, messages=1)
        with pytest.raises(ValidationError):
            await storage.append_messages("s", batch)
        assert await self.ids(storage) == ["m1"]

    async def test_a_batch_with_a_message_above_the_limit_is_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        huge = Payload("json+zstd", bytes(self.max_payload_bytes + 1))
        batch = [message_record("fits"), attrs.evolve(message_record("huge"), payload=huge)]
        with pytest.raises(PayloadTooLargeError):
            await storage.append_messages("s", batch)
        assert await self.ids(storage) == []

    @pytest.mark.parametrize("late", [False, True])
    async def test_an_append_cancelled_at_any_step_leaves_whole_batches(
        self, storage: SessionStorage, *, late: bool
    ) -> None:
        await self.begin(storage)
        expected: list[str] = []
        for step in range(_ENOUGH_STEPS):
            batch = message_records(3, prefix=f"step{step}-")
            whole = [message.message_id for message in batch]
            call = CancelAt(storage.append_messages("s", batch), step, late=late)
            task = asyncio.ensure_future(call)
            await asyncio.wait([task])
            assert task.cancelled() or task.result().first_position == len(expected) + 1
            assert await self.ids(storage) in (expected, expected + whole)
            retried = await storage.append_messages("s", batch)
            expected += whole
            assert retried.last_position == len(expected)
            assert await self.ids(storage) == expected
            if not call.reached:
                return
        raise AssertionError(f"an append still waits after {_ENOUGH_STEPS} steps")
