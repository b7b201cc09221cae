from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from luminoracore_sdk.domain.errors import InvalidIdError, ValidationError
from luminoracore_sdk.domain.memory import DECAY_PERIOD, MemoryCategory, MemoryEntry, importance_at, lifetime, retention

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ENTRY = MemoryEntry(key="k", value={"a": 1}, created_at=NOON, updated_at=NOON, importance=0.8)


@pytest.mark.parametrize("importance", [-0.1, 1.1, float("nan"), True, "1", None])
def test_an_importance_outside_of_0_to_1_is_refused(importance: Any) -> None:
    with pytest.raises(ValidationError, match="importance must be a number from 0 to 1"):
        attrs.evolve(ENTRY, importance=importance)


@pytest.mark.parametrize("importance", [0, 0.0, 1, 1.0, 0.5])
def test_an_importance_from_0_to_1_is_kept(importance: float) -> None:
    assert attrs.evolve(ENTRY, importance=importance).importance == importance


@pytest.mark.parametrize("key", ["", "a\0", "x" * 513, 5])
def test_a_wrong_key_is_refused(key: Any) -> None:
    with pytest.raises(InvalidIdError, match="memory key"):
        attrs.evolve(ENTRY, key=key)


def test_an_unknown_category_is_refused() -> None:
    with pytest.raises(ValueError, match="mood"):
        attrs.evolve(ENTRY, category="mood")


@pytest.mark.parametrize("field", ["created_at", "updated_at", "expires_at"])
def test_a_naive_time_is_refused(field: str) -> None:
    wrong: dict[str, Any] = {field: datetime(2026, 1, 1)}  # noqa: DTZ001
    with pytest.raises(ValidationError, match="naive"):
        attrs.evolve(ENTRY, **wrong)


def test_its_dictionary_has_every_field() -> None:
    expiring = attrs.evolve(ENTRY, expires_at=NOON + timedelta(days=1), category=MemoryCategory.TOPIC)
    assert expiring.to_dict() == {
        "key": "k",
        "value": {"a": 1},
        "created_at": "2026-01-01T12:00:00+00:00",
        "updated_at": "2026-01-01T12:00:00+00:00",
        "expires_at": "2026-01-02T12:00:00+00:00",
        "importance": 0.8,
        "category": "topic",
    }
    assert ENTRY.to_dict()["expires_at"] is None


def test_importance_fades_by_the_decay_factor_in_each_period() -> None:
    assert importance_at(ENTRY, NOON, decay_factor=0.1) == 0.8
    assert importance_at(ENTRY, NOON + DECAY_PERIOD, decay_factor=0.1) == pytest.approx(0.72)
    assert importance_at(ENTRY, NOON + 2 * DECAY_PERIOD, decay_factor=0.5) == pytest.approx(0.2)
    assert importance_at(ENTRY, NOON + 9 * DECAY_PERIOD, decay_factor=0.0) == 0.8
    assert importance_at(ENTRY, NOON + DECAY_PERIOD, decay_factor=1.0) == 0.0


def test_an_entry_of_the_future_has_not_faded() -> None:
    assert importance_at(ENTRY, NOON - DECAY_PERIOD, decay_factor=0.5) == 0.8


def test_retention_weighs_importance_against_age() -> None:
    old_and_important = retention(1.0, NOON, decay_factor=0.1)
    assert old_and_important > retention(0.9, NOON, decay_factor=0.1)
    # One period costs a tenth: 0.9 stored then is worth as much, a little more is worth more.
    assert old_and_important == pytest.approx(retention(0.9, NOON + DECAY_PERIOD, decay_factor=0.1))
    assert old_and_important < retention(0.91, NOON + DECAY_PERIOD, decay_factor=0.1)
    assert retention(1.0, NOON, decay_factor=0.0) == retention(1.0, NOON + DECAY_PERIOD, decay_factor=0.0)


def test_an_importance_of_0_has_the_lowest_retention() -> None:
    assert retention(0.0, NOON, decay_factor=0.1) == -1e300
    assert retention(0.0, NOON, decay_factor=1.0) == -1e300


def test_a_ttl_is_a_duration() -> None:
    assert lifetime(1.5) == timedelta(milliseconds=1500)


@pytest.mark.parametrize("seconds", [0, -1, True, "5", float("nan"), float("inf"), 1e11])
def test_an_invalid_ttl_is_refused(seconds: Any) -> None:
    with pytest.raises(ValidationError, match="ttl must be"):
        lifetime(seconds)


@pytest.mark.parametrize("category", ["x", None, 5, ["fact"]])
def test_an_invalid_category_is_refused(category: Any) -> None:
    with pytest.raises(ValidationError, match="is not one of: fact, topic, preference, context, emotion"):
        attrs.evolve(ENTRY, category=category)
