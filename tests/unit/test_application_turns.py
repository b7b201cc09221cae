"""Turns with providers that are slow, fail, or answer wrongly."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.application.prompts import Prompt
from luminoracore_sdk.application.turns import Answer, Turn, answer_message
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import (
    ProviderConnectionError,
    ProviderError,
    ProviderResponseError,
    ProviderStreamError,
    ProviderTimeoutError,
)
from luminoracore_sdk.domain.message import Message


class Scripted(BaseProvider):
    """A provider whose answer is a function, and whose stream an object."""

    def __init__(self, work: Callable[[], Awaitable[Any]], deltas: Any = None) -> None:
        super().__init__(ProviderConfig("scripted"))
        self.work = work
        self.deltas = deltas

    def get_default_model(self) -> str:
        return "scripted-1"

    async def chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> ChatResponse:
        answer: ChatResponse = await self.work()
        return answer

    def stream_chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> Any:
        return self.deltas


NO_PROMPT = Prompt(messages=[], first_position=1, left_out=0, tokens=0, uncorrected_tokens=0, prefix_digest="")


def turn(provider: BaseProvider, timeout_seconds: float = 5) -> Turn:
    return Turn(
        new=[Message("user", "?")],
        unstored=[Message("user", "?")],
        prompt=NO_PROMPT,
        provider=lambda: nullcontext(provider),
        provider_name="scripted",
        timeout_seconds=timeout_seconds,
        parameters={},
    )


async def never() -> None:
    await asyncio.Event().wait()


def raising(error: Exception) -> Callable[[], Awaitable[Any]]:
    async def work() -> None:
        raise error

    return work


def answering(answer: Any) -> Callable[[], Awaitable[Any]]:
    async def work() -> Any:
        return answer

    return work


async def test_a_provider_that_hangs_times_out() -> None:
    with pytest.raises(ProviderTimeoutError, match=r"within 0\.01 s"):
        await turn(Scripted(never), 0.01).ask()


async def test_a_timeout_raised_by_the_provider_is_translated() -> None:
    with pytest.raises(ProviderTimeoutError, match="in time") as caught:
        await turn(Scripted(raising(TimeoutError("socket")))).ask()
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_errors_of_this_package_are_not_translated() -> None:
    error = ProviderConnectionError("refused")
    with pytest.raises(ProviderConnectionError) as caught:
        await turn(Scripted(raising(error))).ask()
    assert caught.value is error


async def test_other_errors_become_provider_errors() -> None:
    with pytest.raises(ProviderError, match="ZeroDivisionError") as caught:
        await turn(Scripted(raising(ZeroDivisionError("secret text")))).ask()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "secret text" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, "text", ChatResponse(5)], ids=repr)  # type: ignore[arg-type]
async def test_an_answer_of_another_type_is_refused(answer: Any) -> None:
    with pytest.raises(ProviderResponseError):
        await turn(Scripted(answering(answer))).ask()


class OnlyAnIterator:
    """An asynchronous iterator that is not a generator."""

    def __init__(self) -> None:
        self.left = 2

    def __aiter__(self) -> "OnlyAnIterator":
        return self

    async def __anext__(self) -> ChatResponse:
        if not self.left:
            raise StopAsyncIteration
        self.left -= 1
        return ChatResponse(str(self.left))


async def test_a_stream_may_be_any_asynchronous_iterator() -> None:
    streamed = [delta.content async for delta in turn(Scripted(never, OnlyAnIterator())).stream()]
    assert streamed == ["1", "0"]


async def test_a_stream_of_another_type_is_refused() -> None:
    with pytest.raises(ProviderResponseError, match="list"):
        [delta async for delta in turn(Scripted(never, [])).stream()]


@pytest.fixture
async def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], Awaitable[None]]:
    """Return a function that advances the clock of the event loop."""
    loop, waited = asyncio.get_running_loop(), 0.0
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + waited)

    async def advance(seconds: float) -> None:
        nonlocal waited
        waited += seconds
        for _ in range(3):  # until an expired timeout has cancelled the task
            await asyncio.sleep(0)

    return advance


async def test_the_time_of_the_caller_does_not_count(wait: Callable[[float], Awaitable[None]]) -> None:
    async def deltas() -> AsyncIterator[ChatResponse]:
        yield ChatResponse("a")
        yield ChatResponse("b")

    seen = []
    async for delta in turn(Scripted(never, deltas()), 5).stream():
        seen.append(delta.content)
        await wait(6)
    assert seen == ["a", "b"]


async def test_a_stream_that_stalls_times_out() -> None:
    async def deltas() -> AsyncIterator[ChatResponse]:
        yield ChatResponse("a")
        await never()

    with pytest.raises(ProviderTimeoutError):
        [delta async for delta in turn(Scripted(never, deltas()), 0.05).stream()]


def test_an_answer_is_collected_from_its_deltas() -> None:
    answer = Answer()
    answer.add(ChatResponse("a", model="m", provider_metadata={"id": 1}))
    answer.add(ChatResponse("b", finish_reason="stop"))
    answer.add(ChatResponse("", usage={"total_tokens": 3}, provider_metadata={"more": 2}))
    assert answer.whole() == ChatResponse(
        "ab", finish_reason="stop", usage={"total_tokens": 3}, model="m", provider_metadata={"id": 1, "more": 2}
    )


def test_an_answers_message_has_metadata() -> None:
    calls = [{"id": "1", "function": {"name": "f"}}]
    response = ChatResponse("hi", finish_reason="tool_calls", provider_metadata={"tool_calls": calls})
    message = answer_message(response)
    assert message.metadata == {"finish_reason": "tool_calls", "tool_calls": calls}
    assert (message.role, message.content) == ("assistant", "hi")


def test_usage_that_is_not_json_is_refused() -> None:
    with pytest.raises(ProviderResponseError, match="not JSON"):
        answer_message(ChatResponse("hi", usage={"cost": float("nan")}))


async def test_an_empty_stream_is_refused() -> None:
    async def deltas() -> AsyncIterator[ChatResponse]:
        none: list[ChatResponse] = []
        for delta in none:
            yield delta

    with pytest.raises(ProviderStreamError, match="ended without a delta"):
        [delta async for delta in turn(Scripted(never, deltas())).stream()]


async def test_a_delta_of_none_is_refused() -> None:
    async def deltas() -> AsyncIterator[Any]:
        yield ChatResponse("Hel")
        yield None

    with pytest.raises(ProviderResponseError, match="NoneType"):
        [delta async for delta in turn(Scripted(never, deltas())).stream()]


async def test_an_invalid_provider_metadata_is_refused() -> None:
    answer = ChatResponse("hi", provider_metadata=None)  # type: ignore[arg-type]
    with pytest.raises(ProviderResponseError, match="provider_metadata"):
        await turn(Scripted(answering(answer))).ask()


async def test_a_provider_gets_a_copy_of_the_prompt() -> None:
    said = ChatMessage("user", ["part"], {"k": [1]})

    class Greedy(Scripted):
        async def chat(
            self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
        ) -> ChatResponse:
            messages[0].content.append("more")  # type: ignore[union-attr]
            messages[0].metadata["k"].append(2)
            messages.clear()
            return ChatResponse("hi")

    asked = attrs.evolve(turn(Greedy(never)), prompt=attrs.evolve(NO_PROMPT, messages=[said]))
    await asked.ask()
    assert asked.prompt.messages == [ChatMessage("user", ["part"], {"k": [1]})]


async def test_the_time_limit_covers_the_whole_stream(wait: Callable[[float], Awaitable[None]]) -> None:
    async def deltas() -> AsyncIterator[ChatResponse]:
        while True:
            await wait(2)
            yield ChatResponse("a")

    seen = 0

    async def read() -> None:
        nonlocal seen
        async for _ in turn(Scripted(never, deltas()), 5).stream():
            seen += 1

    with pytest.raises(ProviderTimeoutError):
        await read()
    assert seen == 2


@pytest.mark.parametrize("name", ["reasoning", "refusal", "tool_calls", "parts"])
async def test_a_field_of_another_type_is_refused(name: str) -> None:
    wrong: dict[str, Any] = {name: ("a",)}
    answer = ChatResponse("hi", **wrong)

    async def deltas() -> AsyncIterator[ChatResponse]:
        yield answer

    with pytest.raises(ProviderResponseError, match=name):
        await turn(Scripted(answering(answer))).ask()
    with pytest.raises(ProviderResponseError, match=name):
        [delta async for delta in turn(Scripted(never, deltas())).stream()]
