"""JSON that is split before it is parsed: elements, outlines, encodings, duplicate keys."""

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.application.exchange.raw_json import RawJSON, elements_of, read_json, resolved, utf8_chunks
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.testing.strategies import json_values


def parts(text: bytes, size: int) -> Iterator[bytes]:
    return (text[start : start + size] for start in range(0, len(text), size))


def containers() -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(json_values()), st.dictionaries(st.text(), json_values()))


@given(
    values=st.lists(containers()), size=st.integers(1, 50), indent=st.sampled_from([None, 1]), is_array=st.booleans()
)
def test_elements_and_outlines_are_equal_to_what_was_written(
    values: list[Any], size: int, indent: int | None, is_array: bool
) -> None:
    texts = [json.dumps(value, indent=indent) for value in values]
    whole = f"[{','.join(texts)}]" if is_array else " \n".join(text for text in texts if text.startswith("{"))
    expected = values if is_array else [value for value in values if isinstance(value, dict)]
    elements = list(elements_of(parts(whole.encode(), size), "f"))
    for element, value in zip(elements, expected, strict=True):
        assert repr(element.load()) == repr(value)
        assert repr(resolved(element.outline())) == repr(value)


def test_an_outline_defers_what_stands_two_levels_below() -> None:
    outline = RawJSON(b'{"title":"T","mapping":{"a":{"b":[1]},"n":1.5},"list":[{},2]}').outline()
    assert outline["title"] == "T"
    assert outline["mapping"]["n"] == 1.5
    assert outline["mapping"]["a"].load() == {"b": [1]}
    assert outline["list"][0].load() == {}
    assert outline["list"][1] == 2


def test_a_number_that_looks_like_a_placeholder_stays_a_number() -> None:
    text = b'{"a":{"b":{"c":1}},"x":0e00000000000000000000}'
    assert RawJSON(text).outline() == {"a": {"b": {"c": 1}}, "x": 0.0}
    assert RawJSON(b'{"a":{"b":{}},"x":1.23456789012345678901}').outline()["x"] == float("1.23456789012345678901")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'[{"a":1} {"a":2}]', "f:1: not JSON: an array that neither continues with , nor ends with ]"),
        (b'[{"a":1},\n', "f:2: not JSON: an object is expected here"),
        (b"[1]", "f:1: not JSON: an object is expected here"),
        (b'\n\n{"a":"]}', "f:3: not JSON: the value that begins here does not end"),
        (b"\n]", "f:2: not JSON: an object is expected here"),
        (b'[{"a":1}', "f:1: not JSON: an array that neither continues with , nor ends with ]"),
    ],
)
def test_what_cannot_be_split_is_refused_by_line(text: bytes, reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        list(elements_of(parts(text, 3), "f"))
    assert str(caught.value) == reason


def test_elements_know_their_lines() -> None:
    text = b'[\n{"a":\n1},\n{"b":2}\n]\n{"c":3}[]'
    found = [(element.line, element.array) for element in elements_of(parts(text, 2), "f")]
    assert found == [(2, 1), (4, 1), (6, 0)]


@pytest.mark.parametrize("text", ["[{}", "{]", '{"a":{"b":{"c":1}', '{"a":{"b":{}}}}'])
def test_a_broken_value_is_refused_by_its_outline(text: str) -> None:
    with pytest.raises(ValidationError, match="not JSON"):
        RawJSON(text.encode()).outline()


@pytest.mark.parametrize("text", ['{"a":1,"b":2,"a":3}', '[{"x":{"a":1,"a":1}}]'])
def test_a_key_that_occurs_twice_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValidationError, match="the key 'a' occurs twice in one object"):
        read_json(text)


def test_an_error_in_a_later_line_names_the_line() -> None:
    with pytest.raises(ValidationError, match="at line 2, column 1"):
        read_json('{"a":\n}')


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", b""),
        ("utf-8", b"\xef\xbb\xbf"),
        ("utf-16-le", b"\xff\xfe"),
        ("utf-16-be", b"\xfe\xff"),
        ("utf-16-le", b""),
        ("utf-16-be", b""),
        ("utf-32-le", b"\xff\xfe\x00\x00"),
    ],
)
def test_every_encoding_of_json_is_read(encoding: str, mark: bytes) -> None:
    text = json.dumps(["é😀" * 50_000], ensure_ascii=False)
    assert b"".join(utf8_chunks(BytesIO(mark + text.encode(encoding)))).decode() == text


@pytest.mark.parametrize("text", [b"\xff\xfe[\x00\x00", b"\xef\xbb\xbf\xff"])
def test_text_that_is_not_in_its_encoding_is_refused(text: bytes) -> None:
    with pytest.raises(UnicodeError):
        list(utf8_chunks(BytesIO(text)))


def test_an_empty_file_has_no_chunks() -> None:
    assert list(utf8_chunks(BytesIO(b""))) == []
