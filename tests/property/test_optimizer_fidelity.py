"""Values of every kind survive every combination of the optimizer's settings.

2,000 values, and 100,000 in the nightly profile, with keys that are abbreviations or look like marks of the
notation, lists of similar objects, and repetitions.
"""

import itertools
import os
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from luminoracore_sdk.adapters.codec.opt1 import CODES, MARK, REPEAT, TABLE
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.compression.dictionary import general_dictionary
from luminoracore_sdk.adapters.wrappers.record_compression import (
    DictionaryCompression,
    NotationCompression,
    RecordCompression,
    read_optimized,
)
from luminoracore_sdk.domain.json_value import JSONValue, same_json
from luminoracore_sdk.optimization import OptimizationConfig, Optimizer
from luminoracore_sdk.testing import json_values

NIGHTLY = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
TOGETHER = 25
COUNT = 100_000 if NIGHTLY else 2_000
SWITCHES = ("key_abbreviation", "compact_format", "minify_json", "deduplicate_memory", "cache_enabled")
OPTIMIZERS = [
    Optimizer(OptimizationConfig(**dict(zip(SWITCHES, flags, strict=True)), cache_size=2))
    for flags in itertools.product((True, False), repeat=len(SWITCHES))
]
READER = Optimizer(OptimizationConfig(**dict.fromkeys(SWITCHES, False)))

_KEYS = st.sampled_from([*CODES, *CODES.values(), TABLE, REPEAT, MARK, "=", "==", "=k", "=key", "", "a.b", "$set"])


def _objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[JSONValue]:
    return st.dictionaries(_KEYS, values, max_size=4)


@st.composite
def _tables(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> JSONValue:
    """Return objects with the same keys, in the same order or not, some of them repeated."""
    keys = draw(st.lists(_KEYS, unique=True, min_size=1, max_size=3))
    rows = [{key: draw(values) for key in (keys if draw(st.booleans()) else reversed(keys))} for _ in range(2)]
    return [rows[index] for index in draw(st.lists(st.integers(0, 1), max_size=4))]


@st.composite
def _repetitions(draw: st.DrawFn, values: st.SearchStrategy[Any]) -> JSONValue:
    """Return different values, some of them repeated."""
    things = [draw(values), [draw(values), "a long text"], {draw(_KEYS): "another"}, draw(values)]
    return [things[index] for index in draw(st.lists(st.integers(0, 3), max_size=5))]


_NESTED: st.SearchStrategy[JSONValue] = st.recursive(
    json_values(max_leaves=3),
    lambda inner: _objects(inner) | _tables(inner) | _repetitions(inner),
    max_leaves=6,
)
VALUES = json_values() | _NESTED


@attrs.define
class Seen:
    values: int = 0
    tables: int = 0
    repeats: int = 0
    escapes: int = 0


def lost(value: JSONValue) -> list[OptimizationConfig]:
    """Return the settings that do not restore a value."""
    found = []
    for optimizer in OPTIMIZERS:
        as_value = READER.expand(optimizer.compress(value))
        as_text = READER.expand_text(optimizer.compress_text(value))
        if not (same_json(as_value, value) and same_json(as_text, value)):
            found.append(optimizer.config)
    return found


def test_values_survive_every_setting() -> None:
    seen = Seen()
    codec = JsonCodec()
    stored: list[RecordCompression] = [DictionaryCompression(3)]
    stored += [NotationCompression(one, "test") for one in OPTIMIZERS[::8]]

    @settings(
        max_examples=COUNT // TOGETHER,
        derandomize=not NIGHTLY,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.large_base_example,
        ],
    )
    @given(st.lists(VALUES, min_size=TOGETHER, max_size=TOGETHER))
    def check(values: list[JSONValue]) -> None:
        for value in values:
            assert lost(value) == []
            payload = codec.encode(value)
            for compression in stored:
                small = compression.compress(payload, general_dictionary())
                assert read_optimized(small, READER, backend="test", key="value") == payload
                assert same_json(codec.decode(small, backend="test", key="value"), value)
            notation = codec.encode(OPTIMIZERS[0].compress(value)).data
            seen.values += 1
            seen.tables += b'{"#":' in notation
            seen.repeats += b'{"@":' in notation
            seen.escapes += b'"=' in notation

    check()
    assert seen.values >= COUNT
    assert min(seen.tables, seen.repeats, seen.escapes) >= COUNT // 100, seen
    assert [compression.stored_plain for compression in stored] == [0] * len(stored)
