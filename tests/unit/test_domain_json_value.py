from typing import Any

import pytest

from luminoracore_sdk.domain.errors import InvalidJSONError
from luminoracore_sdk.domain.json_value import MAX_JSON_DEPTH, check_json, copy_json, same_json
from luminoracore_sdk.testing.records import DOCUMENTS


class Text(str):
    __slots__ = ()


def nested(levels: int, innermost: object) -> Any:
    value = innermost
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_json_object_is_accepted(name: str) -> None:
    check_json(DOCUMENTS[name])


@pytest.mark.parametrize("value", [None, True, 2**70, -0.0, 5e-324, "\ud800\0", [], {}])
def test_every_kind_of_value_is_accepted(value: object) -> None:
    check_json(value)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (float("nan"), "value is not JSON: nan"),
        ([1, {"a": float("inf")}], r"value\[1\]\['a'\] is not JSON: inf"),
        ({"a": [0.0, float("-inf")]}, r"value\['a'\]\[1\] is not JSON: -inf"),
        ((1, 2), "value is not JSON: type tuple"),
        ({"a": {1: 2}}, r"value\['a'\] is not JSON: a key is of type int"),
        ({Text("a"): 2}, "a key is of type Text"),
        ([Text("a")], r"value\[0\] is not JSON: type Text"),
        ({"a" * 50: b"x"}, r"value\['a{40}'\] is not JSON: type bytes"),
        ({"a": object()}, "type object"),
    ],
)
def test_invalid_json_is_refused_with_its_place(value: object, place: str) -> None:
    with pytest.raises(InvalidJSONError, match=place):
        check_json(value)


def test_the_place_begins_with_the_callers_name_for_the_value() -> None:
    with pytest.raises(InvalidJSONError, match=r"^message\['a'\] is not JSON") as caught:
        check_json({"a": {1}}, where="message")
    assert caught.value.where == "message['a']"


@pytest.mark.parametrize("innermost", ["text", 1.5, [], {}])
def test_200_levels_are_accepted(innermost: object) -> None:
    levels = MAX_JSON_DEPTH - 1 if innermost in ([], {}) else MAX_JSON_DEPTH
    check_json(nested(levels, innermost))


def test_too_many_levels_are_refused_without_a_recursion_error() -> None:
    with pytest.raises(InvalidJSONError, match="deeper than 200 levels"):
        check_json(nested(MAX_JSON_DEPTH + 2, "text"))
    with pytest.raises(InvalidJSONError, match="deeper than 200 levels"):
        check_json(nested(100_000, "text"))


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidJSONError, match="deeper than 200 levels"):
        check_json(loop)


def test_a_copy_is_the_same_and_independent() -> None:
    value = {"list": [1, {"a": "b"}], "float": -0.0}
    copied = copy_json(value)
    assert same_json(copied, value)
    copied["list"][1]["a"] = "changed"
    assert value == {"list": [1, {"a": "b"}], "float": -0.0}


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0.0, -0.0),
        ([0.0], [-0.0]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": None}, {}),
        ([1, 2], [1]),
        ([1, 2], [2, 1]),
        ("a", "A"),
        ("é", "e\u0301"),
        (None, False),
        ([], {}),
        (0.1, 0.1 + 1e-17 + 1e-16),
    ],
)
def test_types_order_and_sign_make_values_different(left: Any, right: Any) -> None:
    assert same_json(left, right) is False
    assert same_json(right, left) is False


@pytest.mark.parametrize("value", [None, 1, -0.0, "x", [1, [2]], {"a": {"b": []}}])
def test_a_value_is_the_same_as_its_copy(value: Any) -> None:
    assert same_json(value, copy_json(value)) is True


def test_a_value_that_contains_itself_is_refused_quickly() -> None:
    knot: list[Any] = []
    knot += [knot, knot, {"again": knot}]
    with pytest.raises(InvalidJSONError, match="deeper"):
        check_json(knot)
