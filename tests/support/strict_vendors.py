"""What each vendor's API refuses in a request, checked as strictly as its documents say.

The rules are written here a second time, apart from ``luminoracore_sdk.domain.vendors``, so that a wrong rule
there is found. Each function returns the refusals of one request body; none: it is accepted.
"""

import json
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

__all__ = ["VENDORS", "refusals"]

Body = dict[str, Any]


def refusals(vendor: str, body: Body) -> list[str]:
    """Return why a vendor would refuse a request body; none: it would not."""
    return VENDORS[vendor](body)


def _blank(text: object) -> bool:
    return not isinstance(text, str) or not text.strip()


def _texts(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in content or [] if part.get("type") == "text"]


def _has_surrogate(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _pairing(messages: list[Body], *, vendor: str) -> list[str]:
    """OpenAI: "An assistant message with 'tool_calls' must be followed by tool messages responding to each
    'tool_call_id'"; "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"."""
    found = []
    for index, message in enumerate(messages):
        calls = message.get("tool_calls")
        if calls is not None and not calls:
            found.append(f"{vendor}: [] is too short - 'messages.{index}.tool_calls'")
        if message["role"] == "assistant" and calls:
            ids = [call["id"] for call in calls]
            behind = []
            for later in messages[index + 1 :]:
                if later["role"] != "tool":
                    break
                behind.append(later.get("tool_call_id"))
            if sorted(ids) != sorted(map(str, behind)):
                found.append(f"{vendor}: tool_calls {ids} are followed by results of {behind}")
            if len(set(ids)) < len(ids):
                found.append(f"{vendor}: duplicate tool_call ids {ids}")
        if message["role"] == "tool":
            before = next((one for one in reversed(messages[:index]) if one["role"] != "tool"), {})
            if message.get("tool_call_id") not in [call["id"] for call in before.get("tool_calls") or []]:
                found.append(f"{vendor}: message {index} of role tool follows no call")
    return found


def _calls(messages: list[Body], *, vendor: str, pattern: str) -> list[str]:
    found = []
    for message in messages:
        for call in message.get("tool_calls") or []:
            if not re.fullmatch(pattern, call["id"], re.DOTALL):
                found.append(f"{vendor}: tool call id {call['id']!r}")
            try:
                arguments = json.loads(call["function"]["arguments"])
            except (ValueError, TypeError):
                arguments = None
            if not isinstance(arguments, dict):
                found.append(f"{vendor}: arguments {call['function']['arguments']!r} are no object")
    return found


def _common(body: Body, *, vendor: str, parts: set[str], result_parts: set[str], pattern: str) -> list[str]:
    messages = body["messages"]
    found = _pairing(messages, vendor=vendor) + _calls(messages, vendor=vendor, pattern=pattern)
    if _has_surrogate(body):
        found.append(f"{vendor}: a lone surrogate")
    if not [message for message in messages if message["role"] != "system"]:
        found.append(f"{vendor}: no messages")
    for index, message in enumerate(messages):
        content, role = message.get("content"), message["role"]
        if role not in {"system", "user", "assistant", "tool"}:
            found.append(f"{vendor}: role {role!r}")
        if content is None and not (role == "assistant" and message.get("tool_calls")):
            found.append(f"{vendor}: message {index} has no content")
        if content is not None and not isinstance(content, str | list):
            found.append(f"{vendor}: content of message {index} is a {type(content).__name__}")
        if isinstance(content, list):
            allowed = result_parts if role == "tool" else parts if role == "user" else {"text", "refusal", "thinking"}
            if not content:
                found.append(f"{vendor}: content of message {index} is empty")
            found += [
                f"{vendor}: part {part.get('type')!r} in a {role} message"
                for part in content
                if part.get("type") not in allowed
            ]
    return found


def _openai(body: Body) -> list[str]:
    parts = {"text", "image_url", "input_audio", "file"}
    return _common(body, vendor="openai", parts=parts, result_parts={"text"}, pattern=r".{1,40}")


def _alternation(messages: list[Body], *, vendor: str, tools: bool) -> list[str]:
    """The loop of Llama's, Gemma's and Mistral's templates: user and assistant alternate, user first."""
    found, expected = [], "user"
    for index, message in enumerate(messages):
        role = message["role"]
        if role == "system":
            if index:
                found.append(f"{vendor}: system message behind others")
            continue
        if tools and (role == "tool" or (role == "assistant" and message.get("tool_calls"))):
            continue
        if role != expected:
            found.append(f"{vendor}: conversation roles must alternate, message {index} is {role}")
        expected = "assistant" if role == "user" else "user"
    return found


def _blanks(messages: list[Body], *, vendor: str) -> list[str]:
    return [
        f"{vendor}: message {index} of role {message['role']} is blank"
        for index, message in enumerate(messages)
        if not message.get("tool_calls")
        and all(map(_blank, _texts(message.get("content"))))
        and not [part for part in message.get("content") or [] if isinstance(part, dict) and part["type"] != "text"]
    ]


def _mistral(body: Body) -> list[str]:
    messages = body["messages"]
    parts = {"text", "image_url", "input_audio", "document_url", "file"}
    found = _common(body, vendor="mistral", parts=parts, result_parts={"text"}, pattern=r"[a-zA-Z0-9]{9}")
    found += _blanks(messages, vendor="mistral")
    for before, message in pairwise(messages):
        if (before["role"], message["role"]) == ("tool", "user"):
            found.append("mistral: Unexpected role 'user' after role 'tool' (3230)")
        if message["role"] == "system":
            found.append("mistral: system message behind others")
    if messages and messages[-1]["role"] not in {"user", "tool"}:
        found.append("mistral: Expected last role User or Tool (3230)")
    return found + _alternation(messages, vendor="mistral", tools=True)


def _vllm(body: Body) -> list[str]:
    messages = body["messages"]
    parts = {"text", "image_url", "input_audio", "video_url"}
    found = _common(body, vendor="vllm", parts=parts, result_parts=set(), pattern=r"[a-zA-Z0-9]{9}")
    return found + _alternation(messages, vendor="vllm", tools=True)


def _deepseek(body: Body) -> list[str]:
    messages = body["messages"]
    found = _common(body, vendor="deepseek", parts={"text"}, result_parts=set(), pattern=r".{1,40}")
    found += [
        f"deepseek: Missing `reasoning_content` field in the assistant message at message index {index}"
        for index, message in enumerate(messages)
        if message["role"] == "assistant" and message.get("tool_calls") and "reasoning_content" not in message
    ]
    return found + _blanks(messages, vendor="deepseek")


def _gemini(body: Body) -> list[str]:
    messages = body["messages"]
    parts = {"text", "image_url", "input_audio", "file"}
    found = _common(body, vendor="gemini", parts=parts, result_parts={"text"}, pattern=r".{1,40}")
    for message in messages:
        for call in (message.get("tool_calls") or [])[:1]:
            signature = call.get("extra_content", {}).get("google", {}).get("thought_signature")
            if not signature:
                found.append(f"gemini: Function call {call['function']['name']!r} is missing a thought_signature")
    said = [message for message in messages if message["role"] != "system"]
    if said and said[0]["role"] == "assistant":
        found.append("gemini: function call turn must come after a user turn")
    return found + _blanks(messages, vendor="gemini")


def _anthropic(body: Body) -> list[str]:  # noqa: C901 - a list of rules
    found = []
    messages = body["messages"]
    if _has_surrogate(body):
        found.append("anthropic: a lone surrogate")
    if not messages:
        found.append("anthropic: messages: at least one message is required")
    elif messages[0]["role"] != "user":
        found.append("anthropic: first message must use the user role")
    if any(_blank(block.get("text")) for block in body.get("system") or []):
        found.append("anthropic: system: text content blocks must be non-empty")
    wanted: list[str] = []
    for index, message in enumerate(messages):
        blocks = message["content"]
        if not blocks:
            found.append(f"anthropic: messages.{index}: all messages must have non-empty content")
        kinds = [block["type"] for block in blocks]
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        if sorted(results) != sorted(wanted):
            found.append(f"anthropic: tool_use ids {wanted} without tool_result blocks immediately after: {results}")
        if kinds[: len(results)] != ["tool_result"] * len(results):
            found.append(f"anthropic: messages.{index}: tool_result blocks must come first")
        wanted = [block["id"] for block in blocks if block["type"] == "tool_use"]
        for block in blocks:
            found += _anthropic_block(block, message["role"], index)
        thinking = [place for place, kind in enumerate(kinds) if kind in {"thinking", "redacted_thinking"}]
        if "tool_use" in kinds and thinking and thinking[0] > kinds.index("tool_use"):
            found.append(f"anthropic: messages.{index}: thinking blocks must precede tool_use")
    if wanted:
        found.append("anthropic: tool_use without tool_result at the end")
    elif messages and messages[-1]["role"] == "assistant":  # Claude from 4.6 on
        found.append("anthropic: This model does not support assistant message prefill.")
    return found


def _anthropic_block(block: Body, role: str, index: int) -> list[str]:  # noqa: PLR0911 - a list of rules
    where = f"anthropic: messages.{index}"
    match block["type"]:
        case "text" if _blank(block.get("text")):
            return [f"{where}: text content blocks must contain non-whitespace text"]
        case "tool_use":
            found = []
            if not re.fullmatch(r"[a-zA-Z0-9_-]+", block["id"]):
                found.append(f"{where}: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
            if not isinstance(block.get("input"), dict):
                found.append(f"{where}: tool_use.input: Input should be a valid dictionary")
            return found if role == "assistant" else [*found, f"{where}: tool_use in a {role} message"]
        case "tool_result":
            inner = block.get("content", [])
            blanks = [f"{where}: blank text in a tool_result" for part in inner if _blank(part.get("text", "x"))]
            return blanks if role == "user" else [*blanks, f"{where}: tool_result in a {role} message"]
        case "thinking" if not block.get("signature"):
            return [f"{where}: thinking.signature: Field required"]
        case "text" | "thinking" | "redacted_thinking":
            return []
        case "image" | "document" if role == "user":
            source = block.get("source", {})
            return [] if source.get("type") in {"base64", "url"} else [f"{where}: source {source!r}"]
    return [f"{where}: Input tag {block['type']!r} in a {role} message"]


VENDORS: dict[str, Callable[[Body], list[str]]] = {
    "openai": _openai,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "deepseek": _deepseek,
    "mistral": _mistral,
    "vllm": _vllm,
}
