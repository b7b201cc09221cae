"""OpenAI's chat completions, and every server that speaks them."""

import re
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

from luminoracore_sdk.adapters.providers.http import HttpProvider
from luminoracore_sdk.adapters.providers.presets import OPENAI_COMPATIBLE, KeyRule, Preset, provider_key
from luminoracore_sdk.adapters.providers.settings import OpenAISettings, read_settings
from luminoracore_sdk.adapters.providers.wire import handed_on, joined_text, plain_object, sendable, storable
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import ProviderResponseError, ProviderStreamError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["OpenAIProvider"]

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
        super().__init__(config)

    @classmethod
    def find_preset(cls, name: str) -> Preset:
        """Return the preset of a built-in name; for any other name an address must be given."""
        return OPENAI_COMPATIBLE.get(provider_key(name), Preset(key=KeyRule.NEVER))

    def _make_client(self, driver: ModuleType) -> Any:
        settings = self._settings
        client = driver.AsyncOpenAI(
            api_key=self._key or _KEYLESS,
            base_url=self._base_url,
            timeout=settings.timeout,
            max_retries=settings.max_retries,
            default_headers=settings.headers,
            # a redirect would carry custom headers, keys among them, to another host
            http_client=driver.DefaultAsyncHttpxClient(timeout=settings.timeout, follow_redirects=False),
        )
        # The client takes these from the environment, and would tell them to every other provider too.
        client.organization, client.project = settings.organization, settings.project
        return client

    def _request(
        self, messages: list[ChatMessage], temperature: float, max_tokens: int | None, **kwargs: Any
    ) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self._model, "messages": [_on_wire(item) for item in messages]}
        reasoning = _REASONING_MODEL.match(str(kwargs.get("model", self._model)))
        if not reasoning:
            request["temperature"] = temperature
        if max_tokens is not None:
            request["max_completion_tokens" if reasoning else "max_tokens"] = max_tokens
        kwargs.pop("stream", None)  # which of the two methods was called decides
        return request | kwargs

    async def chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        """Return the whole answer; see ``BaseProvider.chat``."""
        request = self._request(messages, temperature, max_tokens, **kwargs)
        with self._errors():
            client = await self._client()
            return self._answer(await client.chat.completions.create(**request, stream=False))

    async def stream_chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatResponse]:
        """Yield the answer in deltas; see ``BaseProvider.stream_chat``.

        The last delta carries the usage, where the server counts, and the whole tool calls.
        """
        usage = self._settings.stream_usage
        if self._preset.stream_usage if usage is None else usage:
            kwargs.setdefault("stream_options", {"include_usage": True})
        request = self._request(messages, temperature, max_tokens, **kwargs)
        with self._errors():
            client = await self._client()
            stream = await client.chat.completions.create(**request, stream=True)
        reading = _StreamReading(self.config.name)
        with self._errors(streaming=True):
            async with stream:
                async for event in stream:
                    delta = reading.take(plain_object(event, provider=self.config.name))
                    if delta is not None:
                        yield delta
                yield reading.last(stream.response)

    def _answer(self, sent: Any) -> ChatResponse:
        name = self.config.name
        answer = plain_object(sent, provider=name)
        choice = _first_choice(answer, provider=name)
        message = choice.get("message") if choice else None
        if not isinstance(message, dict):
            raise ProviderResponseError(f"{name} sent an answer without choices")
        rest = {key: item for key, item in message.items() if key not in {"role", "content"}}
        response = ChatResponse(
            content=joined_text(message.get("content"), provider=name),
            finish_reason=_text(choice.get("finish_reason")) if choice else None,
            usage=_object(answer.get("usage")),
            model=_text(answer.get("model")),
            provider_metadata=_said({"id": answer.get("id"), **rest}),
        )
        return storable(response, provider=name)


class _StreamReading:
    """What is known of an answer while its events come in."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._events = 0
        self._finish_reason: str | None = None
        self._usage: JSONObject | None = None
        self._model: str | None = None
        self._metadata: JSONObject = {}
        self._tool_calls: dict[int, JSONObject] = {}

    def take(self, event: JSONObject) -> ChatResponse | None:
        """Note one event; return a delta if it brought text."""
        self._events += 1
        self._model = _text(event.get("model")) or self._model
        self._usage = _object(event.get("usage")) or self._usage
        self._metadata |= _said({"id": event.get("id")})
        choice = _first_choice(event, provider=self._provider) or {}
        self._finish_reason = _text(choice.get("finish_reason")) or self._finish_reason
        delta = _object(choice.get("delta")) or {}
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
            call["function"][name] += _text(function.get(name)) or ""

    def last(self, response: Any) -> ChatResponse:
        """Return the delta that ends the answer.

        Raises:
            ProviderStreamError: The stream ended before the answer did.
            ProviderResponseError: It was no stream of events.
        """
        if self._finish_reason is None:
            if not self._events and "event-stream" not in response.headers.get("content-type", ""):
                raise ProviderResponseError(f"{self._provider} sent something else than a stream of events")
            raise ProviderStreamError(f"{self._provider}: the stream ended before the answer did")
        if self._tool_calls:
            self._metadata["tool_calls"] = [self._tool_calls[index] for index in sorted(self._tool_calls)]
        delta = ChatResponse(
            content="",
            finish_reason=self._finish_reason,
            usage=self._usage,
            model=self._model,
            provider_metadata=self._metadata,
        )
        return storable(delta, provider=self._provider)


def _on_wire(message: ChatMessage) -> JSONObject:
    wire: JSONObject = sendable(message.to_dict() | handed_on(message))
    return wire


def _first_choice(answer: JSONObject, *, provider: str) -> JSONObject | None:
    """Return the first choice, None if there is none (the event that carries the usage has none)."""
    choices = answer.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ProviderResponseError(f"{provider} sent choices that are none")
    return next((choice for choice in choices if choice.get("index") in {0, None}), None)


def _said(facts: JSONObject) -> JSONObject:
    return {name: fact for name, fact in facts.items() if fact is not None}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _object(value: Any) -> JSONObject | None:
    return value if isinstance(value, dict) else None
