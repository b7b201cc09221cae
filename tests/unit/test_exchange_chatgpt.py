"""ChatGPT's export: the tree, its branches, every type of content."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from luminoracore_sdk.application.exchange.raw_json import RawJSON
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from tests.support.exchange import ECHO, chatgpt_conversation, chatgpt_node, messages_of, reader, session_of

node = chatgpt_node


def said(data: JSONObject) -> list[tuple[str, Any]]:
    return [(one.role.value, one.content) for one in messages_of(reader().read_line(data))]


def test_the_path_to_the_current_node_is_the_conversation() -> None:
    mapping = {
        "r": {"id": "r", "message": None, "parent": None, "children": ["a"]},
        "a": {
            "id": "a",
            "message": {
                "id": "a",
                "author": {"role": "user"},
                "create_time": 1760000000.5,
                "content": {"content_type": "text", "parts": ["Where to?"]},
            },
            "parent": "r",
            "children": ["b"],
        },
        "b": {
            "id": "b",
            "message": {
                "id": "b",
                "author": {"role": "assistant"},
                "create_time": 1760000001.5,
                "content": {"content_type": "text", "parts": ["Turin."]},
            },
            "parent": "a",
            "children": [],
        },
    }
    data = {"title": "Trip", "create_time": 1760000000.1, "mapping": mapping, "current_node": "b"}
    [parsed] = reader().read(data)
    session = session_of(parsed)
    assert (session.config.title, session.metadata) == ("Trip", {"chatgpt": {"current_node": "b"}})
    assert session.created_at == datetime(2025, 10, 9, 8, 53, 20, 100_000, tzinfo=UTC)
    assert (session.provider, parsed.is_adopted) == (ECHO, True)
    assert [(one.id, one.role.value, one.content, one.timestamp, one.metadata) for one in messages_of(parsed)] == [
        ("a", "user", "Where to?", datetime(2025, 10, 9, 8, 53, 20, 500_000, tzinfo=UTC), {}),
        ("b", "assistant", "Turin.", datetime(2025, 10, 9, 8, 53, 21, 500_000, tzinfo=UTC), {}),
    ]
    [again] = reader().read(RawJSON(json.dumps(data).encode()))
    assert again == parsed


@pytest.mark.parametrize(
    ("given", "title", "rest"),
    [
        (" A trip\nto Turin ", "A trip to Turin", {"title": " A trip\nto Turin "}),
        ("x" * 201, "x" * 200, {"title": "x" * 201}),
        (" ", None, {"title": " "}),
        ("", None, {}),
        (None, None, {}),
        (5, None, {"title": 5}),
    ],
)
def test_a_title_becomes_one_that_a_session_can_have(given: JSONValue, title: str | None, rest: JSONObject) -> None:
    data = chatgpt_conversation(node("a", "root", "user", "Hi")) | {"title": given}
    for content in (data, RawJSON(json.dumps(data).encode())):
        session = session_of(next(reader().read(content)))
        assert session.config.title == title
        assert {name: value for name, value in session.metadata["chatgpt"].items() if name == "title"} == rest


def branched() -> JSONObject:
    return chatgpt_conversation(
        node("u1", "root", "user", "Hi"),
        node("old", "u1", "assistant", "Hello."),
        node("edited", "u1", "assistant", "Good day."),
        node("later", "edited", "user", "More?"),
        node("hollow", "old", "assistant") | {"message": None},
        node("u2", "edited", "user", "And?"),
    )


def test_each_other_branch_is_a_session_that_names_where_it_begins() -> None:
    main, *branches = reader().read(branched())
    assert main.record.session_id == "c1"
    assert [one.id for one in messages_of(main)] == ["u1", "edited", "u2"]
    assert [[one.id for one in messages_of(branch)] for branch in branches] == [
        ["u1", "edited", "later"],
        ["u1", "old"],
    ]
    metadata = [session_of(branch).metadata for branch in branches]
    parents = [{"session_id": "c1", "position": 2}, {"session_id": "c1", "position": 1}]
    assert [one["parent"] for one in metadata] == parents
    assert [session_of(branch).config.title for branch in branches] == ["Trip", "Trip"]
    ids = [branch.record.session_id for branch in branches]
    assert len({"c1", *ids}) == 3
    assert [one.record.session_id for one in reader().read(branched())] == ["c1", *ids]


def test_a_branch_without_messages_of_its_own_is_no_session() -> None:
    data = branched()
    data["mapping"]["empty"] = {"id": "empty", "message": None, "parent": "u1", "children": []}
    assert len(list(reader().read(data))) == 3


def test_a_current_node_with_children_leaves_them_to_a_branch() -> None:
    data = chatgpt_conversation(node("a", "root"), node("b", "a"), current_node="a")
    main, branch = reader().read(data)
    assert [len(one.messages) for one in (main, branch)] == [1, 2]
    assert session_of(branch).metadata["parent"]["position"] == 1


@pytest.mark.parametrize("current", [None, "gone", 5])
def test_without_a_current_node_the_last_one_is_it(current: object) -> None:
    data = chatgpt_conversation(node("a", "root", "user", "1"), node("b", "a", "user", "2"), current_node=current)
    assert said(data) == [("user", "1"), ("user", "2")]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"content_type": "text", "parts": ["a", "b"]}, "a\nb"),
        ({"content_type": "code", "language": "python", "text": "1+1"}, "1+1"),
        ({"content_type": "execution_output", "text": "2"}, "2"),
        ({"content_type": "tether_browsing_display", "result": "found", "summary": None}, "found"),
        ({"content_type": "tether_quote", "url": "u", "title": "t", "text": "quoted"}, "quoted"),
        ({"content_type": "system_error", "name": "e", "text": "failed"}, "failed"),
        ({"content_type": "user_editable_context", "user_profile": "P", "user_instructions": "I"}, "P\n\nI"),
        ({"content_type": "model_editable_context", "model_set_context": "likes tea"}, "likes tea"),
        ({"content_type": "reasoning_recap", "content": "Thought for 5s"}, ""),
        (
            {
                "content_type": "multimodal_text",
                "parts": [
                    {"content_type": "image_asset_pointer", "asset_pointer": "sediment://file_1", "width": 2},
                    {"content_type": "audio_transcription", "text": "spoken"},
                    {"asset_pointer": "file-service://x"},
                    {"content_type": "other"},
                    None,
                    "Look",
                ],
            },
            "[image: sediment://file_1]\nspoken\n[file: file-service://x]\nLook",
        ),
    ],
)
def test_every_type_of_content_is_kept(content: JSONObject, text: str) -> None:
    [message] = messages_of(reader().read_line(chatgpt_conversation(node("a", "root", "user", content))))
    assert message.content == text
    assert message.metadata == {"chatgpt": {"content": content}}


def test_thoughts_are_reasoning() -> None:
    thoughts = [{"summary": "Plan", "content": "First"}, {"summary": "", "content": "Then"}, "odd"]
    content = {"content_type": "thoughts", "thoughts": thoughts}
    [message] = messages_of(reader().read_line(chatgpt_conversation(node("a", "root", "assistant", content))))
    assert (message.content, message.metadata["reasoning_text"]) == ("", "Plan\n\nFirst\n\nThen")
    assert message.metadata["chatgpt"]["content"] == content


def test_a_call_of_the_code_interpreter_is_a_tool_call_with_its_result() -> None:
    code = {"content_type": "code", "language": "unknown", "text": "print(1)"}
    data = chatgpt_conversation(
        node("u", "root", "user", "Run"),
        node("call", "u", "assistant", code, recipient="python"),
        node(
            "out",
            "call",
            "tool",
            {"content_type": "execution_output", "text": "1"},
            author={"role": "tool", "name": "python"},
        ),
        node("more", "out", "tool", "again"),
        node("end", "more", "assistant", "Done.", recipient="all"),
    )
    _, call, out, more, end = messages_of(reader().read_line(data))
    function = {"name": "python", "arguments": '{"input": "print(1)"}'}
    assert (call.content, call.metadata["tool_calls"]) == (
        "",
        [{"id": "call", "type": "function", "function": function}],
    )
    assert (out.content, out.metadata["tool_call_id"]) == ("1", "call")
    assert out.metadata["chatgpt"]["author"] == {"name": "python"}
    assert "tool_call_id" not in more.metadata
    assert (end.content, end.metadata) == ("Done.", {"chatgpt": {"recipient": "all"}})


def test_arguments_that_are_an_object_stay_as_they_are() -> None:
    data = chatgpt_conversation(node("c", "root", "assistant", '{"q": 1}', recipient="browser"))
    [message] = messages_of(reader().read_line(data))
    assert message.metadata["tool_calls"][0]["function"]["arguments"] == '{"q": 1}'


def test_hidden_messages_and_other_fields_stay_in_metadata() -> None:
    hidden = {"is_visually_hidden_from_conversation": True}
    data = chatgpt_conversation(
        node("s", "root", "system", "", metadata=hidden, id="other", create_time=None), gizmo_id="g", plugin_ids=[]
    )
    parsed = reader().read_line(data)
    [message] = messages_of(parsed)
    assert (message.role.value, message.content) == ("system", "")
    assert message.metadata == {"chatgpt": {"metadata": hidden, "id": "other"}}
    assert message.timestamp == session_of(parsed).created_at
    assert session_of(parsed).metadata == {"chatgpt": {"gizmo_id": "g", "current_node": "s"}}


def test_a_conversation_without_id_has_one_that_is_derived() -> None:
    data = chatgpt_conversation(node("a", "root"))
    del data["conversation_id"]
    assert reader().read_line({**data, "id": "i"}).record.session_id == "i"
    first = reader().read_line(data).record.session_id
    assert reader().read_line(dict(reversed(data.items()))).record.session_id == first
    assert reader().read_line({**data, "title": "Other"}).record.session_id != first


def test_a_conversation_without_messages_is_a_session() -> None:
    [parsed] = reader().read(chatgpt_conversation())
    assert (parsed.messages, session_of(parsed).config.title) == ([], "Trip")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"mapping": {}}, "'mapping' is empty"),
        ({"mapping": {"a": 5}}, r"mapping\['a'\]: is of type int, not an object"),
        ({"mapping": {"a": {"parent": 5}}}, r"mapping\['a'\]: 'parent' is of type int"),
        ({"mapping": {"a": {"parent": "b"}, "b": {"parent": "a"}}}, "some of its messages form a circle"),
        ({"mapping": {"a": {"message": {"content": {}}}}}, r"mapping\['a'\]: 'author' is of type NoneType"),
        (chatgpt_conversation(node("a", "root", "critic")), r"mapping\['a'\]: role 'critic' is not one of"),
        (chatgpt_conversation(node("a", "root", create_time=1e20)), "a time is neither seconds"),
        (chatgpt_conversation(node("a", "root", create_time=[])), "a time is of type list"),
        (chatgpt_conversation(node("a", "root"), create_time="soon"), "a time is neither seconds"),
    ],
)
def test_what_is_no_conversation_is_refused_with_its_place(data: JSONObject, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        list(reader().read(data))


def test_the_same_key_twice_in_a_message_is_refused_with_its_place() -> None:
    text = b'{"mapping":{"a":{"id":"a","id":"b"}}}'
    with pytest.raises(ValidationError, match=r"mapping\['a'\]: the key 'id' occurs twice in one object"):
        list(reader().read(RawJSON(text)))
