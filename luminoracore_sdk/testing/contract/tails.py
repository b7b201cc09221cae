"""The contract: replacing the tail of a history, changing one message, finding one by its id."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, Payload, TailReceipt
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError, PayloadTooLargeError, SessionNotFoundError, ValidationError
from luminoracore_sdk.testing.cancellation import CancelAt
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.records import json_payload, message_record, message_records, session_record

__all__ = ["TailContract", "TailRaceContract", "UpdateContract"]

_ALL = MessageRange()
_ENOUGH_STEPS = 200
_NEW = json_payload({"content": "new"})


class TailContract(ContractBase):
    """``replace_tail`` and ``find_message``."""

    @pytest.mark.parametrize("after", [0, 1, 3, 4])
    @pytest.mark.parametrize("count", [0, 1, 3])
    async def test_a_tail_is_returned_and_replaced(self, storage: SessionStorage, after: int, count: int) -> None:
        await self.begin(storage, messages=3)
        await storage.append_messages("s", [message_record("m4")])
        before = await storage.read_messages("s", _ALL)
        new = message_records(count, prefix="new")
        receipt = await storage.replace_tail("s", after=after, messages=new, expected_last=4)
        assert receipt == TailReceipt(removed=before[after:], last_position=after + count)
        stored = [attrs.evolve(message, position=after + place) for place, message in enumerate(new, start=1)]
        assert await storage.read_messages("s", _ALL) == [*before[:after], *stored]
        header = await storage.find_session("s")
        assert header is not None
        assert (header.last_position, header.version) == (after + count, 1)
        assert (await storage.append_messages("s", [message_record("next")])).first_position == after + count + 1

    async def test_the_ids_of_a_removed_tail_are_free(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=3)
        await storage.replace_tail("s", after=1)
        await storage.append_messages("s", [message_record("m3", text="again")])
        await storage.replace_tail("s", after=2, messages=[message_record("m2", text="again")])
        assert await self.ids(storage) == ["m1", "m3", "m2"]
        assert await storage.find_message("s", "m2") == attrs.evolve(message_record("m2", text="again"), position=3)

    @pytest.mark.parametrize("expected_last", [None, 3, 99])
    async def test_a_repeated_replacement_changes_nothing(
        self, storage: SessionStorage, expected_last: int | None
    ) -> None:
        await self.begin(storage, messages=3)
        new = message_records(2, prefix="new")
        first = await storage.replace_tail("s", after=2, messages=new, expected_last=3)
        assert first.replayed is False
        before = await storage.find_session("s")
        again = await storage.replace_tail("s", after=2, messages=new, expected_last=expected_last)
        assert again == TailReceipt(removed=[], last_position=4, replayed=True)
        await storage.append_messages("s", [message_record("behind")])
        assert (await storage.replace_tail("s", after=2, messages=new)).last_position == 5
        assert await self.ids(storage) == ["m1", "m2", "new1", "new2", "behind"]
        after = await storage.find_session("s")
        assert before is not None
        assert after is not None
        assert after.version == before.version

    @pytest.mark.parametrize(
        ("after", "ids", "expected_last"),
        [
            pytest.param(1, ("x",), 2, id="another newest position"),
            pytest.param(1, (), 4, id="another newest position, no messages"),
            pytest.param(4, ("x",), None, id="behind the end"),
            pytest.param(4, (), None, id="behind the end, no messages"),
            pytest.param(2, ("m1",), None, id="an id that stays"),
            pytest.param(2, ("x", "m1"), None, id="an id that stays, and a new one"),
            pytest.param(1, ("x", "m3"), None, id="an id of the tail"),
            pytest.param(0, ("m2", "m3"), None, id="ids of the tail"),
        ],
    )
    async def test_a_conflict_changes_nothing(
        self, storage: SessionStorage, after: int, ids: Sequence[str], expected_last: int | None
    ) -> None:
        await self.begin(storage, messages=3)
        before = await storage.find_session("s"), await storage.read_messages("s", _ALL)
        with pytest.raises(ConflictError):
            await storage.replace_tail(
                "s", after=after, messages=[message_record(one) for one in ids], expected_last=expected_last
            )
        assert (await storage.find_session("s"), await storage.read_messages("s", _ALL)) == before

    async def change(self, storage: SessionStorage) -> int:
        """Return the number of the latest change of the history."""
        header = await storage.find_session("s")
        assert header is not None
        return header.last_change

    async def test_a_replacement_may_expect_the_latest_change(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=3)
        new = [message_record("new")]
        seen = await self.change(storage)
        await storage.append_messages("s", [message_record("m4")])  # is no change of what was stored before
        await storage.replace_tail("s", after=3, messages=new, expected_change=seen)
        before = await storage.find_session("s"), await storage.read_messages("s", _ALL)
        for wrong in (seen, -1, 2**62):
            for messages in ([], [message_record("x")]):
                with pytest.raises(ConflictError):
                    await storage.replace_tail("s", after=3, messages=messages, expected_change=wrong)
            assert (await storage.replace_tail("s", after=3, messages=new, expected_change=wrong)).replayed
        assert (await storage.find_session("s"), await storage.read_messages("s", _ALL)) == before
        seen = await self.change(storage)
        await storage.update_message("s", 1, payload=_NEW, expected=message_record("m1").payload)
        with pytest.raises(ConflictError):
            await storage.replace_tail("s", after=3, expected_change=seen)
        await storage.replace_tail("s", after=2, expected_last=4, expected_change=await self.change(storage))
        assert await self.ids(storage) == ["m1", "m2"]

    async def test_an_invalid_replacement_is_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=1)
        for after, messages in (
            (-1, []),
            (-1, message_records(1, prefix="x")),
            (0, [message_record("x"), message_record("x")]),
            (0, [message_record("x", role="robot")]),
            (0, [message_record("")]),
            (0, message_records(1001, prefix="x")),
        ):
            with pytest.raises(ValidationError):
                await storage.replace_tail("s", after=after, messages=messages)
        no_number: Any
        for no_number in (True, 1.0, "1"):
            with pytest.raises(ValidationError):
                await storage.replace_tail("s", after=0, expected_change=no_number)
        huge = attrs.evolve(message_record("huge"), payload=Payload("json+zstd", bytes(self.max_payload_bytes + 1)))
        with pytest.raises(PayloadTooLargeError):
            await storage.replace_tail("s", after=0, messages=[huge])
        assert await self.ids(storage) == ["m1"]

    @pytest.mark.parametrize("after", [True, 1.0, 1.5, "1", None])
    async def test_what_is_not_a_position_is_refused(self, storage: SessionStorage, after: Any) -> None:
        await self.begin(storage, messages=3)
        with pytest.raises(ValidationError):
            await storage.replace_tail("s", after=after)
        with pytest.raises(ValidationError):
            await storage.truncate_messages("s", after=after)
        assert await self.ids(storage) == ["m1", "m2", "m3"]

    async def test_an_absent_or_expired_session_has_no_tail(self, storage: SessionStorage, clock: ManualClock) -> None:
        with pytest.raises(SessionNotFoundError):
            await storage.replace_tail("s", after=0)
        assert await storage.find_message("s", "m1") is None
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.append_messages("s", message_records(2))
        clock.advance(9)
        await storage.replace_tail("s", after=1)  # counts as activity
        clock.advance(9)
        assert await storage.find_message("s", "m1") is not None
        clock.advance(2)
        assert await storage.find_message("s", "m1") is None
        with pytest.raises(SessionNotFoundError):
            await storage.replace_tail("s", after=0)

    async def test_a_message_is_found_by_its_id(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=3)
        await storage.append_messages("s", [message_record("é'1")])
        stored = await storage.read_messages("s", _ALL)
        assert [await storage.find_message("s", message.message_id) for message in stored] == stored
        assert await storage.find_message("s", "m") is None
        await storage.truncate_messages("s", after=2)
        assert await storage.find_message("s", "m3") is None
        assert await storage.find_message("s", "m2") == stored[1]
        await self.begin(storage, messages=1, session_id="t")
        await storage.delete_session("t")
        assert await storage.find_message("t", "m1") is None

    async def test_a_long_tail_is_replaced(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=700)
        await storage.append_messages("s", message_records(700, prefix="more"))
        new = message_records(1000, prefix="new")
        receipt = await storage.replace_tail("s", after=100, messages=new)
        assert (len(receipt.removed), receipt.removed[0].message_id, receipt.last_position) == (1300, "m101", 1100)
        assert (await self.ids(storage))[99:102] == ["m100", "new1", "new2"]

    @pytest.mark.parametrize("late", [False, True])
    async def test_a_replacement_cancelled_at_any_step_is_whole_or_absent(
        self, storage: SessionStorage, *, late: bool
    ) -> None:
        await self.begin(storage, messages=3)
        tail = ["m2", "m3"]
        for step in range(_ENOUGH_STEPS):
            new = message_records(2, prefix=f"step{step}-")
            task = asyncio.ensure_future(CancelAt(storage.replace_tail("s", after=1, messages=new), step, late=late))
            await asyncio.wait([task])
            ids = [message.message_id for message in new]
            assert await self.ids(storage) in (["m1", *tail], ["m1", *ids])
            await storage.replace_tail("s", after=1, messages=new)
            assert await self.ids(storage) == ["m1", *ids]
            tail = ids
            if not task.cancelled():
                return
        pytest.fail(f"the call took more than {_ENOUGH_STEPS} steps")


class UpdateContract(ContractBase):
    """``update_message``."""

    async def test_the_payload_of_one_message_changes(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=2)
        await storage.append_messages("s", message_records(2, prefix="n"))
        before, header = await storage.read_messages("s", _ALL), await storage.find_session("s")
        for place in (0, 2, 3):
            changed = attrs.evolve(before[place], payload=_NEW)
            old = before[place].payload
            assert await storage.update_message("s", place + 1, payload=_NEW, expected=old) == changed
            assert await storage.update_message("s", place + 1, payload=_NEW, expected=old) == changed
            before[place] = changed
        assert await storage.read_messages("s", _ALL) == before
        assert await storage.find_message("s", "n2") == before[3]
        assert await storage.find_session("s") == header

    async def test_another_payload_conflicts(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=2)
        old = message_record("m1").payload
        other = json_payload({"content": "neither"})
        for position, payload in ((1, other), (0, old), (-1, old), (3, old), (2**70, old)):
            with pytest.raises(ConflictError):
                await storage.update_message("s", position, payload=_NEW, expected=payload)
        for position in (1, 0):
            with pytest.raises(SessionNotFoundError):
                await storage.update_message("t", position, payload=_NEW, expected=old)
        huge = Payload("json+zstd", bytes(self.max_payload_bytes + 1))
        with pytest.raises(PayloadTooLargeError):
            await storage.update_message("s", 1, payload=huge, expected=old)
        assert [message.payload for message in await storage.read_messages("s", _ALL)] == [
            message_record(f"m{number}").payload for number in (1, 2)
        ]

    async def test_a_message_may_become_larger_and_smaller(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=3)
        payload = message_record("m2").payload
        for size in (100_000, 1, 3_000):
            new = json_payload({"content": "x" * size})
            await storage.update_message("s", 2, payload=new, expected=payload)
            payload = new
        assert [message.payload for message in await storage.read_messages("s", _ALL)][1] == payload
        assert await self.ids(storage) == ["m1", "m2", "m3"]


class TailRaceContract(ContractBase):
    """Replacements and updates among other writers."""

    async def pop(self, storage: SessionStorage) -> MessageRecord | None:
        """Remove the newest message and return it; None: there is none."""
        while newest := await storage.read_messages("s", MessageRange(limit=1, newest=True)):
            last = newest[0].position
            try:
                receipt = await storage.replace_tail("s", after=last - 1, expected_last=last)
            except ConflictError:
                continue
            (removed,) = receipt.removed
            return removed
        return None

    async def test_concurrent_pops_get_different_messages(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=10)
        popped = await asyncio.gather(*(self.pop(writers[number % len(writers)]) for number in range(12)))
        ids = [message.message_id for message in popped if message is not None]
        assert sorted(ids) == sorted(f"m{number}" for number in range(1, 11))
        assert await self.ids(writers[0]) == []

    async def test_one_of_10_replacements_of_one_tail_wins(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=3)
        calls = [
            writers[number % len(writers)].replace_tail(
                "s", after=1, messages=message_records(2, prefix=f"{number}-"), expected_last=3
            )
            for number in range(10)
        ]
        won, lost = await self.race(calls, ConflictError)
        assert len(won) >= 1
        # those that came later found the same last position; each removed what the one before had written
        removed = [message.message_id for receipt in won for message in receipt.removed]
        assert len(set(removed)) == len(removed) == 2 * len(won)
        assert len(won) + len(lost) == 10
        assert len(await self.ids(writers[0])) == 3

    async def test_no_acknowledged_append_is_lost_among_replacements(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=1)
        removed: list[str] = []

        async def append(storage: SessionStorage, number: int) -> str:
            await storage.append_messages("s", [message_record(f"a{number}")])
            return f"a{number}"

        async def replace(storage: SessionStorage, number: int) -> None:
            messages = [message_record(f"r{number}")]
            receipt = await storage.replace_tail("s", after=1, messages=messages)
            removed.extend(message.message_id for message in receipt.removed)

        await asyncio.gather(
            *(append(writers[number % len(writers)], number) for number in range(20)),
            *(replace(writers[number % len(writers)], number) for number in range(6)),
        )
        left = await self.ids(writers[0])
        appended = {f"a{number}" for number in range(20)}
        assert appended <= {*left, *removed}
        assert {f"r{number}" for number in range(6)} <= {*left, *removed}
        assert left[0] == "m1"

    async def test_an_expected_end_is_kept_among_appends(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=2)

        async def replace(number: int) -> TailReceipt:
            storage = writers[number % len(writers)]
            return await storage.replace_tail("s", after=1, messages=[message_record(f"r{number}")], expected_last=2)

        async def append(number: int) -> TailReceipt:
            storage = writers[number % len(writers)]
            receipt = await storage.append_messages("s", [message_record(f"a{number}")])
            return TailReceipt(removed=[], last_position=receipt.last_position)

        calls = [append(number) if number % 2 else replace(number) for number in range(10)]
        receipts, _ = await self.race(calls, ConflictError)
        left = await self.ids(writers[0])
        removed = [message.message_id for receipt in receipts for message in receipt.removed]
        assert {f"a{number}" for number in range(1, 10, 2)} <= {*left, *removed}
        assert len(left) == len(set(left))

    async def test_one_of_10_updates_of_one_payload_wins(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=2)
        old = message_record("m1").payload
        calls = [
            writers[number % len(writers)].update_message(
                "s", 1, payload=json_payload({"content": f"by {number}"}), expected=old
            )
            for number in range(10)
        ]
        won, lost = await self.race(calls, ConflictError)
        assert (len(won), len(lost)) == (1, 9)
        assert (await writers[0].read_messages("s", _ALL))[0] == won[0]

    async def test_a_replacement_that_expects_a_change_knows_its_tail(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=2)
        updated, removed = set[bytes](), list[list[MessageRecord]]()

        async def update(storage: SessionStorage, number: int) -> None:
            for turn in range(4):
                [newest] = await storage.read_messages("s", MessageRange(limit=1, newest=True))
                old, new = message_record(newest.message_id).payload, json_payload({"content": f"{number} {turn}"})
                with suppress(ConflictError):  # each message is updated once
                    await storage.update_message("s", newest.position, payload=new, expected=old)
                    updated.add(new.data)

        async def replace(storage: SessionStorage, number: int) -> None:
            for turn in range(6):
                header = await storage.find_session("s")
                assert header is not None
                tail = await storage.read_messages("s", MessageRange(after=1))
                messages = [message_record(f"{number} {turn}")]
                with suppress(ConflictError):
                    receipt = await storage.replace_tail(
                        "s", after=1, messages=messages, expected_last=2, expected_change=header.last_change
                    )
                    assert receipt.removed == tail
                    removed.append(tail)

        await asyncio.gather(
            *(update(writers[number % len(writers)], number) for number in range(8)),
            *(replace(writers[number % len(writers)], number) for number in range(4)),
        )
        left = await writers[0].read_messages("s", MessageRange(after=1))
        assert len(removed) >= 1
        assert updated <= {message.payload.data for tail in (*removed, left) for message in tail}
