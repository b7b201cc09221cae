"""The contract: payloads replaced while others read, write and replace them."""

import asyncio
from collections.abc import Awaitable

import attrs

from luminoracore_sdk.application.ports.records import MessageRange, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing.builders import json_payload, memory_record, message_records, session_record
from luminoracore_sdk.testing.contract_recoding_base import RecodingCalls

__all__ = ["RecodingRaceContract"]

_ALL = MessageRange()
_WRITERS = 50
_RECODERS = 10
_PUT = json_payload("put")


def _form(number: int) -> Payload:
    return Payload("json+aes256gcm:k", b"\xff\0" + str(number).encode())


class RecodingRaceContract(RecodingCalls):
    """Recoding at the same time as all else, from one storage and from two on the same place."""

    async def test_recoding_during_50_appends_loses_nothing_and_replaces_each(
        self, writers: list[SessionStorage]
    ) -> None:
        recoding = self.recoding(writers[-1])
        await self.begin(writers[0], messages=200)
        before = await writers[0].read_messages("s", _ALL)
        changes = self.changes(before, "new")
        appends = [
            writers[number % len(writers)].append_messages("s", message_records(2, prefix=f"{number}-"))
            for number in range(_WRITERS)
        ]
        recodes = [recoding.recode_messages("s", changes[start : start + 20]) for start in range(0, 200, 20)]
        calls = [
            call for place, append in enumerate(appends) for call in (append, *recodes[place : place + 1])
        ]
        outcomes = await asyncio.gather(*calls)
        assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [20] * 10
        ids = await self.ids(writers[0])
        assert ids[:200] == [message.message_id for message in before]
        assert len(ids) == len(set(ids)) == 200 + 2 * _WRITERS
        for storage in writers:
            messages = await storage.read_messages("s", _ALL)
            assert [message.payload for message in messages[:200]] == [change.new for change in changes]
            assert [message.payload.tag for message in messages[200:]] == ["json"] * (2 * _WRITERS)
            header = await storage.find_session("s")
            assert header is not None
            assert (header.last_position, header.version) == (200 + 2 * _WRITERS, 1)

    async def test_of_recoders_at_once_one_replaces_each_message(self, writers: list[SessionStorage]) -> None:
        recoders = [self.recoding(writers[number % len(writers)]) for number in range(_RECODERS)]
        await self.begin(writers[0], messages=60)
        messages = await writers[0].read_messages("s", _ALL)
        batches = [self.changes(messages, f"recoder {number}") for number in range(_RECODERS)]
        counts = await asyncio.gather(
            *(
                recoders[number].recode_messages("s", batch[::-1] if number % 3 else batch)
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

    async def test_of_recoders_of_a_session_and_a_memory_at_once_one_replaces_each(
        self, writers: list[SessionStorage]
    ) -> None:
        recoders = [self.recoding(writers[number % len(writers)]) for number in range(_RECODERS)]
        await self.begin(writers[0])
        session = await writers[0].find_session("s")
        memory = await writers[0].put_memory(memory_record("k"))
        assert session is not None
        assert session.payload is not None
        old = session.payload
        sessions, memories = await asyncio.gather(
            asyncio.gather(
                *(one.recode_session("s", old=old, new=_form(n)) for n, one in enumerate(recoders))
            ),
            asyncio.gather(
                *(
                    one.recode_memory(memory.scope, "k", old=memory.payload, new=_form(n))
                    for n, one in enumerate(recoders)
                )
            ),
        )
        assert sorted(sessions) == sorted(memories) == [False] * (_RECODERS - 1) + [True]
        for storage in writers:
            found = await storage.find_session("s")
            assert found == attrs.evolve(session, payload=_form(sessions.index(True)))
            kept = await storage.find_memory(memory.scope, "k")
            assert kept == attrs.evolve(memory, payload=_form(memories.index(True)))

    async def test_a_put_at_the_same_time_is_not_undone(self, writers: list[SessionStorage]) -> None:
        recoding = self.recoding(writers[-1])
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
            recodes: list[Awaitable[object]] = [
                recoding.recode_session(name, old=old.payload, new=_form(number)),
                recoding.recode_memory(memory.scope, name, old=memory.payload, new=_form(number)),
            ]
            await asyncio.gather(*(puts + recodes if number % 2 else recodes + puts))
            for storage in writers:
                assert await storage.find_session(name) == attrs.evolve(old, payload=new.payload, version=2)
                kept = await storage.find_memory(memory.scope, name)
                assert kept == attrs.evolve(memory, payload=_PUT)

    async def test_a_reader_sees_the_one_form_or_the_other_whole(self, writers: list[SessionStorage]) -> None:
        recoding = self.recoding(writers[-1])
        await self.begin(writers[0], messages=100)
        messages = await writers[0].read_messages("s", _ALL)
        forms = [
            [Payload("json+aes256gcm:k", bytes([255 - number]) * (number * 7 + 1)) for _ in messages]
            for number in range(12)
        ]
        allowed = {message.payload for message in messages} | {form[0] for form in forms}
        done = asyncio.Event()

        async def recode() -> None:
            stored = messages
            for form in forms:
                changes = [
                    attrs.evolve(change, new=new)
                    for change, new in zip(self.changes(stored, "new"), form, strict=True)
                ]
                assert await recoding.recode_messages("s", changes) == 100
                stored = [
                    attrs.evolve(message, payload=new) for message, new in zip(stored, form, strict=True)
                ]
                await asyncio.sleep(0)
            done.set()

        async def read() -> None:
            while not done.is_set():
                found = await writers[0].read_messages("s", _ALL)
                assert [
                    attrs.evolve(m, payload=o.payload) for m, o in zip(found, messages, strict=True)
                ] == messages
                assert {message.payload for message in found} <= allowed
                await asyncio.sleep(0)

        await asyncio.gather(recode(), read())
        last = await writers[0].read_messages("s", _ALL)
        assert [message.payload for message in last] == forms[-1]
