"""Anthropic's Messages API."""

import json
from types import ModuleType
from typing import Any

from luminoracore_sdk.adapters.providers.anthropic_messages import finish_reason, prompt, tool_call
from luminoracore_sdk.adapters.providers.http import HttpProvider
from luminoracore_sdk.adapters.providers.presets import ANTHROPIC, Preset
from luminoracore_sdk.adapters.providers.reading import StreamReading
from luminoracore_sdk.adapters.providers.settings import AnthropicSettings, read_settings
from luminoracore_sdk.adapters.providers.wire import joined_text, object_or_empty, text_or_none, without_none
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import ProviderResponseError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["AnthropicProvider"]

_MAX_TOKENS = 4096  # required by the API; enough for an answer in a conversation
_VERSION_WITH_TEMPERATURE = "2023-06-01"


class AnthropicProvider(HttpProvider):
    """Call Anthropic's Messages API.

    ``extra`` may hold ``timeout``, ``max_retries``, ``headers`` and ``api_version``. The API refuses
    ``temperature`` since version 2026-10-21, so it is sent only with ``api_version`` 2023-06-01. ``max_tokens``
    defaults to 4096. Tool calls and finish reasons are returned in OpenAI's form; the original ``stop_reason`` is in
    ``provider_metadata``.
    """

    package = "anthropic"

    def __init__(self, config: ProviderConfig) -> None:
        self._settings = read_settings(AnthropicSettings, config)
        super().__init__(config, self._settings)

    @classmethod
    def find_preset(cls, name: str) -> Preset:  # noqa: ARG003
        """Return the preset, which is the same for every name."""
        return ANTHROPIC

    def _make_client(self, driver: ModuleType, **common: Any) -> Any:
        settings = self._settings
        version = {"anthropic-version": settings.api_version} if settings.api_version else {}
        headers = {**version, **settings.headers}
        return driver.AsyncAnthropic(api_key=self._key, default_headers=headers, **common)

    def _request(
        self, messages: list[ChatMessage], temperature: float, max_tokens: int | None, **kwargs: Any
    ) -> dict[str, Any]:
        if self._settings.api_version == _VERSION_WITH_TEMPERATURE:
            kwargs["extra_body"] = {"temperature": temperature} | (kwargs.get("extra_body") or {})
        limit = _MAX_TOKENS if max_tokens is None else max_tokens
        return {"model": self._model, "max_tokens": limit} | prompt(messages) | kwargs

    async def _create(self, client: Any, request: dict[str, Any]) -> Any:
        return await client.messages.create(**request)

    def _reading(self) -> StreamReading:
        return _EventReading(self.config.name)

    def _answer(self, answer: JSONObject) -> ChatResponse:
        name = self.config.name
        parts = answer.get("content")
        if not isinstance(parts, list):
            raise ProviderResponseError(f"{name} sent an answer without content")
        calls = [
            tool_call(part.get("id"), part.get("name"), json.dumps(part.get("input"), ensure_ascii=False))
            for part in parts
            if isinstance(part, dict) and part.get("type") == "tool_use"
        ]
        stop_reason = answer.get("stop_reason")
        return ChatResponse(
            content=joined_text(parts, provider=name),
            finish_reason=finish_reason(stop_reason),
            usage=object_or_empty(answer.get("usage")) or None,
            model=text_or_none(answer.get("model")),
            provider_metadata=_metadata(answer.get("id"), stop_reason, calls),
        )


class _EventReading(StreamReading):
    """Reader of the events ``message_start`` to ``message_stop``."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self._ended = False
        self._message: JSONObject = {}
        self._usage: JSONObject = {}
        self._stop_reason: Any = None
        self._calls: dict[Any, JSONObject] = {}

    def _note(self, event: JSONObject) -> ChatResponse | None:
        match event.get("type"):
            case "message_start":
                self._message = object_or_empty(event.get("message"))
                self._usage |= object_or_empty(self._message.get("usage"))
            case "content_block_start":
                block = object_or_empty(event.get("content_block"))
                if block.get("type") == "tool_use":
                    self._calls[event.get("index")] = tool_call(block.get("id"), block.get("name"), "") | {"pieces": []}
                return self._delta(block)
            case "content_block_delta":
                delta = object_or_empty(event.get("delta"))
                if isinstance(piece := delta.get("partial_json"), str) and event.get("index") in self._calls:
                    self._calls[event.get("index")]["pieces"].append(piece)
                return self._delta(delta)
            case "message_delta":
                self._stop_reason = object_or_empty(event.get("delta")).get("stop_reason") or self._stop_reason
                self._usage |= object_or_empty(event.get("usage"))
            case "message_stop":
                self._ended = True
        return None

    def _delta(self, part: JSONObject) -> ChatResponse | None:
        text = part.get("text") if part.get("type") in {"text", "text_delta"} else None
        if not isinstance(text, str) or not text:
            return None
        return ChatResponse(content=text, model=text_or_none(self._message.get("model")))

    def _is_whole(self) -> bool:
        return self._ended and self._stop_reason is not None

    def _end(self) -> ChatResponse:
        calls = [
            tool_call(call["id"], call["function"]["name"], "".join(call["pieces"])) for call in self._calls.values()
        ]
        return ChatResponse(
            content="",
            finish_reason=finish_reason(self._stop_reason),
            usage=self._usage or None,
            model=text_or_none(self._message.get("model")),
            provider_metadata=_metadata(self._message.get("id"), self._stop_reason, calls),
        )


def _metadata(message_id: Any, stop_reason: Any, calls: list[JSONObject]) -> JSONObject:
    return without_none({"id": message_id, "stop_reason": stop_reason, "tool_calls": calls or None})
