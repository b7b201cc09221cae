"""Messages, tools and answers in pydantic-ai's form; imported only where pydantic-ai is installed."""

import binascii
import json
from base64 import b64decode
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic_ai import messages as ai
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.tools import ToolDefinition

from luminoracore_sdk.adapters.providers.wire import object_or_empty, objects_of, sendable, text_or_none, without_none
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse
from luminoracore_sdk.domain.errors import ProviderError, ProviderResponseError, UnsupportedContentError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = ["history", "request_parameters", "whole_answer"]

_AUDIO = {"mp3": "audio/mpeg", "wav": "audio/wav"}
_UNKEPT = {"usage", "timestamp", "run_id", "conversation_id", "metadata", "provider_url"}
_FINISH_REASONS = {"tool_call": "tool_calls"}


def history(messages: Sequence[ChatMessage], vendor: str) -> list[ai.ModelMessage]:
    """Return a prompt as pydantic-ai takes it: requests and responses alternate.

    Args:
        messages: The outgoing messages.
        vendor: Named in errors.

    Raises:
        UnsupportedContentError: A content part has no form there.
    """
    sent: list[ai.ModelMessage] = []
    for message in messages:
        new: ai.ModelMessage
        if message.role == "assistant":
            new = _response(message, vendor)
        else:
            new = ai.ModelRequest(parts=[_request_part(message, vendor)])
        previous = sent[-1] if sent else None
        if isinstance(previous, ai.ModelRequest) and isinstance(new, ai.ModelRequest):
            sent[-1] = replace(previous, parts=[*previous.parts, *new.parts])
        elif isinstance(previous, ai.ModelResponse) and isinstance(new, ai.ModelResponse):
            kept = previous if previous.provider_name else new  # names the vendor that signed the parts
            sent[-1] = replace(kept, parts=[*previous.parts, *new.parts])
        else:
            sent.append(new)
    return sent


def _request_part(message: ChatMessage, vendor: str) -> ai.ModelRequestPart:
    content = sendable(message.content)
    if message.role == "system":
        return ai.SystemPromptPart(_text(content, vendor, role="system"))
    parts = [_part(part, vendor, role=message.role) for part in content] if isinstance(content, list) else content
    if message.role == "user":
        return ai.UserPromptPart(parts)
    failed = message.metadata.get("is_error") is True
    return ai.ToolReturnPart(
        tool_name=sendable(message.metadata.get("name", "")),
        content=parts,
        tool_call_id=message.metadata["tool_call_id"],
        outcome="failed" if failed else "success",
    )


def _response(message: ChatMessage, vendor: str) -> ai.ModelResponse:
    """Return an answer: as its vendor sent it, if it comes from the vendor that is asked, else from what it says."""
    calls = [
        ai.ToolCallPart(call["function"]["name"], call["function"]["arguments"], call["id"])
        for call in sendable(objects_of(message.metadata.get("tool_calls")))
    ]
    kept = _kept(message.metadata.get("vendor_message"))
    if kept is not None and len(calls) == sum(isinstance(part, ai.ToolCallPart) for part in kept.parts):
        waiting = iter(calls)  # their ids may have been mapped
        return replace(kept, parts=[_renewed(part, waiting) for part in kept.parts])
    content = sendable(message.content)
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
    return ai.ModelResponse(parts=[*(_said(part, vendor) for part in parts), *calls])


def _kept(stored: Any) -> ai.ModelResponse | None:
    """Return a stored answer; None: there is none, or this version of pydantic-ai cannot read it."""
    if stored is None:
        return None
    try:
        (kept,) = ai.ModelMessagesTypeAdapter.validate_python([stored])
    except ValueError:
        return None
    return kept if isinstance(kept, ai.ModelResponse) else None


def _renewed(part: ai.ModelResponsePart, calls: Any) -> ai.ModelResponsePart:
    if not isinstance(part, ai.ToolCallPart):
        return part
    call = next(calls)
    return replace(part, args=call.args, tool_call_id=call.tool_call_id)


def _said(part: JSONObject, vendor: str) -> ai.ModelResponsePart:
    content = _part(part, vendor, role="assistant")
    if isinstance(content, str):
        return ai.TextPart(content)
    if isinstance(content, ai.BinaryContent):
        return ai.FilePart(content)
    raise UnsupportedContentError(provider=vendor, part=str(part.get("type")), role="assistant")


def _text(content: Any, vendor: str, *, role: str) -> str:
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    texts = [_part(part, vendor, role=role) for part in parts]
    return "\n\n".join(text for text in texts if isinstance(text, str))


def _part(part: JSONObject, vendor: str, *, role: str) -> Any:
    """Return a content part in OpenAI's form as pydantic-ai's: a string, binary content or a URL."""
    kind = str(part.get("type"))
    inner = part.get(kind)
    detail = object_or_empty(inner)
    found: Any = None
    try:
        match kind:
            case "text":
                found = part.get("text")
            case "image_url":
                found = _file(detail.get("url", inner), ai.ImageUrl)
            case "document_url":
                found = _file(detail.get("url", inner), ai.DocumentUrl)
            case "file":  # a file that lies with another vendor has only an id
                found = _file(detail.get("file_data"), ai.DocumentUrl)
            case "input_audio" if detail.get("format") in _AUDIO and isinstance(detail.get("data"), str):
                found = ai.BinaryContent(b64decode(detail["data"]), media_type=_AUDIO[detail["format"]])
    except (binascii.Error, ValueError) as exc:
        raise UnsupportedContentError(provider=vendor, part=kind, role=role) from exc
    if not found or not isinstance(found, str | ai.BinaryContent | ai.FileUrl):
        raise UnsupportedContentError(provider=vendor, part=kind, role=role)
    return found


def _file(url: Any, kind: type[ai.ImageUrl | ai.DocumentUrl]) -> Any:
    if not isinstance(url, str):
        return None
    return ai.BinaryContent.from_data_uri(url) if url.startswith("data:") else kind(url)


def request_parameters(
    tools: Any, tool_choice: Any, response_format: Any, *, native: bool
) -> tuple[ModelRequestParameters, JSONObject]:
    """Return tools and the form of the answer, and the settings that belong to them, from OpenAI's form.

    Args:
        tools: As ``tools``.
        tool_choice: As ``tool_choice``.
        response_format: As ``response_format``.
        native: Whether the model takes a JSON schema. Otherwise the schema is part of the system prompt.

    Raises:
        ProviderError: It has no form there.
    """
    functions = [_tool(tool) for tool in tools or []]
    settings: JSONObject = {}
    match tool_choice:
        case None:
            pass
        case "auto" | "none" | "required":
            settings["tool_choice"] = tool_choice
        case {"type": "function", "function": {"name": str(name)}}:
            settings["tool_choice"] = [name]
        case _:
            raise ProviderError("pydantic-ai takes a 'tool_choice' of auto, none, required or one function")
    output: Any = None
    match response_format:
        case None | {"type": "text"}:
            return ModelRequestParameters(function_tools=functions), settings
        case {"type": "json_object"}:
            output = OutputObjectDefinition({"type": "object"})
        case {"type": "json_schema", "json_schema": {"schema": dict(schema), **rest}}:
            about: dict[str, Any] = {key: rest.get(key) for key in ("name", "description", "strict")}
            output = OutputObjectDefinition(schema, **about)
        case _:
            raise ProviderError("pydantic-ai takes a 'response_format' of type text, json_object or json_schema")
    # Gemini before 3 refuses a schema beside tools; an object of any kind is not a schema that vendors take
    mode: Any = "native" if native and not functions and response_format["type"] == "json_schema" else "prompted"
    return ModelRequestParameters(function_tools=functions, output_mode=mode, output_object=output), settings


def _tool(tool: Any) -> ToolDefinition:
    match tool:
        case {"type": "function", "function": {"name": str(name), **rest}}:
            schema = object_or_empty(rest.get("parameters")) or {"type": "object", "properties": {}}
            about: dict[str, Any] = {key: rest.get(key) for key in ("description", "strict")}
            return ToolDefinition(name=name, parameters_json_schema=schema, **about)
    raise ProviderError("pydantic-ai takes tools of type 'function', in OpenAI's form")


def whole_answer(answer: ai.ModelResponse, name: str, vendor: str) -> ChatResponse:
    """Return a whole answer.

    Args:
        answer: As pydantic-ai gives it.
        name: Registered name of the provider, for errors.
        vendor: Name of the vendor's rules: only it is given its reasoning back.

    Raises:
        ProviderResponseError: It reports an error, or holds nothing.
    """
    details = object_or_empty(answer.provider_details)
    raw = text_or_none(details.get("finish_reason"))
    reason = answer.finish_reason or (raw.lower() if raw else None)
    if reason == "error":
        raise ProviderResponseError(f"{name}: the model ended its answer with an error ({raw})")
    if reason is None and not answer.parts:
        raise ProviderResponseError(f"{name} sent an answer without content")
    calls = [_call(part) for part in answer.parts if isinstance(part, ai.ToolCallPart)]
    if calls and reason == "stop":  # Gemini has no reason of its own for calls
        reason = "tool_calls"
    return ChatResponse(
        content="".join(part.content for part in answer.parts if isinstance(part, ai.TextPart)),
        finish_reason=_FINISH_REASONS.get(reason, reason) if reason else None,
        usage=_usage(answer),
        model=answer.model_name,
        provider_metadata=without_none(
            {
                "id": answer.provider_response_id,
                "stop_reason": raw,
                "tool_calls": calls or None,
                "reasoning": _given_back(answer, vendor),
            }
        ),
        reasoning="".join(part.content for part in answer.parts if isinstance(part, ai.ThinkingPart)) or None,
        refusal=text_or_none(details.get("refusal")),
        tool_calls=calls,
        parts=[_other(part) for part in answer.parts if not isinstance(part, _PLAIN)],
    )


_PLAIN = (ai.TextPart, ai.ThinkingPart, ai.ToolCallPart)


def _call(part: ai.ToolCallPart) -> JSONObject:
    arguments = part.args if isinstance(part.args, str) else json.dumps(part.args or {}, ensure_ascii=False)
    function = {"name": part.tool_name, "arguments": arguments}
    return {"id": part.tool_call_id, "type": "function", "function": function}


def _other(part: ai.ModelResponsePart) -> JSONObject:
    if isinstance(part, ai.FilePart) and part.content.is_image:
        return {"type": "image_url", "image_url": {"url": part.content.data_uri}}
    plain: JSONObject = _dumped(ai.ModelResponse(parts=[part]))["parts"][0]
    return {"type": part.part_kind, **plain}


def _dumped(answer: ai.ModelResponse) -> JSONObject:
    (plain,) = ai.ModelMessagesTypeAdapter.dump_python([answer], mode="json", exclude_none=True)
    return {key: value for key, value in plain.items() if key not in _UNKEPT}


def _given_back(answer: ai.ModelResponse, vendor: str) -> JSONObject | None:
    """Return the answer as pydantic-ai serialises it, if content and calls do not say all of it."""
    plain = [
        isinstance(part, ai.TextPart | ai.ToolCallPart) and part.id is None and part.provider_details is None
        for part in answer.parts
    ]
    return None if all(plain) else {"vendor": vendor, "message": _dumped(answer)}


def _usage(answer: ai.ModelResponse) -> JSONObject | None:
    counted = answer.usage
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")
    usage: JSONValue = {name: count for name in names if (count := getattr(counted, name, 0))}
    return {**counted.details, **usage} if isinstance(usage, dict) and usage else None
