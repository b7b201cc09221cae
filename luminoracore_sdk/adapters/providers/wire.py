"""Conversion between messages, JSON that servers accept, and the objects of client packages."""

import json
from functools import partial
from typing import Any

from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse
from luminoracore_sdk.domain.errors import InvalidJSONError, ProviderResponseError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, check_json
from luminoracore_sdk.domain.pieces import written
from luminoracore_sdk.domain.surrogates import joined_surrogates

__all__ = [
    "handed_on",
    "joined_text",
    "object_or_empty",
    "objects_of",
    "plain_object",
    "request_body",
    "sendable",
    "storable",
    "text_or_none",
    "without_none",
]

_HANDED_ON = ("tool_calls", "tool_call_id", "reasoning_content", "reasoning_details", "extra_content")


def sendable(value: JSONValue) -> Any:
    """Return a copy without lone surrogates, which UTF-8 cannot express.

    A surrogate pair becomes its character, a lone surrogate becomes U+FFFD. Stores keep such strings, and a
    conversation that contains one must still be sendable.
    """
    if isinstance(value, str):
        return joined_surrogates(value, replace=True)
    if isinstance(value, list):
        return [sendable(item) for item in value]
    if isinstance(value, dict):
        return {sendable(key): sendable(item) for key, item in value.items()}
    return value


def request_body(request: JSONObject) -> bytes | None:
    """Return a large request as JSON, as the clients write it, but in pieces; None: it holds what is not JSON."""
    try:
        return "".join(written(request, _dumps, comma=",", colon=":")).encode()
    except (TypeError, ValueError):  # a client can write more types, and has its own errors
        return None


_dumps = partial(json.dumps, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def handed_on(message: ChatMessage) -> JSONObject:
    """Return the part of a message's metadata that is sent to the provider."""
    return {key: message.metadata[key] for key in _HANDED_ON if message.metadata.get(key) is not None}


def plain_object(answer: Any, *, provider: str) -> JSONObject:
    """Return a client's answer or event as the JSON object that the server sent.

    Raises:
        ProviderResponseError: It is no JSON object; the clients return a string for a body that is not JSON.
    """
    if not hasattr(answer, "model_dump"):
        raise ProviderResponseError(f"{provider} did not send a JSON object")
    plain: JSONObject = answer.model_dump(exclude_unset=True, warnings=False)
    return plain


def storable(response: ChatResponse, *, provider: str) -> ChatResponse:
    """Return the response.

    Raises:
        ProviderResponseError: It holds a value that is not JSON, such as NaN, which Python's JSON reader accepts.
    """
    try:
        check_json(response.to_dict(), where="answer")
    except InvalidJSONError as exc:
        raise ProviderResponseError(f"{provider} sent a value that is not JSON: {exc.reason}") from exc
    return response


def joined_text(content: Any, *, provider: str) -> str:
    """Return the text of an answer's content: a string, None, or a list of parts, some of them text.

    Raises:
        ProviderResponseError: It is none of these.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) for part in content):
        texts = [part.get("text", "") for part in content if part.get("type") == "text"]  # others are in ``parts``
        if all(isinstance(text, str) for text in texts):
            return "".join(texts)
    raise ProviderResponseError(f"{provider} sent content that is not text")


def text_or_none(value: Any) -> str | None:
    """Return a string, or None for anything else."""
    return value if isinstance(value, str) else None


def object_or_empty(value: Any) -> JSONObject:
    """Return an object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def objects_of(value: Any) -> list[JSONObject]:
    """Return the objects in a list, an empty list for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def without_none(facts: JSONObject) -> JSONObject:
    """Return an object without its None values."""
    return {name: fact for name, fact in facts.items() if fact is not None}
