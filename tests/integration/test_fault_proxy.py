"""The proxy that the bad days go through does what its methods say."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.servers.proxy import FaultProxy, unanswering_port

_HOST = "127.0.0.1"


class Echo:
    """Answers every line with the same line, and keeps what it got."""

    def __init__(self) -> None:
        self.got = b""
        self.ended = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                self.got += data
                if data.endswith(b"\n"):
                    writer.write(data)
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.ended.set()


@pytest.fixture
async def echo() -> AsyncIterator[tuple[Echo, int]]:
    made = Echo()
    async with await asyncio.start_server(made.serve, _HOST, 0) as server:
        yield made, server.sockets[0].getsockname()[1]


@pytest.fixture
def proxy(echo: tuple[Echo, int]) -> Iterator[FaultProxy]:
    with FaultProxy(echo[1]) as made:
        yield made


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def of(cls, proxy: FaultProxy) -> "Client":
        return cls(*await asyncio.open_connection(_HOST, proxy.port))

    async def ask(self, line: bytes) -> bytes:
        """Send, and return the answer; nothing when the connection ended."""
        try:
            self._writer.write(line)
            return await self._reader.readline()
        except ConnectionError:
            return b""

    def close(self) -> None:
        self._writer.transport.abort()


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[Client]:
    made = await Client.of(proxy)
    yield made
    made.close()


async def test_it_hands_on_all_bytes(client: Client) -> None:
    assert await client.ask(b"a line\n") == b"a line\n"
    long = b"x" * 1_000 + b"\n"
    assert await client.ask(long) == long


async def test_a_cut_ends_what_is_open_and_not_what_comes(proxy: FaultProxy, client: Client) -> None:
    assert await client.ask(b"1\n") == b"1\n"
    proxy.cut()
    assert await client.ask(b"2\n") == b""
    again = await Client.of(proxy)
    assert await again.ask(b"3\n") == b"3\n"
    again.close()


async def test_a_refusing_proxy_is_as_good_as_none(proxy: FaultProxy, client: Client) -> None:
    proxy.refuse()
    assert await client.ask(b"1\n") == b""
    with pytest.raises(ConnectionRefusedError):
        await Client.of(proxy)
    proxy.pass_on()
    again = await Client.of(proxy)
    assert await again.ask(b"2\n") == b"2\n"
    again.close()


async def test_it_cuts_in_the_middle_of_a_request(echo: tuple[Echo, int], proxy: FaultProxy, client: Client) -> None:
    proxy.cut_after(3)
    assert await client.ask(b"12345\n") == b""
    await echo[0].ended.wait()
    assert (echo[0].got, proxy.strikes) == (b"123", 1)
    again = await Client.of(proxy)
    assert await again.ask(b"whole\n") == b"whole\n"
    again.close()


async def test_an_answer_is_lost_after_the_server_had_the_request(
    echo: tuple[Echo, int], proxy: FaultProxy, client: Client
) -> None:
    proxy.lose_answer(b"marked")
    assert await client.ask(b"another\n") == b"another\n"
    assert await client.ask(b"the marked one\n") == b""
    assert (echo[0].got, proxy.strikes) == (b"another\nthe marked one\n", 1)
    again = await Client.of(proxy)
    assert await again.ask(b"marked\n") == b"marked\n"
    again.close()


async def test_a_marker_in_two_parts_is_found(proxy: FaultProxy, client: Client) -> None:
    proxy.lose_answer(b"marked")
    client._writer.write(b"mar")
    await asyncio.sleep(0.05)
    assert (await client.ask(b"ked\n"), proxy.strikes) == (b"", 1)


async def test_what_hangs_comes_late(echo: tuple[Echo, int], proxy: FaultProxy, client: Client) -> None:
    assert await client.ask(b"1\n") == b"1\n"
    proxy.hang()
    waiting = asyncio.ensure_future(client.ask(b"2\n"))
    late = await Client.of(proxy)
    assert await asyncio.wait([waiting], timeout=0.1) == (set(), {waiting})
    assert echo[0].got == b"1\n"
    proxy.pass_on()
    assert (await waiting, await late.ask(b"3\n")) == (b"2\n", b"3\n")
    late.close()


async def test_what_hangs_can_be_cut(echo: tuple[Echo, int], proxy: FaultProxy, client: Client) -> None:
    proxy.hang()
    waiting = asyncio.ensure_future(client.ask(b"1\n"))
    await asyncio.sleep(0.05)
    proxy.cut()
    assert await waiting == b""
    proxy.pass_on()
    again = await Client.of(proxy)
    assert (await again.ask(b"2\n"), echo[0].got) == (b"2\n", b"2\n")
    again.close()


def test_a_proxy_of_nothing_hangs_up() -> None:
    with unanswering_port() as port:  # just a number that nobody listens on afterwards
        pass
    with FaultProxy(port) as proxy, socket.create_connection((_HOST, proxy.port), 5) as client:
        assert client.recv(1) == b""


def test_nothing_connects_to_an_unanswering_port() -> None:
    with unanswering_port() as port, pytest.raises(TimeoutError):
        socket.create_connection((_HOST, port), 0.2)
