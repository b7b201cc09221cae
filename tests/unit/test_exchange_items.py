"""The conversations of a file, however it is laid out."""

import json
from io import BytesIO
from typing import Any

import pytest

from luminoracore_sdk.application.exchange.formats import ImportFormat
from luminoracore_sdk.application.exchange.items import Item, items_of
from luminoracore_sdk.application.exchange.raw_json import resolved
from luminoracore_sdk.domain.errors import ValidationError
from tests.support.exchange import good_line, reader

CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
MESSAGE = {"role": "user", "content": "Hi"}


def items(text: str | bytes, format: ImportFormat | None = None) -> list[Item]:  # noqa: A002
    return list(items_of(BytesIO(text if isinstance(text, bytes) else text.encode()), "f", format))


def contents(text: str | bytes, format: ImportFormat | None = None) -> list[tuple[str, Any]]:  # noqa: A002
    """Return place and parsed content of each item."""
    return [(item.place, resolved(item.content)) for item in items(text, format)]


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_of_conversations_is_read_one_at_a_time(indent: int | None) -> None:
    text = json.dumps([CHAT, CHAT], indent=indent)
    line = 1 if indent is None else text[: text.rindex("messages")].count("\n")
    assert contents(text)[1] == (f"f:{line}: conversation 2", CHAT)
    assert len(items(text)) == 2


@pytest.mark.parametrize("blanks", ["", " \n", "\n" * 100_000])
def test_blank_lines_count_and_are_skipped(blanks: str) -> None:
    text = f"{blanks}{json.dumps(CHAT)}\n\n{json.dumps(CHAT)}"
    number = blanks.count("\n") + 1
    assert contents(text) == [(f"f:{number}", CHAT), (f"f:{number + 2}", CHAT)]


def test_a_line_that_is_damaged_does_not_hide_those_behind_it() -> None:
    found = items(f"{json.dumps(CHAT)}\n{{\n[]\n{json.dumps(CHAT)}\n")
    assert [item.place for item in found] == ["f:1", "f:2", "f:3", "f:4"]
    assert found[3].content.load() == CHAT
    assert found[3].end == found[0].end


def test_a_first_line_may_be_longer_than_what_is_read_at_once() -> None:
    long = {"messages": [{"role": "user", "content": "x" * 200_000}]}
    assert contents(f"{json.dumps(long)}\n{json.dumps(CHAT)}") == [("f:1", long), ("f:2", CHAT)]
    assert contents(json.dumps(long)) == [("f:1", long)]


def test_objects_in_any_layout_are_read_one_after_the_other() -> None:
    text = json.dumps(CHAT, indent=2) * 2 + json.dumps(CHAT)
    assert [content for _, content in contents(text)] == [CHAT] * 3


@pytest.mark.parametrize("text", [json.dumps([MESSAGE, MESSAGE]), json.dumps([[MESSAGE, MESSAGE]])])
def test_a_list_of_messages_is_one_conversation(text: str) -> None:
    [(_, content)] = contents(text)
    assert content == [MESSAGE, MESSAGE]
    [item] = items(text)
    assert len(next(reader().read(item.content)).messages) == 2


def test_several_lists_of_messages_are_several_conversations() -> None:
    assert contents(f"{json.dumps([MESSAGE])}\n{json.dumps([MESSAGE])}") == [("f:1", [MESSAGE]), ("f:2", [MESSAGE])]


def test_a_list_in_a_list_has_the_id_that_it_has_alone() -> None:
    chat = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    [item] = items(json.dumps([chat]))
    assert [*reader().read(item.content)] == [*reader().read(chat)]


@pytest.mark.parametrize(
    ("value", "named", "count"),
    [
        ([MESSAGE, MESSAGE], ImportFormat.OPENAI_AGENTS, 1),
        ([MESSAGE, MESSAGE], ImportFormat.CHATGPT, 2),
        ([CHAT, CHAT], ImportFormat.OPENAI, 2),
        ({"a": {"messages": []}, "b": {}}, ImportFormat.OLDER_SDK, 2),
        ({"a": {"messages": []}, "b": {}}, ImportFormat.LUMINORA, 1),
        ({"a": {"messages": []}, "b": {}}, None, 2),
        ([{"a": {}}], ImportFormat.OLDER_SDK, 1),
    ],
)
def test_the_format_decides_what_a_conversation_is(value: Any, named: ImportFormat | None, count: int) -> None:
    assert len(items(json.dumps(value), named)) == count


def test_entries_of_an_older_store_have_their_key() -> None:
    text = json.dumps({"a": {"messages": []}, "b": None})
    assert [(item.place, item.session_id, item.content) for item in items(text)] == [
        ("f: session 'a'", "a", {"messages": []}),
        ("f: session 'b'", "b", None),
    ]
    assert items(text)[-1].end == len(text)


@pytest.mark.parametrize("text", ["", " \n \n", "[]", b"\xef\xbb\xbf"])
def test_an_empty_file_has_no_items(text: str | bytes) -> None:
    assert items(text) == []


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf", b""])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_encodings_are_recognized(encoding: str, mark: bytes) -> None:
    text = json.dumps(good_line(), ensure_ascii=False).encode(encoding)
    assert contents((mark if encoding == "utf-8" else b"") + text) == [("f:1", good_line())]


def test_text_that_ends_within_a_character_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"^f: not UTF-16"):
        items(b"\xff\xfe{\x00}")


def test_an_array_with_a_damaged_first_element_is_judged_element_by_element() -> None:
    found = items('[{"a" 1},{"messages":[]}]')
    assert [item.place for item in found] == ["f:1: conversation 1", "f:1: conversation 2"]
    with pytest.raises(ValidationError, match="not JSON"):
        found[0].content.load()


def test_an_array_whose_first_message_has_a_key_twice_is_judged_too() -> None:
    found = items('[{"type":"human","data":{"x":{"a":1,"a":2}}},{"messages":[]}]')
    assert [item.place for item in found] == ["f:1: conversation 1", "f:1: conversation 2"]


def test_a_key_that_an_older_store_has_twice_is_refused_by_line() -> None:
    with pytest.raises(ValidationError, match=r"^f:2: the key 'a' occurs twice in one object"):
        items('\n{"s":{"messages":[{"a":1,"a":2}]}}')


def test_a_value_that_is_nested_deeply_is_refused() -> None:
    [item] = items('{"messages":[{"role":"user","content":"x","more":' + "[" * 600 + "]" * 600 + "}]}")
    with pytest.raises(ValidationError, match="nested"):
        list(reader().read(item.content))


def test_a_value_that_is_damaged_is_an_item() -> None:
    [item] = items('{"a":\n1,}')
    with pytest.raises(ValidationError, match="not JSON"):
        item.content.load()


def test_a_damaged_end_is_named_by_its_line() -> None:
    with pytest.raises(ValidationError, match=r"^f:2: not JSON: the value that begins here does not end"):
        items('\n{\n{"messages": []}\n')
