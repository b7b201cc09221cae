"""The contract: rewriting payloads, also concurrently; skipped if ``rewrites`` is False."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    Brief,
    HeaderTexts,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite, RewritingStorage
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import InvalidIdError, PayloadTooLargeError, ValidationError
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase, spread
from luminoracore_sdk.testing.records import (
    json_payload,
    memory_record,
    message_record,
    message_records,
    session_record,
)

__all__ = [
    "A_TEXT",
    "NEW",
    "OTHERS",
    "PAYLOADS",
    "WAYS",
    "RewriteContract",
    "RewriteRaceContract",
    "RewriteRefusalContract",
    "RewritingCalls",
]


PAYLOADS: dict[str, Payload] = {
    "text": json_payload({"content": "é \0 \u2028 \U0001f600"}),
    "optimized text": Payload("json+opt1", b'["opt1",{"c":"text"}]'),
    "wide text": json_payload({"content": ["\ud800", 2**70]}),
    "bytes": Payload("json+zstd:0123456789abcdef", bytes(range(256))),
    "bytes that are text": Payload("json+zstd:0123456789abcdef", b"plain"),
    "no bytes": Payload("json+zstd:0123456789abcdef", b""),
    "much text": json_payload({"content": "long " * 20_000}),
    "many bytes": Payload("json+aes256gcm:k", bytes(range(255, -1, -1)) * 400),
}
"""Payloads by their peculiarity."""

WAYS = [
    ("text", "bytes"),
    ("bytes", "text"),
    ("wide text", "bytes that are text"),
    ("bytes that are text", "wide text"),
    ("no bytes", "much text"),
    ("much text", "no bytes"),
    ("many bytes", "optimized text"),
    ("optimized text", "many bytes"),
]
"""Names of the old and the new payload of a rewrite."""

OTHERS: dict[str, Payload] = {
    "other bytes": json_payload({"content": "another text"}),
    "another encoding": Payload("json+opt1", json_payload({"content": "a text"}).data),
    "the same bytes as binary": Payload("json+zstd:0", json_payload({"content": "a text"}).data),
    "a beginning of it": Payload("json", json_payload({"content": "a text"}).data[:-1]),
    "more than it": Payload("json", json_payload({"content": "a text"}).data + b" "),
    "the same value, other bytes": Payload("json", b'{ "content": "a text" }'),
}
"""Payloads other than ``A_TEXT``, some with the same value or bytes."""

A_TEXT = json_payload({"content": "a text"})

NEW = PAYLOADS["bytes"]


class RewritingCalls(ContractBase):
    """Helpers of the tests of rewriting."""

    def rewriting(self, storage: SessionStorage) -> RewritingStorage:
        """Return the storage as a ``RewritingStorage``; skip the test if the class states that it is not one."""
        self.need("rewrites")
        assert isinstance(storage, RewritingStorage)
        return storage

    def changes(self, messages: Sequence[MessageRecord], value: JSONValue) -> list[PayloadRewrite]:
        """Return a change for each message, each to different bytes."""
        return [
            PayloadRewrite(
                position=message.position,
                message_id=message.message_id,
                old=message.payload,
                new=Payload("json+aes256gcm:k", b"\xff\0" + f"{value} {message.message_id}".encode()),
            )
            for message in messages
        ]

    async def holding(self, storage: SessionStorage, payload: Payload) -> MessageRecord:
        """Put a session with two messages, the second with this payload; return the second as stored."""
        await storage.put_session(session_record())
        first, second = message_records(2)
        await storage.append_messages("s", [first, attrs.evolve(second, payload=payload)])
        return (await storage.read_messages("s", MessageRange()))[1]


_ALL = MessageRange()
_HISTORY = 1500

_ways = pytest.mark.parametrize(
    ("old", "new"), [(PAYLOADS[old], PAYLOADS[new]) for old, new in WAYS], ids=[f"{old} to {new}" for old, new in WAYS]
)
_others = pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)


class RewriteContract(RewritingCalls):
    """``RewritingStorage``, one call at a time."""

    @_ways
    async def test_rewriting_a_session_changes_its_payload_only(
        self, storage: SessionStorage, clock: ManualClock, old: Payload, new: Payload
    ) -> None:
        rewriting = self.rewriting(storage)
        record = session_record(user_id="u", tags=("t",), ttl_us=10_000_000)
        await storage.put_session(attrs.evolve(record, payload=old))
        await storage.append_messages("s", message_records(2))
        await storage.put_memory(memory_record("k"))
        before = await storage.find_session("s")
        assert before is not None
        messages = await storage.read_messages("s", _ALL)
        clock.advance(3)
        assert await rewriting.rewrite_session("s", old=old, new=new) is True
        assert await storage.find_session("s") == attrs.evolve(before, payload=new)
        assert await storage.read_messages("s", _ALL) == messages
        page = await storage.query_sessions(SessionQuery(user_id="u", tag="t"))
        assert page.sessions == (attrs.evolve(before, payload=None),)
        put = await storage.put_session(attrs.evolve(record, payload=old), expected_version=before.version)
        assert put.version == before.version + 1

    @_ways
    async def test_rewriting_a_message_changes_its_payload_only(
        self, storage: SessionStorage, clock: ManualClock, old: Payload, new: Payload
    ) -> None:
        rewriting = self.rewriting(storage)
        message = await self.holding(storage, old)
        header = await storage.find_session("s")
        clock.advance(3)
        change = PayloadRewrite(position=2, message_id="m2", old=old, new=new)
        assert await rewriting.rewrite_messages("s", [change]) == 1
        first, second = await storage.read_messages("s", _ALL)
        assert first == attrs.evolve(message_record("m1"), position=1)
        assert second == attrs.evolve(message, payload=new)
        assert await storage.find_session("s") == header

    @pytest.mark.parametrize("kind", ["session", "user"])
    @_ways
    async def test_rewriting_a_memory_changes_its_payload_only(
        self, storage: SessionStorage, clock: ManualClock, kind: str, old: Payload, new: Payload
    ) -> None:
        rewriting = self.rewriting(storage)
        await self.begin(storage)
        scope = MemoryScope(kind, "s")
        for key in ("b", "a"):
            record = memory_record(key, kind=kind, retention=0.25, expires_at_us=clock.now_us + 10_000_000)
            await storage.put_memory(attrs.evolve(record, payload=old))
            clock.advance(1)
        before = await storage.list_memories(scope)
        header = await storage.find_session("s")
        assert await rewriting.rewrite_memory(scope, "b", old=old, new=new) is True
        after = [attrs.evolve(before[0], payload=new), before[1]]
        assert [memory.key for memory in after] == ["b", "a"]
        assert await storage.list_memories(scope) == after
        assert await storage.find_memory(scope, "b") == after[0]
        assert await storage.find_session("s") == header

    @_others
    async def test_a_payload_other_than_the_old_one_is_kept(self, storage: SessionStorage, other: Payload) -> None:
        rewriting = self.rewriting(storage)
        message = await self.holding(storage, A_TEXT)
        session = await storage.put_session(attrs.evolve(session_record(), payload=A_TEXT))
        scope = MemoryScope("session", "s")
        memory = await storage.put_memory(attrs.evolve(memory_record("k"), payload=A_TEXT))
        change = PayloadRewrite(position=2, message_id="m2", old=other, new=NEW)
        assert await rewriting.rewrite_session("s", old=other, new=NEW) is False
        assert await rewriting.rewrite_messages("s", [change]) == 0
        assert await rewriting.rewrite_memory(scope, "k", old=other, new=NEW) is False
        assert await storage.find_session("s") == session
        assert (await storage.read_messages("s", _ALL))[1] == message
        assert await storage.find_memory(scope, "k") == memory

    async def test_card_and_briefs_are_replaced_together(self, storage: SessionStorage) -> None:
        rewriter = self.rewriting(storage)
        card, brief = json_payload("a card"), json_payload("a brief")
        await storage.put_session(attrs.evolve(session_record(), card=card))
        await storage.append_messages("s", [attrs.evolve(message_record("m1"), brief=brief)])
        before = await storage.find_session("s")
        assert before is not None
        old = before.texts
        new = HeaderTexts(card=NEW, first=Brief(1, NEW), last=Brief(1, NEW))
        for wrong in (
            attrs.evolve(old, card=None),
            attrs.evolve(old, first=None),
            attrs.evolve(old, last=Brief(2, brief)),
            attrs.evolve(old, last=Brief(1, card)),
            new,
        ):
            assert await rewriter.rewrite_texts("s", old=wrong, new=new) is False
        assert await storage.find_session("s") == before
        assert await rewriter.rewrite_texts("s", old=old, new=new) is True
        assert await storage.find_session("s") == before.with_texts(new)
        assert await rewriter.rewrite_texts("absent", old=old, new=new) is False
        nothing = HeaderTexts(card=None, first=None, last=None)
        assert await rewriter.rewrite_texts("s", old=new, new=nothing) is True
        assert await rewriter.rewrite_texts("s", old=nothing, new=nothing) is True
        assert (await storage.query_sessions(SessionQuery())).sessions[0].texts == nothing

    async def test_a_change_for_another_message_is_skipped(self, storage: SessionStorage) -> None:
        rewriting = self.rewriting(storage)
        message = await self.holding(storage, A_TEXT)
        change = PayloadRewrite(position=2, message_id="m2", old=A_TEXT, new=NEW)
        for wrong in (
            attrs.evolve(change, message_id="m1"),
            attrs.evolve(change, position=1),
            attrs.evolve(change, position=3),
            attrs.evolve(change, position=2**70),
        ):
            assert await rewriting.rewrite_messages("s", [wrong]) == 0
        assert (await storage.read_messages("s", _ALL))[1] == message

    async def test_absent_and_expired_records_are_not_rewritten(
        self, storage: SessionStorage, clock: ManualClock
    ) -> None:
        rewriting = self.rewriting(storage)
        change = PayloadRewrite(position=1, message_id="m1", old=message_record("m1").payload, new=NEW)
        session = session_record(ttl_us=10_000_000)
        memories = [memory_record("k", kind="user", expires_at_us=clock.now_us + 10_000_000)]
        memories += [memory_record("k"), memory_record("gone", kind="user")]
        assert session.payload is not None

        async def attempts() -> list[int]:
            answers: list[int] = [await rewriting.rewrite_session("s", old=session.payload or NEW, new=NEW)]
            answers.append(await rewriting.rewrite_messages("s", [change]))
            for memory in memories:
                scope, key = memory.scope, memory.key
                answers.append(await rewriting.rewrite_memory(scope, key, old=memory.payload, new=NEW))
            return answers

        assert await attempts() == [0, 0, 0, 0, 0]
        await storage.put_session(session)
        await storage.append_messages("s", message_records(1))
        for memory in memories[:2]:
            await storage.put_memory(memory)
        clock.advance(10)
        assert await attempts() == [0, 0, 0, 0, 0]

    async def test_rewriting_does_not_extend_the_lifetime(self, storage: SessionStorage, clock: ManualClock) -> None:
        rewriting = self.rewriting(storage)
        await storage.put_session(session_record(ttl_us=10_000_000))
        await storage.append_messages("s", message_records(2))
        messages = await storage.read_messages("s", _ALL)
        clock.advance_us(9_999_999)
        payload = session_record().payload
        assert payload is not None
        assert await rewriting.rewrite_session("s", old=payload, new=NEW) is True
        assert await rewriting.rewrite_messages("s", self.changes(messages, "new")) == 2
        clock.advance_us(1)
        assert await storage.session_exists("s") is False

    async def test_appends_after_rewriting_work_as_before(self, storage: SessionStorage) -> None:
        rewriting = self.rewriting(storage)
        await self.begin(storage, messages=3)
        messages = await storage.read_messages("s", _ALL)
        changes = self.changes(messages, "new")
        assert await rewriting.rewrite_messages("s", changes[1:]) == 2
        receipt = await storage.append_messages("s", message_records(3), expected_last=0)
        assert (receipt.first_position, receipt.last_position, receipt.replayed) == (1, 3, True)
        await storage.append_messages("s", [message_record("m4")], expected_last=3)
        assert await self.ids(storage) == ["m1", "m2", "m3", "m4"]
        payloads = [message.payload for message in await storage.read_messages("s", _ALL)]
        new = [change.new for change in changes[1:]]
        assert payloads == [messages[0].payload, *new, message_record("m4").payload]

    async def test_truncated_messages_are_not_rewritten(self, storage: SessionStorage) -> None:
        rewriting = self.rewriting(storage)
        await self.begin(storage, messages=4)
        changes = self.changes(await storage.read_messages("s", _ALL), "new")
        await storage.truncate_messages("s", after=1)
        await storage.append_messages("s", [message_record("other", text="text of m2")])
        assert await rewriting.rewrite_messages("s", changes) == 1
        first, second = await storage.read_messages("s", _ALL)
        assert (first.payload, second.payload) == (changes[0].new, message_record("m2").payload)
        assert await storage.truncate_messages("s", after=0) == 2

    async def test_a_recreated_session_is_not_rewritten(self, storage: SessionStorage) -> None:
        rewriting = self.rewriting(storage)
        await self.begin(storage, messages=2)
        changes = self.changes(await storage.read_messages("s", _ALL), "new")
        await rewriting.rewrite_messages("s", changes)
        await storage.delete_session("s")
        await self.begin(storage, messages=1)
        back = [attrs.evolve(change, old=change.new, new=change.old) for change in changes]
        assert await rewriting.rewrite_messages("s", back) == 0
        assert (await storage.read_messages("s", _ALL))[0].payload == message_record("m1").payload

    async def test_1000_changes_of_a_long_history_are_independent(self, storage: SessionStorage) -> None:
        rewriting = self.rewriting(storage)
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
        assert await rewriting.rewrite_messages("s", changes[::-1]) == 995
        assert await storage.read_messages("s", _ALL) == [
            attrs.evolve(message, payload=expected.get(message.position, message.payload)) for message in messages
        ]
        assert await storage.find_session("s") == header

    async def test_rewriting_back_restores_the_messages(self, storage: SessionStorage) -> None:
        rewriting = self.rewriting(storage)
        await self.begin(storage, messages=40)
        messages = await storage.read_messages("s", _ALL)
        there = self.changes(messages, "there")
        back = [attrs.evolve(change, old=change.new, new=change.old) for change in there]
        for changes in (there, back):
            assert await rewriting.rewrite_messages("s", changes) == 40
            assert await rewriting.rewrite_messages("s", changes) == 0
        assert await storage.read_messages("s", _ALL) == messages

    async def test_a_change_to_the_same_payload_counts(self, storage: SessionStorage) -> None:
        rewriting = self.rewriting(storage)
        message = await self.holding(storage, A_TEXT)
        change = PayloadRewrite(position=2, message_id="m2", old=A_TEXT, new=A_TEXT)
        assert await rewriting.rewrite_messages("s", [change]) == 1
        assert (await storage.read_messages("s", _ALL))[1] == message

    async def test_rewritten_payloads_are_persistent(
        self, storage: SessionStorage, another: Callable[[], SessionStorage]
    ) -> None:
        rewriting = self.rewriting(storage)
        self.need("persistent")
        await self.begin(storage, messages=3)
        memory = await storage.put_memory(memory_record("k"))
        session = await storage.find_session("s")
        assert session is not None
        assert session.payload is not None
        changes = self.changes(await storage.read_messages("s", _ALL), "new")
        assert await rewriting.rewrite_messages("s", changes) == 3
        assert await rewriting.rewrite_session("s", old=session.payload, new=NEW) is True
        assert await rewriting.rewrite_memory(memory.scope, "k", old=memory.payload, new=NEW) is True
        await storage.close()
        other = another()
        payloads = [message.payload for message in await other.read_messages("s", _ALL)]
        assert payloads == [change.new for change in changes]
        assert await other.find_session("s") == attrs.evolve(session, payload=NEW)
        assert await other.find_memory(memory.scope, "k") == attrs.evolve(memory, payload=NEW)


_WRITERS = 50
_REWRITERS = 10
_PUT = json_payload("put")


def _rewritten(number: int) -> Payload:
    return Payload("json+aes256gcm:k", b"\xff\0" + str(number).encode())


class RewriteRaceContract(RewritingCalls):
    """Rewriting during other calls, from one storage and from two on the same store."""

    async def test_rewriting_during_50_appends_loses_nothing(self, writers: list[SessionStorage]) -> None:
        rewriting = self.rewriting(writers[-1])
        await self.begin(writers[0], messages=200)
        before = await writers[0].read_messages("s", _ALL)
        changes = self.changes(before, "new")
        appends = [
            writer.append_messages("s", message_records(2, prefix=f"{number}-"))
            for writer, number in spread(writers, range(_WRITERS))
        ]
        rewrites = [rewriting.rewrite_messages("s", changes[start : start + 20]) for start in range(0, 200, 20)]
        calls = [call for place, append in enumerate(appends) for call in (append, *rewrites[place : place + 1])]
        outcomes = await asyncio.gather(*calls)
        assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [20] * 10
        ids = await self.ids(writers[0])
        assert ids[:200] == [message.message_id for message in before]
        assert len(ids) == len(set(ids)) == 200 + 2 * _WRITERS
        for storage in writers:
            messages = await storage.read_messages("s", _ALL)
            assert [message.payload for message in messages[:200]] == [change.new for change in changes]
            assert [message.payload.encoding for message in messages[200:]] == ["json"] * (2 * _WRITERS)
            header = await storage.find_session("s")
            assert header is not None
            assert (header.last_position, header.version) == (200 + 2 * _WRITERS, 1)

    async def test_one_of_several_rewriters_replaces_each_message(self, writers: list[SessionStorage]) -> None:
        rewriters = [self.rewriting(writer) for writer, number in spread(writers, range(_REWRITERS))]
        await self.begin(writers[0], messages=60)
        messages = await writers[0].read_messages("s", _ALL)
        batches = [self.changes(messages, f"rewriter {number}") for number in range(_REWRITERS)]
        counts = await asyncio.gather(
            *(
                rewriters[number].rewrite_messages("s", batch[::-1] if number % 3 else batch)
                for number, batch in enumerate(batches)
            )
        )
        assert sum(counts) == 60
        for storage in writers:
            after = await storage.read_messages("s", _ALL)
            won = [[change.new for change in batch] for batch in batches]
            for place, message in enumerate(after):
                assert message.payload in [news[place] for news in won]
                assert attrs.evolve(message, payload=messages[place].payload) == messages[place]
            kept = [sum(a.payload == new for a, new in zip(after, news, strict=True)) for news in won]
            assert kept == counts

    async def test_one_of_several_rewriters_replaces_each_record(self, writers: list[SessionStorage]) -> None:
        rewriters = [self.rewriting(writer) for writer, number in spread(writers, range(_REWRITERS))]
        await self.begin(writers[0])
        session = await writers[0].find_session("s")
        memory = await writers[0].put_memory(memory_record("k"))
        assert session is not None
        assert session.payload is not None
        old = session.payload
        sessions, memories = await asyncio.gather(
            asyncio.gather(*(one.rewrite_session("s", old=old, new=_rewritten(n)) for n, one in enumerate(rewriters))),
            asyncio.gather(
                *(
                    one.rewrite_memory(memory.scope, "k", old=memory.payload, new=_rewritten(n))
                    for n, one in enumerate(rewriters)
                )
            ),
        )
        assert sorted(sessions) == sorted(memories) == [False] * (_REWRITERS - 1) + [True]
        for storage in writers:
            found = await storage.find_session("s")
            assert found == attrs.evolve(session, payload=_rewritten(sessions.index(True)))
            kept = await storage.find_memory(memory.scope, "k")
            assert kept == attrs.evolve(memory, payload=_rewritten(memories.index(True)))

    async def test_a_concurrent_put_is_not_overwritten(self, writers: list[SessionStorage]) -> None:
        rewriting = self.rewriting(writers[-1])
        for number in range(20):
            name = f"s{number}"
            old = await writers[0].put_session(session_record(name))
            memory = await writers[0].put_memory(memory_record(name, owner="u", kind="user"))
            assert old.payload is not None
            new = session_record(name, text="put")
            puts: list[Awaitable[object]] = [
                writers[0].put_session(new, expected_version=1),
                writers[0].put_memory(attrs.evolve(memory, payload=_PUT)),
            ]
            rewrites: list[Awaitable[object]] = [
                rewriting.rewrite_session(name, old=old.payload, new=_rewritten(number)),
                rewriting.rewrite_memory(memory.scope, name, old=memory.payload, new=_rewritten(number)),
            ]
            await asyncio.gather(*(puts + rewrites if number % 2 else rewrites + puts))
            for storage in writers:
                assert await storage.find_session(name) == attrs.evolve(old, payload=new.payload, version=2)
                kept = await storage.find_memory(memory.scope, name)
                assert kept == attrs.evolve(memory, payload=_PUT, version=2)

    async def test_readers_see_whole_payloads_during_rewriting(self, writers: list[SessionStorage]) -> None:
        rewriting = self.rewriting(writers[-1])
        await self.begin(writers[0], messages=100)
        messages = await writers[0].read_messages("s", _ALL)
        payloads_by_round = [
            [Payload("json+aes256gcm:k", bytes([255 - number]) * (number * 7 + 1)) for _ in messages]
            for number in range(12)
        ]
        allowed = {message.payload for message in messages} | {payloads[0] for payloads in payloads_by_round}
        done = asyncio.Event()

        async def rewrite() -> None:
            stored = messages
            for payloads in payloads_by_round:
                changes = [
                    attrs.evolve(change, new=new)
                    for change, new in zip(self.changes(stored, "new"), payloads, strict=True)
                ]
                assert await rewriting.rewrite_messages("s", changes) == 100
                stored = [attrs.evolve(message, payload=new) for message, new in zip(stored, payloads, strict=True)]
                await asyncio.sleep(0)
            done.set()

        async def read() -> None:
            while not done.is_set():
                found = await writers[0].read_messages("s", _ALL)
                assert [attrs.evolve(m, payload=o.payload) for m, o in zip(found, messages, strict=True)] == messages
                assert {message.payload for message in found} <= allowed
                await asyncio.sleep(0)

        await asyncio.gather(rewrite(), read())
        last = await writers[0].read_messages("s", _ALL)
        assert [message.payload for message in last] == payloads_by_round[-1]


class RewriteRefusalContract(RewritingCalls):
    """What ``RewritingStorage`` refuses."""

    async def test_invalid_changes_are_refused(self, storage: SessionStorage) -> None:
        rewriting = self.rewriting(storage)
        message = await self.holding(storage, A_TEXT)
        change = PayloadRewrite(position=2, message_id="m2", old=A_TEXT, new=NEW)
        many = [attrs.evolve(change, position=position) for position in range(1, 1002)]
        for batch in ([], many, [change, change], [attrs.evolve(change, position=0), change]):
            with pytest.raises(ValidationError):
                await rewriting.rewrite_messages("s", batch)
        with pytest.raises(InvalidIdError):
            await rewriting.rewrite_messages("s", [change, attrs.evolve(change, position=1, message_id="")])
        for session_id, scope, key in (("", MemoryScope("user", "s"), ""), ("\0", MemoryScope("user", ""), "k")):
            with pytest.raises(InvalidIdError):
                await rewriting.rewrite_session(session_id, old=A_TEXT, new=NEW)
            with pytest.raises(InvalidIdError):
                await rewriting.rewrite_memory(scope, key, old=A_TEXT, new=NEW)
        assert (await storage.read_messages("s", _ALL))[1] == message

    async def test_a_new_payload_above_the_limit_is_refused(self, storage: SessionStorage) -> None:
        rewriting = self.rewriting(storage)
        message = await self.holding(storage, A_TEXT)
        large = Payload("json+zstd:0", b"x" * (self.max_payload_bytes + 1))
        changes = [
            PayloadRewrite(position=1, message_id="m1", old=message_record("m1").payload, new=NEW),
            PayloadRewrite(position=2, message_id="m2", old=A_TEXT, new=large),
        ]
        with pytest.raises(PayloadTooLargeError):
            await rewriting.rewrite_messages("s", changes)
        with pytest.raises(PayloadTooLargeError):
            await rewriting.rewrite_session("s", old=A_TEXT, new=large)
        with pytest.raises(PayloadTooLargeError):
            await rewriting.rewrite_memory(MemoryScope("session", "s"), "k", old=A_TEXT, new=large)
        first, second = await storage.read_messages("s", _ALL)
        assert (first.payload, second) == (message_record("m1").payload, message)
