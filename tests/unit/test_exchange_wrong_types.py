"""A value of another type at any place of an import: it is read or refused, and never ends in another error."""

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from typing import Any

import pytest

from luminoracore_sdk.application.exchange.formats import ImportFormat
from luminoracore_sdk.application.exchange.items import items_of
from luminoracore_sdk.domain.errors import ValidationError
from tests.support.exchange import chatgpt_conversation, chatgpt_node, good_line, reader

TIME = "2026-01-02T03:04:05Z"
SOURCE = {"session_id": "s", "position": 1}
MEMORY = {
    "key": "k",
    "value": 1,
    "created_at": TIME,
    "since": TIME,
    "source": SOURCE,
    "past": [{"value": 0, "since": TIME, "until": TIME, "source": SOURCE}],
}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
THOUGHTS = {"content_type": "thoughts", "thoughts": [{"summary": "s", "content": "c"}]}
PICTURE = {"content_type": "multimodal_text", "parts": [{"content_type": "image", "asset_pointer": "p"}]}
BLOCKS = [
    {"type": "thinking", "thinking": "t"},
    {"type": "tool_use", "id": "u", "name": "f", "input": {}},
    {"type": "tool_result", "tool_use_id": "u", "content": [{"type": "text", "text": "r"}]},
]
PERSON = {"sender": "human", "uuid": "m1", "created_at": TIME, "text": "x", "attachments": [{"file_name": "f"}]}
SAMPLES: list[tuple[ImportFormat | None, Any]] = [
    (ImportFormat.LUMINORA, {**good_line(), "tags": ["t"], "memories": [MEMORY]}),
    (None, {"format": "luminora-user", "version": 1, "user_id": "u", "memories": [MEMORY]}),
    (
        ImportFormat.OPENAI,
        {
            "messages": [
                {"role": "system", "content": "s"},
                {"role": "user", "content": [{"type": "text", "text": "x"}]},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
            ]
        },
    ),
    (
        ImportFormat.CHATGPT,
        chatgpt_conversation(
            chatgpt_node("a", "root"),
            chatgpt_node("b", "a", "assistant", THOUGHTS),
            chatgpt_node("c", "a", "assistant", "f", recipient="browser"),
            chatgpt_node("d", "c", "tool", PICTURE),
        ),
    ),
    (
        ImportFormat.CLAUDE,
        {
            "uuid": "c",
            "name": "n",
            "current_leaf_message_uuid": "m1",
            "chat_messages": [
                PERSON,
                {"sender": "assistant", "uuid": "m2", "parent_message_uuid": "m1", "content": BLOCKS},
            ],
        },
    ),
    (
        ImportFormat.SHAREGPT,
        {
            "system": "s",
            "conversations": [
                {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
                {"from": "observation", "value": "r"},
            ],
        },
    ),
    (
        ImportFormat.LANGCHAIN,
        [
            {"type": "human", "data": {"type": "human", "content": "x", "id": "i", "additional_kwargs": {}}},
            {"type": "ai", "data": {"content": [{"type": "tool_use"}], "tool_calls": [{"name": "f", "args": {}}]}},
            {"lc": 1, "type": "constructor", "id": ["HumanMessage"], "kwargs": {"content": "x"}},
        ],
    ),
    (
        ImportFormat.OPENAI_AGENTS,
        [
            {"type": "reasoning", "summary": [{"text": "t"}], "content": []},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "r"},
            {"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image"}]},
        ],
    ),
    (
        ImportFormat.OLDER_SDK,
        {
            "s": {
                "personality": {},
                "config": {"provider_config": {"name": "openai"}, "max_history": 5},
                "conversation": {"messages": [{"role": "user", "content": "x", "timestamp": TIME, "metadata": {}}]},
                "memory": {"a": 1},
            }
        },
    ),
]
WRONG: list[Any] = [None, True, -1, 1.5, "x", [], {}, [None], [[]], [{"type": []}]]


def variants(value: Any) -> Iterator[Any]:
    """Yield a value with each part of it replaced by each wrong one."""
    yield from WRONG
    if isinstance(value, dict | list):
        for key in range(len(value)) if isinstance(value, list) else value:
            for part in variants(value[key]):
                changed: Any = copy.copy(value)
                changed[key] = part
                yield changed
        if isinstance(value, dict):
            for key in value:
                yield {name: part for name, part in value.items() if name != key}


def read_all(value: Any, named: ImportFormat | None) -> None:
    parser = reader()
    for item in items_of(BytesIO(json.dumps(value).encode()), "f", named):
        if item.session_id is not None:
            parser.read_older(item.session_id, item.content)
        elif parser.read_user(item.content) is None:
            list(parser.read(item.content, named))


@pytest.mark.parametrize(("named", "sample"), SAMPLES)
def test_a_wrong_type_anywhere_is_read_or_refused(named: ImportFormat | None, sample: Any) -> None:
    read_all(sample, named)
    for value in variants(sample):
        for format in {named, None}:  # noqa: A001  # as the parser calls it
            with suppress(ValidationError):
                read_all(value, format)
