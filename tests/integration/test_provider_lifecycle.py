"""Clients, connections and event loops of the providers behind HTTP."""

import asyncio
import gc
import threading
from collections.abc import Coroutine
from typing import Any

import pytest

from luminoracore_sdk.providers import AnthropicProvider, BaseProvider, OpenAIProvider
from luminoracore_sdk.types.provider import ChatMessage
from tests.support.model_server import TEXT, WIRES, ModelServer, configured, provider_on

pytestmark = pytest.mark.parametrize("wire", WIRES)

PROMPT = [ChatMessage("user", "Hello")]


def made(wire: str, url: str) -> BaseProvider:
    config = configured(wire, url, max_retries=0, timeout=5)
    return OpenAIProvider(config) if wire == "openai" else AnthropicProvider(config)


class ServerThread:
    """Run a model server on an event loop of its own, independent of the loops of the test."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.server = ModelServer()

    def __enter__(self) -> ModelServer:
        self._thread.start()
        self._run(self.server.__aenter__())
        return self.server

    def __exit__(self, *_: object) -> None:
        self._run(self.server.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(5)


def test_a_provider_survives_its_event_loop(wire: str) -> None:
    with ServerThread() as server:
        provider = made(wire, server.url)
        for _ in range(3):
            assert asyncio.run(provider.chat(PROMPT)).content == TEXT
            gc.collect()  # an unclosed socket would warn here, which is an error
    assert len(server.requests) == 3


def test_a_provider_serves_two_event_loops_at_once(wire: str) -> None:
    async def twice(barrier: threading.Barrier) -> None:
        for _ in range(2):
            barrier.wait(5)
            texts.append((await provider.chat(PROMPT)).content)

    texts: list[str] = []
    with ServerThread() as server:
        provider = made(wire, server.url)
        barrier = threading.Barrier(2)
        threads = [threading.Thread(target=asyncio.run, args=[twice(barrier)]) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert texts == [TEXT] * 4


async def test_calls_share_a_connection_until_close(wire: str) -> None:
    async with ModelServer() as server:
        provider = made(wire, server.url)
        for _ in range(3):
            await provider.chat(PROMPT)
        assert len(server.connections) == 1
        await provider.close()
        await asyncio.wait_for(asyncio.gather(*server.connections), 5)
        await provider.close()


async def test_a_closed_provider_can_be_used_again(wire: str) -> None:
    async with ModelServer() as server, provider_on(server, wire) as provider:
        await provider.close()
        assert (await provider.chat(PROMPT)).content == TEXT
        await provider.close()
        assert (await provider.chat(PROMPT)).content == TEXT


async def test_concurrent_calls_do_not_mix(wire: str) -> None:
    async with ModelServer() as server, provider_on(server, wire) as provider:
        answers = await asyncio.gather(*(provider.chat([ChatMessage("user", str(n))]) for n in range(20)))
    assert [answer.content for answer in answers] == [TEXT] * 20
    assert len({str(request.body["messages"]) for request in server.requests}) == 20
