from typing import Any

import pytest

from luminoracore_sdk.adapters.providers.anthropic_messages import finish_reason, prompt, tool_choice, tools
from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.types.provider import ChatMessage

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}


def text(value: str) -> dict[str, str]:
    return {"type": "text", "text": value}


def test_system_messages_are_gathered_wherever_they_stand() -> None:
    messages = [ChatMessage("system", "A"), ChatMessage("user", "B"), ChatMessage("system", "C")]
    assert prompt(messages) == {
        "system": [text("A"), text("C")],
        "messages": [{"role": "user", "content": [text("B")]}],
    }


def test_without_system_messages_there_is_no_system() -> None:
    assert prompt([ChatMessage("user", "B")]) == {"messages": [{"role": "user", "content": [text("B")]}]}


def test_turns_of_one_role_in_a_row_become_one() -> None:
    messages = [ChatMessage("user", "A"), ChatMessage("user", [text("B")]), ChatMessage("assistant", "C")]
    assert prompt(messages)["messages"] == [
        {"role": "user", "content": [text("A"), text("B")]},
        {"role": "assistant", "content": [text("C")]},
    ]


def test_tool_calls_and_results_are_translated() -> None:
    second = {"id": "c2", "type": "function", "function": {"name": "wait", "arguments": ""}}
    messages = [
        ChatMessage("user", "Look"),
        ChatMessage("assistant", "", {"tool_calls": [CALL, second]}),
        ChatMessage("tool", "blue", {"tool_call_id": "c1"}),
        ChatMessage("tool", {"done": True}, {"tool_call_id": "c2"}),
        ChatMessage("user", "And?"),
    ]
    assert prompt(messages)["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": "sky"}},
                {"type": "tool_use", "id": "c2", "name": "wait", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [text("blue")]},
                {"type": "tool_result", "tool_use_id": "c2", "content": [text('{"done": true}')]},
                text("And?"),
            ],
        },
    ]


def test_empty_texts_are_left_out() -> None:
    messages = [ChatMessage("user", ""), ChatMessage("user", "A"), ChatMessage("assistant", None)]
    assert prompt(messages)["messages"] == [{"role": "user", "content": [text("A")]}]


def test_window_beginning_with_an_answer_gets_a_user_turn() -> None:
    messages = [ChatMessage("assistant", "A"), ChatMessage("user", "B")]
    assert prompt(messages)["messages"] == [
        {"role": "user", "content": [text("(The conversation began earlier.)")]},
        {"role": "assistant", "content": [text("A")]},
        {"role": "user", "content": [text("B")]},
    ]


def test_the_caller_s_lists_are_not_changed() -> None:
    parts = [text("A")]
    prompt([ChatMessage("user", parts), ChatMessage("user", "B")])
    assert parts == [text("A")]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (ChatMessage("tool", "x"), "message 1 is the result of a tool without a tool_call_id"),
        (ChatMessage("assistant", "x", {"tool_calls": "c"}), "message 1 has tool_calls that are not a list"),
        (
            ChatMessage("assistant", "x", {"tool_calls": ["c"]}),
            "message 1 has a tool call that is not in OpenAI's form",
        ),
        (
            ChatMessage("assistant", "x", {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]}),
            "message 1 has a tool call that is not in OpenAI's form",
        ),
        (
            ChatMessage("assistant", "x", {"tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1]"}}]}),
            "message 1 has a tool call that is not in OpenAI's form",
        ),
    ],
)
def test_what_cannot_be_expressed_is_refused(message: ChatMessage, reason: str) -> None:
    with pytest.raises(ProviderError) as caught:
        prompt([message])
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
        (None, None),
        (7, None),
    ],
)
def test_stop_reasons_get_the_common_names(theirs: Any, ours: str | None) -> None:
    assert finish_reason(theirs) == ours


def test_tools_are_converted_and_the_vendors_own_are_kept() -> None:
    own = {"type": "web_search_20250305", "name": "web_search"}
    schema = {"type": "object", "properties": {"at": {"type": "string"}}}
    look = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": schema}}
    wait = {"type": "function", "function": {"name": "wait"}}
    assert tools([look, own, wait]) == [
        {"name": "look", "description": "Look.", "input_schema": schema},
        own,
        {"name": "wait", "input_schema": {"type": "object", "properties": {}}},
    ]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "look"}}, {"type": "tool", "name": "look"}),
        ({"type": "any"}, {"type": "any"}),
    ],
)
def test_a_choice_of_tools_is_converted(choice: Any, sent: dict[str, str]) -> None:
    assert tool_choice(choice) == sent
