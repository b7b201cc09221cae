"""Content parts of messages, converted between OpenAI's form and Anthropic's."""

import re
from collections.abc import Iterable
from typing import Any, TypeGuard

import attrs

from luminoracore_sdk.domain.errors import UnsupportedContentError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.vendors import PartForm, VendorRules

__all__ = ["check_result_parts", "converted_parts", "has_part_form", "is_part_list"]

_DATA_URL = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*;base64,(?P<data>.*)", re.DOTALL)


def is_part_list(content: JSONValue) -> TypeGuard[list[Any]]:
    """Whether a content is a list of parts: objects with a type, with strings among them."""
    if not isinstance(content, list):
        return False
    objects = [part for part in content if isinstance(part, dict)]
    others = [part for part in content if not isinstance(part, dict | str)]
    return bool(objects) and not others and all(isinstance(part.get("type"), str) for part in objects)


_FORMS: dict[str, tuple[str, type | tuple[type, ...]]] = {
    "text": ("text", str),
    "image_url": ("image_url", (dict, str)),
    "input_audio": ("input_audio", dict),
    "video_url": ("video_url", dict),
    "file": ("file", dict),
    "document_url": ("document_url", str),
    "image": ("source", dict),
    "document": ("source", dict),
}
"""The field that each type of part has, and the type of its value."""


def has_part_form(value: JSONValue) -> TypeGuard[list[JSONObject]]:
    """Whether a value is a list of parts in OpenAI's or Anthropic's form, and not other data with a ``type``."""
    return isinstance(value, list) and bool(value) and all(map(_is_part, value))


def _is_part(part: JSONValue) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    name, types = _FORMS.get(kind, ("", ())) if isinstance(kind, str) else ("", ())
    return isinstance(part, dict) and isinstance(part.get(name), types)


def converted_parts(parts: Iterable[Any], rules: VendorRules, *, role: str) -> list[JSONObject]:
    """Return parts in a vendor's form, without blank texts.

    Raises:
        UnsupportedContentError: The vendor takes no such part in a message of that role.
    """
    allowed = rules.result_parts if role == "tool" else rules.parts
    converted: list[JSONObject] = []
    for part in parts:
        typed: JSONObject = {"type": "text", "text": part} if isinstance(part, str) else part
        new = _TO[rules.part_form](typed)
        if new.get("type") == "text":
            text = new.get("text")
            if not isinstance(text, str) or not text.strip():
                continue
        if allowed is not None and new["type"] not in allowed:
            raise UnsupportedContentError(provider=rules.name, part=str(typed["type"]), role=role)
        converted.append(new)
    return converted


def check_result_parts(parts: Iterable[Any], rules: VendorRules) -> None:
    """Refuse parts that the result of a tool cannot hold; texts are sent to every vendor, to some as one string.

    Raises:
        UnsupportedContentError: The vendor takes no such part in a tool message.
    """
    converted_parts(parts, attrs.evolve(rules, result_parts=rules.result_parts | {"text"}), role="tool")


def _to_openai(part: JSONObject) -> JSONObject:
    source = part.get("source")
    if not isinstance(source, dict) or part["type"] not in {"image", "document"}:
        return dict(part)
    if part["type"] == "image":
        return {"type": "image_url", "image_url": {"url": _url(source)}}
    if source.get("type") == "text":
        return {"type": "text", "text": source.get("data")}
    if source.get("type") == "url":
        return {"type": "document_url", "document_url": source.get("url")}
    file = {"file_data": _url(source)}
    if isinstance(part.get("title"), str):
        file["filename"] = part["title"]
    return {"type": "file", "file": file}


def _url(source: JSONObject) -> Any:
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    return source.get("url")


def _to_anthropic(part: JSONObject) -> JSONObject:
    match part["type"]:
        case "image_url":
            url = part.get("image_url")
            return {"type": "image", "source": _source(url.get("url") if isinstance(url, dict) else url)}
        case "document_url":
            return {"type": "document", "source": _source(part.get("document_url"))}
        case "file":
            file = part.get("file")
            file = file if isinstance(file, dict) else {}
            if not isinstance(file.get("file_data"), str):
                return dict(part)  # a file that lies with another vendor
            title = {"title": file["filename"]} if isinstance(file.get("filename"), str) else {}
            return {"type": "document", "source": _source(file["file_data"]), **title}
    return dict(part)


def _source(url: Any) -> JSONObject:
    found = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    if found is None:
        return {"type": "url", "url": url}
    return {"type": "base64", "media_type": found["type"] or "application/octet-stream", "data": found["data"]}


_TO = {PartForm.OPENAI: _to_openai, PartForm.ANTHROPIC: _to_anthropic}
