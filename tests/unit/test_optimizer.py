"""The package's own optimizer: nothing is lost, and each setting does what its name says."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings

from luminoracore_sdk.adapters.compression.dictionary import general_dictionary
from luminoracore_sdk.domain.errors import ConfigurationError, InvalidJSONError
from luminoracore_sdk.domain.json_value import same_json
from luminoracore_sdk.optimization import OptimizationConfig, Optimizer
from luminoracore_sdk.testing import json_values

SWITCHES = ("key_abbreviation", "compact_format", "minify_json", "deduplicate_memory", "cache_enabled")
COMBINATIONS = [
    OptimizationConfig(**dict(zip(SWITCHES, flags, strict=True)))
    for flags in itertools.product((True, False), repeat=len(SWITCHES))
]

HARD: list[Any] = [
    {"k": 1},
    {"key": 1},
    {"k": 1, "key": 2},
    {"=k": 1, "==k": 2, "=": 3},
    {"#": [["k"], [1]]},
    {"@": 0},
    [{"@": 0}, {"@": 0}],
    [{"#": 1}, {"#": 1}],
    ["opt1", 1],
    ["opt1", ["opt1", {"k": 1}]],
    [{"content": "a", "role": "user"}, {"content": "b", "role": "user"}],
    [{"content": "a", "role": "user"}, {"role": "user", "content": "b"}],
    [{"content": "a"}, {"content": "a"}, {"content": 1}],
    [{"value": [1.0]}, {"value": [1]}, {"value": [True]}, {"value": [-0.0]}, {"value": [0.0]}],
    [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5]]],
    [{}, {}, []],
    {"": {"": {"": None}}},
    [{"a long enough item": None}, {"a long enough item": None}, None],
    2**70,
    "\ud800\0",
]


@pytest.mark.parametrize("value", HARD, ids=repr)
def test_hard_values_round_trip_with_all_settings(value: Any) -> None:
    for config in COMBINATIONS:
        optimizer = Optimizer(config)
        small = optimizer.compress(value)
        assert same_json(Optimizer().expand(small), value), config
        assert same_json(optimizer.expand_text(optimizer.compress_text(value)), value), config


@given(value=json_values())
@settings(max_examples=300)
def test_any_value_comes_back_equal(value: Any) -> None:
    assert same_json(Optimizer().expand(Optimizer().compress(value)), value)


def test_key_abbreviation_writes_well_known_keys_short() -> None:
    on = Optimizer(OptimizationConfig(compact_format=False))
    off = Optimizer(OptimizationConfig(compact_format=False, key_abbreviation=False))
    assert on.compress({"content": "a", "metadata": {}}) == ["opt1", {"c": "a", "m": {}}]
    assert off.compress({"content": "a", "metadata": {}}) == ["opt1", {"content": "a", "metadata": {}}]


def test_compact_format_writes_keys_of_equal_objects_once() -> None:
    facts = [{"key": "a", "value": 1}, {"key": "b", "value": 2}]
    assert Optimizer().compress(facts) == ["opt1", {"#": [["k", "x"], ["a", 1], ["b", 2]]}]


def test_repeated_item_is_written_as_a_reference() -> None:
    item = {"a long key": "a long value"}
    optimizer = Optimizer(OptimizationConfig(compact_format=False))
    assert optimizer.compress([item, 1, item]) == ["opt1", [item, 1, {"@": 0}]]
    without = Optimizer(OptimizationConfig(compact_format=False, deduplicate_memory=False))
    assert without.compress([item, 1, item]) == ["opt1", [item, 1, item]]


def test_minify_json_leaves_no_white_space_in_the_text() -> None:
    assert Optimizer().compress_text({"a": [1, 2]}) == '["opt1",{"a":[1,2]}]'
    wide = Optimizer(OptimizationConfig(minify_json=False))
    assert wide.compress_text({"a": [1, 2]}) == '["opt1", {"a": [1, 2]}]'
    assert Optimizer().compress_text("é\U0001f600") == '["opt1","é\U0001f600"]'
    assert wide.compress_text("é") == '["opt1", "\\u00e9"]'


def test_cached_result_is_not_shared() -> None:
    optimizer = Optimizer(OptimizationConfig(cache_size=1))
    first = optimizer.compress({"a": [1]})
    first[1]["a"].append(2)
    assert optimizer.compress({"a": [1]}) == ["opt1", {"a": [1]}]
    optimizer.compress({"b": 1})
    assert optimizer.compress({"a": [1]}) == ["opt1", {"a": [1]}]


def test_large_value_comes_back_equal() -> None:
    value = {"content": "x" * 100_000}
    optimizer = Optimizer()
    assert optimizer.expand(optimizer.compress(value)) == value


def test_other_values_are_expanded_unchanged() -> None:
    assert Optimizer().expand({"k": 1}) == {"k": 1}


FACTS = [{"key": f"fact {number}", "value": "é" * number, "importance": 0.5} for number in range(20)]


class Letters:
    """A token is a letter."""

    def count(self, text: str) -> int:
        return len(text)


@pytest.mark.parametrize("is_compressed", [True, False])
def test_statistics_compare_with_compact_json_in_utf_8(is_compressed: bool) -> None:
    optimizer = Optimizer(OptimizationConfig(record_compression=is_compressed))
    found = optimizer.statistics(FACTS, Letters())
    plain = json.dumps(FACTS, separators=(",", ":"), ensure_ascii=False)
    text = optimizer.compress_text(FACTS)
    assert (found.json_bytes, found.text_bytes) == (len(plain.encode()), len(text.encode()))
    assert (found.json_tokens, found.text_tokens) == (len(plain), len(text))
    frame = general_dictionary().compress(plain.encode())
    assert found.record_bytes == len(frame if is_compressed else text.encode())
    assert found.text_saving == 1 - len(text.encode()) / len(plain.encode())
    assert found.record_saving == 1 - found.record_bytes / len(plain.encode())
    assert found.token_saving == 1 - len(text) / len(plain)
    assert (found.text_saving > 0.25, found.record_saving > 0.25) == (True, True)


def test_statistics_of_what_cannot_get_smaller_say_so() -> None:
    found = Optimizer().statistics(7)
    assert (found.json_bytes, found.record_bytes, found.record_saving) == (1, 1, 0)
    assert (found.text_bytes, found.text_saving) == (len('["opt1",7]'), -9)
    assert (found.json_tokens, found.text_tokens, found.token_saving) == (None, None, None)


def test_nan_is_refused() -> None:
    with pytest.raises(InvalidJSONError):
        Optimizer().compress({"a": float("nan")})
    with pytest.raises(InvalidJSONError):
        Optimizer().statistics(float("nan"))


@pytest.mark.parametrize(
    "fields",
    [
        {"cache_size": 0},
        {"cache_size": "x"},
        {"cache_size": True},
        {"key_abbreviation": "no"},
        {"record_compression": 1},
        {"compression_level": 0},
        {"compression_level": 20},
        {"compression_level": True},
    ],
)
def test_settings_that_mean_nothing_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        OptimizationConfig(**fields)
