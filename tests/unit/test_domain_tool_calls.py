"""Tool calls of whole and streamed answers."""

from typing import Any

import pytest

from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.tool_calls import ToolCallAssembly, calls_of, parsed_arguments, with_missing_ids


@pytest.mark.parametrize(
    ("arguments", "parsed"),
    [
        ({"a": 1}, {"a": 1}),
        (None, {}),
        (" ", {}),
        ('{"a": 1}', {"a": 1}),
        ('{"a": 1', None),
        ("[1]", None),
        ('{"a": NaN}', None),
        (5, None),
    ],
)
def test_arguments_are_an_object_or_nothing(arguments: Any, parsed: Any) -> None:
    assert parsed_arguments(arguments) == parsed


def test_calls_without_ids_are_told_apart_by_their_answer() -> None:
    call = {"id": None, "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    first, second = with_missing_ids([call, "broken", call], "answer-1")
    (other,) = with_missing_ids([call], "answer-2")
    assert len({first["id"], second["id"], other["id"]}) == 3
    assert with_missing_ids([call], "answer-2") == [other]


def test_an_assembly_is_empty_until_a_call_begins() -> None:
    assembly = ToolCallAssembly()
    assert assembly.calls() == []
    assembly.add({"index": 0, "id": "a", "function": {"name": "clock"}})
    assert [call["id"] for call in assembly.calls()] == ["a"]


def test_only_answers_have_calls() -> None:
    call = {"id": "a", "function": {"name": "clock", "arguments": "{}"}}
    assert calls_of(Message("user", "?", metadata={"tool_calls": [call]})) == []
    assert calls_of(Message("assistant", "", metadata={"tool_calls": [call, {}, {"id": "b", "function": {}}]})) == [
        call
    ]
