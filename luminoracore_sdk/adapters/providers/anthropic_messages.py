"""Conversion between messages in OpenAI's form and those of the Messages API."""

import json
from collections.abc import Sequence
from typing import Any

from luminoracore_sdk.adapters.providers.wire import sendable
from luminoracore_sdk.domain.chat import ChatMessage
from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["finish_reason", "prompt", "tool_call", "tool_choice", "tools"]

_OPENING = "(The conversation began earlier.)"
"""Inserted when a window of history begins with an answer: the API requires a user's turn first."""

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def prompt(messages: Sequence[ChatMessage]) -> JSONObject:
    """Return ``messages`` and, if there are any, ``system`` for the API.

    System messages are joined; the result of a tool becomes part of a user's turn; consecutive turns of one role
    are merged; empty strings, which the API refuses, are omitted.

    Raises:
        ProviderError: A tool call or result cannot be expressed.
    """
    system: list[JSONObject] = []
    turns: list[JSONObject] = []
    for number, message in enumerate(messages, start=1):
        if message.role == "system":
            system += _parts(message.content)
            continue
        role = "assistant" if message.role == "assistant" else "user"
        parts = _message_parts(message, number)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += parts
        elif parts:
            turns.append({"role": role, "content": parts})
    if turns and turns[0]["role"] == "assistant":
        turns.insert(0, {"role": "user", "content": _parts(_OPENING)})
    return {"messages": turns, "system": system} if system else {"messages": turns}


def _message_parts(message: ChatMessage, number: int) -> list[JSONObject]:
    if message.role == "tool":
        call_id = message.metadata.get("tool_call_id")
        if not isinstance(call_id, str):
            raise ProviderError(f"message {number} is the result of a tool without a tool_call_id")
        return [{"type": "tool_result", "tool_use_id": call_id, "content": _parts(message.content)}]
    calls = message.metadata.get("tool_calls") or []
    if not isinstance(calls, list):
        raise ProviderError(f"message {number} has tool_calls that are not a list")
    thinking = message.metadata.get("thinking_blocks") or []
    return [*thinking, *_parts(message.content), *(_tool_use(call, number) for call in calls)]


def _parts(content: Any) -> list[JSONObject]:
    content = sendable(content)
    if isinstance(content, list):
        return [part if isinstance(part, dict) else {"type": "text", "text": str(part)} for part in content]
    if content is None or content == "":
        return []
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return [{"type": "text", "text": text}]


def _tool_use(call: Any, number: int) -> JSONObject:
    try:
        function = call["function"]
        arguments = dict(json.loads(function["arguments"] or "{}"))
        return {"type": "tool_use", "id": call["id"], "name": function["name"], "input": sendable(arguments)}
    except (KeyError, TypeError, ValueError) as exc:
        raise ProviderError(f"message {number} has a tool call that is not in OpenAI's form") from exc


def tool_call(call_id: Any, name: Any, arguments: str) -> JSONObject:
    """Return a tool call in OpenAI's form, in which sessions store it."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments or "{}"}}


def finish_reason(stop_reason: Any) -> str | None:
    """Return OpenAI's name for a stop reason, or the reason itself if OpenAI has none."""
    return _FINISH_REASONS.get(stop_reason, stop_reason) if isinstance(stop_reason, str) else None


def tools(declared: Sequence[Any]) -> list[Any]:
    """Return the tools of a request; those in OpenAI's form are converted, any other is passed as it is."""
    return [_tool(tool["function"]) if _is_function(tool) else tool for tool in declared]


def _is_function(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "function" and isinstance(tool.get("function"), dict)


def _tool(function: JSONObject) -> JSONObject:
    known: JSONObject = {key: function[key] for key in ("name", "description") if key in function}
    return {**known, "input_schema": function.get("parameters") or {"type": "object", "properties": {}}}


def tool_choice(choice: Any) -> Any:
    """Return a choice in OpenAI's form as the API takes it; any other is passed as it is."""
    if choice in ("auto", "none", "required"):
        return {"type": "any" if choice == "required" else choice}
    return {"type": "tool", "name": choice["function"]["name"]} if _is_function(choice) else choice
