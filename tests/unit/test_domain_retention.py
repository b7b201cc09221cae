from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.retention import RetentionPolicy

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize("field", ["max_age", "idle"])
@pytest.mark.parametrize("value", [0, 90, "90d", timedelta(0), -DAY], ids=str)
def test_a_duration_is_a_timedelta_above_0(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        RetentionPolicy(**{field: value})


@pytest.mark.parametrize("field", ["max_messages", "keep_latest"])
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1"], ids=repr)
def test_a_number_is_whole_and_above_0(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        RetentionPolicy(**{field: value})


@pytest.mark.parametrize("value", ["", 5, "a\0"], ids=repr)
def test_a_hold_is_a_tag(value: Any) -> None:
    with pytest.raises(ValidationError, match="tag"):
        RetentionPolicy(hold=value)


def is_over(policy: RetentionPolicy, created: timedelta, active: timedelta) -> bool:
    return policy.is_over(created_at=NOW - created, last_activity=NOW - active, now=NOW)


def test_a_session_is_over_when_it_is_older_than_its_age() -> None:
    moment = timedelta(microseconds=1)
    old, idle = RetentionPolicy(max_age=9 * DAY), RetentionPolicy(idle=2 * DAY)
    assert (is_over(old, 9 * DAY, DAY), is_over(old, 9 * DAY + moment, DAY)) == (False, True)
    assert (is_over(idle, 9 * DAY, 2 * DAY), is_over(idle, 9 * DAY, 2 * DAY + moment)) == (False, True)
    both = RetentionPolicy(max_age=9 * DAY, idle=2 * DAY)
    assert [is_over(both, age, active) for age in (8 * DAY, 10 * DAY) for active in (DAY, 3 * DAY)] == [
        False,
        True,
        True,
        True,
    ]
    assert is_over(RetentionPolicy(max_messages=1, keep_latest=1, hold="h"), 999 * DAY, 999 * DAY) is False


def test_the_longest_age_that_deletes_nothing() -> None:
    assert RetentionPolicy(max_age=9 * DAY, idle=2 * DAY).youngest == 2 * DAY
    assert RetentionPolicy(max_age=9 * DAY).youngest == 9 * DAY
    assert RetentionPolicy(max_messages=5).youngest is None
    assert is_over(RetentionPolicy(max_age=timedelta.max), 99 * DAY, DAY) is False
