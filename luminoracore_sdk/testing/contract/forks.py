"""The contract: copying a session up to a position into a new one."""

import asyncio

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    Brief,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
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

__all__ = ["ForkContract"]

_ALL = MessageRange()
_ENOUGH_STEPS = 200


def _shouted(message: MessageRecord) -> MessageRecord:
    return attrs.evolve(message, payload=json_payload({"shouted": message.message_id}))


class ForkContract(ContractBase):
    """``fork_session``."""

    @pytest.mark.parametrize("at", [0, 1, 3, 5])
    async def test_a_fork_has_the_messages_up_to_a_position(
        self, storage: SessionStorage, clock: ManualClock, at: int
    ) -> None:
        await storage.put_session(session_record(user_id="u"))
        await storage.append_messages("s", [message_record("m1"), message_record("m2", role="assistant")])
        await storage.append_messages("s", [message_record(f"m{number}") for number in (3, 4, 5)])
        source, messages = await storage.find_session("s"), await storage.read_messages("s", _ALL)
        clock.advance(1)
        card = json_payload({"title": "Fork"})
        summary = SessionSummary(first=Brief(1, json_payload("one")), counters={"user": 99, "tokens": 3})
        record = attrs.evolve(session_record("f", text="a fork", tags=("x",), user_id="v"), card=card, summary=summary)
        made = await storage.fork_session("s", record, at=at)
        roles = {"user": at - (at >= 2), "assistant": int(at >= 2)}
        counters = {"tokens": 3, **{role: number for role, number in roles.items() if number}}
        expected = attrs.evolve(
            record,
            created_at_us=clock.now_us,
            updated_at_us=clock.now_us,
            version=1,
            last_position=at,
            summary=attrs.evolve(summary, counters=counters),
        )
        assert made == expected
        assert await storage.find_session("f") == expected
        assert await storage.read_messages("f", _ALL) == messages[:at]
        assert [await storage.find_message("f", message.message_id) for message in messages] == [
            message if message.position <= at else None for message in messages
        ]
        assert (await storage.find_session("s"), await storage.read_messages("s", _ALL)) == (source, messages)

    async def test_fork_and_source_are_independent(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=4)
        await storage.put_memory(memory_record("k"))
        await storage.fork_session("s", session_record("f"), at=3)
        assert await storage.list_memories(MemoryScope("session", "f")) == []
        before = await storage.read_messages("f", _ALL)
        receipt = await storage.append_messages("f", [message_record("m4", text="of the fork")])
        assert receipt == attrs.evolve(receipt, first_position=4, replayed=False)
        await storage.update_message(
            "f", 1, payload=json_payload({"content": "new"}), expected=message_record("m1").payload
        )
        assert [m.payload for m in await storage.read_messages("s", _ALL)] == [m.payload for m in message_records(4)]
        await storage.truncate_messages("s", after=0)
        await storage.append_messages("s", [message_record("m2", text="again")])
        assert await self.ids(storage, "f") == ["m1", "m2", "m3", "m4"]
        assert (await storage.read_messages("f", _ALL))[1:3] == before[1:3]
        await storage.fork_session("f", session_record("g"), at=4)
        assert await storage.delete_session("s") is True
        await storage.purge_expired()
        assert await storage.delete_session("f") is True
        await storage.purge_expired()
        assert await self.ids(storage, "g") == ["m1", "m2", "m3", "m4"]
        assert (await storage.append_messages("g", [message_record("m5")])).last_position == 5

    async def test_a_fork_of_a_changed_history_is_right(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=3)
        await storage.append_messages("s", message_records(3, prefix="n"))
        await storage.truncate_messages("s", after=4)
        await storage.append_messages("s", message_records(2, prefix="p"))
        await storage.replace_tail("s", after=5, messages=message_records(3, prefix="q"))
        await storage.truncate_messages("s", after=7)
        for at, name in ((7, "f"), (6, "g"), (4, "h"), (2, "i")):
            await storage.fork_session("s", session_record(name), at=at)
            assert await self.ids(storage, name) == ["m1", "m2", "m3", "n1", "p1", "q1", "q2"][:at]
        await storage.append_messages("g", [message_record("q2")])
        assert await self.ids(storage, "g") == ["m1", "m2", "m3", "n1", "p1", "q1", "q2"]

    async def test_a_refused_fork_changes_nothing(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=2)
        await self.begin(storage, messages=1, session_id="t")
        with pytest.raises(SessionNotFoundError):
            await storage.fork_session("absent", session_record("f"), at=0)
        for target, at in (("t", 1), ("s", 1), ("f", 3), ("t", 9)):
            with pytest.raises(ConflictError):
                await storage.fork_session("s", session_record(target), at=at)
        for record, at in (
            (SessionRecord(session_id="f", payload=None), 1),
            (session_record(""), 1),
            (session_record("f", ttl_us=0), 1),
            (session_record("f"), -1),
        ):
            with pytest.raises(ValidationError):
                await storage.fork_session("s", record, at=at)
        assert await storage.list_sessions() == ["s", "t"]
        assert (await self.ids(storage), await self.ids(storage, "t")) == (["m1", "m2"], ["m1"])

    async def test_a_fork_replaces_an_expired_session(self, storage: SessionStorage, clock: ManualClock) -> None:
        await storage.put_session(session_record("f", ttl_us=1_000_000))
        await storage.append_messages("f", message_records(3))
        clock.advance(2)
        await self.begin(storage, messages=2)
        await storage.fork_session("s", session_record("f"), at=1)
        assert await self.ids(storage, "f") == ["m1"]
        assert (await storage.append_messages("f", [message_record("m2")])).replayed is False

    async def test_each_expires_by_itself(self, storage: SessionStorage, clock: ManualClock) -> None:
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.append_messages("s", message_records(2))
        await storage.fork_session("s", session_record("kept"), at=2)
        await storage.fork_session("s", session_record("short", ttl_us=5_000_000), at=2)
        clock.advance(6)
        assert await storage.find_session("short") is None
        assert await self.ids(storage) == ["m1", "m2"]
        clock.advance(6)
        await storage.purge_expired()
        assert await storage.list_sessions() == ["kept"]
        assert await self.ids(storage, "kept") == ["m1", "m2"]

    async def test_messages_may_be_rewritten(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=3)
        await storage.append_messages("s", message_records(2, prefix="n"))
        await storage.fork_session("s", session_record("f"), at=4, rewrite=_shouted)
        messages = await storage.read_messages("s", _ALL)
        assert await storage.read_messages("f", _ALL) == [_shouted(message) for message in messages[:4]]

        def too_large(message: MessageRecord) -> MessageRecord:
            size = self.max_payload_bytes + 1 if message.position == 2 else 1
            return attrs.evolve(message, payload=Payload("json+zstd", bytes(size)))

        with pytest.raises(PayloadTooLargeError):
            await storage.fork_session("s", session_record("g"), at=4, rewrite=too_large)
        assert await storage.find_session("g") is None

    @pytest.mark.parametrize("rewritten", [False, True])
    async def test_a_long_history_is_forked(self, storage: SessionStorage, *, rewritten: bool) -> None:
        await self.begin(storage)
        for part in range(3):
            await storage.append_messages("s", message_records(1000, prefix=f"{part}-"))
        await storage.fork_session("s", session_record("f"), at=2500, rewrite=_shouted if rewritten else None)
        assert await self.ids(storage, "f") == (await self.ids(storage))[:2500]
        header = await storage.find_session("f")
        assert header is not None
        assert header.summary.counters == {"user": 2500}
        assert (await storage.append_messages("f", [message_record("next")])).last_position == 2501

    @pytest.mark.parametrize("late", [False, True])
    async def test_a_fork_cancelled_at_any_step_is_whole_or_absent(
        self, storage: SessionStorage, *, late: bool
    ) -> None:
        await self.begin(storage, messages=3)
        for step in range(_ENOUGH_STEPS):
            name = f"fork {step}"
            cancelled = await self.cancel(storage.fork_session("s", session_record(name), at=2), step, late=late)
            if await storage.find_session(name) is not None:
                assert await self.ids(storage, name) == ["m1", "m2"]
            else:
                assert cancelled
                await storage.fork_session("s", session_record(name), at=3)
                assert await self.ids(storage, name) == ["m1", "m2", "m3"]
            if not cancelled:
                return
        pytest.fail(f"the call took more than {_ENOUGH_STEPS} steps")

    async def test_one_of_10_forks_with_one_id_wins(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=4)
        calls = [
            storage.fork_session("s", session_record("f", text=f"by {at}"), at=at % 5)
            for storage, at in spread(writers, range(10))
        ]
        won, lost = await self.race(calls, ConflictError)
        assert (len(won), len(lost)) == (1, 9)
        assert await writers[0].find_session("f") == won[0]
        assert await self.ids(writers[0], "f") == ["m1", "m2", "m3", "m4"][: won[0].last_position]

    async def test_forks_among_writers_are_of_one_moment(self, writers: list[SessionStorage]) -> None:
        await self.begin(writers[0], messages=3)

        async def rewrite_tail(storage: SessionStorage, number: int) -> str:
            await storage.replace_tail("s", after=1, messages=message_records(3, prefix=f"{number}-"))
            return ""

        async def fork(storage: SessionStorage, number: int) -> str:
            await storage.fork_session("s", session_record(f"f{number}"), at=3)
            return f"f{number}"

        calls = [
            (fork if number % 3 else rewrite_tail)(storage, number) for storage, number in spread(writers, range(18))
        ]
        made, _ = await self.race(calls, ConflictError)
        tails = {("m2", "m3"), *((f"{number}-1", f"{number}-2") for number in range(0, 18, 3))}
        forks = [name for name in made if name]
        assert forks
        for name in forks:
            first, *tail = await self.ids(writers[0], name)
            assert first == "m1"
            assert tuple(tail) in tails
        await asyncio.gather(*(writers[-1].append_messages(name, [message_record("next")]) for name in forks))
