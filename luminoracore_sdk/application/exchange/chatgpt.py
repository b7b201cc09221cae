"""ChatGPT's export: ``conversations.json``, an array of conversations, each a tree of messages.

OpenAI does not document it. The shape is that of exports until January 2026 as described by
github.com/mitkury/chatgpt-export-parser (docs/chatgpt-data-export-format.md), and the types of content that parsers of
real exports meet: text, multimodal_text, code, execution_output, thoughts, reasoning_recap, user_editable_context,
model_editable_context, tether_quote, tether_browsing_display, system_error.
"""

from collections.abc import Iterator
from typing import Any

import attrs

from luminoracore_sdk.application.exchange.fields import field_of, placed
from luminoracore_sdk.application.exchange.foreign import (
    ForeignSession,
    branch_at,
    content_id,
    paths_of,
    time_at,
    title_of,
    tool_call,
    without,
)
from luminoracore_sdk.application.exchange.raw_json import loaded, resolved
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import Message

__all__ = ["chatgpt_sessions"]

_TEXTS = ("text", "result", "user_profile", "user_instructions", "model_set_context")
"""Fields that hold the text of a content without parts, by its type."""


@attrs.frozen
class _Node:
    parent: str | None
    has_message: bool


def chatgpt_sessions(data: JSONObject) -> Iterator[ForeignSession]:
    """Yield the path to ``current_node`` as a session, then each other branch as a session of its own.

    Args:
        data: A conversation, or its outline.

    Raises:
        ValidationError: It is not a conversation of ChatGPT.
    """
    mapping = field_of(data, "mapping", dict)
    nodes = {node_id: _node(node_id, value) for node_id, value in mapping.items()}
    if not nodes:
        raise ValidationError("'mapping' is empty")
    given = data.get("conversation_id") or data.get("id")
    session_id = given if isinstance(given, str) else content_id(data)
    current = data.get("current_node")
    leaf = current if isinstance(current, str) and current in nodes else next(reversed(nodes))
    title = title_of(data.get("title"))
    known = (
        "mapping",
        "create_time",
        "conversation_id",
        "id",
        *(["title"] if loaded(data.get("title")) == title else []),
    )
    metadata = {"chatgpt": resolved(without(data, *known))}
    told: set[str] = set()
    for path in paths_of({node_id: node.parent for node_id, node in nodes.items()}, leaf):
        messages = [node_id for node_id in path.nodes if nodes[node_id].has_message]
        is_branch = bool(told) or path.nodes[-1] != leaf
        if is_branch and told.issuperset(messages):
            continue  # it ends in a node without a message
        told.update(messages)
        branch: JSONObject = {}
        if is_branch:
            shared = sum(nodes[node_id].has_message for node_id in path.nodes[: path.shared])
            branch = branch_at(session_id, shared)
        yield ForeignSession(
            session_id=content_id([session_id, path.nodes[-1]]) if is_branch else session_id,
            created_at=time_at(data.get("create_time")),
            title=title,
            metadata={**metadata, **branch},
            messages=_messages(mapping, messages),
        )


def _node(node_id: str, value: Any) -> _Node:
    with placed(f"mapping[{node_id!a}]"):
        node = loaded(value)
        if not isinstance(node, dict):
            raise ValidationError(f"is of type {type(node).__name__}, not an object")
        return _Node(field_of(node, "parent", str, None), bool(field_of(node, "message", dict, {})))


def _messages(mapping: JSONObject, path: list[str]) -> Iterator[Message]:
    open_call: str | None = None
    for node_id in path:
        with placed(f"mapping[{node_id!a}]"):
            data = loaded(mapping[node_id])["message"]
            author = field_of(data, "author", dict)
            content = field_of(data, "content", dict, {})
            metadata: JSONObject = {
                "chatgpt": {
                    **without(data, "id", "author", "content", "create_time"),
                    **({} if _is_plain(content) else {"content": content}),
                    **({"author": others} if (others := without(author, "role")) else {}),
                    **({"id": data["id"]} if data.get("id", node_id) != node_id else {}),
                }
            }
            text = _text(content)
            if author.get("role") == "tool":
                if open_call is not None:
                    metadata["tool_call_id"] = open_call
                open_call = None
            else:
                recipient = data.get("recipient")
                is_call = author.get("role") == "assistant" and recipient not in (None, "", "all", "assistant")
                open_call = node_id if is_call else None
                if is_call:
                    metadata["tool_calls"] = [tool_call(node_id, str(recipient), text)]
                    text = ""
            if reasoning := _reasoning(content):
                metadata["reasoning_text"] = reasoning
            if not metadata["chatgpt"]:
                del metadata["chatgpt"]
            yield Message(author.get("role"), text, time_at(data.get("create_time")), metadata, id=node_id)


def _is_plain(content: JSONObject) -> bool:
    parts = content.get("parts")
    return (
        content.keys() == {"content_type", "parts"}
        and content["content_type"] == "text"
        and isinstance(parts, list)
        and len(parts) == 1
        and isinstance(parts[0], str)
    )


def _text(content: JSONObject) -> str:
    """Return the text of a content; a picture or a recording is named by its pointer."""
    if isinstance(content.get("parts"), list):
        return "\n".join(filter(None, map(_part_text, content["parts"])))
    return "\n\n".join(content[name] for name in _TEXTS if isinstance(content.get(name), str))


def _part_text(part: JSONValue) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        return ""
    pointer, transcript = part.get("asset_pointer"), part.get("text")
    if isinstance(transcript, str):
        return transcript
    kind = str(part.get("content_type", "")).removesuffix("_asset_pointer")
    return f"[{kind or 'file'}: {pointer}]" if isinstance(pointer, str) else ""


def _reasoning(content: JSONObject) -> str:
    thoughts = content.get("thoughts")
    found = [one for one in thoughts if isinstance(one, dict)] if isinstance(thoughts, list) else []
    texts = (one.get(name) for one in found for name in ("summary", "content"))
    return "\n\n".join(text for text in texts if isinstance(text, str) and text)
