"""A minimal provider, for tests that do not depend on its answers."""

from collections.abc import AsyncIterator
from typing import Any

from luminoracore_sdk.providers import BaseProvider
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse

__all__ = ["StubProvider"]


class StubProvider(BaseProvider):
    """Answer ``An answer.``; subclasses override ``answer`` or ``deltas``.

    Both get the prompt and the parameters of the call.

    Attributes:
        closed: Whether it was closed.
    """

    closed = False

    def get_default_model(self) -> str:
        return "stub-1"

    async def answer(self, messages: list[ChatMessage], parameters: dict[str, Any]) -> ChatResponse:
        return ChatResponse("An answer.", finish_reason="stop")

    async def deltas(self, messages: list[ChatMessage], parameters: dict[str, Any]) -> AsyncIterator[ChatResponse]:
        yield await self.answer(messages, parameters)

    async def chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        return await self.answer(messages, {"temperature": temperature, "max_tokens": max_tokens, **kwargs})

    def stream_chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatResponse]:
        return self.deltas(messages, {"temperature": temperature, "max_tokens": max_tokens, **kwargs})

    async def close(self) -> None:
        self.closed = True
