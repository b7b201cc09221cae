"""Each notation by itself: what it writes, what it leaves to others, and what cannot be mistaken."""

from typing import Any

import pytest

from luminoracore_sdk.adapters.notation import (
    CompactJsonNotation,
    LinesNotation,
    TableNotation,
    ToonNotation,
    default_notations,
    is_plain,
    read_lines,
    read_table,
    read_value,
)
from luminoracore_sdk.application.ports.prompting import Notation


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("Turin", "Turin"),
        ("", '""'),
        ("10121", '"10121"'),
        (10121, "10121"),
        ("true", '"true"'),
        (True, "true"),
        ("null", '"null"'),
        (None, "null"),
        ("-1.5e3", '"-1.5e3"'),
        (1.0, "1.0"),
        ("NaN", '"NaN"'),
        ("06:30", "06:30"),
        ("a: b", "a: b"),
        ("- a", "- a"),
        ("# a", "# a"),
        ("two\nlines", r'"two\nlines"'),
        ("two\u2028lines", r'"two\u2028lines"'),
        (" a", '" a"'),
        ("a\t", r'"a\t"'),
        ('say "hi"', 'say "hi"'),
        ('"hi"', r'"\"hi\""'),
        ('"hi" she said', r'"\"hi\" she said"'),
        ("[draft] text", '"[draft] text"'),
        ("{", '"{"'),
        ("漢字 🙂", "漢字 🙂"),
        ("\ud800", r'"\ud800"'),
        (["cat", "dog"], '["cat","dog"]'),
        ({"city": "Turin", "zip": "10121"}, '{"city":"Turin","zip":"10121"}'),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_line_quotes_only_ambiguous_strings(value: Any, written: str) -> None:
    text = LinesNotation().render({"k": value}) or ""
    assert text == f"k: {written}"
    assert read_lines(text) == {"k": value}


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("favourite colour", "favourite colour"),
        ("a:b", "a:b"),
        ("a:", "a:"),
        ("a: b", '"a: b"'),
        ("", '""'),
        ("- a", '"- a"'),
        ("# a", '"# a"'),
        ('"a"', r'"\"a\""'),
        ("a\nb", r'"a\nb"'),
        ("10", "10"),
    ],
)
def test_a_key_is_quoted_only_where_the_line_would_be_misread(key: str, written: str) -> None:
    text = LinesNotation().render({key: "v"}) or ""
    assert text == f"{written}: v"
    assert read_lines(text) == {key: "v"}


@pytest.mark.parametrize("value", [{}, [], [{"a": 1}], "text", None, 1])
def test_lines_are_for_objects_alone(value: Any) -> None:
    assert LinesNotation().render(value) is None


@pytest.mark.parametrize("text", ["no colon", '"quoted" and more', "a:b"])
def test_what_are_no_lines_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key: value"):
        read_lines(text)


def test_deeply_nested_text_is_quoted() -> None:
    assert LinesNotation().render({"k": "[" * 100_000}) == f'k: "{"[" * 100_000}"'


def test_a_text_is_plain_that_shows_where_it_begins_and_ends() -> None:
    texts = ["a b", "", " a", "a\u00a0", "a\0b", "a|b"]
    assert [is_plain(text, forbidden="|") for text in texts] == [True, False, False, False, False, False]
    assert is_plain("a|b")


def test_what_reads_as_json_is_json_and_the_rest_is_text() -> None:
    assert [read_value(text) for text in ("1", '"1"', "one")] == [1, "1", "one"]


def test_table_writes_shared_fields_once() -> None:
    facts: dict[str, Any] = {
        "f1": {"source": "user", "value": "tea, green", "sure": 0.9, "tags": ["a|b"]},
        "f2": {"source": "user", "value": "10", "sure": 1.0},
        "f|3": {"source": "user", "value": "x|y", "note": ""},
    }
    text = TableNotation().render(facts) or ""
    assert text == (
        'each: {"source":"user"}\n'
        "|value|sure|tags|note\n"
        'f1|tea, green|0.9|["a\\u007cb"]|\n'
        'f2|"10"|1.0||\n'
        '"f\\u007c3"|"x\\u007cy"|||""'
    )
    assert read_table(text) == facts


def test_a_list_of_objects_is_a_table_without_keys() -> None:
    rows = [{"name": "Ann", "age": 41}, {"name": "Bo", "age": None}]
    text = TableNotation().render(rows) or ""
    assert text == "name|age\nAnn|41\nBo|null"
    assert read_table(text) == rows


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ({"a": {"x": 1}, "b": {"x": 1}}, "|x\na|1\nb|1"),
        ({"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}}, "|x|y\na|1|2\nb|1|2"),
        ([{"x": 1, "y": 2}, {"x": 1, "y": 3}], 'each: {"x":1}\ny\n2\n3'),
        ([{"x": 1, "y": 2}, {"y": 2}], "x|y\n1|2\n|2"),
        ([{"": 1}, {"": 2}], '""\n1\n2'),
        ([{"each: {}": 1}, {"each: {}": 2}], '"each: {}"\n1\n2'),
        ([{"x": 1, "y": 1}, {"x": 2, "y": True}], "x|y\n1|1\n2|true"),
    ],
)
def test_a_table_has_a_column_and_no_row_that_is_empty(value: Any, written: str) -> None:
    text = TableNotation().render(value) or ""
    assert text == written
    assert read_table(text) == value


@pytest.mark.parametrize(
    "value",
    [{}, [], {"a": {"x": 1}}, [{"x": 1}], [{"x": 1}, {}], [{"x": 1}, 2], {"a": {"x": 1}, "b": 2}, "t"],
)
def test_what_is_no_table_is_left_to_others(value: Any) -> None:
    assert TableNotation().render(value) is None


@pytest.mark.parametrize("text", ["each: {}", "each: 5\nx\n1", "x|y\n1"])
def test_what_is_no_table_is_not_read(text: str) -> None:
    with pytest.raises(ValueError):
        read_table(text)


def test_toon_writes_tables_within_objects() -> None:
    value = {"users": [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Bob"}]}
    assert ToonNotation().render(value) == "users[2]{id,name}:\n  1,Ada\n  2,Bob"


@pytest.mark.parametrize("value", [{}, {"k": "\ud800"}, {"k": "a\u2028b"}, {"k": "a\x85b"}])
def test_toon_refuses_invisible_characters(value: Any) -> None:
    assert ToonNotation().render(value) is None


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ({"k": 1}, {"k": True}),
        ({"k": "1"}, {"k": 1}),
        ({"k": [1, 2]}, {"k": [1]}),
        ({"k": {"a": 1}}, {"k": {"b": 1}}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_what_toons_library_would_read_otherwise_is_not_written(
    monkeypatch: pytest.MonkeyPatch, value: Any, read: Any
) -> None:
    notation = ToonNotation()
    assert notation.render(value) is not None
    monkeypatch.setattr("toon_format.loads", lambda text: read)
    assert notation.render(value) is None


def test_a_number_is_its_value() -> None:
    assert ToonNotation().render({"k": 1.0}) == "k: 1"


def test_json_writes_everything_on_one_line() -> None:
    value = {"a": [1, None, "ü\n\u2028\ud800\x7f"]}
    assert CompactJsonNotation().render(value) == r'{"a":[1,null,"ü\n\u2028\ud800\u007f"]}'


def names(notations: tuple[Notation, ...]) -> list[str]:
    return [notation.name for notation in notations]


def test_default_notations_have_toon_if_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert names(default_notations()) == ["", "table", "TOON", "JSON"]
    monkeypatch.setattr("luminoracore_sdk.adapters.notation.find_spec", lambda name: None)
    assert names(default_notations()) == ["", "table", "JSON"]
