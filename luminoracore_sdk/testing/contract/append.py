"""The contract: appends, alone and concurrent, lose nothing and write nothing twice."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange, MessageRecord, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError, PayloadTooLargeError, SessionNotFoundError, ValidationError
from luminoracore_sdk.testing.cancellation import CancelAt
from luminoracore_sdk.testing.contract.base import ContractBase, spread
from luminoracore_sdk.testing.records import message_record, message_records, session_record

__all__ = ["AppendContract", "AppendRaceContract", "AppendsAtOnceContract"]


_ENOUGH_STEPS = 200
_FRACTION: Any = 1.5


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

    async def test_a_position_set_by_the_caller_is_ignored(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=1)
        await storage.append_messages("s", [attrs.evolve(message_record("claims"), position=77)])
        assert await self.ids(storage) == ["m1", "claims"]

    async def test_an_unknown_session_takes_no_messages(self, storage: SessionStorage) -> None:
        with pytest.raises(SessionNotFoundError):
            await storage.append_messages("nobody", message_records(1))
        assert await storage.session_exists("nobody") is False

    async def test_the_right_expected_last_lets_an_append_through(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        first = await storage.append_messages("s", message_records(2), expected_last=0)
        second = await storage.append_messages("s", [message_record("m3")], expected_last=2)
        assert (first.first_position, second.first_position) == (1, 3)

    @pytest.mark.parametrize("expected_last", [0, 1, 3])
    async def test_a_wrong_expected_last_conflicts_and_writes_nothing(
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
    async def test_a_replay_returns_its_first_positions(
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

    @pytest.mark.parametrize("batch", [("m1", "new"), ("new", "m1"), ("m2", "new", "m3"), ("m3", "new"), ("m2", "m1")])
    async def test_a_batch_stored_in_part_or_reordered_conflicts(
        self, storage: SessionStorage, batch: Sequence[str]
    ) -> None:
        await self.begin(storage, messages=3)
        with pytest.raises(ConflictError):
            await storage.append_messages("s", [message_record(message_id) for message_id in batch])
        assert await self.ids(storage) == ["m1", "m2", "m3"]

    async def test_a_batch_of_1000_is_accepted_and_1001_are_refused(self, storage: SessionStorage) -> None:
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
            pytest.param([attrs.evolve(message_record("x"), created_at_us=_FRACTION)], id="a fraction of a time"),
        ],
    )
    async def test_an_invalid_batch_is_refused(self, storage: SessionStorage, batch: list[MessageRecord]) -> None:
        await self.begin(storage, messages=1)
        with pytest.raises(ValidationError):
            await storage.append_messages("s", batch)
        assert await self.ids(storage) == ["m1"]

    async def test_an_expected_end_that_is_no_number_is_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=1)
        number: Any
        for number in ("1", 1.0, True):
            with pytest.raises(ValidationError):
                await storage.append_messages("s", [message_record("m2")], expected_last=number)
            with pytest.raises(ValidationError):
                await storage.replace_tail("s", after=1, messages=[message_record("m2")], expected_last=number)
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


_WRITERS = 50


def _numbers(value: object) -> list[int]:
    """Return the numbers in a text, such as the position in "last position 3"."""
    return [int(digits) for digits in re.findall(r"\d+", str(value))]


class AppendRaceContract(ContractBase):
    """Concurrent appends, from one storage and from two on the same store."""

    async def append(self, storage: SessionStorage, session_id: str, batch: Sequence[MessageRecord]) -> AppendReceipt:
        """Append a new batch, and check that it is stored at the positions of the receipt."""
        receipt = await storage.append_messages(session_id, batch)
        assert (receipt.last_position - receipt.first_position + 1, receipt.replayed) == (len(batch), False)
        span = MessageRange(after=receipt.first_position - 1, before=receipt.last_position + 1)
        stored = [attrs.evolve(message, position=place) for place, message in enumerate(batch, receipt.first_position)]
        assert await storage.read_messages(session_id, span) == stored
        return receipt

    async def test_batches_of_50_writers_are_all_kept_and_contiguous(self, writers: list[SessionStorage]) -> None:
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

    async def test_concurrent_large_batches_stay_contiguous(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        batches = [message_records(size, prefix=f"{size}-") for size in (2, 99, 100, 101, 256, 400)]
        receipts = await asyncio.gather(
            *(writer.append_messages("s", batch) for writer, batch in spread(writers, batches))
        )
        ids = await self.ids(writers[0])
        assert len(ids) == sum(map(len, batches))
        for batch, receipt in zip(batches, receipts, strict=True):
            stored = ids[receipt.first_position - 1 : receipt.last_position]
            assert stored == [message.message_id for message in batch]

    async def test_50_sessions_may_have_the_same_message_ids(self, writers: list[SessionStorage]) -> None:
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

    async def test_one_of_50_conditional_appends_wins(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=1)
        receipts, conflicts = await self.race(
            (
                writer.append_messages("s", message_records(2, prefix=f"task{number}-"), expected_last=1)
                for writer, number in spread(writers, range(_WRITERS))
            ),
            ConflictError,
        )
        assert receipts == [AppendReceipt(first_position=2, last_position=3)]
        said = [(_numbers(conflict.expected), _numbers(conflict.actual)) for conflict in conflicts]
        assert said == [([1], [3])] * (_WRITERS - 1)
        assert len(await self.ids(writers[0])) == 3

    async def test_writers_that_retry_after_conflicts_all_succeed(self, writers: list[SessionStorage]) -> None:
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
    async def test_a_batch_sent_20_times_at_once_is_stored_once(
        self, writers: list[SessionStorage], expected_last: int | None
    ) -> None:
        await self.begin(writers[0], messages=2)
        batch = message_records(3, prefix="again")
        receipts = await asyncio.gather(
            *(
                writer.append_messages("s", batch, expected_last=expected_last)
                for writer, number in spread(writers, range(20))
            )
        )
        assert {(receipt.first_position, receipt.last_position) for receipt in receipts} == {(3, 5)}
        assert sorted(receipt.replayed for receipt in receipts) == [False] + [True] * 19
        assert await self.ids(writers[0]) == ["m1", "m2", "again1", "again2", "again3"]

    async def test_concurrent_batches_that_overlap_conflict(self, writers: list[SessionStorage]) -> None:
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
    async def test_concurrent_retries_get_the_first_receipt(self, writers: list[SessionStorage], *, late: bool) -> None:
        await self.begin(writers[0])
        expected: list[str] = []
        for step in range(0, _ENOUGH_STEPS, 2):
            batch = message_records(2, prefix=f"step{step}-")
            expected += [message.message_id for message in batch]
            call = CancelAt(writers[0].append_messages("s", batch, expected_last=len(expected) - 2), step, late=late)
            await asyncio.wait([asyncio.ensure_future(call)])
            receipts = await asyncio.gather(
                *(
                    writer.append_messages("s", batch, expected_last=len(expected) - 2)
                    for writer, number in spread(writers, range(10))
                )
            )
            found = {(receipt.first_position, receipt.last_position) for receipt in receipts}
            assert found == {(len(expected) - 1, len(expected))}
            assert [receipt.replayed for receipt in receipts].count(False) <= 1
            assert await self.ids(writers[-1]) == expected
            if not call.reached:
                return
        raise AssertionError(f"an append still waits after {_ENOUGH_STEPS} steps")

    async def test_a_retry_among_other_appends_gets_the_first_receipt(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0])
        first = await writers[0].append_messages("s", message_records(2))
        others = [
            writer.append_messages("s", message_records(2, prefix=f"{number}-"))
            for writer, number in spread(writers, range(10))
        ]
        retries = [writers[-1].append_messages("s", message_records(2), expected_last=0) for _ in range(5)]
        receipts = await asyncio.gather(*others, *retries)
        assert receipts[10:] == [attrs.evolve(first, replayed=True)] * 5
        ids = await self.ids(writers[0])
        assert (len(ids), ids[:2]) == (22, ["m1", "m2"])


_SESSIONS = 30


class AppendsAtOnceContract(ContractBase):
    """Concurrent appends to many sessions, some of which fail or are cancelled."""

    async def begin_many(self, storage: SessionStorage) -> list[str]:
        """Put sessions s0, s1, s2 … with 0 to 6 messages each."""
        names = [f"s{number}" for number in range(_SESSIONS)]
        for number, name in enumerate(names):
            await self.begin(storage, messages=number % 7, session_id=name)
        return names

    async def test_each_concurrent_append_gets_its_own_receipt(self, writers: list[SessionStorage]) -> None:
        names = await self.begin_many(writers[0])

        async def write(number: int, name: str) -> list[AppendReceipt]:
            storage = writers[number % len(writers)]
            sizes = (1 + number % 3, 1 + number % 5)
            return [
                await storage.append_messages(name, message_records(size, prefix=f"{turn}-"))
                for turn, size in enumerate(sizes)
            ]

        receipts = await asyncio.gather(*(write(number, name) for number, name in enumerate(names)))
        for number, (first, second) in enumerate(receipts):
            begun, sizes = number % 7, (1 + number % 3, 1 + number % 5)
            assert first == AppendReceipt(first_position=begun + 1, last_position=begun + sizes[0])
            after = begun + sizes[0]
            assert second == AppendReceipt(first_position=after + 1, last_position=after + sizes[1])
            stored = await writers[0].read_messages(names[number], MessageRange(after=begun))
            expected = [*message_records(sizes[0], prefix="0-"), *message_records(sizes[1], prefix="1-")]
            assert [attrs.evolve(message, position=0) for message in stored] == expected

    async def test_a_failing_append_does_not_affect_concurrent_ones(self, writers: list[SessionStorage]) -> None:
        names = await self.begin_many(writers[0])
        stored = message_records(6)
        wrong: list[tuple[str, Sequence[MessageRecord], int | None]] = [
            ("absent", [message_record("a")], None),
            ("s1", [message_record("b")], 7),
            ("s3", [message_record("c"), stored[0]], None),
            ("s4", [stored[1], stored[0]], None),
        ]
        outcomes = await asyncio.gather(
            *(writers[0].append_messages(name, [message_record("new")]) for name in names[:15]),
            *(
                writers[-1].append_messages(name, messages, expected_last=expected)
                for name, messages, expected in wrong
            ),
            writers[-1].append_messages("s6", stored),
            *(writers[-1].append_messages(name, [message_record("new")]) for name in names[15:]),
            return_exceptions=True,
        )
        done, failed, replay = [*outcomes[:15], *outcomes[20:]], outcomes[15:19], outcomes[19]
        assert [receipt.first_position for receipt in done if isinstance(receipt, AppendReceipt)] == [
            number % 7 + 1 for number in range(_SESSIONS)
        ]
        assert [type(outcome) for outcome in failed] == [SessionNotFoundError, *[ConflictError] * 3]
        assert replay == AppendReceipt(first_position=1, last_position=6, replayed=True)
        for number, name in enumerate(names):
            ids = [message.message_id for message in stored[: number % 7]]
            assert await self.ids(writers[0], name) == [*ids, "new"]

    async def test_concurrent_appends_of_one_task_keep_their_order(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        await self.begin(storage, session_id="other")
        wanted = [message_record(f"m{number}") for number in range(40)]
        await asyncio.gather(
            *(
                storage.append_messages(name, [message])
                for message in wanted
                for name in ("s", "other")  # interleaved, so that they may be written together
            )
        )
        assert await self.ids(storage) == [message.message_id for message in wanted]
        assert await self.ids(storage, "other") == [message.message_id for message in wanted]

    @pytest.mark.parametrize("steps", [0, 1, 2, 4, 8])
    async def test_cancelled_appends_do_not_affect_concurrent_ones(
        self, writers: list[SessionStorage], *, steps: int
    ) -> None:
        names = await self.begin_many(writers[0])
        batch = message_records(2, prefix="new")
        tasks = [asyncio.create_task(writer.append_messages(name, batch)) for writer, name in spread(writers, names)]
        for _ in range(steps):
            await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for number, (name, outcome) in enumerate(zip(names, outcomes, strict=True)):
            begun = number % 7
            receipt = AppendReceipt(first_position=begun + 1, last_position=begun + 2)
            if number % 3:
                assert outcome == receipt
                continue
            assert outcome == receipt or isinstance(outcome, asyncio.CancelledError)
            again = await writers[0].append_messages(name, batch)
            assert attrs.evolve(again, replayed=False) == receipt
            assert len(await self.ids(writers[0], name)) == begun + 2

    async def test_an_acknowledged_append_can_be_read_at_once(self, writers: list[SessionStorage]) -> None:
        names = await self.begin_many(writers[0])

        async def write(number: int, name: str) -> None:
            for turn in range(3):
                message = message_record(f"{turn}")
                receipt = await writers[number % len(writers)].append_messages(name, [message])
                reader = writers[(number + turn) % len(writers)]
                [read] = await reader.read_messages(name, MessageRange(limit=1, newest=True))
                assert read == attrs.evolve(message, position=receipt.first_position)

        await asyncio.gather(*(write(number, name) for number, name in enumerate(names)))
        header = await writers[0].find_session(names[-1])
        assert header is not None
        assert attrs.evolve(header, payload=None) == attrs.evolve(
            session_record(names[-1]),
            payload=None,
            created_at_us=header.created_at_us,
            updated_at_us=header.updated_at_us,
            version=1,
            last_position=(_SESSIONS - 1) % 7 + 3,
            summary=header.summary,
        )
        assert header.summary.counters == {"user": header.last_position}

    async def test_changing_a_batch_during_its_append_has_no_effect(self, writers: list[SessionStorage]) -> None:
        names = await self.begin_many(writers[0])
        batches = [message_records(2, prefix="new") for _ in names]
        tasks = [
            asyncio.create_task(writers[0].append_messages(name, batch))
            for name, batch in zip(names, batches, strict=True)
        ]
        await asyncio.sleep(0)
        for batch in batches:
            batch.clear()
        receipts = await asyncio.gather(*tasks)
        assert [receipt.first_position for receipt in receipts] == [number % 7 + 1 for number in range(_SESSIONS)]
        assert [(await self.ids(writers[0], name))[-2:] for name in names] == [["new1", "new2"]] * _SESSIONS
