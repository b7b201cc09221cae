"""Token counts of providers, their sums, and what they cost."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.domain.usage import ModelUsage, Price, Usage, counters_of, folding, token_counts
from luminoracore_sdk.utils.exceptions import ValidationError

DAY = date(2026, 11, 29)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}, (10, 3, 0)),
        ({"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 8}}, (10, 3, 8)),
        ({"input_tokens": 10, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}, (10, 3, 4)),
        (
            {
                "input_tokens": 2,
                "output_tokens": 3,
                "cache_read_input_tokens": 5,
                "cache_creation_input_tokens": 7,
            },
            (14, 3, 5),
        ),
        ({"input_tokens": 9, "output_tokens": 1, "cache_read_tokens": 6}, (9, 1, 6)),
        ({"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 99}}, (3, 0, 3)),
        ({"prompt_tokens": 3, "prompt_tokens_details": None, "completion_tokens": None}, (3, 0, 0)),
    ],
)
def test_the_counts_of_each_vendor_are_read(usage: dict[str, Any], counts: tuple[int, int, int]) -> None:
    names = ("input_tokens", "output_tokens", "cached_input_tokens")
    assert token_counts(usage) == dict(zip(names, counts, strict=True))


@pytest.mark.parametrize("usage", [None, [], "10", {}, {"prompt_tokens": -1}, {"prompt_tokens": True, "x": 1}])
def test_what_is_no_usage_counts_nothing(usage: Any) -> None:
    assert token_counts(usage) == {}
    assert counters_of(DAY, "m", usage) == {}


def test_counters_are_read_back_by_period() -> None:
    counters = {"user": 3, "tokens": 1, "other/2026-11-29/input/m": 5, "tokens/2026-11-29/of/m": 6}
    for day, tokens in ((28, 1), (29, 10), (30, 100)):
        found = counters_of(date(2026, 11, day), "a/b", {"prompt_tokens": tokens, "completion_tokens": 2})
        counters |= found
    counters |= counters_of(DAY, None, {"input_tokens": 7, "cache_read_input_tokens": 5})
    everything = Usage.of_counters(counters)
    assert everything == Usage(
        models=(
            ModelUsage(model="", input_tokens=12, cached_input_tokens=5),
            ModelUsage(model="a/b", input_tokens=111, output_tokens=6),
        )
    )
    assert Usage.of_counters(counters, since=DAY, until=date(2026, 11, 30)).input_tokens == 22
    assert Usage.of_counters(counters, since=date(2026, 11, 30)).output_tokens == 2
    assert Usage.of_counters(counters, until=date(2026, 11, 28)) == Usage()


@pytest.mark.parametrize("model", ["x" * 300, "a\0b", "\ud800", "ünï/cödé"])
def test_a_counter_has_a_valid_name_for_every_model(model: str) -> None:
    (name,) = counters_of(DAY, model, {"completion_tokens": 1})
    assert name.startswith("tokens/2026-11-29/output/")
    assert len(name) < 250
    assert "\0" not in name
    name.encode()


def test_usage_is_summed_and_priced() -> None:
    one = Usage.of_answer("m", {"prompt_tokens": 1_000_000, "prompt_tokens_details": {"cached_tokens": 400_000}})
    other = Usage.of_answer("n", {"completion_tokens": 500_000})
    both = one + other + Usage.of_answer("m", None)
    assert (both.input_tokens, both.output_tokens, both.cached_input_tokens) == (1_000_000, 500_000, 400_000)
    assert [found.model for found in both.models] == ["m", "n"]
    prices = {"m": Price(input="0.5", output=2, cached_input=Decimal("0.05")), "*": Price(input=1, output=3)}
    assert both.cost(prices) == Decimal("0.3") + Decimal("0.02") + Decimal("1.5")
    assert one.cost({"m": Price(input=1, output=1)}) == 1
    with pytest.raises(ValidationError, match="no price for the model 'n'"):
        both.cost({"m": prices["m"]})
    wrong: Any
    for wrong in (None, {"*": 1}):
        with pytest.raises(ValidationError, match="must be a"):
            both.cost(wrong)
    assert both.to_dict()["models"][1] == {
        "model": "n",
        "input_tokens": 0,
        "output_tokens": 500_000,
        "cached_input_tokens": 0,
    }


@pytest.mark.parametrize("price", ["a lot", -1, True, None, float("nan"), "Infinity"])
def test_what_is_no_price_is_refused(price: Any) -> None:
    with pytest.raises(ValidationError):
        Price(input=price, output=1)


def _added(counters: dict[str, int], adds: dict[str, int]) -> dict[str, int]:
    sums = {name: counters.get(name, 0) + adds.get(name, 0) for name in (*counters, *adds)}
    return {name: number for name, number in sums.items() if number}


_days = st.dates(date(2020, 1, 1), date(2026, 12, 31))
_answers = st.lists(st.tuples(_days, st.sampled_from(("m", "a/b", "2026-01-01")), st.integers(1, 1000)), max_size=30)


@given(_answers, _days)
def test_folding_moves_days_to_their_month_or_year(answers: list[tuple[date, str, int]], today: date) -> None:
    counters = {"user": 3, "tokens/2026-01-01/other/m": 9}
    for day, model, tokens in answers:
        counters = _added(counters, counters_of(day, model, {"prompt_tokens": tokens, "completion_tokens": 1}))
    folded = _added(counters, folding(counters, today))
    assert Usage.of_counters(folded) == Usage.of_counters(counters)
    for first in (date(today.year, 1, 1), date(today.year - 1, 1, 1), today.replace(day=1)):
        assert Usage.of_counters(folded, since=first) == Usage.of_counters(counters, since=first)
    assert (folded["user"], folded["tokens/2026-01-01/other/m"]) == (3, 9)
    days = [date.fromisoformat(name.split("/")[1]) for name in folded if name != "user"]
    last_month = date(today.year - (today.month == 1), (today.month - 2) % 12 + 1, 1)
    assert all(day.day == 1 for day in days if day < last_month)
    assert all(day.month == 1 for day in days if day.year < today.year - 1)
    assert folding(folded, today) == {}


@given(_answers, _days)
def test_folding_twice_at_once_is_corrected_later(answers: list[tuple[date, str, int]], today: date) -> None:
    counters: dict[str, int] = {}
    for day, model, tokens in answers:
        counters = _added(counters, counters_of(day, model, {"prompt_tokens": tokens}))
    moves = folding(counters, today)
    twice = _added(_added(counters, moves), moves)
    assert _added(twice, folding(twice, today)) == _added(counters, moves)


def test_a_counter_that_no_append_may_add_stays() -> None:
    counters = {"tokens/2020-02-03/input/m": 2**48, "tokens/2020-02-03/output/m": 2**38}
    assert folding(counters, DAY) == {"tokens/2020-02-03/output/m": -(2**38), "tokens/2020-01-01/output/m": 2**38}
