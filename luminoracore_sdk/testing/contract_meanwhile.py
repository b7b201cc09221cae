"""The contract: reading while others append."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing.builders import message_records
from luminoracore_sdk.testing.contract_base import ContractBase

__all__ = ["MeanwhileContract"]

Read = Callable[[], Awaitable[None]]
Look = Callable[[Read], Awaitable[None]]

_ALL = MessageRange()
_SIZE = 20
_BATCHES = 15
_START = 2 * _SIZE
_END = _START + _BATCHES * _SIZE


class MeanwhileContract(ContractBase):
    """What a reader sees of batches that arrive: whole ones, at positions that do not move."""

    @asynccontextmanager
    async def appending(self, writers: list[SessionStorage]) -> AsyncIterator[Look]:
        """Append batches of 20 after the first 40 messages.

        Yields:
            What looks again and again while that goes on, at least twice, and once when it is over.
        """
        await self.begin(writers[0], messages=_START)
        looked = asyncio.Event()

        async def write() -> None:
            for number in range(_BATCHES):
                if number == _BATCHES // 2:
                    await looked.wait()  # half of the batches come after the first look, at any speed
                await writers[-1].append_messages("s", message_records(_SIZE, prefix=f"late{number}-"))
                await asyncio.sleep(0)  # a storage that never waits gives the reader its turn

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

    async def test_a_reader_sees_whole_batches_only(self, writers: list[SessionStorage]) -> None:
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

    async def test_the_newest_messages_are_the_end_of_whole_batches(
        self, writers: list[SessionStorage]
    ) -> None:
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

    async def test_pages_backwards_are_complete(self, writers: list[SessionStorage]) -> None:
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

    async def test_pages_forwards_reach_every_message_once(self, writers: list[SessionStorage]) -> None:
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

    async def test_a_span_between_two_positions_stays_the_same(self, writers: list[SessionStorage]) -> None:
        span = MessageRange(after=5, before=_START - 5)
        async with self.appending(writers) as look:
            first = await writers[0].read_messages("s", span)

            async def read() -> None:
                assert await writers[0].read_messages("s", span) == first

            await look(read)
        assert [message.position for message in first] == list(range(6, _START - 5))

    async def test_a_stream_is_gapless_while_others_append(self, writers: list[SessionStorage]) -> None:
        async def read() -> None:
            stream = writers[0].stream_messages("s", chunk=30)
            found = [message async for message in stream]
            assert [message.position for message in found] == list(range(1, len(found) + 1))
            assert len(found) >= _START

        async with self.appending(writers) as look:
            await look(read)
        assert len([message async for message in writers[0].stream_messages("s")]) == _END
