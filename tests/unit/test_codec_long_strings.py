"""Long strings are read in pieces, and exactly."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.codec import long_strings
from luminoracore_sdk.adapters.codec.long_strings import read_long_strings

PIECES = ["a", "é", "中", "😀", '"', "\\", "\n", "\x01", "\t", " ", "uD83D", "x" * 7]
LONG = 70_000


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("offset", range(7))
def test_a_long_string_of_one_kind_is_read_exactly(piece: str, offset: int) -> None:
    value = {"v": 2, "content": "x" * offset + piece * LONG, "metadata": {"more": [piece * LONG, "short", 1.5, None]}}
    assert read_long_strings(orjson.dumps(value)) == value


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=40))
def test_any_mixture_is_read_exactly(pieces: list[str]) -> None:
    value = ["".join(pieces) * (LONG // len(pieces))]
    assert read_long_strings(orjson.dumps(value)) == value


@pytest.mark.parametrize("value", ["short", "😀" * LONG, [1, {"a": {}}], {"k" * LONG: "v"}, {"a": "\\" * LONG}])
def test_other_documents_are_read_too(value: Any) -> None:
    assert read_long_strings(orjson.dumps(value)) == value


@pytest.mark.parametrize("offset", range(13))
@pytest.mark.parametrize("text", ["\U0001f600 ü", "\U0001f600", "\U0001f600\\", "\\ud83d", "ü"])
def test_escaped_characters_are_read(text: str, offset: int) -> None:
    value = ["x" * offset + text * LONG]
    assert read_long_strings(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    "data", [b'["', b'["\\"', b"[" + b'"' + b"x" * LONG, b'["' + b"x" * LONG + b'\n"]', b"", b'"a"b']
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_long_strings(data)


def test_no_piece_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def note(data: bytes) -> Any:
        read.append(len(data))
        return orjson.loads(data)

    monkeypatch.setattr(long_strings, "orjson", type("Module", (), {"loads": staticmethod(note)}))
    read_long_strings(orjson.dumps({"content": "x\n" * 10 * LONG}))
    assert max(read) < LONG
