"""Any JSON value comes back the same through the helpers and the codec."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.codec.values import JSON, JSON_WIDE, JsonCodec
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.domain.errors import CorruptRecordError, InvalidJSONError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, check_json, copy_json, same_json
from luminoracore_sdk.testing import (
    json_objects,
    json_values,
)

CODEC = JsonCodec()

not_json = st.sampled_from([float("nan"), float("inf"), float("-inf"), (1,), {1}, b"x", {1: "a"}, object()])


def decoded(value: JSONValue) -> JSONValue:
    return CODEC.decode(CODEC.encode(value), backend="test", key="value")


@given(json_values())
def test_the_codec_restores_every_value(value: JSONValue) -> None:
    assert same_json(decoded(value), value)


@given(json_values())
def test_an_encoded_value_is_one_line_of_json(value: JSONValue) -> None:
    payload = CODEC.encode(value)
    assert payload.encoding in {JSON, JSON_WIDE}
    assert payload.is_text
    assert b"\n" not in payload.data
    assert same_json(json.loads(payload.data.decode("utf-8")), value)


@given(json_values())
def test_equal_values_are_encoded_equally(value: JSONValue) -> None:
    assert CODEC.encode(copy_json(value)) == CODEC.encode(value)


@given(st.binary(max_size=30), st.sampled_from([JSON, JSON_WIDE]))
def test_arbitrary_bytes_are_decoded_or_refused(data: bytes, tag: str) -> None:
    try:
        check_json(CODEC.decode(Payload(tag, data), backend="test", key="value"))
    except (CorruptRecordError, InvalidJSONError):
        return


@given(json_values())
def test_json_values_are_accepted_and_same_as_themselves(value: JSONValue) -> None:
    check_json(value)
    assert same_json(value, value)
    assert same_json(copy_json(value), value)


@given(json_values(), json_values())
def test_same_json_is_symmetric_and_never_looser_than_equality(left: JSONValue, right: JSONValue) -> None:
    assert same_json(left, right) == same_json(right, left)
    assert same_json(left, right) == (CODEC.encode(left) == CODEC.encode(right))


@given(json_objects())
def test_a_copy_shares_nothing_that_can_change(document: JSONObject) -> None:
    before = CODEC.encode(document)
    _change_everything(copy_json(document))
    assert CODEC.encode(document) == before


def _change_everything(value: Any) -> None:
    items = list(value.values()) if isinstance(value, dict) else list(value)
    for item in items:
        if isinstance(item, dict | list):
            _change_everything(item)
    value.clear()


@given(json_values(), not_json, st.integers(0, 3))
def test_a_value_with_a_non_json_part_is_refused(value: JSONValue, other: object, depth: int) -> None:
    whole: Any = [value, other]
    for level in range(depth):
        whole = {"k": whole} if level % 2 else [whole, value]
    with pytest.raises(InvalidJSONError):
        check_json(whole)
    with pytest.raises(InvalidJSONError):
        CODEC.encode(whole)
