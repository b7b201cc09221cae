"""The contract: appends that a backend may write together are still each a call of its own."""

import asyncio
from collections.abc import Sequence

import attrs
import pytest

from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError
from luminoracore_sdk.testing.builders import message_record, message_records, session_record
from luminoracore_sdk.testing.contract_base import ContractBase

__all__ = ["AppendsAtOnceContract"]

_SESSIONS = 30


class AppendsAtOnceContract(ContractBase):
    """Many appends at the same time, of which some fail or are cancelled."""

    async def begin_many(self, storage: SessionStorage) -> list[str]:
        """Put sessions s0, s1, s2 … of which each has as many messages as its number says, up to 6."""
        names = [f"s{number}" for number in range(_SESSIONS)]
        for number, name in enumerate(names):
            await self.begin(storage, messages=number % 7, session_id=name)
        return names

    async def test_each_of_many_appends_at_once_gets_the_receipt_of_its_own(
        self, writers: list[SessionStorage]
    ) -> None:
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

    async def test_of_many_appends_at_once_those_that_cannot_be_done_fail_alone(
        self, writers: list[SessionStorage]
    ) -> None:
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

    async def test_appends_to_one_session_are_written_in_the_order_in_which_they_were_asked_for(
        self, storage: SessionStorage
    ) -> None:
        await self.begin(storage)
        await self.begin(storage, session_id="other")
        wanted = [message_record(f"m{number}") for number in range(40)]
        await asyncio.gather(
            *(
                storage.append_messages(name, [message])
                for message in wanted
                for name in ("s", "other")  # between them, so that they may be written together
            )
        )
        assert await self.ids(storage) == [message.message_id for message in wanted]
        assert await self.ids(storage, "other") == [message.message_id for message in wanted]

    @pytest.mark.parametrize("steps", [0, 1, 2, 4, 8])
    async def test_callers_that_go_take_nobody_along(
        self, writers: list[SessionStorage], *, steps: int
    ) -> None:
        names = await self.begin_many(writers[0])
        batch = message_records(2, prefix="new")
        tasks = [
            asyncio.create_task(writers[number % len(writers)].append_messages(name, batch))
            for number, name in enumerate(names)
        ]
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

    async def test_an_append_at_once_with_others_can_be_read_as_soon_as_it_is_acknowledged(
        self, writers: list[SessionStorage]
    ) -> None:
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
        )

    async def test_what_a_caller_does_to_his_list_while_he_waits_changes_nothing(
        self, writers: list[SessionStorage]
    ) -> None:
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
        assert [receipt.first_position for receipt in receipts] == [
            number % 7 + 1 for number in range(_SESSIONS)
        ]
        assert [(await self.ids(writers[0], name))[-2:] for name in names] == [["new1", "new2"]] * _SESSIONS
