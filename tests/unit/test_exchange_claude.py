"""Claude's export: messages, blocks, tools, attachments, branches."""

from datetime import UTC, datetime
from typing import Any

import pytest

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject
from tests.support.exchange import messages_of, reader, session_of


def message(uuid: str, sender: str, text: str = "", **fields: Any) -> JSONObject:
    return {
        "uuid": uuid,
        "text": text,
        "content": [{"type": "text", "text": text}],
        "sender": sender,
        "created_at": "2026-04-01T10:00:00.5Z",
        "updated_at": "",
        "attachments": [],
        "files": [],
        **fields,
    }


def conversation(*messages: JSONObject, **fields: Any) -> JSONObject:
    return {
        "uuid": "c1",
        "name": "Vocabulary",
        "created_at": "2026-04-01T09:00:00Z",
        "account": {"uuid": "acc"},
        "chat_messages": list(messages),
        **fields,
    }


def test_a_conversation_becomes_a_session() -> None:
    [parsed] = reader().read(conversation(message("m1", "human", "Hi"), message("m2", "assistant", "Hello.")))
    session = session_of(parsed)
    assert (session.session_id, session.created_at) == ("c1", datetime(2026, 4, 1, 9, tzinfo=UTC))
    assert session.config.title == "Vocabulary"
    assert session.metadata == {"claude": {"account": {"uuid": "acc"}}}
    assert [(one.id, one.role.value, one.content, one.metadata) for one in messages_of(parsed)] == [
        ("m1", "user", "Hi", {}),
        ("m2", "assistant", "Hello.", {}),
    ]
    assert messages_of(parsed)[0].timestamp == datetime(2026, 4, 1, 10, 0, 0, 500_000, tzinfo=UTC)


def test_without_blocks_the_text_is_the_content() -> None:
    [first] = messages_of(reader().read_line(conversation(message("m", "human", "Hi", content=[]))))
    assert first.content == "Hi"


def test_results_of_tools_and_what_follows_are_messages_of_their_own() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Search first.", "summaries": [{"summary": "s"}]},
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "t1", "name": "search", "input": {"q": "x"}, "message": "Searching"},
        {"type": "tool_use", "id": None, "name": "open", "input": "u"},
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "found"}], "name": "search"},
        {"type": "tool_result", "content": [{"type": "image"}], "is_error": True, "display": "d"},
        {"type": "text", "text": "Here it is."},
        {"type": "token_budget", "left": 5},
    ]
    call, found, failed, end = messages_of(
        reader().read_line(conversation(message("m", "assistant", "flat", content=blocks, stop_reason="x")))
    )
    assert [one.id for one in (call, found, failed, end)] == ["m", "m-2", "m-3", "m-4"]
    assert (call.content, call.metadata["reasoning_text"]) == ("Let me look.", "Search first.")
    assert call.metadata["tool_calls"] == [
        {"id": "t1", "type": "function", "function": {"name": "search", "arguments": '{"q": "x"}'}},
        {"id": "m-0-1", "type": "function", "function": {"name": "open", "arguments": '{"input": "u"}'}},
    ]
    assert call.metadata["claude"] == {
        "stop_reason": "x",
        "blocks": [{"type": "thinking", "summaries": [{"summary": "s"}]}, {"type": "tool_use", "message": "Searching"}],
    }
    assert (found.role.value, found.content, found.metadata) == ("tool", "found", {"tool_call_id": "t1"})
    assert failed.content == [{"type": "image"}]
    assert failed.metadata == {"tool_call_id": "m-0-1", "is_error": True, "claude": {"display": "d"}}
    assert end.content == "Here it is."
    assert end.metadata["claude"] == {"blocks": [{"type": "token_budget", "left": 5}]}


def test_a_message_that_ends_with_a_result_has_nothing_behind_it() -> None:
    blocks = [{"type": "tool_use", "id": "t", "name": "f", "input": {}}, {"type": "tool_result", "content": None}]
    found = messages_of(reader().read_line(conversation(message("m", "assistant", content=blocks))))
    assert [(one.role.value, one.content) for one in found] == [("assistant", ""), ("tool", "")]


def test_a_result_without_a_call_names_none() -> None:
    blocks = [{"type": "tool_result", "content": "x"}]
    found = messages_of(reader().read_line(conversation(message("m", "assistant", content=blocks))))
    assert [(one.role.value, one.content, one.metadata) for one in found] == [
        ("assistant", "", {}),
        ("tool", "x", {}),
    ]


def test_attachments_are_part_of_the_text() -> None:
    attached = [{"file_name": "a.txt", "file_size": 3, "extracted_content": "abc"}, {"file_name": "b"}]
    files = [{"file_name": "p.png"}, {"file_uuid": "f1"}]
    [one] = messages_of(
        reader().read_line(conversation(message("m", "human", "See", attachments=attached, files=files)))
    )
    assert one.content == "See\n\n[attachment: a.txt]\nabc\n\n[attachment: b]\n\n[file: p.png]\n\n[file: f1]"
    kept = [{"file_name": "a.txt", "file_size": 3}, {"file_name": "b"}]
    assert one.metadata == {"claude": {"attachments": kept, "files": files}}


@pytest.mark.parametrize("leaf", [None, "gone"])
def test_each_other_branch_is_a_session(leaf: str | None) -> None:
    root = "00000000-0000-4000-8000-000000000000"
    blocks = [{"type": "tool_use", "id": "t", "name": "f", "input": {}}, {"type": "tool_result", "content": "r"}]
    data = conversation(
        message("u1", "human", "Hi", parent_message_uuid=root),
        message("a1", "assistant", content=blocks, parent_message_uuid="u1"),
        message("x", "human", "Other", parent_message_uuid="a1"),
        message("y", "human", "More", parent_message_uuid="a1"),
        current_leaf_message_uuid=leaf,
    )
    main, branch = reader().read(data)
    assert [one.id for one in messages_of(main)] == ["u1", "a1", "a1-2", "y"]
    assert [one.id for one in messages_of(branch)] == ["u1", "a1", "a1-2", "x"]
    metadata = session_of(branch).metadata
    assert metadata["parent"] == {"session_id": "c1", "position": 3}
    chosen, _ = reader().read({**data, "current_leaf_message_uuid": "x"})
    assert messages_of(chosen)[-1].id == "x"


def test_without_ids_they_are_derived() -> None:
    data = conversation(message("m", "human", "Hi"), message("n", "assistant", "Hello."))
    del data["uuid"]
    for item in data["chat_messages"]:
        del item["uuid"]
    first, again = reader().read_line(data), reader().read_line(data)
    assert first == again
    assert len({one.message_id for one in first.messages}) == 2


def test_a_conversation_without_messages_is_a_session() -> None:
    [parsed] = reader().read(conversation())
    assert (parsed.messages, parsed.record.session_id) == ([], "c1")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (5, r"chat_messages\[0\] is of type int"),
        (message("m", "robot"), r"chat_messages\[0\]: role 'robot'"),
        (message("m", "human", content=[5]), r"content\[0\] is of type int"),
        (message("m", "human", content=[{"type": "text", "text": 5}]), "'text' is of type int"),
        (message("m", "human", created_at="soon"), "a time is neither"),
    ],
)
def test_a_wrong_message_is_refused_with_its_place(item: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        list(reader().read(conversation(item)))


def test_a_time_without_a_zone_is_read_as_utc() -> None:
    parsed = reader().read_line(conversation(created_at="2026-04-01T09:00:00"))
    assert session_of(parsed).created_at == datetime(2026, 4, 1, 9, tzinfo=UTC)
