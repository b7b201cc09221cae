"""Large requests and answers, and streams whose events come all at once."""

import asyncio
import math
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from luminoracore_sdk.adapters.providers import openai_compatible, wire
from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.domain.pieces import LARGE
from luminoracore_sdk.types.provider import ChatMessage
from tests.support.model_server import TEXT, WIRES, ModelServer, event, provider_on, say, stream

TEXT_OF_MANY = 'Grüße \U0001f600 " \\ \n' * LARGE
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 2 * LARGE}}
CONTENTS: dict[str, Any] = {"text": TEXT_OF_MANY, "picture": [{"type": "text", "text": "What?"}, PICTURE]}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the threads in which bodies were written."""
    seen: list[int] = []
    request_body = wire.request_body

    def note(request: dict[str, Any]) -> bytes | None:
        seen.append(threading.get_ident())
        return request_body(request)

    monkeypatch.setattr(openai_compatible, "request_body", note)
    return seen


@pytest.mark.parametrize("name", CONTENTS)
async def test_a_large_request_is_written_in_a_thread(name: str, threads: list[int]) -> None:
    prompt = [ChatMessage("user", CONTENTS[name])]
    async with ModelServer() as server, provider_on(server, "openai") as provider:
        assert (await provider.chat(prompt, max_tokens=5)).content == TEXT
        assert "".join([delta.content async for delta in provider.stream_chat(prompt, seed=7)]) == TEXT
        assert (await provider.chat([ChatMessage("user", "Hello")], max_tokens=5)).content == TEXT
    assert len(threads) == 2
    assert threading.get_ident() not in threads
    large, streamed, small = server.requests
    assert large.body == {**small.body, "messages": [{"role": "user", "content": CONTENTS[name]}]}
    assert streamed.body["seed"] == 7
    assert streamed.streaming
    for header in ("authorization", "content-type", "accept"):
        assert large.headers[header] == small.headers[header]


async def test_what_stands_beside_the_body_is_left_to_the_client(threads: list[int]) -> None:
    async with ModelServer() as server, provider_on(server, "openai") as provider:
        await provider.chat([ChatMessage("user", TEXT_OF_MANY)], extra_headers={"x-title": "a"})
    assert threads == []
    assert server.requests[0].headers["x-title"] == "a"
    assert server.requests[0].body["messages"][0]["content"] == TEXT_OF_MANY


async def test_other_values_than_json_are_left_to_the_client(threads: list[int]) -> None:
    prompt, time = [ChatMessage("user", TEXT_OF_MANY)], datetime(2026, 1, 1, tzinfo=UTC)
    async with ModelServer() as server, provider_on(server, "openai") as provider:
        await provider.chat(prompt, metadata={"at": time})
        with pytest.raises(ProviderError):
            await provider.chat(prompt, seed=math.nan)
    assert len(threads) == 2
    assert [request.body["metadata"]["at"] for request in server.requests] == [time.isoformat()]


@pytest.mark.parametrize("name", WIRES)
async def test_a_large_answer_arrives_whole(name: str) -> None:
    async with ModelServer(say(TEXT_OF_MANY)) as server, provider_on(server, name) as provider:
        assert (await provider.chat([ChatMessage("user", "Hello")])).content == TEXT_OF_MANY


async def test_other_tasks_run_between_the_events_of_a_stream() -> None:
    def chunk(text: str, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}
        return event({"id": "a", "choices": [choice]})

    at_once = b"".join([*map(chunk, "x" * 400), chunk("", "stop"), b"data: [DONE]\n\n"])
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with ModelServer(stream(at_once)) as server, provider_on(server, "openai") as provider:
        deltas = provider.stream_chat([ChatMessage("user", "Hello")])
        await anext(aiter(deltas))
        task = asyncio.create_task(other())
        assert len([delta async for delta in deltas]) == 400
        task.cancel()
    assert turns >= 40
