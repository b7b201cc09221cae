"""The contract: payloads replaced by another form, and nothing else changed."""

from collections.abc import Callable

import attrs
import pytest

from luminoracore_sdk.application.ports.recoding import PayloadChange
from luminoracore_sdk.application.ports.records import (
    MemoryScope,
    MessageRange,
    Payload,
    SessionQuery,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing.builders import (
    memory_record,
    message_record,
    message_records,
    session_record,
)
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract_recoding_base import A_TEXT, FORMS, NEW, NOT_IT, WAYS, RecodingCalls

__all__ = ["RecodingContract"]

_ALL = MessageRange()
_HISTORY = 1500

_ways = pytest.mark.parametrize(
    ("old", "new"),
    [(FORMS[old], FORMS[new]) for old, new in WAYS],
    ids=[f"{old} to {new}" for old, new in WAYS],
)
_not_it = pytest.mark.parametrize("other", NOT_IT.values(), ids=NOT_IT)


class RecodingContract(RecodingCalls):
    """``RecodingStorage``, one call at a time."""

    @_ways
    async def test_a_sessions_payload_is_replaced_and_nothing_else_of_it(
        self, storage: SessionStorage, clock: ManualClock, old: Payload, new: Payload
    ) -> None:
        recoding = self.recoding(storage)
        record = session_record(user_id="u", tags=("t",), ttl_us=10_000_000)
        await storage.put_session(attrs.evolve(record, payload=old))
        await storage.append_messages("s", message_records(2))
        await storage.put_memory(memory_record("k"))
        before = await storage.find_session("s")
        assert before is not None
        messages = await storage.read_messages("s", _ALL)
        clock.advance(3)
        assert await recoding.recode_session("s", old=old, new=new) is True
        assert await storage.find_session("s") == attrs.evolve(before, payload=new)
        assert await storage.read_messages("s", _ALL) == messages
        page = await storage.query_sessions(SessionQuery(user_id="u", tag="t"))
        assert page.sessions == (attrs.evolve(before, payload=None),)
        put = await storage.put_session(attrs.evolve(record, payload=old), expected_version=before.version)
        assert put.version == before.version + 1

    @_ways
    async def test_a_messages_payload_is_replaced_and_nothing_else_of_it(
        self, storage: SessionStorage, clock: ManualClock, old: Payload, new: Payload
    ) -> None:
        recoding = self.recoding(storage)
        message = await self.holding(storage, old)
        header = await storage.find_session("s")
        clock.advance(3)
        change = PayloadChange(position=2, message_id="m2", old=old, new=new)
        assert await recoding.recode_messages("s", [change]) == 1
        first, second = await storage.read_messages("s", _ALL)
        assert first == attrs.evolve(message_record("m1"), position=1)
        assert second == attrs.evolve(message, payload=new)
        assert await storage.find_session("s") == header

    @pytest.mark.parametrize("kind", ["session", "user"])
    @_ways
    async def test_a_memorys_payload_is_replaced_and_nothing_else_of_it(
        self, storage: SessionStorage, clock: ManualClock, kind: str, old: Payload, new: Payload
    ) -> None:
        recoding = self.recoding(storage)
        await self.begin(storage)
        scope = MemoryScope(kind, "s")
        for key in ("b", "a"):
            record = memory_record(key, kind=kind, retention=0.25, expires_at_us=clock.now_us + 10_000_000)
            await storage.put_memory(attrs.evolve(record, payload=old))
            clock.advance(1)
        before = await storage.list_memories(scope)
        header = await storage.find_session("s")
        assert await recoding.recode_memory(scope, "b", old=old, new=new) is True
        after = [attrs.evolve(before[0], payload=new), before[1]]
        assert [memory.key for memory in after] == ["b", "a"]
        assert await storage.list_memories(scope) == after
        assert await storage.find_memory(scope, "b") == after[0]
        assert await storage.find_session("s") == header

    @_not_it
    async def test_a_payload_that_is_not_the_old_one_is_left(
        self, storage: SessionStorage, other: Payload
    ) -> None:
        recoding = self.recoding(storage)
        message = await self.holding(storage, A_TEXT)
        session = await storage.put_session(attrs.evolve(session_record(), payload=A_TEXT))
        scope = MemoryScope("session", "s")
        memory = await storage.put_memory(attrs.evolve(memory_record("k"), payload=A_TEXT))
        change = PayloadChange(position=2, message_id="m2", old=other, new=NEW)
        assert await recoding.recode_session("s", old=other, new=NEW) is False
        assert await recoding.recode_messages("s", [change]) == 0
        assert await recoding.recode_memory(scope, "k", old=other, new=NEW) is False
        assert await storage.find_session("s") == session
        assert (await storage.read_messages("s", _ALL))[1] == message
        assert await storage.find_memory(scope, "k") == memory

    async def test_a_change_for_another_message_or_position_is_left_out(
        self, storage: SessionStorage
    ) -> None:
        recoding = self.recoding(storage)
        message = await self.holding(storage, A_TEXT)
        change = PayloadChange(position=2, message_id="m2", old=A_TEXT, new=NEW)
        for wrong in (
            attrs.evolve(change, message_id="m1"),
            attrs.evolve(change, position=1),
            attrs.evolve(change, position=3),
            attrs.evolve(change, position=2**70),
        ):
            assert await recoding.recode_messages("s", [wrong]) == 0
        assert (await storage.read_messages("s", _ALL))[1] == message

    async def test_what_is_not_there_or_has_expired_is_not_replaced(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        recoding = self.recoding(storage)
        change = PayloadChange(position=1, message_id="m1", old=message_record("m1").payload, new=NEW)
        session = session_record(ttl_us=10_000_000)
        memories = [memory_record("k", kind="user", expires_at_us=clock.now_us + 10_000_000)]
        memories += [memory_record("k"), memory_record("gone", kind="user")]
        assert session.payload is not None

        async def attempts() -> list[int]:
            answers: list[int] = [await recoding.recode_session("s", old=session.payload or NEW, new=NEW)]
            answers.append(await recoding.recode_messages("s", [change]))
            for memory in memories:
                scope, key = memory.scope, memory.key
                answers.append(await recoding.recode_memory(scope, key, old=memory.payload, new=NEW))
            return answers

        assert await attempts() == [0, 0, 0, 0, 0]
        await storage.put_session(session)
        await storage.append_messages("s", message_records(1))
        for memory in memories[:2]:
            await storage.put_memory(memory)
        clock.advance(10)
        assert await attempts() == [0, 0, 0, 0, 0]

    async def test_recoding_does_not_slide_the_expiry(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        recoding = self.recoding(storage)
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.append_messages("s", message_records(2))
        messages = await storage.read_messages("s", _ALL)
        clock.advance_us(9_999_999)
        payload = session_record().payload
        assert payload is not None
        assert await recoding.recode_session("s", old=payload, new=NEW) is True
        assert await recoding.recode_messages("s", self.changes(messages, "new")) == 2
        clock.advance_us(1)
        assert await storage.session_exists("s") is False

    async def test_an_append_after_recoding_is_recognised_and_follows_on_it(
        self, storage: SessionStorage
    ) -> None:
        recoding = self.recoding(storage)
        await self.begin(storage, messages=3)
        messages = await storage.read_messages("s", _ALL)
        changes = self.changes(messages, "new")
        assert await recoding.recode_messages("s", changes[1:]) == 2
        receipt = await storage.append_messages("s", message_records(3), expected_last=0)
        assert (receipt.first_position, receipt.last_position, receipt.replayed) == (1, 3, True)
        await storage.append_messages("s", [message_record("m4")], expected_last=3)
        assert await self.ids(storage) == ["m1", "m2", "m3", "m4"]
        payloads = [message.payload for message in await storage.read_messages("s", _ALL)]
        new = [change.new for change in changes[1:]]
        assert payloads == [messages[0].payload, *new, message_record("m4").payload]

    async def test_truncated_messages_are_not_counted_nor_those_in_their_place(
        self, storage: SessionStorage
    ) -> None:
        recoding = self.recoding(storage)
        await self.begin(storage, messages=4)
        changes = self.changes(await storage.read_messages("s", _ALL), "new")
        await storage.truncate_messages("s", after=1)
        await storage.append_messages("s", [message_record("other", text="text of m2")])
        assert await recoding.recode_messages("s", changes) == 1
        first, second = await storage.read_messages("s", _ALL)
        assert (first.payload, second.payload) == (changes[0].new, message_record("m2").payload)
        assert await storage.truncate_messages("s", after=0) == 2

    async def test_a_deleted_session_made_again_is_another_one(self, storage: SessionStorage) -> None:
        recoding = self.recoding(storage)
        await self.begin(storage, messages=2)
        changes = self.changes(await storage.read_messages("s", _ALL), "new")
        await recoding.recode_messages("s", changes)
        await storage.delete_session("s")
        await self.begin(storage, messages=1)
        back = [attrs.evolve(change, old=change.new, new=change.old) for change in changes]
        assert await recoding.recode_messages("s", back) == 0
        assert (await storage.read_messages("s", _ALL))[0].payload == message_record("m1").payload

    async def test_of_1000_changes_in_a_long_history_each_counts_by_itself(
        self, storage: SessionStorage
    ) -> None:
        recoding = self.recoding(storage)
        await self.begin(storage)
        for start in range(0, _HISTORY, 500):
            await storage.append_messages("s", message_records(500, prefix=f"{start}-"))
        messages = await storage.read_messages("s", _ALL)
        changes = self.changes(messages[300:1300], "new")
        for stale in (0, 499, 500, 999):
            changes[stale] = attrs.evolve(changes[stale], old=A_TEXT)
        changes[700] = attrs.evolve(changes[700], message_id="another")
        expected = {change.position: change.new for change in changes}
        for stale in (0, 499, 500, 700, 999):
            del expected[changes[stale].position]
        header = await storage.find_session("s")
        assert await recoding.recode_messages("s", changes[::-1]) == 995
        assert await storage.read_messages("s", _ALL) == [
            attrs.evolve(message, payload=expected.get(message.position, message.payload))
            for message in messages
        ]
        assert await storage.find_session("s") == header

    async def test_there_and_back_again_is_what_it_was(self, storage: SessionStorage) -> None:
        recoding = self.recoding(storage)
        await self.begin(storage, messages=40)
        messages = await storage.read_messages("s", _ALL)
        there = self.changes(messages, "there")
        back = [attrs.evolve(change, old=change.new, new=change.old) for change in there]
        for changes in (there, back):
            assert await recoding.recode_messages("s", changes) == 40
            assert await recoding.recode_messages("s", changes) == 0
        assert await storage.read_messages("s", _ALL) == messages

    async def test_a_change_to_the_same_payload_counts(self, storage: SessionStorage) -> None:
        recoding = self.recoding(storage)
        message = await self.holding(storage, A_TEXT)
        change = PayloadChange(position=2, message_id="m2", old=A_TEXT, new=A_TEXT)
        assert await recoding.recode_messages("s", [change]) == 1
        assert (await storage.read_messages("s", _ALL))[1] == message

    async def test_recoded_payloads_are_there_for_a_new_storage(
        self, storage: SessionStorage, another: Callable[[], SessionStorage]
    ) -> None:
        recoding = self.recoding(storage)
        self.need("persistent")
        await self.begin(storage, messages=3)
        memory = await storage.put_memory(memory_record("k"))
        session = await storage.find_session("s")
        assert session is not None
        assert session.payload is not None
        changes = self.changes(await storage.read_messages("s", _ALL), "new")
        assert await recoding.recode_messages("s", changes) == 3
        assert await recoding.recode_session("s", old=session.payload, new=NEW) is True
        assert await recoding.recode_memory(memory.scope, "k", old=memory.payload, new=NEW) is True
        await storage.close()
        other = another()
        payloads = [message.payload for message in await other.read_messages("s", _ALL)]
        assert payloads == [change.new for change in changes]
        assert await other.find_session("s") == attrs.evolve(session, payload=NEW)
        assert await other.find_memory(memory.scope, "k") == attrs.evolve(memory, payload=NEW)
