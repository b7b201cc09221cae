"""Ids of owners never coincide; what is counted is read back."""

from datetime import date

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.scopes import Owner, check_owner_id, check_user_id
from luminoracore_sdk.domain.usage import ModelUsage, Usage, counters_of
from luminoracore_sdk.domain.values import check_id

names = st.one_of(
    st.text(min_size=1, max_size=12),
    st.text("luminora:t=u=a=/%2F3D+ .\0", min_size=1, max_size=24),
    st.sampled_from(["luminora:", "luminora:t=a/u=b", "luminora:a=b", "luminora:store", "a/u=b", "%2F"]),
)
parts = st.none() | names
owners = st.builds(Owner, tenant=parts, app=parts, user=parts, agent=parts)


def id_of(owner: Owner) -> str | None:
    try:
        return owner.id
    except ValidationError:
        return None


@given(owners)
def test_an_owner_is_read_back_from_its_id(owner: Owner) -> None:
    owner_id = id_of(owner)
    if owner_id is not None:
        assert Owner.of(owner_id) == owner
        assert check_owner_id(owner_id) == owner_id
        if owner.user is not None:
            assert check_user_id(owner_id) == owner_id


@pytest.mark.parametrize("owner", [Owner(), Owner(tenant="a")])
def test_an_owner_has_an_app_a_user_or_an_agent(owner: Owner) -> None:
    with pytest.raises(ValidationError, match="an app, a user or an agent"):
        _ = owner.id


def test_an_owner_is_written_as_its_path() -> None:
    assert Owner(app="a", user="u/1").id == "luminora:p=a/u=u%2F1"
    assert Owner(tenant="t", app="a", user="u", agent="g").id == "luminora:t=t/p=a/u=u/a=g"
    assert check_owner_id("luminora:p=a") == "luminora:p=a"
    assert check_user_id("luminora:p=a/u=u") == "luminora:p=a/u=u"


@pytest.mark.parametrize("owner", [Owner(agent="a"), Owner(app="a"), Owner(app="a", agent="b")])
def test_the_id_of_an_owner_without_a_user_is_no_user_id(owner: Owner) -> None:
    with pytest.raises(ValidationError, match="reserved"):
        check_user_id(owner.id)


@example("luminora:t=%61/u=b")
@example("luminora:t=a/u=%62")
@example("luminora:u=b")
@example("luminora:/u=b")
@example("luminora:t=a")
@example("luminora:t=au=b")
@example("luminora:u=b/t=a")
@example("luminora:t=a/t=b/u=c")
@example("luminora:p=a/a=c")
@given(names | st.text("luminora:t=u=a/%3dDfF", max_size=40).map("luminora:".__add__))
def test_an_id_that_is_accepted_is_of_one_owner(owner_id: str) -> None:
    try:
        check_owner_id(owner_id)
    except ValidationError:
        return
    assert Owner.of(owner_id).id == owner_id


counts = st.integers(0, 2**40)


@given(
    st.dates(),
    st.one_of(st.none(), st.text(max_size=220), st.text(st.characters(), max_size=5), st.text("/tokens\0", max_size=9)),
    counts,
    counts,
    counts,
)
def test_what_is_counted_is_read_back(day: date, model: str | None, prompt: int, answer: int, cached: int) -> None:
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": answer,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    counters = counters_of(day, model, usage)
    for name in counters:
        check_id(name, "counter")
    found = Usage.of_counters({**counters, "user": 1, "other/2026-01-01/input/m": 5})
    expected = (prompt, answer, min(cached, prompt))
    assert (found.input_tokens, found.output_tokens, found.cached_input_tokens) == expected
    assert len(found.models) == (1 if any(expected) else 0)
    assert Usage.of_counters(counters, since=day) == found
    assert Usage.of_counters(counters, until=day) == Usage()


entries = st.lists(
    st.builds(ModelUsage, model=st.sampled_from("abc"), input_tokens=counts, output_tokens=counts), max_size=6
)


@given(entries, entries)
def test_sums_do_not_depend_on_the_order(some: list[ModelUsage], others: list[ModelUsage]) -> None:
    total = Usage.of(some) + Usage.of(others)
    assert total == Usage.of([*others, *some])
    assert total.input_tokens == sum(one.input_tokens for one in (*some, *others))
