"""The contract: many who append at the same time, and retries of what may have been done."""

import asyncio
import re
from collections.abc import Sequence

import attrs
import pytest

from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError
from luminoracore_sdk.testing.builders import message_record, message_records, session_record
from luminoracore_sdk.testing.cancelling import CancelAt
from luminoracore_sdk.testing.contract_base import ContractBase

__all__ = ["AppendRaceContract"]

_WRITERS = 50
_ENOUGH_STEPS = 200


def _numbers(value: object) -> list[int]:
    """Return the numbers of a text, such as the position in "last position 3"."""
    return [int(digits) for digits in re.findall(r"\d+", str(value))]


class AppendRaceContract(ContractBase):
    """Concurrent appends, from one storage and from two on the same place."""

    async def append(
        self, storage: SessionStorage, session_id: str, batch: Sequence[MessageRecord]
    ) -> AppendReceipt:
        """Append a new batch, and check that it lies where the receipt says."""
        receipt = await storage.append_messages(session_id, batch)
        assert (receipt.last_position - receipt.first_position + 1, receipt.replayed) == (len(batch), False)
        span = MessageRange(after=receipt.first_position - 1, before=receipt.last_position + 1)
        stored = [
            attrs.evolve(message, position=place)
            for place, message in enumerate(batch, receipt.first_position)
        ]
        assert await storage.read_messages(session_id, span) == stored
        return receipt

    async def test_50_writers_of_one_session_lose_nothing_and_mix_no_batches(
        self, writers: list[SessionStorage]
    ) -> None:
        await self.begin(writers[0])
        stored: dict[int, list[str]] = {}

        async def write(number: int) -> None:
            last = 0
            for turn, size in enumerate((1, 3, 2)):
                batch = message_records(size, prefix=f"{number}.{turn}.")
                receipt = await self.append(writers[number % len(writers)], "s", batch)
                assert receipt.first_position > last
                last = receipt.last_position
                stored[receipt.first_position] = [message.message_id for message in batch]

        await asyncio.gather(*(write(number) for number in range(_WRITERS)))
        expected = [message_id for place in sorted(stored) for message_id in stored[place]]
        assert len(set(expected)) == _WRITERS * 6
        for storage in writers:
            assert await self.ids(storage) == expected
            header = await storage.find_session("s")
            assert header is not None
            assert (header.last_position, header.version) == (len(expected), 1)

    async def test_large_batches_at_once_are_not_taken_apart(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        batches = [message_records(size, prefix=f"{size}-") for size in (2, 99, 100, 101, 256, 400)]
        receipts = await asyncio.gather(
            *(
                writers[number % len(writers)].append_messages("s", batch)
                for number, batch in enumerate(batches)
            )
        )
        ids = await self.ids(writers[0])
        assert len(ids) == sum(map(len, batches))
        for batch, receipt in zip(batches, receipts, strict=True):
            lying_there = ids[receipt.first_position - 1 : receipt.last_position]
            assert lying_there == [message.message_id for message in batch]

    async def test_50_writers_of_50_sessions_may_use_the_same_message_ids(
        self, writers: list[SessionStorage]
    ) -> None:
        names = [f"s{number}" for number in range(_WRITERS)]

        async def write(number: int, name: str) -> list[AppendReceipt]:
            storage = writers[number % len(writers)]
            await storage.put_session(session_record(name))
            batches = ([message_record("q", text=name), message_record("a", text=name)], message_records(1))
            return [await self.append(storage, name, batch) for batch in batches]

        receipts = await asyncio.gather(*(write(number, name) for number, name in enumerate(names)))
        first = AppendReceipt(first_position=1, last_position=2)
        second = AppendReceipt(first_position=3, last_position=3)
        assert receipts == [[first, second]] * _WRITERS
        listed = await writers[0].list_sessions()
        assert sorted(listed) == sorted(names)

    async def test_of_50_conditional_appends_at_once_one_wins_and_the_others_learn_the_position(
        self, writers: list[SessionStorage]
    ) -> None:
        await self.begin(writers[0], messages=1)
        receipts, conflicts = await self.race(
            (
                writers[number % len(writers)].append_messages(
                    "s", message_records(2, prefix=f"task{number}-"), expected_last=1
                )
                for number in range(_WRITERS)
            ),
            ConflictError,
        )
        assert receipts == [AppendReceipt(first_position=2, last_position=3)]
        said = [(_numbers(conflict.expected), _numbers(conflict.actual)) for conflict in conflicts]
        assert said == [([1], [3])] * (_WRITERS - 1)
        assert len(await self.ids(writers[0])) == 3

    async def test_writers_that_read_again_after_a_conflict_all_come_through(
        self, writers: list[SessionStorage]
    ) -> None:
        await self.begin(writers[0])
        seen: list[int] = []

        async def write(number: int) -> None:
            storage = writers[number % len(writers)]
            while True:
                header = await storage.find_session("s")
                assert header is not None
                last = header.last_position
                try:
                    await storage.append_messages("s", [message_record(f"m{number}")], expected_last=last)
                except ConflictError:
                    continue
                seen.append(last)
                return

        await asyncio.gather(*(write(number) for number in range(10)))
        assert sorted(seen) == list(range(10))
        assert sorted(await self.ids(writers[0])) == sorted(f"m{number}" for number in range(10))

    @pytest.mark.parametrize("expected_last", [None, 2])
    async def test_a_batch_sent_20_times_at_once_is_stored_once_and_all_get_its_positions(
        self, writers: list[SessionStorage], expected_last: int | None
    ) -> None:
        await self.begin(writers[0], messages=2)
        batch = message_records(3, prefix="again")
        receipts = await asyncio.gather(
            *(
                writers[number % len(writers)].append_messages("s", batch, expected_last=expected_last)
                for number in range(20)
            )
        )
        assert {(receipt.first_position, receipt.last_position) for receipt in receipts} == {(3, 5)}
        assert sorted(receipt.replayed for receipt in receipts) == [False] + [True] * 19
        assert await self.ids(writers[0]) == ["m1", "m2", "again1", "again2", "again3"]

    async def test_of_batches_at_once_that_share_a_message_one_kind_is_stored(
        self, writers: list[SessionStorage]
    ) -> None:
        await self.begin(writers[0])
        kinds = [["a", "b"], ["b", "c"]]
        receipts, conflicts = await self.race(
            (
                writers[number % len(writers)].append_messages("s", [message_record(name) for name in kind])
                for number, kind in enumerate([*kinds[:1] * 5, *kinds[1:] * 5])
            ),
            ConflictError,
        )
        assert {(receipt.first_position, receipt.last_position) for receipt in receipts} == {(1, 2)}
        assert sorted(receipt.replayed for receipt in receipts) == [False] + [True] * 4
        assert len(conflicts) == 5
        assert await self.ids(writers[0]) in kinds

    @pytest.mark.parametrize("late", [False, True])
    async def test_retries_at_once_after_a_lost_acknowledgement_get_the_first_receipt(
        self, writers: list[SessionStorage], *, late: bool
    ) -> None:
        await self.begin(writers[0])
        expected: list[str] = []
        for step in range(0, _ENOUGH_STEPS, 2):
            batch = message_records(2, prefix=f"step{step}-")
            expected += [message.message_id for message in batch]
            call = CancelAt(
                writers[0].append_messages("s", batch, expected_last=len(expected) - 2), step, late=late
            )
            await asyncio.wait([asyncio.ensure_future(call)])
            receipts = await asyncio.gather(
                *(
                    writers[number % len(writers)].append_messages(
                        "s", batch, expected_last=len(expected) - 2
                    )
                    for number in range(10)
                )
            )
            found = {(receipt.first_position, receipt.last_position) for receipt in receipts}
            assert found == {(len(expected) - 1, len(expected))}
            assert [receipt.replayed for receipt in receipts].count(False) <= 1
            assert await self.ids(writers[-1]) == expected
            if not call.reached:
                return
        raise AssertionError(f"an append still waits after {_ENOUGH_STEPS} steps")

    async def test_a_retry_among_other_appends_gets_the_first_receipt(
        self, writers: list[SessionStorage]
    ) -> None:
        await self.begin(writers[0])
        first = await writers[0].append_messages("s", message_records(2))
        others = [
            writers[number % len(writers)].append_messages("s", message_records(2, prefix=f"{number}-"))
            for number in range(10)
        ]
        retries = [writers[-1].append_messages("s", message_records(2), expected_last=0) for _ in range(5)]
        receipts = await asyncio.gather(*others, *retries)
        assert receipts[10:] == [attrs.evolve(first, replayed=True)] * 5
        ids = await self.ids(writers[0])
        assert (len(ids), ids[:2]) == (22, ["m1", "m2"])
