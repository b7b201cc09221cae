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


def call(name: str, arguments: Any, call_id: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def functions(calls: list[dict[str, Any]]) -> list[tuple[str, str]]:
    assert len({call["id"] for call in calls}) == len(calls)
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def test_an_answer_without_an_id_is_an_answer_of_its_own() -> None:
    first, second = (with_missing_ids([call("clock", "{}")], None) for _ in range(2))
    assert first[0]["id"] != second[0]["id"]


@pytest.mark.parametrize("call_id", [None, "", "call_0"])
def test_each_element_of_a_whole_answer_is_a_call(call_id: str | None) -> None:
    calls = with_missing_ids([call("a", '{"x":1}', call_id), call("b", "", call_id), call("b", "", call_id)], "answer")
    assert functions(calls) == [("a", '{"x":1}'), ("b", "{}"), ("b", "{}")]
    assert calls[0]["id"] == (call_id or calls[0]["id"])


@pytest.mark.parametrize("call_id", [None, "", "call_0"])
@pytest.mark.parametrize("index", [{}, {"index": 0}])
@pytest.mark.parametrize("second", [("b", ""), ("b", '{"y":2}'), ("a", '{"x":1}'), ("a", {"x": 1})])
def test_a_name_behind_whole_arguments_begins_a_call(
    call_id: str | None, index: dict[str, Any], second: tuple[str, Any]
) -> None:
    assembly = ToolCallAssembly()
    for name, arguments in [("a", '{"x":'), ("", "1}"), second]:
        assembly.add(call(name, arguments, call_id, **index))
    name, arguments = second
    written = '{"x": 1}' if isinstance(arguments, dict) else arguments or "{}"
    is_same = bool(call_id) and name == "a"  # the first call once more
    assert functions(assembly.calls("answer")) == [("a", '{"x":1}'), (name, written)][: 1 if is_same else 2]


def test_a_name_that_is_only_repeated_begins_no_call() -> None:
    assembly = ToolCallAssembly()
    for arguments in ('{"x":{"y":1}', ',"z":2', "}", "", None):
        assembly.add(call("a", arguments))
    assert functions(assembly.calls()) == [("a", '{"x":{"y":1},"z":2}')]


@pytest.mark.parametrize("index", [{}, {"index": 0}])
@pytest.mark.parametrize("name", [None, "", "a"])
@pytest.mark.parametrize("again", ['{"x":1}', ' {"x": 1}', {"x": 1}])
def test_a_call_that_is_repeated_whole_is_one_call(index: dict[str, Any], name: str, again: Any) -> None:
    assembly = ToolCallAssembly()
    for call_name, arguments in [("a", '{"x":'), (None, "1}"), (name, again)]:
        assembly.add(call(call_name, arguments, "call_7", **index))  # type: ignore[arg-type]
    assembly.add(call("b", '{"x":1}', "call_8", index=1))
    assert functions(assembly.calls()) == [("a", '{"x":1}'), ("b", '{"x":1}')]


def test_what_is_repeated_whole_without_an_id_and_a_name_is_one_call() -> None:
    assembly = ToolCallAssembly()
    assembly.add(call("a", '{"x":1}', "call_7", index=0))
    assembly.add({"index": 0, "function": {"arguments": '{"x":1}'}, "extra_content": {"signature": "s"}})
    assert functions(assembly.calls()) == [("a", '{"x":1}')]
    assert assembly.calls()[0]["extra_content"] == {"signature": "s"}


def test_pieces_belong_to_the_latest_call_of_their_id() -> None:
    assembly = ToolCallAssembly()
    for name, arguments in [("a", "{}"), ("b", '{"y":'), (None, "2}")]:
        assembly.add(call(name, arguments, "call_0"))  # type: ignore[arg-type]
    assert functions(assembly.calls()) == [("a", "{}"), ("b", '{"y":2}')]


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
