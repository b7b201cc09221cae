"""The contract: reading, streaming and truncating messages, also during appends."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import product
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, Payload
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import SessionNotFoundError, ValidationError
from luminoracore_sdk.testing.clock import ManualClock
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.model import select_range
from luminoracore_sdk.testing.records import message_record, message_records, session_record

__all__ = ["MeanwhileContract", "MessageContract"]


_ALL = MessageRange()
_FIRST_MOMENT_US = -62_135_596_800_000_000
_LAST_MOMENT_US = 253_402_300_799_999_999


class MessageContract(ContractBase):
    """Ranges, streams, truncation, and the fidelity of records."""

    async def test_messages_are_read_equal_with_their_positions(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        roles = ["user", "assistant", "system", "tool"]
        said = [message_record(f"m{number}", role=role) for number, role in enumerate(roles)]
        said[1] = attrs.evolve(said[1], created_at_us=_FIRST_MOMENT_US)
        said[2] = attrs.evolve(said[2], created_at_us=_LAST_MOMENT_US)
        await storage.append_messages("s", said)
        expected = [attrs.evolve(message, position=place) for place, message in enumerate(said, start=1)]
        assert await storage.read_messages("s", _ALL) == expected

    async def test_every_kind_of_range_selects_the_right_messages(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=4)
        everything = await storage.read_messages("s", _ALL)
        wrong = []
        bounds = product([0, 1, 3, 4, 99], [None, 0, 1, 3, 5, 99], [None, 0, 1, 3, 9], [False, True])
        for after, before, limit, newest in bounds:
            span = MessageRange(after=after, before=before, limit=limit, newest=newest)
            if await storage.read_messages("s", span) != select_range(everything, span):
                wrong.append(span)
        assert wrong == []

    async def test_a_session_without_messages_reads_empty(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        assert await storage.read_messages("s", _ALL) == []
        assert await storage.read_messages("s", MessageRange(limit=5, newest=True)) == []
        assert [message async for message in storage.stream_messages("s")] == []

    async def test_a_wrong_range_is_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=1)
        with pytest.raises(ValidationError):
            await storage.read_messages("s", MessageRange(limit=-1))
        bound: Any
        for bound in (0.5, float("nan"), "0", True):
            for span in (MessageRange(after=bound), MessageRange(before=bound), MessageRange(limit=bound)):
                with pytest.raises(ValidationError):
                    await storage.read_messages("s", span)

    async def test_sessions_do_not_share_messages(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=2, session_id="a")
        await storage.put_session(session_record("b"))
        receipt = await storage.append_messages("b", [message_record("m1", text="of b")])
        assert (receipt.first_position, receipt.replayed) == (1, False)
        assert len(await storage.read_messages("a", _ALL)) == 2
        (message,) = await storage.read_messages("b", _ALL)
        assert message == attrs.evolve(message_record("m1", text="of b"), position=1)

    @pytest.mark.parametrize("chunk", [1, 2, 5, 6])
    async def test_a_stream_yields_the_range_for_every_chunk_size(self, storage: SessionStorage, chunk: int) -> None:
        await self.begin(storage, messages=5)
        everything = await storage.read_messages("s", _ALL)
        assert [message async for message in storage.stream_messages("s", chunk=chunk)] == everything
        between = storage.stream_messages("s", after=1, before=5, chunk=chunk)
        assert [message async for message in between] == everything[1:4]

    async def test_a_stream_includes_messages_appended_meanwhile(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=4)
        positions = []
        async for message in storage.stream_messages("s", chunk=2):
            positions.append(message.position)
            if message.position == 1:
                await storage.append_messages("s", message_records(3, prefix="late"))
        assert positions == [1, 2, 3, 4, 5, 6, 7]

    async def test_an_abandoned_stream_has_no_effect(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=6)
        stream = storage.stream_messages("s", chunk=2)
        assert (await anext(stream)).position == 1
        await stream.aclose()  # type: ignore[attr-defined]  # an async generator
        assert (await storage.append_messages("s", [message_record("next")])).first_position == 7

    async def test_messages_of_an_unknown_session_are_not_found(self, storage: SessionStorage) -> None:
        with pytest.raises(SessionNotFoundError):
            await storage.read_messages("nobody", _ALL)
        with pytest.raises(SessionNotFoundError):
            await anext(storage.stream_messages("nobody"))
        with pytest.raises(SessionNotFoundError):
            await storage.truncate_messages("nobody", after=0)

    @pytest.mark.parametrize(("after", "removed"), [(0, 4), (1, 3), (3, 1), (4, 0), (99, 0)])
    async def test_truncate_removes_and_counts_what_is_above(
        self, storage: SessionStorage, after: int, removed: int
    ) -> None:
        await self.begin(storage, messages=4)
        assert await storage.truncate_messages("s", after=after) == removed
        left = [message.position for message in await storage.read_messages("s", _ALL)]
        assert left == [1, 2, 3, 4][:after]
        header = await storage.find_session("s")
        assert header is not None
        assert header.last_position == 4 - removed

    async def test_truncate_frees_positions_and_ids(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=4)
        await storage.truncate_messages("s", after=2)
        receipt = await storage.append_messages(
            "s", [message_record("m4", text="again"), message_record("m3")], expected_last=2
        )
        assert (receipt.first_position, receipt.last_position, receipt.replayed) == (3, 4, False)
        ids = [message.message_id for message in await storage.read_messages("s", _ALL)]
        assert ids == ["m1", "m2", "m4", "m3"]
        (third,) = await storage.read_messages("s", MessageRange(after=2, limit=1))
        assert third.payload == message_record("m4", text="again").payload

    async def test_truncate_below_0_is_refused(self, storage: SessionStorage) -> None:
        await self.begin(storage, messages=1)
        with pytest.raises(ValidationError):
            await storage.truncate_messages("s", after=-1)
        assert len(await storage.read_messages("s", _ALL)) == 1

    @pytest.mark.parametrize(
        "payload",
        [
            pytest.param(Payload("json+zstd", bytes(range(256)) * 3), id="every byte"),
            pytest.param(Payload("json+zstd", b""), id="no bytes"),
            pytest.param(Payload("json+zstd:dict-7+aes256gcm:key/1", b"\n\r\0\xff"), id="a long tag"),
            pytest.param(Payload("json", b'{"b":  1.0e5, "a": "\\u0041"}'), id="text with spaces"),
            pytest.param(Payload("json", '"é\u2028\x7f\U0001f600"'.encode()), id="text beyond ASCII"),
            pytest.param(Payload("json-wide", b'["\\ud800",1180591620717411303424]'), id="wide"),
        ],
    )
    async def test_payloads_are_read_byte_for_byte(self, storage: SessionStorage, payload: Payload) -> None:
        await storage.put_session(attrs.evolve(session_record(), payload=payload))
        await storage.append_messages("s", [attrs.evolve(message_record("m1"), payload=payload)])
        header = await storage.find_session("s")
        assert header is not None
        assert header.payload == payload
        (message,) = await storage.read_messages("s", _ALL)
        assert message.payload == payload

    async def test_records_of_several_encodings_coexist(self, storage: SessionStorage) -> None:
        await self.begin(storage)
        payloads = [Payload("json", b"1"), Payload("json+zstd", b"\x28\xb5"), Payload("json-wide", b"2")]
        said = [attrs.evolve(message_record(f"m{number}"), payload=payload) for number, payload in enumerate(payloads)]
        await storage.append_messages("s", said)
        assert [message.payload for message in await storage.read_messages("s", _ALL)] == payloads

    async def test_a_payload_of_5_megabytes_is_read_whole(self, storage: SessionStorage) -> None:
        size = min(5_000_000, self.max_payload_bytes)
        text = Payload("json", b'"' + b"x" * (size - 2) + b'"')
        binary = Payload("json+zstd", bytes(range(250)) * (size // 250))
        await storage.put_session(attrs.evolve(session_record(), payload=text))
        said = [
            attrs.evolve(message_record("text"), payload=text),
            attrs.evolve(message_record("binary"), payload=binary),
        ]
        for message in said:
            await storage.append_messages("s", [message])
        read: list[MessageRecord] = await storage.read_messages("s", _ALL)
        # compared outside of assert, which would print megabytes
        same = [message.payload == sent.payload for message, sent in zip(read, said, strict=True)]
        assert same == [True, True]
        header = await storage.find_session("s")
        assert header is not None
        same_header = header.payload == text
        assert same_header is True

    async def test_a_clock_set_back_does_not_age_a_session(self, storage: SessionStorage, clock: ManualClock) -> None:
        await storage.put_session(session_record())
        clock.advance(60)
        await storage.append_messages("s", [message_record("a")])
        newest_us = clock.now_us
        clock.set(clock.now() - timedelta(seconds=30))
        stored = await storage.put_session(session_record())
        assert stored.updated_at_us == newest_us
        await storage.append_messages("s", [message_record("b")])
        await storage.truncate_messages("s", after=1)
        found = await storage.find_session("s")
        assert found is not None
        assert found.updated_at_us == newest_us


Read = Callable[[], Awaitable[None]]
Look = Callable[[Read], Awaitable[None]]

_SIZE = 20
_BATCHES = 15
_START = 2 * _SIZE
_END = _START + _BATCHES * _SIZE


class MeanwhileContract(ContractBase):
    """Reads during appends see whole batches, at positions that do not change."""

    @asynccontextmanager
    async def appending(self, writers: list[SessionStorage]) -> AsyncIterator[Look]:
        """Append batches of 20 after the first 40 messages.

        Yields:
            A function that calls a read repeatedly during the appends, at least twice, and once after them.
        """
        await self.begin(writers[0], messages=_START)
        looked = asyncio.Event()

        async def write() -> None:
            for number in range(_BATCHES):
                if number == _BATCHES // 2:
                    await looked.wait()  # half of the batches are appended after the first read
                await writers[-1].append_messages("s", message_records(_SIZE, prefix=f"late{number}-"))
                await asyncio.sleep(0)  # a storage that never suspends lets the reader run

        writing = asyncio.ensure_future(write())

        async def look(read: Read) -> None:
            looks = 0
            while not writing.done():
                await read()
                looked.set()
                await asyncio.sleep(0)
                looks += 1
            assert looks > 1
            await writing
            await read()

        try:
            yield look
        finally:
            writing.cancel()
            await asyncio.wait([writing])

    async def test_readers_see_whole_batches_only(self, writers: list[SessionStorage]) -> None:
        async def read() -> None:
            messages = await writers[0].read_messages("s", _ALL)
            places = [message.position for message in messages]
            assert places == list(range(1, len(messages) + 1))
            assert len(messages) % _SIZE == 0
            header = await writers[0].find_session("s")
            assert header is not None
            assert header.last_position % _SIZE == 0
            assert header.last_position >= len(messages)

        async with self.appending(writers) as look:
            await look(read)

    async def test_newest_messages_end_with_a_whole_batch(self, writers: list[SessionStorage]) -> None:
        newest = 0

        async def read() -> None:
            nonlocal newest
            span = MessageRange(limit=_SIZE + 7, newest=True)
            places = [message.position for message in await writers[0].read_messages("s", span)]
            assert places == list(range(places[-1] - _SIZE - 6, places[-1] + 1))
            assert places[-1] % _SIZE == 0
            assert places[-1] >= newest
            newest = places[-1]

        async with self.appending(writers) as look:
            await look(read)
        assert newest == _END

    async def test_backward_pages_during_appends_are_complete(self, writers: list[SessionStorage]) -> None:
        async def read() -> None:
            page = await writers[0].read_messages("s", MessageRange(limit=33, newest=True))
            found = page
            while page[0].position > 1:
                span = MessageRange(before=page[0].position, limit=33, newest=True)
                page = await writers[0].read_messages("s", span)
                found = page + found
            assert [message.position for message in found] == list(range(1, len(found) + 1))
            assert len({message.message_id for message in found}) == len(found)

        async with self.appending(writers) as look:
            await look(read)

    async def test_forward_pages_during_appends_are_complete(self, writers: list[SessionStorage]) -> None:
        found: list[MessageRecord] = []
        async with self.appending(writers) as look:

            async def read() -> None:
                after = found[-1].position if found else 0
                found.extend(await writers[0].read_messages("s", MessageRange(after=after, limit=7)))

            await look(read)
            while len(found) < _END:
                count = len(found)
                await read()
                assert len(found) > count
        assert found == await writers[0].read_messages("s", _ALL)
        assert len(found) == _END

    async def test_a_bounded_range_does_not_change_during_appends(self, writers: list[SessionStorage]) -> None:
        span = MessageRange(after=5, before=_START - 5)
        async with self.appending(writers) as look:
            first = await writers[0].read_messages("s", span)

            async def read() -> None:
                assert await writers[0].read_messages("s", span) == first

            await look(read)
        assert [message.position for message in first] == list(range(6, _START - 5))

    async def test_a_stream_during_appends_has_no_gap(self, writers: list[SessionStorage]) -> None:
        async def read() -> None:
            stream = writers[0].stream_messages("s", chunk=30)
            found = [message async for message in stream]
            assert [message.position for message in found] == list(range(1, len(found) + 1))
            assert len(found) >= _START

        async with self.appending(writers) as look:
            await look(read)
        assert len([message async for message in writers[0].stream_messages("s")]) == _END
