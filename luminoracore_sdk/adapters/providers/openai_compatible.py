"""OpenAI's chat completions, and every server with the same protocol."""

import asyncio
import re
from inspect import signature
from types import ModuleType
from typing import Any

from luminoracore_sdk.adapters.providers.errors import reported_error
from luminoracore_sdk.adapters.providers.http import HttpProvider
from luminoracore_sdk.adapters.providers.presets import OPENAI_COMPATIBLE, KeyRule, Preset, provider_key
from luminoracore_sdk.adapters.providers.reading import StreamReading
from luminoracore_sdk.adapters.providers.settings import OpenAISettings, read_settings
from luminoracore_sdk.adapters.providers.wire import (
    handed_on,
    joined_text,
    object_or_empty,
    objects_of,
    request_body,
    sendable,
    text_or_none,
    without_none,
)
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import ProviderResponseError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.pieces import is_large
from luminoracore_sdk.domain.tool_calls import ToolCallAssembly, with_missing_ids
from luminoracore_sdk.domain.vendors import VendorRules, rules_of

__all__ = ["OpenAIProvider", "on_wire"]

_NEWER_TOKEN_LIMIT = re.compile(r"(.*/)?(o\d|gpt-([5-9]|\d\d))")
"""Models that know only the newer name of ``max_tokens``."""

_REFUSES_TEMPERATURE = re.compile(r"(.*/)?(o\d|gpt-([5-9]|\d\d)(?!.*-chat))")
"""Models that refuse ``temperature``; OpenAI, "Reasoning models". Others that do are noticed by their refusal."""

_BESIDE_THE_BODY = frozenset({"extra_headers", "extra_query", "extra_body", "timeout"})
"""Arguments of a call that are no part of its body."""

_KEYLESS = "none"  # the client requires a key; a server that needs none ignores it
_PARTS = ("images", "audio", "annotations")


class OpenAIProvider(HttpProvider):
    """Talk to OpenAI, or through ``base_url`` to any server with the same interface.

    ``extra`` may hold ``timeout``, ``max_retries``, ``headers``, ``max_answer_bytes``, ``organization``,
    ``project``, ``stream_usage`` and ``accept_unfinished``; see ``OpenAISettings``. Models that refuse
    ``temperature`` do not get it, which ``provider_metadata["dropped"]`` says; reasoning models get ``max_tokens``
    as ``max_completion_tokens``.
    """

    package = "openai"

    def __init__(self, config: ProviderConfig) -> None:
        self._settings = read_settings(OpenAISettings, config)
        super().__init__(config, self._settings)

    @property
    def rules(self) -> VendorRules:
        """What the server accepts, by the provider's registered name."""
        return rules_of(self.config.name)

    @classmethod
    def find_preset(cls, name: str) -> Preset:
        """Return the preset of a built-in name; any other name needs an address."""
        return OPENAI_COMPATIBLE.get(provider_key(name), Preset(key=KeyRule.NEVER))

    def _make_client(self, driver: ModuleType, **common: Any) -> Any:
        settings = self._settings
        client = driver.AsyncOpenAI(api_key=self._key or _KEYLESS, default_headers=settings.headers, **common)
        # The client takes these from the environment, and would send them to every other provider too.
        client.organization, client.project = settings.organization, settings.project
        return client

    def _request(
        self, messages: list[ChatMessage], temperature: float, max_tokens: int | None, **kwargs: Any
    ) -> dict[str, Any]:
        request: dict[str, Any] = {"model": self._model, "messages": [on_wire(item) for item in messages]}
        model = str(kwargs.get("model", self._model))
        if not _REFUSES_TEMPERATURE.match(model):
            request["temperature"] = temperature
        if max_tokens is not None:
            request["max_completion_tokens" if _NEWER_TOKEN_LIMIT.match(model) else "max_tokens"] = max_tokens
        return request | kwargs

    async def _create(self, client: Any, request: dict[str, Any]) -> Any:
        usage = self._settings.stream_usage
        if request["stream"] and (self._preset.stream_usage if usage is None else usage):
            request.setdefault("stream_options", {"include_usage": True})
        if is_large(request["messages"]) and _BESIDE_THE_BODY.isdisjoint(request) and _takes_bytes(client):
            # the client would write the body on the event loop, in one call that takes 20 ms for 5 MB
            body = await asyncio.to_thread(request_body, request)
            if body is not None:
                return await self._post(client, body, stream=request["stream"])
        return await client.chat.completions.create(**request)

    async def _post(self, client: Any, body: bytes, *, stream: bool) -> Any:
        types = self._driver.types.chat
        kind = self._driver.AsyncStream[types.ChatCompletionChunk]
        return await client.post(
            "/chat/completions", cast_to=types.ChatCompletion, content=body, stream=stream, stream_cls=kind
        )

    def _reading(self) -> StreamReading:
        return _ChunkReading(self.config.name, accept_unfinished=self._settings.accept_unfinished)

    def _answer(self, answer: JSONObject) -> ChatResponse:
        name = self.config.name
        if answer.get("error"):
            raise reported_error(answer["error"], name)
        choice = _first_choice(answer, provider=name)
        message = choice.get("message") if choice else None
        if choice is None or not isinstance(message, dict):
            raise ProviderResponseError(f"{name} sent an answer without choices")
        calls = message.get("tool_calls")
        whole = with_missing_ids(calls, text_or_none(answer.get("id"))) if isinstance(calls, list) and calls else []
        rest = {key: item for key, item in message.items() if key not in {"role", "content", "tool_calls"}}
        content = message.get("content")
        return ChatResponse(
            content=joined_text(content, provider=name),
            finish_reason=text_or_none(choice.get("finish_reason")),
            usage=object_or_empty(answer.get("usage")) or None,
            model=text_or_none(answer.get("model")),
            provider_metadata=without_none(
                {"id": answer.get("id"), **rest, "tool_calls": whole or None, "reasoning": _given_back(message)}
            ),
            reasoning=_reasoning_text(message) or _thinking_text(content) or None,
            refusal=text_or_none(message.get("refusal")),
            tool_calls=whole,
            parts=_parts(message),
        )


class _ChunkReading(StreamReading):
    """Reader of ``chat.completion.chunk`` events."""

    def __init__(self, provider: str, *, accept_unfinished: bool) -> None:
        super().__init__(provider, accept_unfinished=accept_unfinished)
        self._finish_reason: str | None = None
        self._usage: JSONObject | None = None
        self._metadata: JSONObject = {}
        self._calls = ToolCallAssembly()
        self._message: JSONObject = {}  # of the deltas' fields other than content and calls
        self._answer_parts: list[JSONObject] = []

    def _note(self, event: JSONObject) -> ChatResponse | None:
        if event.get("error"):
            raise reported_error(event["error"], self._provider)
        self._model = text_or_none(event.get("model")) or self._model
        self._usage = object_or_empty(event.get("usage")) or self._usage
        self._metadata |= without_none({"id": event.get("id")})
        choice = _first_choice(event, provider=self._provider) or {}
        self._finish_reason = text_or_none(choice.get("finish_reason")) or self._finish_reason
        delta = object_or_empty(choice.get("delta"))
        for piece in delta.get("tool_calls") or []:
            if not isinstance(piece, dict):
                raise ProviderResponseError(f"{self._provider} sent a malformed tool call")
            self._calls.add(piece)
        for name in ("refusal", "reasoning_content", "reasoning"):
            if isinstance(delta.get(name), str):
                self._message[name] = self._message.get(name, "") + delta[name]
        self._message.setdefault("reasoning_details", []).extend(objects_of(delta.get("reasoning_details")))
        if isinstance(delta.get("extra_content"), dict):
            self._message["extra_content"] = delta["extra_content"]
        self._answer_parts += _parts(delta)
        content = delta.get("content")
        thought = _reasoning_text(delta) or _thinking_text(content)
        return self._delta(joined_text(content, provider=self._provider), thought)

    def _is_whole(self) -> bool:
        return self._finish_reason is not None

    def _end(self) -> ChatResponse:
        calls = self._calls.calls(text_or_none(self._metadata.get("id")))
        content, thought = self._rest()
        facts = {
            "tool_calls": calls or None,
            "refusal": self._message.get("refusal"),
            "reasoning_content": self._message.get("reasoning_content"),
            "reasoning": _given_back(self._message),
        }
        return ChatResponse(
            content=content,
            finish_reason=self._finish_reason,
            usage=self._usage,
            model=self._model,
            provider_metadata=self._metadata | without_none(facts),
            reasoning=thought,
            refusal=self._message.get("refusal"),
            tool_calls=calls,
            parts=self._answer_parts,
        )


def _takes_bytes(client: Any) -> bool:
    """Whether the client's version sends a body that is written already."""
    return "content" in signature(client.post).parameters


def on_wire(message: ChatMessage) -> JSONObject:
    """Return a message as the API takes it."""
    wire: JSONObject = sendable(message.to_dict() | handed_on(message))
    return wire


def _first_choice(answer: JSONObject, *, provider: str) -> JSONObject | None:
    """Return the first choice, None if there is none (the event that carries the usage has none).

    Raises:
        ProviderError: The choice reports an error.
    """
    choices = answer.get("choices") or []
    if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
        raise ProviderResponseError(f"{provider} sent malformed choices")
    choice = next((choice for choice in choices if choice.get("index") in {0, None}), None)
    if choice is not None and (choice.get("error") or choice.get("finish_reason") == "error"):
        raise reported_error(choice.get("error"), provider)
    return choice


def _reasoning_text(message: JSONObject) -> str:
    """Return the reasoning of a message or delta as text: DeepSeek's and vLLM's field, else OpenRouter's."""
    return text_or_none(message.get("reasoning_content")) or text_or_none(message.get("reasoning")) or ""


def _thinking_text(content: Any) -> str:
    """Return the reasoning in a list of parts, where Mistral puts it."""
    thinking = [part["thinking"] for part in objects_of(content) if isinstance(part.get("thinking"), list)]
    texts = [text_or_none(chunk.get("text")) for chunks in thinking for chunk in objects_of(chunks)]
    return "".join(filter(None, texts))


def _given_back(message: JSONObject) -> JSONObject | None:
    """Return the reasoning as the provider wants it back; None: there is none."""
    kept: JSONObject = {}
    if isinstance(message.get("reasoning_content"), str):
        kept["reasoning_content"] = message["reasoning_content"]
    if details := objects_of(message.get("reasoning_details")):
        kept["reasoning_details"] = details
    if isinstance(message.get("extra_content"), dict):
        kept["extra_content"] = message["extra_content"]
    return kept or None


def _parts(message: JSONObject) -> list[JSONObject]:
    """Return what an answer holds besides text and calls: pictures, sound, sources."""
    found: list[JSONObject] = []
    for name in _PARTS:
        value = message.get(name)
        found += objects_of(value) if isinstance(value, list) else [{"type": name, name: value}] if value else []
    content = message.get("content")
    return found + [part for part in objects_of(content) if part.get("type") not in {"text", "thinking", None}]
