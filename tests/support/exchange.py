"""A line that can be imported, and a reader of such lines with a manual clock."""

import attrs

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.exchange.formats import ParsedSession, SessionParser
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.testing import ManualClock

__all__ = [
    "ECHO",
    "TOOLS",
    "chatgpt_conversation",
    "chatgpt_node",
    "good_line",
    "messages_of",
    "reader",
    "session_of",
]

ECHO: JSONObject = {"name": "echo", "model": "echo-1", "base_url": None, "extra": {}}
TOOLS = attrs.evolve(default_services(), clock=ManualClock())


def reader() -> SessionParser:
    """Return a reader under which chats are answered by echo."""
    return SessionParser(services=TOOLS, values=JsonCodec(), provider=ECHO)


def good_line() -> JSONObject:
    """Return the smallest session with a message and a memory."""
    return {
        "format": "luminora-session",
        "version": 1,
        "session_id": "s",
        "created_at": "2026-01-02T03:04:05.000006+00:00",
        "document": {"anything": 1},
        "messages": [{"id": "m1", "role": "user", "content": "hi", "timestamp": "2026-01-02T03:04:05Z", "position": 1}],
        "memories": [{"key": "k", "value": 1, "created_at": "2026-01-02T03:04:05Z"}],
    }


def messages_of(parsed: ParsedSession) -> list[Message]:
    """Return the messages of a parsed session."""
    return [TOOLS.codec.message(one, backend="test", session_id="s") for one in parsed.messages]


def session_of(parsed: ParsedSession) -> Session:
    """Return the session of a parsed session."""
    return TOOLS.codec.session(attrs.evolve(parsed.record, version=1), backend="test")


def chatgpt_node(
    node_id: str, parent: str | None, role: str = "user", content: object = "", **message: object
) -> JSONObject:
    """Return a node of ChatGPT's tree; a content that is text becomes its only part."""
    given = content if isinstance(content, dict) else {"content_type": "text", "parts": [content]}
    author: JSONObject = {"role": role, "name": None, "metadata": {}}
    data = {"id": node_id, "author": author, "create_time": 1_760_000_000.5, "content": given, **message}
    return {"id": node_id, "message": data, "parent": parent, "children": []}


def chatgpt_conversation(*nodes: JSONObject, **fields: object) -> JSONObject:
    """Return a conversation of ChatGPT under an empty root, current at its last node."""
    root: JSONObject = {"id": "root", "message": None, "parent": None, "children": []}
    return {
        "title": "Trip",
        "create_time": 1_760_000_000.1,
        "conversation_id": "c1",
        "mapping": {node["id"]: node for node in (root, *nodes)},
        "current_node": nodes[-1]["id"] if nodes else "root",
        **fields,
    }
