"""The bytes that are stored of a text."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.analysis import make_analyzer
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.recall.analyzer import Analyzer
from luminoracore_sdk.domain.recall.terms import (
    MAX_FREQUENCY,
    Entry,
    Vector,
    analyzer_code,
    decode,
    encode,
    entry_of,
    term_hash,
)

ANALYZER = Analyzer(language="none")
VECTOR = Vector.of("model", [0.5, -1.0, 0.25])
TEXTS = "I went to a support group yesterday and it was so powerful. It is powerful to be heard in a group."

entries = st.builds(
    Entry,
    frequencies=st.dictionaries(st.integers(0, 2**40 - 1), st.integers(1, MAX_FREQUENCY), max_size=200),
    vector=st.none() | st.builds(Vector, model=st.binary(min_size=4, max_size=4), values=st.binary(min_size=1)),
)


@given(entries)
def test_an_entry_is_read_back(entry: Entry) -> None:
    assert decode(encode(entry, ANALYZER), ANALYZER) == entry


@given(st.text(max_size=200))
def test_equal_terms_give_equal_bytes_in_any_order(text: str) -> None:
    terms = ANALYZER.terms(text)
    assert encode(entry_of(terms), ANALYZER) == encode(entry_of(reversed(terms)), ANALYZER)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for blob in (data, analyzer_code(ANALYZER) + data):
        try:
            decode(blob, ANALYZER)
        except ValidationError as exc:
            assert "damaged" in str(exc)  # noqa: PT017 - most bytes are refused, some are not


@pytest.mark.parametrize("vector", [None, VECTOR])
def test_a_cut_entry_is_refused(vector: Vector | None) -> None:
    data = encode(entry_of(["a", "b", "b"], vector), ANALYZER)
    whole = len(encode(entry_of(["a", "b", "b"]), ANALYZER))
    for length in set(range(len(data))) - {whole}:
        with pytest.raises(ValidationError, match=f"entry of {length} bytes is damaged"):
            decode(data[:length], ANALYZER)


def test_an_entry_of_another_analyzer_is_not_read() -> None:
    data = encode(entry_of(["a"]), ANALYZER)
    assert decode(data, make_analyzer("german")) is None


def test_a_section_that_is_not_known_is_skipped() -> None:
    entry = entry_of(["a"], VECTOR)
    data = encode(entry_of(["a"]), ANALYZER)
    section = encode(entry, ANALYZER)[len(data) :]
    assert decode(data + b"\x63\x85\x01" + bytes(133) + section, ANALYZER) == entry


def test_terms_are_counted_up_to_a_limit() -> None:
    entry = entry_of(["a"] * 300 + ["b"])
    assert entry.frequencies == {term_hash("a"): MAX_FREQUENCY, term_hash("b"): 1}
    assert term_hash("a") == 0xF4E169F8EE
    assert term_hash("\ud800") != term_hash("?")


def test_an_entry_is_smaller_than_its_text() -> None:
    analyzer = make_analyzer()
    terms = analyzer.terms(TEXTS)
    assert len(encode(entry_of(terms), analyzer)) == 3 + 5 * len(Counter(terms)) + 1 + 2
    assert encode(entry_of([]), analyzer) == analyzer_code(analyzer) + b"\0"


def test_an_entry_of_many_terms_is_read_back() -> None:
    entry = entry_of([f"w{number}" for number in range(20_000)] + ["w1"])
    data = encode(entry, ANALYZER)
    assert data[2:5] == b"\xbf\xb8\x02"  # 19,999 terms that occur once, and another
    assert decode(data, ANALYZER) == entry


def test_a_vector_keeps_the_direction_in_bytes() -> None:
    assert VECTOR.values == bytes([64, 256 - 127, 32])
    assert Vector.of("model", [5, -10, 2.5]) == VECTOR
    assert Vector.of("other", [5, -10, 2.5]).model != VECTOR.model
    assert Vector.of("model", [0.0, 0.0]).values == bytes(2)


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_an_embedding_that_is_none_is_refused(values: list[float]) -> None:
    with pytest.raises(ValidationError, match="the embedding of model 'm' is empty or not finite"):
        Vector.of("m", values)
