"""OpenAI's chat completions, and every server that speaks them."""

import re
from types import ModuleType
from typing import Any

from luminoracore_sdk.adapters.providers.http import HttpProvider
from luminoracore_sdk.adapters.providers.presets import OPENAI_COMPATIBLE, KeyRule, Preset, provider_key
from luminoracore_sdk.adapters.providers.reading import StreamReading
from luminoracore_sdk.adapters.providers.settings import OpenAISettings, read_settings
from luminoracore_sdk.adapters.providers.wire import (
    handed_on,
    joined_text,
    object_or_empty,
    sendable,
    text_or_none,
    without_none,
)
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import ProviderResponseError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["OpenAIProvider", "on_wire"]

_REASONING_MODEL = re.compile(r"(.*/)?(o\d|gpt-([5-9]|\d\d))")
"""Models that refuse ``temperature`` and know only the newer name of ``max_tokens``."""

_KEYLESS = "none"  # the client insists on a key; a server that needs none ignores it


class OpenAIProvider(HttpProvider):
    """Talks to OpenAI, or through ``base_url`` to any server with the same interface.

    ``extra`` may hold ``timeout``, ``max_retries``, ``headers``, ``organization``, ``project`` and
    ``stream_usage``; see ``OpenAISettings``. Reasoning models (o1 and later, gpt-5 and later) get no
    ``temperature``, which they refuse, and ``max_tokens`` as ``max_completion_tokens``.
    """

    package = "openai"

    def __init__(self, config: ProviderConfig) -> None:
        self._settings = read_settings(OpenAISettings, config)
        super().__init__(config, self._settings)

    @classmethod
    def find_preset(cls, name: str) -> Preset:
        """Return the preset of a built-in name; for any other name an address must be given."""
        return OPENAI_COMPATIBLE.get(provider_key(name), Preset(key=KeyRule.NEVER))

    def _make_client(self, driver: ModuleType, **common: Any) -> Any:
        settings = self._settings
        client = driver.AsyncOpenAI(api_key=self._key or _KEYLESS, default_headers=settings.headers, **common)
        # The client takes these from the environment, and would tell them to every other provider too.
        client.organization, client.project = settings.organization, settings.project
        return client

    def _request(
        self, messages: list[ChatMessage], temperature: float, max_tokens: int | None, **kwargs: Any
    ) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self._model, "messages": [on_wire(item) for item in messages]}
        reasoning = _REASONING_MODEL.match(str(kwargs.get("model", self._model)))
        if not reasoning:
            request["temperature"] = temperature
        if max_tokens is not None:
            request["max_completion_tokens" if reasoning else "max_tokens"] = max_tokens
        return request | kwargs

    async def _create(self, client: Any, request: dict[str, Any]) -> Any:
        usage = self._settings.stream_usage
        if request["stream"] and (self._preset.stream_usage if usage is None else usage):
            request.setdefault("stream_options", {"include_usage": True})
        return await client.chat.completions.create(**request)

    def _reading(self) -> StreamReading:
        return _ChunkReading(self.config.name)

    def _answer(self, answer: JSONObject) -> ChatResponse:
        name = self.config.name
        choice = _first_choice(answer, provider=name)
        message = choice.get("message") if choice else None
        if not isinstance(message, dict):
            raise ProviderResponseError(f"{name} sent an answer without choices")
        rest = {key: item for key, item in message.items() if key not in {"role", "content"}}
        return ChatResponse(
            content=joined_text(message.get("content"), provider=name),
            finish_reason=text_or_none(choice.get("finish_reason")) if choice else None,
            usage=object_or_empty(answer.get("usage")) or None,
            model=text_or_none(answer.get("model")),
            provider_metadata=without_none({"id": answer.get("id"), **rest}),
        )


class _ChunkReading(StreamReading):
    """Of ``chat.completion.chunk`` events."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self._finish_reason: str | None = None
        self._usage: JSONObject | None = None
        self._model: str | None = None
        self._metadata: JSONObject = {}
        self._tool_calls: dict[int, JSONObject] = {}

    def _note(self, event: JSONObject) -> ChatResponse | None:
        self._model = text_or_none(event.get("model")) or self._model
        self._usage = object_or_empty(event.get("usage")) or self._usage
        self._metadata |= without_none({"id": event.get("id")})
        choice = _first_choice(event, provider=self._provider) or {}
        self._finish_reason = text_or_none(choice.get("finish_reason")) or self._finish_reason
        delta = object_or_empty(choice.get("delta"))
        for piece in delta.get("tool_calls") or []:
            self._add_tool_call(piece)
        for name in ("refusal", "reasoning_content"):
            if isinstance(delta.get(name), str):
                self._metadata[name] = self._metadata.get(name, "") + delta[name]
        text = joined_text(delta.get("content"), provider=self._provider)
        return ChatResponse(content=text, model=self._model) if text else None

    def _add_tool_call(self, piece: Any) -> None:
        function = piece.get("function") if isinstance(piece, dict) else None
        if not isinstance(function, dict) or not isinstance(piece.get("index", 0), int):
            raise ProviderResponseError(f"{self._provider} sent a tool call that is none")
        call = self._tool_calls.setdefault(
            piece.get("index", 0), {"id": None, "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = piece.get("id") or call["id"]
        for name in ("name", "arguments"):
            call["function"][name] += text_or_none(function.get(name)) or ""

    def _is_whole(self) -> bool:
        return self._finish_reason is not None

    def _end(self) -> ChatResponse:
        if self._tool_calls:
            self._metadata["tool_calls"] = [self._tool_calls[index] for index in sorted(self._tool_calls)]
        return ChatResponse(
            content="",
            finish_reason=self._finish_reason,
            usage=self._usage,
            model=self._model,
            provider_metadata=self._metadata,
        )


def on_wire(message: ChatMessage) -> JSONObject:
    """Return a message as the API takes it."""
    wire: JSONObject = sendable(message.to_dict() | handed_on(message))
    return wire


def _first_choice(answer: JSONObject, *, provider: str) -> JSONObject | None:
    """Return the first choice, None if there is none (the event that carries the usage has none)."""
    choices = answer.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ProviderResponseError(f"{provider} sent choices that are none")
    return next((choice for choice in choices if choice.get("index") in {0, None}), None)
