"""Whole turns: a question and its answer are asked for, then kept together or not at all."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any, TypeVar

import attrs

from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse
from luminoracore_sdk.domain.errors import (
    InvalidJSONError,
    LuminoraCoreSDKError,
    ProviderError,
    ProviderResponseError,
    ProviderStreamError,
    ProviderTimeoutError,
)
from luminoracore_sdk.domain.json_value import JSONObject, check_json, copy_json
from luminoracore_sdk.domain.message import Message, MessageRole

__all__ = ["Answer", "Turn"]

T = TypeVar("T")

_END: Any = object()
"""Stands for the end of a stream, which no delta of a provider can be."""


@attrs.frozen(kw_only=True)
class Turn:
    """One turn, ready to be asked.

    Attributes:
        question: What the user said.
        prompt: What the provider is told.
        provider: Lends the provider.
        timeout_seconds: That the provider may take for the whole answer.
        parameters: temperature, max_tokens and whatever else goes to the provider.
    """

    question: Message
    prompt: list[ChatMessage]
    provider: Callable[[], AbstractAsyncContextManager[BaseProvider]]
    timeout_seconds: float
    parameters: JSONObject

    async def ask(self) -> ChatResponse:
        """Return the provider's answer.

        Raises:
            ProviderError: It failed, or took too long.
        """
        async with self.provider() as provider:
            response = await _in_time(
                lambda: provider.chat(self._told(), **self.parameters),
                self.timeout_seconds,
                self.timeout_seconds,
            )
        return _checked(response)

    def _told(self) -> list[ChatMessage]:
        """Return the prompt as the provider's own: whatever it does with it, ours stays."""
        return [
            ChatMessage(told.role, copy_json(told.content), copy_json(told.metadata)) for told in self.prompt
        ]

    async def stream(self) -> AsyncGenerator[ChatResponse, None]:
        """Yield the provider's deltas; the time that the reader takes does not count.

        Raises:
            ProviderError: It failed, or took too long.
        """
        async with self.provider() as provider:
            deltas = await _in_time(
                lambda: _begun(provider, self._told(), self.parameters),
                self.timeout_seconds,
                self.timeout_seconds,
            )
            left, nothing = self.timeout_seconds, True
            loop = asyncio.get_running_loop()
            async with aclosing(deltas) as stream:
                while True:
                    asked_at = loop.time()
                    delta = await _in_time(lambda: anext(stream, _END), left, self.timeout_seconds)
                    left -= loop.time() - asked_at
                    if delta is _END and nothing:
                        raise ProviderStreamError("the provider's stream ended before anything came")
                    if delta is _END:
                        return
                    nothing = False
                    yield _checked(delta)


class Answer:
    """Collects the deltas of a streamed answer."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._last = ChatResponse("")

    def add(self, delta: ChatResponse) -> None:
        """Take the next delta."""
        self._parts.append(delta.content)
        self._last = attrs.evolve(
            self._last,
            finish_reason=delta.finish_reason or self._last.finish_reason,
            usage=delta.usage or self._last.usage,
            model=delta.model or self._last.model,
            provider_metadata={**self._last.provider_metadata, **delta.provider_metadata},
        )

    def whole(self) -> ChatResponse:
        """Return the answer that the deltas make up."""
        return attrs.evolve(self._last, content="".join(self._parts))


def answer_message(response: ChatResponse) -> Message:
    """Return the message that keeps an answer; its metadata says how it came about."""
    facts: JSONObject = {
        "model": response.model,
        "finish_reason": response.finish_reason,
        "usage": response.usage,
        "tool_calls": response.provider_metadata.get("tool_calls"),
    }
    metadata = {name: fact for name, fact in facts.items() if fact}
    try:
        check_json(metadata, where="the provider's answer")
    except InvalidJSONError as exc:
        raise ProviderResponseError(str(exc)) from exc
    return Message(role=MessageRole.ASSISTANT, content=response.content, metadata=metadata)


def _checked(response: Any) -> ChatResponse:
    if not isinstance(response, ChatResponse) or type(response.content) is not str:
        raise ProviderResponseError(
            f"the provider answered with {type(response).__name__}, not with a ChatResponse of text"
        )
    if not isinstance(response.provider_metadata, dict):
        raise ProviderResponseError("the provider's answer has a provider_metadata that is not a dict")
    return response


async def _begun(
    provider: BaseProvider, prompt: list[ChatMessage], parameters: JSONObject
) -> AsyncGenerator[Any, None]:
    return _generator(provider.stream_chat(prompt, **parameters))


def _generator(deltas: Any) -> AsyncGenerator[Any, None]:
    if isinstance(deltas, AsyncGenerator):
        return deltas
    if not isinstance(deltas, AsyncIterator):
        raise ProviderResponseError(
            f"the provider's stream_chat gave {type(deltas).__name__}, not an async generator"
        )
    return _as_generator(deltas)


async def _as_generator(deltas: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
    async for delta in deltas:
        yield delta


async def _in_time(call: Callable[[], Awaitable[T]], seconds: float, whole: float) -> T:
    limit = asyncio.timeout(max(seconds, 0))
    try:
        async with limit:
            return await call()
    except LuminoraCoreSDKError:
        raise
    except TimeoutError as exc:
        reason = f"within {whole:g} s" if limit.expired() else "in time"
        raise ProviderTimeoutError(f"the provider did not answer {reason}") from exc
    except Exception as exc:
        raise ProviderError(f"the provider failed with {type(exc).__name__}") from exc
