"""Anthropic's Messages API."""

import json
from collections.abc import AsyncIterator
from types import ModuleType
from typing import Any

from luminoracore_sdk.adapters.providers.anthropic_messages import finish_reason, prompt, tool_call
from luminoracore_sdk.adapters.providers.http import HttpProvider
from luminoracore_sdk.adapters.providers.presets import ANTHROPIC, Preset
from luminoracore_sdk.adapters.providers.settings import AnthropicSettings, read_settings
from luminoracore_sdk.adapters.providers.wire import joined_text, plain_object, storable
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import ProviderResponseError, ProviderStreamError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["AnthropicProvider"]

_MAX_TOKENS = 4096  # the API wants a number; an answer in a conversation is shorter
_VERSION_WITH_TEMPERATURE = "2023-06-01"


class AnthropicProvider(HttpProvider):
    """Talks to Anthropic.

    ``extra`` may hold ``timeout``, ``max_retries``, ``headers`` and ``api_version``. The API refuses
    ``temperature`` since its version 2026-10-21, so it is sent only with ``api_version`` 2023-06-01.
    ``max_tokens`` is 4096 when not given. Tool calls and finish reasons come in OpenAI's form; the
    original ``stop_reason`` is in ``provider_metadata``.
    """

    package = "anthropic"

    def __init__(self, config: ProviderConfig) -> None:
        self._settings = read_settings(AnthropicSettings, config)
        super().__init__(config)

    @classmethod
    def find_preset(cls, name: str) -> Preset:  # noqa: ARG003
        """Return the one preset, whatever the name."""
        return ANTHROPIC

    def _make_client(self, driver: ModuleType) -> Any:
        settings = self._settings
        version = {"anthropic-version": settings.api_version} if settings.api_version else {}
        return driver.AsyncAnthropic(
            api_key=self._key,
            base_url=self._base_url,
            timeout=settings.timeout,
            max_retries=settings.max_retries,
            default_headers={**version, **settings.headers},
            # a redirect would carry custom headers, keys among them, to another host
            http_client=driver.DefaultAsyncHttpxClient(timeout=settings.timeout, follow_redirects=False),
        )

    def _request(
        self, messages: list[ChatMessage], temperature: float, max_tokens: int | None, **kwargs: Any
    ) -> dict[str, Any]:
        kwargs.pop("stream", None)  # which of the two methods was called decides
        if self._settings.api_version == _VERSION_WITH_TEMPERATURE:
            kwargs["extra_body"] = {"temperature": temperature} | (kwargs.get("extra_body") or {})
        limit = _MAX_TOKENS if max_tokens is None else max_tokens
        return {"model": self._model, "max_tokens": limit} | prompt(messages) | kwargs

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
            return self._answer(await client.messages.create(**request, stream=False))

    async def stream_chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatResponse]:
        """Yield the answer in deltas; see ``BaseProvider.stream_chat``.

        The last delta carries the usage and the whole tool calls.
        """
        request = self._request(messages, temperature, max_tokens, **kwargs)
        with self._errors():
            client = await self._client()
            stream = await client.messages.create(**request, stream=True)
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
        parts = answer.get("content")
        if not isinstance(parts, list):
            raise ProviderResponseError(f"{name} sent an answer without content")
        calls = [
            tool_call(part.get("id"), part.get("name"), json.dumps(part.get("input"), ensure_ascii=False))
            for part in parts
            if isinstance(part, dict) and part.get("type") == "tool_use"
        ]
        stop_reason = answer.get("stop_reason")
        response = ChatResponse(
            content=joined_text(parts, provider=name),
            finish_reason=finish_reason(stop_reason),
            usage=_object(answer.get("usage")) or None,
            model=_text(answer.get("model")),
            provider_metadata=_metadata(answer.get("id"), stop_reason, calls),
        )
        return storable(response, provider=name)


class _StreamReading:
    """What is known of an answer while its events come in."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._events = 0
        self._ended = False
        self._message: JSONObject = {}
        self._usage: JSONObject = {}
        self._stop_reason: Any = None
        self._calls: dict[Any, JSONObject] = {}

    def take(self, event: JSONObject) -> ChatResponse | None:
        """Note one event; return a delta if it brought text."""
        self._events += 1
        match event.get("type"):
            case "message_start":
                self._message = _object(event.get("message"))
                self._usage |= _object(self._message.get("usage"))
            case "content_block_start":
                block = _object(event.get("content_block"))
                if block.get("type") == "tool_use":
                    self._calls[event.get("index")] = tool_call(block.get("id"), block.get("name"), "") | {
                        "pieces": []
                    }
                return self._delta(block)
            case "content_block_delta":
                delta = _object(event.get("delta"))
                if isinstance(piece := delta.get("partial_json"), str) and event.get("index") in self._calls:
                    self._calls[event.get("index")]["pieces"].append(piece)
                return self._delta(delta)
            case "message_delta":
                self._stop_reason = _object(event.get("delta")).get("stop_reason") or self._stop_reason
                self._usage |= _object(event.get("usage"))
            case "message_stop":
                self._ended = True
        return None

    def _delta(self, part: JSONObject) -> ChatResponse | None:
        text = part.get("text") if part.get("type") in {"text", "text_delta"} else None
        if not isinstance(text, str) or not text:
            return None
        return ChatResponse(content=text, model=_text(self._message.get("model")))

    def last(self, response: Any) -> ChatResponse:
        """Return the delta that ends the answer.

        Raises:
            ProviderStreamError: The stream ended before the answer did.
            ProviderResponseError: It was no stream of events.
        """
        if not self._ended or self._stop_reason is None:
            if not self._events and "event-stream" not in response.headers.get("content-type", ""):
                raise ProviderResponseError(f"{self._provider} sent something else than a stream of events")
            raise ProviderStreamError(f"{self._provider}: the stream ended before the answer did")
        calls = [
            tool_call(call["id"], call["function"]["name"], "".join(call["pieces"]))
            for call in self._calls.values()
        ]
        delta = ChatResponse(
            content="",
            finish_reason=finish_reason(self._stop_reason),
            usage=self._usage or None,
            model=_text(self._message.get("model")),
            provider_metadata=_metadata(self._message.get("id"), self._stop_reason, calls),
        )
        return storable(delta, provider=self._provider)


def _metadata(message_id: Any, stop_reason: Any, calls: list[JSONObject]) -> JSONObject:
    facts = {"id": message_id, "stop_reason": stop_reason, "tool_calls": calls or None}
    return {name: fact for name, fact in facts.items() if fact is not None}


def _object(value: Any) -> JSONObject:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
