"""An offline provider that repeats the user's message."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

from luminoracore_sdk.adapters.providers.settings import EchoSettings, read_settings
from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = ["EchoProvider"]

_WORD = re.compile(r"\s*\S+\s*")


class EchoProvider(BaseProvider):
    """Answer ``You said: …`` with the newest user message, offline and deterministically.

    For demonstrations, tests and first steps. A word counts as one token, in ``usage`` and for ``max_tokens``.

    Args:
        config: ``extra`` may hold ``delay``, the seconds before each delta of a stream.
    """

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(config)
        self._settings = read_settings(EchoSettings, config)

    def get_default_model(self) -> str:
        """Return ``echo-1``."""
        return "echo-1"

    async def chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,  # noqa: ARG002
        max_tokens: int | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> ChatResponse:
        """Return the complete answer, without delay; see ``BaseProvider.chat``."""
        deltas = list(self._deltas(messages, max_tokens))
        return ChatResponse(
            content="".join(delta.content for delta in deltas),
            finish_reason=deltas[-1].finish_reason,
            usage=deltas[-1].usage,
            model=deltas[-1].model,
        )

    async def stream_chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,  # noqa: ARG002
        max_tokens: int | None = None,
        **kwargs: Any,  # noqa: ARG002
    ) -> AsyncIterator[ChatResponse]:
        """Yield the answer word by word; see ``BaseProvider.stream_chat``."""
        for delta in self._deltas(messages, max_tokens):
            await asyncio.sleep(self._settings.delay)
            yield delta

    def _deltas(self, messages: list[ChatMessage], max_tokens: int | None) -> Iterator[ChatResponse]:
        if max_tokens is not None and max_tokens < 1:
            raise ProviderError(f"max_tokens must be at least 1, not {max_tokens}")
        words = _WORD.findall(_answer(messages))
        spoken = words[:max_tokens]
        model = self.config.model or self.get_default_model()
        for word in spoken[:-1]:
            yield ChatResponse(content=word, model=model)
        yield ChatResponse(
            content=spoken[-1],
            finish_reason="stop" if len(spoken) == len(words) else "length",
            usage=_usage(messages, len(spoken)),
            model=model,
        )


def _answer(messages: list[ChatMessage]) -> str:
    said = next((_text(message.content) for message in reversed(messages) if message.role == "user"), "")
    return f"You said: {said}" if said.strip() else "You said nothing."


def _text(content: JSONValue) -> str:
    """Return text content, or the joined texts of a list of parts."""
    if isinstance(content, list):
        return " ".join(_text(part) for part in content)
    if isinstance(content, dict):
        return _text(content.get("text"))
    return content if isinstance(content, str) else ""


def _usage(messages: list[ChatMessage], spoken: int) -> JSONObject:
    heard = sum(len(_text(message.content).split()) for message in messages)
    return {"prompt_tokens": heard, "completion_tokens": spoken, "total_tokens": heard + spoken}
