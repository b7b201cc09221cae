"""Claude's export: ``conversations.json``, an array of conversations with ``chat_messages``.

Anthropic does not document it. The shape is that of exports until 2026 as parsers of real ones describe it, for example
github.com/Sinity/polylogue (docs/providers/claude-ai.md): ``sender`` is human or assistant, ``content`` is a list of
blocks (text, thinking, tool_use, tool_result and others), ``attachments`` have an ``extracted_content``; newer exports
name the parent of each message, and so contain branches.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import attrs

from luminoracore_sdk.application.exchange.fields import each_object, field_of, placed
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
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import Message

__all__ = ["claude_sessions"]

_ROLES = {"human": "user", "user": "user", "assistant": "assistant", "system": "system"}
_READ = ("type", "text", "thinking", "id", "name", "input", "tool_use_id", "content", "is_error")
"""Fields of a block that become part of a message."""


def claude_sessions(data: JSONObject) -> Iterator[ForeignSession]:
    """Yield the path to the last message as a session, then each other branch as a session of its own.

    Args:
        data: A conversation, or its outline.

    Raises:
        ValidationError: It is not a conversation of Claude.
    """
    parents: dict[str, str | None] = {}
    places: dict[str, int] = {}
    before: str | None = None
    for index, item in enumerate(each_object(data, "chat_messages")):
        node_id = item["uuid"] if isinstance(item.get("uuid"), str) else f"#{index}"
        parents[node_id] = field_of(item, "parent_message_uuid", str, before)
        places[node_id] = index
        before = node_id
    given = data.get("uuid")
    session_id = given if isinstance(given, str) else content_id(data)
    leaf = data.get("current_leaf_message_uuid")
    leaf = leaf if isinstance(leaf, str) and leaf in parents else before
    title = title_of(data.get("name"))
    known = ("chat_messages", "created_at", "uuid", *(["name"] if loaded(data.get("name")) == title else []))
    metadata = {"claude": resolved(without(data, *known))}
    items = data["chat_messages"]
    created = time_at(data.get("created_at"))
    if leaf is None:
        yield ForeignSession(session_id=session_id, created_at=created, title=title, metadata=metadata, messages=())
        return
    main = list[str]()
    for path in paths_of(parents, leaf):
        branch: JSONObject = {}
        if main:
            shared = sum(len(_split(loaded(items[places[node]]))) for node in main[: path.shared])
            branch = branch_at(session_id, shared)
        yield ForeignSession(
            session_id=content_id([session_id, path.nodes[-1]]) if main else session_id,
            created_at=created,
            title=title,
            metadata={**metadata, **branch},
            messages=_messages(items, [places[node] for node in path.nodes]),
        )
        main = main or path.nodes


def _messages(items: Sequence[Any], path: Sequence[int]) -> Iterator[Message]:
    for index in path:
        with placed(f"chat_messages[{index}]"):
            yield from _split(loaded(items[index]))


def _split(item: JSONObject) -> list[Message]:
    """Return the messages of one message of Claude: the results of its tools, and what follows them, are their own."""
    uuid = item.get("uuid")
    made = _Making(
        role=_ROLES.get(str(item.get("sender")), item.get("sender")),
        uuid=uuid if isinstance(uuid, str) else None,
        time=time_at(item.get("created_at")),
    )
    blocks = list(each_object(item, "content")) if item.get("content") else []
    for block in blocks or [{"type": "text", "text": field_of(item, "text", str, "")}]:
        made.add(block)
    for attached in each_object(item, "attachments") if item.get("attachments") else ():
        text = attached.get("extracted_content")
        made.texts.append(f"[attachment: {attached.get('file_name')}]" + (f"\n{text}" if text else ""))
    for file in each_object(item, "files") if item.get("files") else ():
        made.texts.append(f"[file: {file.get('file_name') or file.get('file_uuid')}]")
    rest = without(item, "uuid", "sender", "content", "text", "created_at")
    if rest.get("attachments"):
        rest["attachments"] = [without(one, "extracted_content") for one in rest["attachments"]]
    return made.finished(rest)


@attrs.define(kw_only=True)
class _Making:
    """Puts blocks together to messages."""

    role: Any
    uuid: str | None
    time: datetime | None
    texts: list[str] = attrs.field(factory=list)
    thoughts: list[str] = attrs.field(factory=list)
    calls: list[JSONObject] = attrs.field(factory=list)
    others: list[JSONObject] = attrs.field(factory=list)
    last_call: str | None = None
    done: list[Message] = attrs.field(factory=list)

    def add(self, block: JSONObject) -> None:
        """Add a block of the content."""
        kind = block.get("type")
        if kind == "tool_result":
            self._flush()
            self._result(block)
            return
        if kind == "text":
            self.texts.append(field_of(block, "text", str, ""))
        elif kind == "thinking":
            self.thoughts.append(field_of(block, "thinking", str, ""))
        elif kind == "tool_use":
            call_id: str = field_of(block, "id", str, None) or f"{self.uuid}-{len(self.done)}-{len(self.calls)}"
            self.calls.append(tool_call(call_id, field_of(block, "name", str), block.get("input")))
            self.last_call = call_id
        else:
            self.others.append(block)
            return
        if others := without(block, *_READ):
            self.others.append({"type": kind, **others})

    def _result(self, block: JSONObject) -> None:
        call_id = field_of(block, "tool_use_id", str, None) or self.last_call
        metadata: JSONObject = {"tool_call_id": call_id} if call_id else {}
        if block.get("is_error"):
            metadata["is_error"] = True
        if others := without(block, *_READ):
            metadata["claude"] = others
        self._append("tool", _result_content(block.get("content")), metadata)

    def _append(self, role: Any, content: JSONValue, metadata: JSONObject) -> None:
        number = len(self.done) + 1
        message_id = self.uuid if self.uuid is None or number == 1 else f"{self.uuid}-{number}"
        self.done.append(Message(role, content, self.time, metadata, id=message_id))

    def _flush(self) -> None:
        metadata: JSONObject = {"claude": {"blocks": self.others}} if self.others else {}
        if self.calls:
            metadata["tool_calls"] = self.calls
        if self.thoughts:
            metadata["reasoning_text"] = "\n\n".join(self.thoughts)
        if self.texts or metadata or not self.done:
            self._append(self.role, "\n\n".join(filter(None, self.texts)), metadata)
        self.texts, self.thoughts, self.calls, self.others = [], [], [], []

    def finished(self, rest: JSONObject) -> list[Message]:
        """Return the messages; the first one keeps the rest of the fields."""
        self._flush()
        if rest:
            first = self.done[0]
            own = {"claude": {**rest, **first.metadata.get("claude", {})}}
            self.done[0] = attrs.evolve(first, metadata={**first.metadata, **own})
        return self.done


def _result_content(content: JSONValue) -> JSONValue:
    """Return a list of blocks of text as one text, anything else as it is."""
    found = [one.get("text") for one in content if isinstance(one, dict)] if isinstance(content, list) else []
    texts = [text for text in found if isinstance(text, str)]
    if texts and len(texts) == len(found):
        return "\n".join(texts)
    return "" if content is None else content
