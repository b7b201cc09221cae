"""What the parsers of other products' files have in common: the session that they return, its tree, times, ids."""

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import attrs

from luminoracore_sdk.application.exchange.raw_json import loaded, resolved
from luminoracore_sdk.application.forks import PARENT
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.settings import MAX_TITLE

__all__ = [
    "ForeignSession",
    "Path",
    "branch_at",
    "content_id",
    "paths_of",
    "time_at",
    "title_of",
    "tool_call",
    "without",
]


@attrs.frozen(kw_only=True)
class ForeignSession:
    """A conversation of another product.

    Attributes:
        session_id: Its id; None: derived from its content.
        created_at: The time of its creation; None: that of its first message, else that of the import.
        title: Its title, or None.
        system_prompt: Becomes the personality's.
        metadata: Becomes the session's.
        messages: Its messages, oldest first. One without an id gets one that is derived from its content; one without
            a time gets that of the message before it.
    """

    session_id: str | None = None
    created_at: datetime | None = None
    title: str | None = None
    system_prompt: str | None = None
    metadata: JSONObject = attrs.field(factory=dict)
    messages: Iterable[Message]


@attrs.frozen
class Path:
    """The nodes of a tree from a root to a leaf, in this order, and how many of them the main path shares."""

    nodes: list[str]
    shared: int


def paths_of(parents: Mapping[str, str | None], main_leaf: str) -> Iterator[Path]:
    """Yield the path to the main leaf, then, in the order of the nodes, that to each other leaf.

    Args:
        parents: The parent of each node; None, or an unknown one: the node is a root.
        main_leaf: A node; it may have children.

    Raises:
        ValidationError: The nodes form a circle.
    """
    _refuse_circle(parents)
    main = _path_to(main_leaf, parents)
    yield Path(main, len(main))
    on_main, inner = frozenset(main), {*parents.values(), main_leaf}
    for leaf in (node for node in parents if node not in inner):
        nodes = _path_to(leaf, parents)
        yield Path(nodes, sum(node in on_main for node in nodes))


def _refuse_circle(parents: Mapping[str, str | None]) -> None:
    rooted: set[str] = set()
    for start in parents:
        walked: set[str] = set()
        node: str | None = start
        while node is not None and node in parents and node not in rooted:
            if node in walked:
                raise ValidationError("some of its messages form a circle")
            walked.add(node)
            node = parents[node]
        rooted |= walked


def _path_to(leaf: str, parents: Mapping[str, str | None]) -> list[str]:
    path = []
    node: str | None = leaf
    while node is not None and node in parents:
        path.append(node)
        node = parents[node]
    return path[::-1]


def content_id(value: Any) -> str:
    """Return an id that is derived from a value or outline; the order of keys does not matter."""
    digest = sha256()
    for piece in _canonical(value, 2):
        digest.update(piece.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _canonical(value: Any, depth: int) -> Iterator[str]:
    """Yield a value as canonical JSON, in pieces, so that a long conversation is never in memory as a whole."""
    value = loaded(value)
    if depth and isinstance(value, dict):
        for name in sorted(value):
            yield f"{{{json.dumps(name)}:"
            yield from _canonical(value[name], depth - 1)
    elif depth and isinstance(value, list):
        for item in value:
            yield "["
            yield from _canonical(item, depth - 1)
    else:
        yield json.dumps(resolved(value), sort_keys=True)
    yield "\n"


def title_of(value: Any) -> str | None:
    """Return a title, or its outline, as a session can have it: one line that is not too long; None: there is none."""
    title = loaded(value)
    return " ".join(title.split())[:MAX_TITLE] or None if isinstance(title, str) else None


def branch_at(session_id: str, position: int) -> JSONObject:
    """Return the metadata of a branch, which is that of a fork, with the last position that both have."""
    return {PARENT: {"session_id": session_id, "position": position}}


def time_at(seconds: JSONValue) -> datetime | None:
    """Return the time of a Unix timestamp in seconds, or of a text in ISO 8601; None: there is none.

    Raises:
        ValidationError: It is neither.
    """
    if seconds is None or seconds == "":
        return None
    try:
        if isinstance(seconds, str):
            parsed = datetime.fromisoformat(seconds)
            return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
        if isinstance(seconds, int | float) and not isinstance(seconds, bool):
            return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise ValidationError("a time is neither seconds since 1970 nor in ISO 8601") from exc
    raise ValidationError(f"a time is of type {type(seconds).__name__}")


def tool_call(call_id: str, name: str, arguments: JSONValue) -> JSONObject:
    """Return a tool call as messages keep it; arguments that are no object are put under ``input``."""
    if isinstance(arguments, str):
        try:
            is_object = isinstance(json.loads(arguments), dict)
        except (ValueError, RecursionError):
            is_object = False
        text = arguments if is_object else json.dumps({"input": arguments}, ensure_ascii=False)
    else:
        text = json.dumps(arguments if isinstance(arguments, dict) else {"input": arguments}, ensure_ascii=False)
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": text}}


def without(data: Mapping[str, Any], *names: str) -> JSONObject:
    """Return an object without some fields, and without those that are null or empty."""
    return {name: value for name, value in data.items() if name not in names and value not in (None, "", [], {})}
