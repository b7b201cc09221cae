"""Formats that are a list of messages: ShareGPT, LangChain's dumps, the items of openai-agents.

- ShareGPT: ``{"conversations": [{"from": "human", "value": "…"}]}``, as LLaMA-Factory (data/README.md) and axolotl
  describe it, with ``function_call``, ``observation``, ``system`` and ``tools``.
- LangChain: ``messages_to_dict`` (``{"type": "human", "data": {…}}``; langchain_core/messages/base.py and utils.py) and
  ``dumpd`` (``{"lc": 1, "type": "constructor", "id": […, "HumanMessage"], "kwargs": {…}}``; langchain_core/load).
- openai-agents: what ``Session.get_items`` returns, items of the Responses API's input
  (openai/types/responses/response_input_item_param.py).
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from luminoracore_sdk.application.exchange.fields import each_object, field_of, placed
from luminoracore_sdk.application.exchange.foreign import ForeignSession, tool_call, without
from luminoracore_sdk.application.exchange.raw_json import loaded, resolved
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import Message

__all__ = ["is_agents_item", "is_langchain_message", "langchain_session", "openai_agents_session", "sharegpt_session"]

# -- ShareGPT ----------------------------------------------------------------------------------------

_SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model", "function_call"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function", "function_response"), "tool"),
    "system": "system",
}


def sharegpt_session(data: JSONObject) -> ForeignSession:
    """Return the session of an object with ``conversations``."""
    metadata = resolved(without(data, "conversations", "system"))
    return ForeignSession(
        system_prompt=field_of(data, "system", str, None) or None,
        metadata={"sharegpt": metadata} if metadata else {},
        messages=_sharegpt_messages(data),
    )


def _sharegpt_messages(data: JSONObject) -> Iterator[Message]:
    waiting: list[str] = []
    for index, item in enumerate(each_object(data, "conversations")):
        with placed(f"conversations[{index}]"):
            sender = field_of(item, "from", str)
            if sender not in _SHAREGPT_ROLES:
                raise ValidationError(f"'from' {sender[:40]!a} is not one of: {', '.join(_SHAREGPT_ROLES)}")
            role, content = _SHAREGPT_ROLES[sender], item.get("value")
            rest = without(item, "from", "value")
            metadata: JSONObject = {"sharegpt": rest} if rest else {}
            if sender == "function_call" and (calls := _sharegpt_calls(content, index)):
                metadata["tool_calls"], content = calls, ""
                waiting = [call["id"] for call in calls]
            elif role == "tool" and waiting:
                metadata["tool_call_id"] = waiting.pop(0)
            yield Message(role, content, metadata=metadata)


def _sharegpt_calls(content: JSONValue, index: int) -> list[JSONObject]:
    """Return the calls of a text, ``{"name": …, "arguments": …}`` or a list of them; empty: it is not that."""
    try:
        parsed: Any = json.loads(content) if isinstance(content, str) else content
    except (ValueError, RecursionError):
        return []
    calls: list[Any] = parsed if isinstance(parsed, list) else [parsed]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return []
    return [tool_call(f"call_{index}_{n}", call["name"], call.get("arguments")) for n, call in enumerate(calls)]


# -- LangChain ---------------------------------------------------------------------------------------

_LANGCHAIN_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("ai", "assistant"), "assistant"),
    **dict.fromkeys(("tool", "function"), "tool"),
    **dict.fromkeys(("system", "developer"), "system"),
}
_LANGCHAIN_CALL = frozenset({"tool_use", "tool_call", "function_call"})
"""Parts of a content that repeat ``tool_calls``."""


def is_langchain_message(item: JSONValue) -> bool:
    """Return whether a value is a message in one of LangChain's forms."""
    if not isinstance(item, dict):
        return False
    return (item.get("lc") is not None and "kwargs" in item) or ("data" in item and isinstance(item.get("type"), str))


def langchain_session(items: Iterable[Any], metadata: JSONObject) -> ForeignSession:
    """Return the session of a list of messages, parsed or not."""
    return ForeignSession(metadata=metadata, messages=_langchain_messages(items))


def _langchain_messages(items: Iterable[Any]) -> Iterator[Message]:
    for index, value in enumerate(items):
        with placed(f"messages[{index}]"):
            item = loaded(value)
            if not is_langchain_message(item):
                raise ValidationError("is not a message of LangChain: neither 'type' and 'data', nor 'lc' and 'kwargs'")
            yield _langchain_message(item)


def _langchain_message(item: JSONObject) -> Message:
    data = resolved(field_of(item, "kwargs" if "kwargs" in item else "data", dict))
    kind = data.get("type") or item.get("type")
    if kind == "constructor":  # older dumps name the class only
        names = field_of(item, "id", list)
        kind = str(names[-1]).removesuffix("Chunk").removesuffix("Message").lower() if names else ""
    kind = str(kind).removesuffix("MessageChunk").lower()
    if kind == "chat":
        kind = str(data.get("role"))
    metadata: JSONObject = {}
    extra = field_of(data, "additional_kwargs", dict, {})
    calls = [
        tool_call(str(call.get("id")), str(call.get("name")), call.get("args", {}))
        for call in (each_object(data, "tool_calls") if data.get("tool_calls") else ())
    ]
    content = data.get("content")
    rest = without(
        data, "type", "content", "id", "tool_calls", "tool_call_id", "role" if kind == data.get("role") else ""
    )
    if calls or extra.get("tool_calls"):
        metadata["tool_calls"] = calls or extra["tool_calls"]
        if isinstance(content, list):
            kept = [
                part for part in content if not (isinstance(part, dict) and str(part.get("type")) in _LANGCHAIN_CALL)
            ]
            content = kept or ""
    elif isinstance(extra.get("function_call"), dict):
        metadata["function_call"] = extra["function_call"]
    if isinstance(data.get("tool_call_id"), str):
        metadata["tool_call_id"] = data["tool_call_id"]
    elif kind == "function" and isinstance(data.get("name"), str):
        metadata["name"] = data["name"]
    if rest:
        metadata["langchain"] = rest
    message_id = data.get("id")
    return Message(
        _LANGCHAIN_ROLES.get(kind, kind),
        content,
        metadata=metadata,
        id=message_id if isinstance(message_id, str) and message_id else None,
    )


# -- openai-agents -----------------------------------------------------------------------------------

_TEXT_PARTS = frozenset({"input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text"})


def is_agents_item(item: JSONValue) -> bool:
    """Return whether a value is an item of the Responses API that is no message of the Chat Completions API."""
    if not isinstance(item, dict):
        return False
    if isinstance(item.get("type"), str) and "data" not in item and "kwargs" not in item:
        return True
    content = item.get("content")
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and str(first.get("type")) in {
        "input_text",
        "output_text",
        "input_image",
        "input_file",
    }


def openai_agents_session(items: Iterable[Any], metadata: JSONObject) -> ForeignSession:
    """Return the session of a list of items, parsed or not; each item becomes a message."""
    return ForeignSession(metadata=metadata, messages=_agents_messages(items))


def _agents_messages(items: Iterable[Any]) -> Iterator[Message]:
    for index, value in enumerate(items):
        with placed(f"items[{index}]"):
            item = resolved(value)
            if not isinstance(item, dict):
                raise ValidationError(f"is of type {type(item).__name__}, not an object")
            yield _agents_message(item)


def _agents_message(item: JSONObject) -> Message:
    kind = str(item.get("type") or "message")
    call_id = item.get("call_id")
    if kind == "message":
        role = {"developer": "system"}.get(str(item.get("role")), item.get("role"))
        content = _agents_content(item.get("content"))
        rest = without(item, "type", "role", *(["content"] if _says_no_more(item.get("content")) else []))
        return Message(role, content, metadata={"openai_agents": rest} if rest else {})
    if kind == "reasoning":
        lists = [item[name] for name in ("summary", "content") if isinstance(item.get(name), list)]
        text = "\n\n".join(str(part.get("text")) for parts in lists for part in parts if isinstance(part, dict))
        return Message("assistant", "", metadata={"openai_agents": item} | ({"reasoning_text": text} if text else {}))
    if isinstance(call_id, str) and kind.endswith("_output"):
        metadata = {"tool_call_id": call_id, "openai_agents": without(item, "call_id", "output")}
        return Message("tool", _agents_content(item.get("output")), metadata=metadata)
    if isinstance(call_id, str) and kind in {"function_call", "custom_tool_call"}:
        arguments = item.get("arguments" if kind == "function_call" else "input")
        call = tool_call(call_id, field_of(item, "name", str), arguments)
        rest = without(item, "call_id", "name", "arguments", "input")
        return Message("assistant", "", metadata={"tool_calls": [call], "openai_agents": rest})
    return Message("assistant", "", metadata={"openai_agents": item})


def _says_no_more(content: JSONValue) -> bool:
    """Return whether the texts of a content have nothing besides their type and text, such as citations."""
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return not any(str(part.get("type")) in _TEXT_PARTS and without(part, "type", "text", "refusal") for part in parts)


def _agents_content(content: JSONValue) -> JSONValue:
    """Return the content of an item in OpenAI's form for chats: a single text as a string."""
    if not isinstance(content, list):
        return "" if content is None else content
    parts = [_agents_part(part) for part in content]
    only = parts[0] if len(parts) == 1 else None
    if isinstance(only, dict) and only.keys() == {"type", "text"} and isinstance(only["text"], str):
        return only["text"]
    return parts


def _agents_part(part: JSONValue) -> JSONValue:
    if not isinstance(part, dict):
        return part
    kind = str(part.get("type"))
    if kind in _TEXT_PARTS:
        return {"type": "text", "text": part.get("text", part.get("refusal", ""))}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file":
        return {"type": "file", "file": without(part, "type")}
    return part
