"""Turns with providers of every temper: slow, rude, wrong."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
    """Does what the test says."""

    def __init__(self, work: Callable[[], Awaitable[Any]], deltas: Any = None) -> None:
        super().__init__(ProviderConfig("scripted"))
        self.work = work
        self.deltas = deltas

    def get_default_model(self) -> str:
        return "scripted-1"

    async def chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        answer: ChatResponse = await self.work()
        return answer

    def stream_chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> Any:
        return self.deltas


NO_PROMPT = Prompt(messages=[], first_position=1, left_out=0, tokens=0, prefix_digest="")


def turn(provider: BaseProvider, timeout_seconds: float = 5) -> Turn:
    @asynccontextmanager
    async def lend() -> AsyncIterator[BaseProvider]:
        yield provider

    def lease() -> AbstractAsyncContextManager[BaseProvider]:
        return lend()

    return Turn(
        new=[Message("user", "?")],
        unstored=[Message("user", "?")],
        prompt=NO_PROMPT,
        provider=lease,
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


async def test_a_provider_that_hangs_is_given_up_in_time() -> None:
    with pytest.raises(ProviderTimeoutError, match=r"within 0\.01 s"):
        await turn(Scripted(never), 0.01).ask()


async def test_a_timeout_of_the_providers_own_is_a_timeout_too() -> None:
    with pytest.raises(ProviderTimeoutError, match="in time") as caught:
        await turn(Scripted(raising(TimeoutError("socket")))).ask()
    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_our_own_errors_pass_as_they_are() -> None:
    error = ProviderConnectionError("refused")
    with pytest.raises(ProviderConnectionError) as caught:
        await turn(Scripted(raising(error))).ask()
    assert caught.value is error


async def test_any_other_error_is_a_provider_error_with_its_cause() -> None:
    with pytest.raises(ProviderError, match="ZeroDivisionError") as caught:
        await turn(Scripted(raising(ZeroDivisionError("secret text")))).ask()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "secret text" not in str(caught.value)


@pytest.mark.parametrize("answer", [None, "text", ChatResponse(5)], ids=repr)  # type: ignore[arg-type]
async def test_an_answer_that_is_no_chat_response_of_text_is_refused(answer: Any) -> None:
    with pytest.raises(ProviderResponseError):
        await turn(Scripted(answering(answer))).ask()


class OnlyAnIterator:
    """An asynchronous iterator that is no generator."""

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


async def test_a_stream_that_is_none_is_refused() -> None:
    with pytest.raises(ProviderResponseError, match="list"):
        [delta async for delta in turn(Scripted(never, [])).stream()]


async def test_the_readers_own_time_does_not_count() -> None:
    async def deltas() -> AsyncIterator[ChatResponse]:
        yield ChatResponse("a")
        yield ChatResponse("b")

    seen = []
    async for delta in turn(Scripted(never, deltas()), 0.3).stream():
        seen.append(delta.content)
        await asyncio.sleep(0.35)
    assert seen == ["a", "b"]


async def test_a_stream_that_stalls_is_given_up_in_time() -> None:
    async def deltas() -> AsyncIterator[ChatResponse]:
        yield ChatResponse("a")
        await never()

    with pytest.raises(ProviderTimeoutError):
        [delta async for delta in turn(Scripted(never, deltas()), 0.05).stream()]


def test_deltas_make_up_the_whole_answer() -> None:
    answer = Answer()
    answer.add(ChatResponse("a", model="m", provider_metadata={"id": 1}))
    answer.add(ChatResponse("b", finish_reason="stop"))
    answer.add(ChatResponse("", usage={"total_tokens": 3}, provider_metadata={"more": 2}))
    assert answer.whole() == ChatResponse(
        "ab",
        finish_reason="stop",
        usage={"total_tokens": 3},
        model="m",
        provider_metadata={"id": 1, "more": 2},
    )


def test_an_answers_message_says_how_it_came_about() -> None:
    calls = [{"id": "1", "function": {"name": "f"}}]
    response = ChatResponse("hi", finish_reason="tool_calls", provider_metadata={"tool_calls": calls})
    message = answer_message(response)
    assert message.metadata == {"finish_reason": "tool_calls", "tool_calls": calls}
    assert (message.role, message.content) == ("assistant", "hi")


def test_figures_that_are_not_json_are_the_providers_fault() -> None:
    with pytest.raises(ProviderResponseError, match="not JSON"):
        answer_message(ChatResponse("hi", usage={"cost": float("nan")}))


async def test_a_stream_without_anything_is_no_answer() -> None:
    async def deltas() -> AsyncIterator[ChatResponse]:
        none: list[ChatResponse] = []
        for delta in none:
            yield delta

    with pytest.raises(ProviderStreamError, match="ended without a delta"):
        [delta async for delta in turn(Scripted(never, deltas())).stream()]


async def test_a_delta_that_is_none_is_not_taken_for_the_end() -> None:
    async def deltas() -> AsyncIterator[Any]:
        yield ChatResponse("Hel")
        yield None

    with pytest.raises(ProviderResponseError, match="NoneType"):
        [delta async for delta in turn(Scripted(never, deltas())).stream()]


async def test_facts_of_an_answer_that_are_no_object_are_the_providers_fault() -> None:
    answer = ChatResponse("hi", provider_metadata=None)  # type: ignore[arg-type]
    with pytest.raises(ProviderResponseError, match="provider_metadata"):
        await turn(Scripted(answering(answer))).ask()


async def test_what_a_provider_does_to_its_prompt_changes_nothing_of_ours() -> None:
    said = ChatMessage("user", ["part"], {"k": [1]})

    class Greedy(Scripted):
        async def chat(
            self,
            messages: list[ChatMessage],
            temperature: float = 0.7,
            max_tokens: int | None = None,
            **kwargs: Any,
        ) -> ChatResponse:
            messages[0].content.append("more")  # type: ignore[union-attr]
            messages[0].metadata["k"].append(2)
            messages.clear()
            return ChatResponse("hi")

    asked = attrs.evolve(turn(Greedy(never)), prompt=attrs.evolve(NO_PROMPT, messages=[said]))
    await asked.ask()
    assert asked.prompt.messages == [ChatMessage("user", ["part"], {"k": [1]})]


async def test_the_time_of_a_stream_is_that_of_all_its_deltas_together() -> None:
    async def deltas() -> AsyncIterator[ChatResponse]:
        for _ in range(5):
            await asyncio.sleep(0.1)
            yield ChatResponse("a")

    with pytest.raises(ProviderTimeoutError):
        [delta async for delta in turn(Scripted(never, deltas()), 0.25).stream()]
