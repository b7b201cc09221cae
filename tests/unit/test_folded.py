"""Card, summary, changes and lease as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.adapters.storage.folded import (
    counters_text,
    header_text,
    parse_counters_text,
    parse_header_text,
)
from luminoracore_sdk.application.ports.records import Brief, HistoryChange, Lease, Payload, SessionSummary

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
payloads = st.builds(
    Payload,
    st.sampled_from(["json", "json-wide", "json+zstd"]),
    st.one_of(
        st.binary(max_size=40),
        st.text(st.characters(codec=None), max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")),
    ),
)
numbers = st.integers(min_value=0, max_value=2**62)
briefs = st.none() | st.builds(Brief, numbers, payloads)
summaries = st.builds(SessionSummary, first=briefs, last=briefs, counters=st.dictionaries(names, numbers, max_size=5))
changes = st.lists(st.builds(HistoryChange, numbers, st.sampled_from(["updated", "cut"]), numbers), max_size=5).map(
    tuple
)
leases = st.none() | st.builds(Lease, fence=numbers, holder=names, until_us=numbers)


@given(st.none() | payloads, summaries, changes, leases)
def test_a_header_comes_back_as_it_was(
    card: Payload | None, summary: SessionSummary, noted: tuple[HistoryChange, ...], lease: Lease | None
) -> None:
    text = header_text(card, summary, noted, lease)
    assert parse_header_text(text) == (card, summary, noted, lease)
    assert parse_header_text(text.encode()) == (card, summary, noted, lease)
    assert "\n" not in text
    assert parse_counters_text(counters_text(summary.counters)) == summary.counters


def test_counters_of_any_size_come_back() -> None:
    counters = {"a": 2**64, "b": 2**63, "c": -(2**63) - 1, "d": -1, "é\n": 2**53 + 1}
    assert parse_counters_text(counters_text(counters)) == counters


def test_text_stays_readable_and_nothing_is_written_for_what_is_not_there() -> None:
    assert header_text(None, SessionSummary(), (), None) == "{}"
    last = Brief(2, Payload("json+zstd", b"\xff"))
    summary = SessionSummary(first=Brief(1, Payload("json", b'"\xc3\xa4\\n"')), last=last, counters={"user": 1})
    assert header_text(None, summary, (), None) == (
        '{"first":[1,"json","\\"ä\\\\n\\""],"last":[2,"json+zstd",null,"/w=="],"counters":{"user":1}}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "[" * 100_000,
        b"\xff\xff",
        '{"card":[]}',
        '{"card":["json"]}',
        '{"card":["json",null,"?"]}',
        '{"card":["json",null,"\u00e4"]}',
        '{"card":["json","\\ud800"]}',
        '{"first":1}',
        '{"first":["json","x"]}',
        '{"last":[true,"json","x"]}',
        '{"last":["1","json","x"]}',
        '{"counters":[]}',
        '{"counters":{"user":1.5}}',
        '{"counters":{"user":null}}',
        '{"changes":{}}',
        '{"changes":[[1,"cut"]]}',
        '{"changes":[[1,"grown",2]]}',
        '{"changes":[["1","cut",2]]}',
        '{"changes":[[1,"cut",2.0]]}',
        '{"lease":[1,"h"]}',
        '{"lease":[1,2,3]}',
        '{"lease":["1","h",3]}',
    ],
)
def test_what_is_damaged_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_header_text(text)


@pytest.mark.parametrize("text", ["", "[]", '{"user":"1"}', '{"user":true}'])
def test_damaged_counters_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_counters_text(text)
