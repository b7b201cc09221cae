"""A memory's retention orders memories as their decayed importance does, at any time."""

from datetime import UTC, datetime, timedelta

from hypothesis import assume, example, given
from hypothesis import strategies as st

from luminoracore_sdk.domain.memory import MemoryEntry, importance_at, retention

moments = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
importances = st.floats(0, 1)
decays = st.floats(0, 1) | st.sampled_from([0.0, 0.1, 0.5, 1.0])

_EARLY, _LATE = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)


def entry(importance: float, stored_at: datetime) -> MemoryEntry:
    return MemoryEntry(key="k", value=None, created_at=stored_at, updated_at=stored_at, importance=importance)


@given(importances, moments, importances, moments, decays, st.timedeltas(timedelta(microseconds=1)))
@example(1.0, _EARLY, 0.9, _LATE, 0.1, timedelta(days=1))
@example(0.5, _EARLY, 0.5, _LATE, 0.0, timedelta(days=1))
@example(0.0, _LATE, 1.0, _EARLY, 1.0, timedelta(days=1))
def test_retention_never_contradicts_importance(
    one: float, one_at: datetime, other: float, other_at: datetime, decay: float, later: timedelta
) -> None:
    newest = max(one_at, other_at)
    assume(later < datetime.max.replace(tzinfo=UTC) - newest)
    now = newest + later
    left = [importance_at(entry(*of), now, decay_factor=decay) for of in ((one, one_at), (other, other_at))]
    rank = [retention(*of, decay_factor=decay) for of in ((one, one_at), (other, other_at))]
    # Two doubles that describe the same order; below these gaps rounding decides.
    assume(min(left) > 1e-290 or max(left) == 0 or min(one, other) == 0)
    if left[0] > left[1] * (1 + 1e-9):
        assert rank[0] > rank[1]
    if left[1] > left[0] * (1 + 1e-9):
        assert rank[1] > rank[0]


@given(importances, moments, decays)
def test_a_retention_is_finite(importance: float, moment: datetime, decay: float) -> None:
    assert -1e300 <= retention(importance, moment, decay_factor=decay) <= 1e6


@given(st.floats(0.01, 1), moments, st.floats(0.001, 0.999))
def test_older_memories_of_equal_importance_go_first(importance: float, moment: datetime, decay: float) -> None:
    later = moment + timedelta(seconds=1)
    assert retention(importance, moment, decay_factor=decay) < retention(importance, later, decay_factor=decay)
