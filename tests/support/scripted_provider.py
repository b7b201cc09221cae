"""A provider that follows a script and records its calls."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import attrs

from luminoracore_sdk.providers import BaseProvider, ProviderFactory
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse, ProviderConfig

__all__ = ["Call", "Script", "scripted"]


@attrs.frozen
class Call:
    """One call as the provider saw it."""

    prompt: list[tuple[str, Any]]
    parameters: dict[str, Any]
    config: ProviderConfig


@attrs.define(kw_only=True)
class Script:
    """The next answers of a provider, and its recorded calls.

    Attributes:
        answers: One per call, the last one for all further calls: a string, a response, or an error.
            In a stream, a string comes word by word and an error after the first word.
        turns: Suspensions before each answer, so that other tasks can run.
        asked: Set by the first call.
        may_answer: Answers wait until it is set, which it is by default.
        may_finish: The last delta of a stream waits until it is set, which it is by default.
        calls: The calls, in order.
        active: The number of running calls.
        most_active: The largest number of concurrent calls.
        closed: The number of closed providers.
    """

    answers: list[str | ChatResponse | BaseException] = attrs.field(factory=lambda: ["An answer."])
    turns: int = 0
    asked: asyncio.Event = attrs.field(factory=asyncio.Event)
    may_answer: asyncio.Event = attrs.field(factory=asyncio.Event)
    may_finish: asyncio.Event = attrs.field(factory=asyncio.Event)
    calls: list[Call] = attrs.field(factory=list)
    active: int = 0
    most_active: int = 0
    closed: int = 0

    def __attrs_post_init__(self) -> None:
        self.may_answer.set()
        self.may_finish.set()

    @property
    def prompts(self) -> list[list[tuple[str, Any]]]:
        return [call.prompt for call in self.calls]

    @contextmanager
    def answering(self, call: Call) -> Iterator[str | ChatResponse | BaseException]:
        self.calls.append(call)
        self.asked.set()
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            yield self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        finally:
            self.active -= 1


@contextmanager
def scripted(name: str = "scripted") -> Iterator[Script]:
    """Register a provider of that name for the length of a ``with`` block."""
    script = Script()

    class ScriptedProvider(BaseProvider):
        def get_default_model(self) -> str:
            return "script-1"

        def _call(self, messages: list[ChatMessage], parameters: dict[str, Any]) -> Call:
            return Call([(str(said.role), said.content) for said in messages], parameters, self.config)

        async def chat(
            self,
            messages: list[ChatMessage],
            temperature: float = 0.7,
            max_tokens: int | None = None,
            **kwargs: Any,
        ) -> ChatResponse:
            parameters = {"temperature": temperature, "max_tokens": max_tokens, **kwargs}
            with script.answering(self._call(messages, parameters)) as answer:
                await script.may_answer.wait()
                for _ in range(script.turns):
                    await asyncio.sleep(0)
                if isinstance(answer, BaseException):
                    raise answer
                return answer if isinstance(answer, ChatResponse) else ChatResponse(answer)

        async def stream_chat(
            self,
            messages: list[ChatMessage],
            temperature: float = 0.7,
            max_tokens: int | None = None,
            **kwargs: Any,
        ) -> AsyncIterator[ChatResponse]:
            parameters = {"temperature": temperature, "max_tokens": max_tokens, **kwargs}
            with script.answering(self._call(messages, parameters)) as answer:
                text = "Half an answer" if isinstance(answer, BaseException) else answer
                end = text if isinstance(text, ChatResponse) else ChatResponse(text, finish_reason="stop")
                *words, last = end.content.split(" ")
                for word in words:
                    await asyncio.sleep(0)
                    yield ChatResponse(f"{word} ")
                    if isinstance(answer, BaseException):
                        raise answer
                await script.may_finish.wait()
                yield attrs.evolve(end, content=last)

        async def close(self) -> None:
            script.closed += 1

    ProviderFactory.register_provider(name, ScriptedProvider)
    try:
        yield script
    finally:
        ProviderFactory.unregister_provider(name)
