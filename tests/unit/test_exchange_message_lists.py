"""ShareGPT, LangChain's dumps and the items of openai-agents."""

import json
from typing import Any

import pytest

from luminoracore_sdk.application.exchange.formats import ImportFormat, detected_format
from luminoracore_sdk.application.exchange.raw_json import RawJSON
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject
from tests.support.exchange import messages_of, reader, session_of


def kept(content: Any, format: ImportFormat | None = None) -> list[tuple[str, Any, JSONObject]]:  # noqa: A002
    """Return role, content and metadata of each message; the same, whether it is parsed before or not."""
    [parsed] = reader().read(content, format)
    raw = [RawJSON(json.dumps(one).encode()) for one in content] if isinstance(content, list) else content
    assert [*reader().read(raw, format)] == [parsed]
    return [(one.role.value, one.content, one.metadata) for one in messages_of(parsed)]


def call(call_id: str, name: str, arguments: str) -> JSONObject:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


# -- ShareGPT ----------------------------------------------------------------------------------------


def test_sharegpt_keeps_calls_and_results_together() -> None:
    turns = [
        {"from": "human", "value": "Weather?", "weight": 1},
        {"from": "function_call", "value": '[{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]'},
        {"from": "observation", "value": "rain"},
        {"from": "tool", "value": "wind"},
        {"from": "tool", "value": "late"},
        {"from": "gpt", "value": "Rain."},
    ]
    data = {"id": "x1", "conversations": turns, "system": "Be short.", "tools": "[]"}
    assert kept(data) == [
        ("user", "Weather?", {"sharegpt": {"weight": 1}}),
        (
            "assistant",
            "",
            {"tool_calls": [call("call_1_0", "f", '{"a": 1}'), call("call_1_1", "g", '{"input": null}')]},
        ),
        ("tool", "rain", {"tool_call_id": "call_1_0"}),
        ("tool", "wind", {"tool_call_id": "call_1_1"}),
        ("tool", "late", {}),
        ("assistant", "Rain.", {}),
    ]
    session = session_of(reader().read_line(data))
    assert (session.personality, session.metadata) == (
        {"system_prompt": "Be short."},
        {"sharegpt": {"id": "x1", "tools": "[]"}},
    )


@pytest.mark.parametrize("value", ["just words", "[1]", '{"no": "name"}'])
def test_a_sharegpt_call_that_is_none_stays_text(value: str) -> None:
    assert kept({"conversations": [{"from": "function_call", "value": value}]}) == [("assistant", value, {})]


def test_equal_sharegpt_conversations_of_a_file_get_numbers() -> None:
    data = {"conversations": [{"from": "human", "value": "Hi"}]}
    one = reader()
    first, second = one.read_line(data), one.read_line(data)
    assert second.record.session_id == f"{first.record.session_id}-2"


@pytest.mark.parametrize(
    ("turn", "reason"), [({"from": "robot"}, "'from' 'robot' is not one of"), ({"value": "x"}, "'from' is of type")]
)
def test_a_wrong_sharegpt_turn_is_refused_with_its_place(turn: JSONObject, reason: str) -> None:
    with pytest.raises(ValidationError, match=rf"conversations\[0\]: {reason}"):
        reader().read_line({"conversations": [turn]})


# -- LangChain ---------------------------------------------------------------------------------------


def human(**data: Any) -> JSONObject:
    return {"type": "human", "data": {"content": "Hi", "type": "human", "additional_kwargs": {}, **data}}


def test_messages_to_dict_of_langchain_are_read() -> None:
    older = {"tool_calls": [call("c2", "g", "{}")]}
    tool_use = {"type": "tool_use", "id": "c1", "name": "f"}
    messages = [
        {"type": "system", "data": {"content": "Be short.", "type": "system"}},
        human(id="h1", name="ada", example=False),
        {
            "type": "ai",
            "data": {
                "content": [{"type": "text", "text": "Look"}, tool_use],
                "type": "ai",
                "tool_calls": [{"name": "f", "args": {"a": 1}, "id": "c1", "type": "tool_call"}],
                "response_metadata": {"model": "m"},
            },
        },
        {"type": "tool", "data": {"content": "ok", "type": "tool", "tool_call_id": "c1", "status": "success"}},
        {"type": "ai", "data": {"content": [tool_use], "type": "AIMessageChunk", "additional_kwargs": older}},
        {"type": "ai", "data": {"content": "", "additional_kwargs": {"function_call": {"name": "h"}}}},
        {"type": "ai", "data": {"content": "flat", "tool_calls": [{"name": "f", "args": {}, "id": "c3"}]}},
        {"type": "function", "data": {"content": "done", "name": "h"}},
        {"type": "chat", "data": {"content": "Yes", "type": "chat", "role": "assistant"}},
    ]
    assert kept(messages) == [
        ("system", "Be short.", {}),
        ("user", "Hi", {"langchain": {"name": "ada", "example": False}}),
        (
            "assistant",
            [{"type": "text", "text": "Look"}],
            {"tool_calls": [call("c1", "f", '{"a": 1}')], "langchain": {"response_metadata": {"model": "m"}}},
        ),
        ("tool", "ok", {"tool_call_id": "c1", "langchain": {"status": "success"}}),
        ("assistant", "", {"tool_calls": older["tool_calls"], "langchain": {"additional_kwargs": older}}),
        (
            "assistant",
            "",
            {
                "function_call": {"name": "h"},
                "langchain": {"additional_kwargs": {"function_call": {"name": "h"}}},
            },
        ),
        ("assistant", "flat", {"tool_calls": [call("c3", "f", "{}")]}),
        ("tool", "done", {"name": "h", "langchain": {"name": "h"}}),
        ("assistant", "Yes", {}),
    ]
    [parsed] = reader().read(messages)
    assert messages_of(parsed)[1].id == "h1"


def dumped(name: str, **kwargs: Any) -> JSONObject:
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": kwargs}


def test_dumpd_of_langchain_is_read() -> None:
    data = {
        "messages": [dumped("HumanMessage", content="Hi", type="human"), dumped("AIMessageChunk", content="Hello.")],
        "thread": "t",
    }
    assert kept(data) == [("user", "Hi", {}), ("assistant", "Hello.", {})]
    assert session_of(reader().read_line(data)).metadata == {"langchain": {"thread": "t"}}


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (dumped("RemoveMessage", content=""), "role 'remove'"),
        ({**dumped("HumanMessage"), "id": []}, "role ''"),
        ({"role": "user"}, "is not a message of LangChain"),
        (5, "is not a message of LangChain"),
        (human(tool_calls=[5]), r"tool_calls\[0\] is of type int"),
    ],
)
def test_a_wrong_langchain_message_is_refused_with_its_place(item: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=rf"messages\[1\]: {reason}"):
        list(reader().read([human(), item]))


# -- openai-agents -----------------------------------------------------------------------------------


def test_items_of_openai_agents_are_read() -> None:
    cited = [{"type": "output_text", "text": "Rain.", "annotations": [{"url": "u"}], "logprobs": []}]
    reasoning = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Think"}]}
    searched = {"type": "web_search_call", "id": "w", "status": "completed"}
    items = [
        {"role": "developer", "content": "Be short."},
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Look"}, {"type": "input_image", "image_url": "u"}],
        },
        reasoning,
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "id": "fc", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "raw"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "done"}]},
        searched,
        {"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": cited},
        {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    ]
    assert kept(items) == [
        ("system", "Be short.", {}),
        ("user", [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "u"}}], {}),
        ("assistant", "", {"openai_agents": reasoning, "reasoning_text": "Think"}),
        ("assistant", "", {"openai_agents": {"type": "reasoning", "summary": []}}),
        (
            "assistant",
            "",
            {"tool_calls": [call("c1", "f", '{"a": 1}')], "openai_agents": {"type": "function_call", "id": "fc"}},
        ),
        ("tool", "ok", {"tool_call_id": "c1", "openai_agents": {"type": "function_call_output"}}),
        (
            "assistant",
            "",
            {"tool_calls": [call("c2", "g", '{"input": "raw"}')], "openai_agents": {"type": "custom_tool_call"}},
        ),
        ("tool", "done", {"tool_call_id": "c2", "openai_agents": {"type": "custom_tool_call_output"}}),
        ("assistant", "", {"openai_agents": searched}),
        ("assistant", "Rain.", {"openai_agents": {"id": "m", "status": "completed", "content": cited}}),
        ("assistant", "No.", {}),
    ]


def test_other_parts_of_items_stay_as_they_are() -> None:
    parts = [
        {"type": "input_image", "image_url": "u", "detail": "low"},
        {"type": "input_image", "file_id": "f"},
        {"type": "input_file", "file_id": "f", "filename": None},
        "words",
    ]
    [(_, content, _)] = kept([{"role": "user", "content": parts}])
    assert content == [
        {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
        {"type": "input_image", "file_id": "f"},
        {"type": "file", "file": {"file_id": "f"}},
        "words",
    ]


def test_an_object_around_the_items_is_metadata() -> None:
    data = {"messages": [{"type": "message", "role": "user", "content": "Hi"}], "agent": "a"}
    assert session_of(reader().read_line(data)).metadata == {"openai_agents": {"agent": "a"}}


def test_an_item_that_is_no_object_is_refused_with_its_place() -> None:
    items = [{"type": "message", "role": "user", "content": None}, 5]
    with pytest.raises(ValidationError, match=r"items\[1\]: is of type int"):
        list(reader().read(items, ImportFormat.OPENAI_AGENTS))


# -- formats -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ([{"role": "user", "content": "Hi"}], ImportFormat.OPENAI),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], ImportFormat.OPENAI),
        ([{"role": "user", "content": [{"type": "input_text"}]}], ImportFormat.OPENAI_AGENTS),
        ([{"role": "user"}, {"type": "reasoning"}], ImportFormat.OPENAI_AGENTS),
        ([human()], ImportFormat.LANGCHAIN),
        ({"messages": [human()]}, ImportFormat.LANGCHAIN),
        ({"messages": "x"}, ImportFormat.OPENAI),
        ({"mapping": {}}, ImportFormat.CHATGPT),
        ({"chat_messages": []}, ImportFormat.CLAUDE),
        ({"conversations": []}, ImportFormat.SHAREGPT),
        ({"format": "luminora-session"}, ImportFormat.LUMINORA),
        ({"format": "x", "messages": []}, None),
        ({"mapping": []}, None),
        ([5], None),
        ([], None),
        ("x", None),
    ],
)
def test_formats_are_told_apart(value: Any, found: ImportFormat | None) -> None:
    assert detected_format(value) is found


def test_a_format_that_is_named_is_not_detected() -> None:
    chat = {"messages": [{"role": "user", "content": "Hi"}]}
    assert kept(chat, ImportFormat.OPENAI_AGENTS) == [("user", "Hi", {})]
    for named in (ImportFormat.CHATGPT, ImportFormat.CLAUDE, ImportFormat.SHAREGPT, ImportFormat.LUMINORA):
        with pytest.raises(ValidationError):
            list(reader().read(chat, named))
    with pytest.raises(ValidationError, match="a conversation is a JSON object, not list"):
        list(reader().read([chat], ImportFormat.CHATGPT))
    with pytest.raises(ValidationError, match="the older SDK's file is one object"):
        list(reader().read(chat, ImportFormat.OLDER_SDK))


def test_an_array_of_openai_messages_is_a_chat() -> None:
    chat = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]
    [parsed] = reader().read(chat)
    assert parsed == reader().read_line({"messages": chat})
    assert session_of(parsed).personality == {"system_prompt": "Be short."}
