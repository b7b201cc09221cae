"""Import formats: what is parsed, and what is refused with which reason."""

import json
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.exchange.older_sdk import is_older_store
from luminoracore_sdk.application.exchange.raw_json import RawJSON, read_json
from luminoracore_sdk.application.ports.records import MemoryRecord, MessageRecord, SessionRecord
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject
from tests.support.exchange import ECHO, TOOLS, good_line, reader

# -- exports of this package -----------------------------------------------------------------------


def test_a_draft_is_made_of_records_alone() -> None:
    draft = reader().read_line(good_line())
    assert [type(part) for part in (draft.record, draft.messages[0], draft.memories[0])] == [
        SessionRecord,
        MessageRecord,
        MemoryRecord,
    ]


def changed(path: str, value: Any) -> JSONObject:
    """Return a good line with one field set; ``...`` removes it."""
    line = good_line()
    *parents, last = path.split(".")
    place: Any = line
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    if value is ...:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return line


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ("version", 2, "version 1"),
        ("extra", 1, "a session has no field 'extra'"),
        ("session_id", ..., "session id None is refused"),
        ("session_id", "", "it is empty"),
        ("user_id", 5, "'user_id' is of type int"),
        ("tags", [5], "tag 5 is refused"),
        ("ttl_us", True, "'ttl_us' is of type bool"),
        ("created_at", "yesterday", "created_at: 'yesterday' is not an ISO 8601 time"),
        ("document", [], "'document' is of type list"),
        ("document", {"v": 2}, "document: its document has no 'personality'"),
        ("document", {"v": 99, "personality": {}}, "document: its document has version 99"),
        ("messages", ..., "'messages' is of type NoneType"),
        ("messages.0", "hi", "messages[0] is of type str"),
        ("messages.0.role", "robot", "messages[0]: role 'robot' is not one of"),
        ("messages.0.id", ..., "messages[0]: a message of an export has 'id' and 'timestamp'"),
        ("messages.0.timestamp", ..., "messages[0]: a message of an export has 'id' and 'timestamp'"),
        ("messages.0.position", 2, "messages[0]: 'position' must be 1"),
        ("messages.0.secret", 2, "messages[0]: a message has no field 'secret'"),
        ("memories.0.key", "", "memories[0]: memory key '' is refused"),
        ("memories.0.value", ..., "memories[0]: exported memory 'k' needs 'value' and 'created_at'"),
        ("memories.0.updated_at", "x", "memories[0]: a memory has no field 'updated_at'"),
        ("memories.0.retention", "high", "memories[0]: 'retention' is of type str"),
    ],
)
def test_a_wrong_field_is_refused_with_its_place(path: str, value: Any, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        reader().read_line(changed(path, value))
    assert reason in str(caught.value)


@pytest.mark.parametrize(("field", "name"), [("messages", "message id 'm1'"), ("memories", "memory key 'k'")])
def test_duplicates_are_refused(field: str, name: str) -> None:
    line = good_line()
    line[field] = [line[field][0], {**line[field][0]}]
    if field == "messages":
        line[field][1]["position"] = 2
    with pytest.raises(ValidationError, match=f"{name} occurs twice"):
        reader().read_line(line)


@pytest.mark.parametrize(
    ("data", "reason"),
    [([], "not list"), ({"x": 1}, "neither a session"), ({"format": "?", "messages": []}, "neither a session")],
)
def test_a_value_that_is_not_a_session_is_refused(data: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        reader().read_line(data)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{'a': 1}", "not JSON: Expecting property name enclosed in double quotes, at column 2"),
        ("[NaN]", "not JSON: NaN has no JSON form"),
        (b'"\xff"', "not JSON: not UTF-8"),
        ("[" * 200_000, "not JSON: nested too deeply"),
        ("1" * 5_000, "not JSON: an integer has too many digits"),
    ],
)
def test_invalid_json_is_refused_without_quoting_it(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read_json(text)
    assert str(caught.value) == reason


# -- OpenAI chats ----------------------------------------------------------------------------------


def test_a_chat_becomes_a_session_with_its_system_prompt() -> None:
    tool_call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    draft = reader().read_line(
        {
            "messages": [
                {"role": "developer", "content": "Be short."},
                {"role": "user", "content": "Weather?", "name": "ada"},
                {"role": "assistant", "tool_calls": [tool_call]},
                {"role": "function", "content": "rain", "tool_call_id": "c1"},
                {"role": "assistant", "content": "Rain.", "weight": 0},
            ],
            "tools": [{"type": "function"}],
        }
    )
    session = TOOLS.codec.session(attrs.evolve(draft.record, version=1), backend="test")
    said = [TOOLS.codec.message(one, backend="test", session_id="s") for one in draft.messages]
    assert session.personality == {"system_prompt": "Be short."}
    assert session.provider == ECHO
    assert session.metadata == {"tools": [{"type": "function"}]}
    assert [(one.role.value, one.content, one.metadata) for one in said] == [
        ("user", "Weather?", {"name": "ada"}),
        ("assistant", None, {"tool_calls": [tool_call]}),
        ("tool", "rain", {"tool_call_id": "c1"}),
        ("assistant", "Rain.", {"weight": 0}),
    ]
    assert {one.timestamp for one in said} == {TOOLS.clock.now()}
    assert len({one.id for one in said}) == 4


@pytest.mark.parametrize(
    "first",
    [
        {"role": "user", "content": "hi"},
        {"role": "system", "content": "x", "name": "n"},
        {"role": "system", "content": [{"type": "text", "text": "x"}]},
    ],
)
def test_other_first_messages_stay_messages(first: JSONObject) -> None:
    draft = reader().read_line({"messages": [first]})
    assert [message.role for message in draft.messages] == [first["role"]]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "'messages' is empty"),
        ([{"role": "user", "content": "x"}, {"content": "x"}], r"messages\[1\]: role None"),
        ([{"role": "robot", "content": "x"}], r"messages\[0\]: role 'robot'"),
        ([{"role": "user", "content": float("inf")}], r"messages\[0\]: message\['content'\] is not JSON"),
    ],
)
def test_a_wrong_chat_is_refused(messages: list[JSONObject], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        reader().read_line({"messages": messages})


def test_a_chat_has_the_same_id_whenever_and_however_it_is_read() -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "n": 1}
    turned = {"n": 1, "messages": [{"content": "hi", "role": "user"}]}
    first = reader().read_line(chat).record.session_id
    assert reader().read_line(turned).record.session_id == first
    assert reader().read_line({**chat, "n": 2}).record.session_id != first
    one = reader()
    read = [one.read_line(chat).record.session_id for _ in range(3)]
    assert read == [first, f"{first}-2", f"{first}-3"]


# -- the older store -------------------------------------------------------------------------------


def older() -> JSONObject:
    return {
        "config": {
            "provider_config": {"name": "openai", "api_key": "sk-secret", "model": "m"},
            "max_history": 9,
            "session_type": {"_value_": "chat"},
        },
        "conversation": {
            "messages": [
                {"role": "user", "content": "hi", "timestamp": "2024-01-02 03:04:05.000006", "metadata": {}},
                {"role": "assistant", "content": "ho", "timestamp": None, "metadata": None},
            ]
        },
        "personality": {"name": "Ada"},
        "created_at": "2024-01-01 00:00:00",
    }


def test_the_older_store_is_recognised() -> None:
    assert is_older_store({"s1": older()})
    assert is_older_store({"s1": {}})
    assert is_older_store({"s1": {"messages": []}, "s2": None})
    chat = {"messages": [], "response_format": {"messages": {}}}
    others: list[object] = [[], {}, {"s": 1}, {"s": {}, "t": 1}, good_line(), {"messages": []}, chat]
    assert not any(is_older_store(other) for other in others)


def test_a_session_of_the_older_store_is_read_without_its_key() -> None:
    draft = reader().read_older("s1", older())
    session = TOOLS.codec.session(draft.record, backend="test")
    said = [TOOLS.codec.message(one, backend="test", session_id="s1") for one in draft.messages]
    assert b"sk-secret" not in (draft.record.payload.data if draft.record.payload else b"")
    assert session.provider == {"name": "openai", "model": "m", "base_url": None, "extra": {}}
    assert (session.personality, session.config.max_history) == ({"name": "Ada"}, 9)
    assert session.created_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert [(one.content, one.timestamp) for one in said] == [
        ("hi", datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
        ("ho", datetime(2024, 1, 1, tzinfo=UTC)),
    ]


def test_other_fields_of_an_older_session_are_kept() -> None:
    memories = {"name": "Grace", "nested": {"x": 1}}
    added = {"memory": {"likes": "tea"}, "memories": memories, "last_activity": "2024", "api_key": "sk-no"}
    draft = reader().read_older("s1", {**older(), **added, "messages": ["old"]})
    session = TOOLS.codec.session(draft.record, backend="test")
    assert session.metadata == {
        "older": {
            "memories": memories,
            "last_activity": "2024",
            "messages": ["old"],
            "config": {"session_type": {"_value_": "chat"}},
        }
    }
    assert [TOOLS.codec.memory(one, backend="test").value for one in draft.memories] == ["tea"]


def test_a_message_of_the_older_store_keeps_its_other_fields() -> None:
    said = {"role": "user", "content": "hi", "id": 7, "metadata": {"a": 1}}
    draft = reader().read_older("s1", {"messages": [said]})
    message = TOOLS.codec.message(draft.messages[0], backend="test", session_id="s1")
    assert message.metadata == {"id": 7, "a": 1}


def test_a_minimal_older_session_gets_defaults() -> None:
    draft = reader().read_older("s1", {"conversation": {"messages": []}})
    session = TOOLS.codec.session(draft.record, backend="test")
    assert (session.provider, session.created_at) == (ECHO, TOOLS.clock.now())
    assert (draft.is_adopted, session.metadata) == (True, {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"conversation": {}}, "its 'conversation' has no 'messages'"),
        ({"conversation": []}, "'conversation' is of type list"),
        ({"memory": {"": 1}}, "memory key '' is refused"),
        ({"created_at": "noon"}, "a time is not in ISO 8601"),
        ({"config": {"provider_config": {"name": ""}}}, "needs a 'name'"),
        ({"conversation": {"messages": [{"role": "x"}]}}, r"messages\[0\]: role 'x'"),
    ],
)
def test_a_wrong_session_of_the_older_store_is_refused(change: JSONObject, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        reader().read_older("s1", {**older(), **change})


@pytest.mark.parametrize(("data", "reason"), [([], "is of type list, not an object"), ({}, "has no 'conversation'")])
def test_an_entry_that_is_not_an_older_session_is_refused(data: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        reader().read_older("s1", data)


# -- users -----------------------------------------------------------------------------------------


def test_the_memories_of_a_user_are_known_parsed_or_not() -> None:
    memory = good_line()["memories"][0]
    line: JSONObject = {"format": "luminora-user", "version": 1, "user_id": "u", "memories": [memory]}
    parsed = reader().read_user(line)
    assert parsed is not None
    assert (parsed.user_id, [one.key for one in parsed.memories]) == ("u", ["k"])
    assert reader().read_user(RawJSON(json.dumps(line).encode())) == parsed
    others: list[object] = [good_line(), [], RawJSON(b"{}"), RawJSON(b'{"format": "x", "y": "luminora-user"}')]
    assert [reader().read_user(other) for other in others] == [None] * 4
