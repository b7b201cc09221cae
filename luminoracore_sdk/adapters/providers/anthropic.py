"""Anthropic's Messages API."""

import json
from types import ModuleType
from typing import Any

import attrs

from luminoracore_sdk.adapters.providers.anthropic_messages import (
    finish_reason,
    prompt,
    tool_call,
    tool_choice,
    tools,
)
from luminoracore_sdk.adapters.providers.errors import reported_error
from luminoracore_sdk.adapters.providers.http import HttpProvider
from luminoracore_sdk.adapters.providers.presets import ANTHROPIC, Preset
from luminoracore_sdk.adapters.providers.reading import StreamReading
from luminoracore_sdk.adapters.providers.settings import AnthropicSettings, read_settings
from luminoracore_sdk.adapters.providers.wire import (
    joined_text,
    object_or_empty,
    objects_of,
    text_or_none,
    without_none,
)
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import ProviderError, ProviderResponseError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.vendors import VendorRules, rules_of

__all__ = ["AnthropicProvider"]

_MAX_TOKENS = 4096  # required by the API; enough for an answer in a conversation
_VERSION_WITH_TEMPERATURE = "2023-06-01"
_THINKING = frozenset({"thinking", "redacted_thinking"})


class AnthropicProvider(HttpProvider):
    """Call Anthropic's Messages API.

    ``extra`` may hold ``timeout``, ``max_retries``, ``headers`` and ``api_version``. The API refuses
    ``temperature`` since version 2026-10-21, so it is sent only with ``api_version`` 2023-06-01. ``max_tokens``
    defaults to 4096. ``tools``, ``tool_choice`` and a JSON schema as ``response_format`` may be given in OpenAI's form.
    Tool calls and finish reasons are returned in OpenAI's form; the original ``stop_reason`` is in
    ``provider_metadata``.
    """

    package = "anthropic"

    def __init__(self, config: ProviderConfig) -> None:
        self._settings = read_settings(AnthropicSettings, config)
        super().__init__(config, self._settings)

    @property
    def rules(self) -> VendorRules:
        """What the Messages API accepts."""
        return rules_of("anthropic")

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
        return {"model": self._model, "max_tokens": limit} | prompt(messages) | self._converted(kwargs)

    def _converted(self, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return parameters with those in OpenAI's form as the API takes them.

        Raises:
            ProviderError: The schema of the answer has no form that the API takes.
        """
        converted = dict(parameters)
        if isinstance(converted.get("tools"), list):
            converted["tools"] = tools(converted["tools"])
        if "tool_choice" in converted:
            converted["tool_choice"] = tool_choice(converted["tool_choice"])
        if object_or_empty(converted.get("response_format")).get("type") == "json_schema":
            schema = object_or_empty(converted.pop("response_format").get("json_schema")).get("schema")
            try:
                schema = self._driver.transform_schema(schema)
            except (TypeError, ValueError) as exc:
                raise ProviderError(f"{self.config.name} does not take the schema of the answer: {exc}") from exc
            form = {"type": "json_schema", "schema": schema}
            converted["output_config"] = {**object_or_empty(converted.get("output_config")), "format": form}
        return converted

    def _sends_temperature(self, request: dict[str, Any]) -> bool:
        return "temperature" in (request.get("extra_body") or {})

    async def _create(self, client: Any, request: dict[str, Any]) -> Any:
        return await client.messages.create(**request)

    def _reading(self) -> StreamReading:
        return _EventReading(self.config.name)

    def _answer(self, answer: JSONObject) -> ChatResponse:
        name = self.config.name
        if answer.get("type") == "error" or answer.get("error"):
            raise reported_error(answer.get("error"), name)
        blocks = answer.get("content")
        if not isinstance(blocks, list):
            raise ProviderResponseError(f"{name} sent an answer without content")
        stop_reason = answer.get("stop_reason")
        return attrs.evolve(
            _whole(objects_of(blocks), answer.get("id"), stop_reason),
            content=joined_text(blocks, provider=name),
            reasoning=_thinking_text(objects_of(blocks)) or None,
            usage=object_or_empty(answer.get("usage")) or None,
            model=text_or_none(answer.get("model")),
        )


class _EventReading(StreamReading):
    """Reader of the events ``message_start`` to ``message_stop``."""

    def __init__(self, provider: str) -> None:
        super().__init__(provider)
        self._ended = False
        self._message: JSONObject = {}
        self._usage: JSONObject = {}
        self._stop_reason: Any = None
        self._blocks: dict[Any, JSONObject] = {}

    def _note(self, event: JSONObject) -> ChatResponse | None:
        match event.get("type"):
            case "message_start":
                self._message = object_or_empty(event.get("message"))
                self._model = text_or_none(self._message.get("model"))
                self._usage |= object_or_empty(self._message.get("usage"))
            case "content_block_start":
                block = dict(object_or_empty(event.get("content_block")))
                self._blocks[event.get("index")] = block
                return self._delta(*_shown(block))
            case "content_block_delta":
                delta = object_or_empty(event.get("delta"))
                _extend(self._blocks.setdefault(event.get("index"), {"type": "text"}), delta)
                return self._delta(*_shown(delta))
            case "message_delta":
                self._stop_reason = object_or_empty(event.get("delta")).get("stop_reason") or self._stop_reason
                self._usage |= object_or_empty(event.get("usage"))
            case "message_stop":
                self._ended = True
        return None

    def _is_whole(self) -> bool:
        return self._ended and self._stop_reason is not None

    def _end(self) -> ChatResponse:
        content, thought = self._rest()
        return attrs.evolve(
            _whole(list(self._blocks.values()), self._message.get("id"), self._stop_reason),
            content=content,
            reasoning=thought,
            usage=self._usage or None,
            model=self._model,
        )


def _shown(part: JSONObject) -> tuple[str, str]:
    """Return the text and the reasoning of a block or a delta."""
    text = part.get("text") if part.get("type") in {"text", "text_delta"} else None
    thought = part.get("thinking") if part.get("type") in {"thinking", "thinking_delta"} else None
    return text_or_none(text) or "", text_or_none(thought) or ""


def _extend(block: JSONObject, delta: JSONObject) -> None:
    """Add a delta to the block that it belongs to."""
    match delta.get("type"):
        case "input_json_delta" if isinstance(delta.get("partial_json"), str):
            block.setdefault("pieces", []).append(delta["partial_json"])
        case "thinking_delta" if isinstance(delta.get("thinking"), str):
            block["thinking"] = (text_or_none(block.get("thinking")) or "") + delta["thinking"]
        case "signature_delta" if isinstance(delta.get("signature"), str):
            block["signature"] = (text_or_none(block.get("signature")) or "") + delta["signature"]


def _whole(blocks: list[JSONObject], message_id: Any, stop_reason: Any) -> ChatResponse:
    """Return what the blocks of an answer say besides its text."""
    calls = [_call_of(block) for block in blocks if block.get("type") == "tool_use"]
    thinking = [block for block in blocks if block.get("type") in _THINKING]
    known = {"text", "tool_use", *_THINKING}
    return ChatResponse(
        content="",
        finish_reason=finish_reason(stop_reason),
        provider_metadata=without_none(
            {
                "id": message_id,
                "stop_reason": stop_reason,
                "tool_calls": calls or None,
                "reasoning": {"thinking_blocks": thinking} if thinking else None,
            }
        ),
        tool_calls=calls,
        parts=[block for block in blocks if block.get("type") not in known],
    )


def _call_of(block: JSONObject) -> JSONObject:
    pieces = block.get("pieces")
    arguments = "".join(pieces) if pieces else json.dumps(block.get("input") or {}, ensure_ascii=False)
    return tool_call(block.get("id"), block.get("name"), arguments)


def _thinking_text(blocks: list[JSONObject]) -> str:
    return "".join(block["thinking"] for block in blocks if isinstance(block.get("thinking"), str))
