"""Large values in pieces."""

import json
from functools import partial
from typing import Any

import pytest

from luminoracore_sdk.domain.json_value import check_json
from luminoracore_sdk.domain.pieces import LARGE, is_large, json_text, written

ROW = {"id": 1, "name": "Grüße 😀 \ud800", "price": 0.5, "tags": ["a", None, True, []]}
LARGE_VALUES: dict[str, Any] = {
    "rows": [{**ROW, "id": number} for number in range(5000)],
    "rows in an object": {"rows": [{**ROW, "id": number} for number in range(5000)], "more": [1, 2], "empty": {}},
    "an object of many": {f"key {number}": number for number in range(20_000)},
    "prose": {"said": "Some words, and a few more. " * 20_000, "by": "Ada", "empty": ""},
    "numbers": [list(range(20_000)), [number / 7 for number in range(20_000)]],
    "a text": 'quote " and\n line end ü' * 20_000,
    "a text in an object": {"file": ["\ud83d" + "\ude00" * 200_000, "short"]},
    "deep": [[[[[[["x" * 100] * 3000]]]]]],
}


@pytest.mark.parametrize("name", LARGE_VALUES)
def test_pieces_form_the_text_that_json_writes(name: str) -> None:
    assert is_large(LARGE_VALUES[name])
    assert json_text(LARGE_VALUES[name]) == json.dumps(LARGE_VALUES[name], ensure_ascii=False)


@pytest.mark.parametrize("value", [{}, [], "", None, -0.0, {"a": [1, "é"]}])
def test_small_values_are_written_alike(value: Any) -> None:
    assert json_text(value) == json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("name", [name for name in LARGE_VALUES if name != "deep"])
def test_no_piece_is_large(name: str) -> None:
    assert max(map(len, written(LARGE_VALUES[name], partial(json.dumps, ensure_ascii=False)))) < LARGE


@pytest.mark.parametrize(("value", "large"), [("x" * 11, True), ("x" * 10, False), (["xxxxx"], False), ([1] * 3, True)])
def test_a_value_is_large_by_its_characters(value: Any, large: bool) -> None:
    assert is_large(value, 10) is large


def test_of_a_large_value_only_a_part_is_read() -> None:
    class Unread(dict[str, Any]):
        def values(self) -> Any:
            raise AssertionError

    assert is_large([Unread(a=1), "x" * (LARGE + 1)])


def test_a_value_that_contains_itself_is_large() -> None:
    value: list[Any] = []
    value += [value, value]
    assert is_large(value)


def test_every_node_of_a_large_value_is_checked() -> None:
    for value in LARGE_VALUES.values():
        check_json(value)
