"""Memory entries: how their importance fades, and in which order they are evicted."""

import json
from datetime import datetime, timedelta
from enum import StrEnum
from math import inf, log

import attrs

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.values import check_id, to_microseconds, to_utc

__all__ = [
    "DECAY_PERIOD",
    "MAX_PAST_CHARACTERS",
    "MemoryCategory",
    "MemoryEntry",
    "MemorySource",
    "MemoryVersion",
    "importance_at",
    "lifetime",
    "retention",
    "searchable_text",
]

DECAY_PERIOD = timedelta(days=30)
"""An entry loses the share ``decay_factor`` of its importance in this time."""

MAX_PAST_CHARACTERS = 64 * 1024
"""Characters, as JSON, of the past values that an entry keeps."""

_CERTAIN_DECAY = 1 - 1e-9


class MemoryCategory(StrEnum):
    """The category of a memory; ``MemoryConfig.track_*`` switch the last four on and off."""

    FACT = "fact"
    TOPIC = "topic"
    PREFERENCE = "preference"
    CONTEXT = "context"
    EMOTION = "emotion"


def _check_importance(_: object, __: object, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValidationError(f"importance must be a number from 0 to 1, not {value!r}")


def _check_key(_: object, __: object, value: str) -> None:
    check_id(value, "memory key")


def _check_session_id(_: object, __: object, value: str) -> None:
    check_id(value)


def _check_position(_: object, __: object, value: int) -> None:
    if type(value) is not int or value < 0:
        raise ValidationError(f"the position of a source must be a whole number of at least 0, not {value!a:.80}")


def _to_category(value: object) -> MemoryCategory:
    try:
        return MemoryCategory(value)  # type: ignore[arg-type]  # a ValueError refuses other types
    except ValueError as exc:
        valid = ", ".join(MemoryCategory)
        raise ValidationError(f"category {value!a} is not one of: {valid}") from exc


@attrs.frozen(kw_only=True)
class MemorySource:
    """Where a memory comes from.

    Attributes:
        session_id: The session in which it was stored.
        position: The newest message of that session then; 0: there was none.
    """

    session_id: str = attrs.field(validator=_check_session_id)
    position: int = attrs.field(default=0, validator=_check_position)

    def to_dict(self) -> JSONObject:
        """Return a JSON object."""
        return {"session_id": self.session_id, "position": self.position}


def _check_source(_: object, __: object, value: MemorySource | None) -> None:
    if value is not None and not isinstance(value, MemorySource):
        raise ValidationError(f"the source of a memory must be a MemorySource, not {type(value).__name__}")


@attrs.frozen(kw_only=True)
class MemoryVersion:
    """A value that a memory has, or had.

    Attributes:
        value: The value.
        since: The time from which it was the value, UTC.
        until: The time at which another one replaced it, UTC; None: it is the present one.
        source: Where it comes from; None: unknown.
    """

    value: JSONValue
    since: datetime = attrs.field(converter=to_utc)
    until: datetime | None = attrs.field(default=None, converter=attrs.converters.optional(to_utc))
    source: MemorySource | None = None

    def to_dict(self) -> JSONObject:
        """Return a JSON object with ISO 8601 times."""
        return {
            "value": self.value,
            "since": self.since.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "source": None if self.source is None else self.source.to_dict(),
        }


@attrs.frozen(kw_only=True)
class MemoryEntry:
    """One memory.

    Attributes:
        key: Its name within the session.
        value: Any JSON value.
        created_at: The time when the key was first stored, UTC.
        updated_at: The time when the value was last stored, UTC.
        expires_at: The time from which it counts as absent; None: never.
        importance: 0..1 at ``updated_at``; it fades, see ``importance_at``.
        category: Its category.
        since: The time from which this is the value, UTC; None: ``updated_at``.
        source: Where the value comes from; None: unknown.
        past: The values before it, oldest first.
    """

    key: str = attrs.field(validator=_check_key)
    value: JSONValue
    created_at: datetime = attrs.field(converter=to_utc)
    updated_at: datetime = attrs.field(converter=to_utc)
    expires_at: datetime | None = attrs.field(default=None, converter=attrs.converters.optional(to_utc))
    importance: float = attrs.field(default=1.0, validator=_check_importance)
    category: MemoryCategory = attrs.field(default=MemoryCategory.FACT, converter=_to_category)
    since: datetime | None = attrs.field(default=None, converter=attrs.converters.optional(to_utc))
    source: MemorySource | None = attrs.field(default=None, validator=_check_source)
    past: tuple[MemoryVersion, ...] = ()

    @property
    def versions(self) -> tuple[MemoryVersion, ...]:
        """The values that it had, oldest first, and the present one."""
        return (*self.past, MemoryVersion(value=self.value, since=self.since or self.updated_at, source=self.source))

    def as_of(self, moment: datetime) -> MemoryVersion | None:
        """Return the value that it had at a time, or None."""
        return next(
            (one for one in self.versions if one.since <= moment and (one.until is None or moment < one.until)), None
        )

    def superseding(self, older: "MemoryEntry", *, most: int) -> "MemoryEntry":
        """Return the entry with the values that it supersedes, the newest ones.

        Storing the same value again is no change: it has its ``since`` and source already.

        Args:
            older: What is stored under the key.
            most: Largest number of past values; they have at most ``MAX_PAST_CHARACTERS`` together.
        """
        if _written(self.value) == _written(older.value):
            return attrs.evolve(self, since=older.since or older.updated_at, source=older.source, past=older.past)
        *before, last = older.versions
        past = (*before, attrs.evolve(last, until=max(self.updated_at, last.since)))[-most:] if most else ()
        left = MAX_PAST_CHARACTERS
        kept = 0
        for version in reversed(past):
            left -= len(_written(version.value))
            if left < 0:
                break
            kept += 1
        return attrs.evolve(self, since=self.updated_at, past=past[len(past) - kept :])

    def to_dict(self) -> JSONObject:
        """Return a JSON object with ISO 8601 times; what is unknown of source and past is left out."""
        entry = self._present()
        if self.source is not None:
            entry["source"] = self.source.to_dict()
        if self.past:
            entry["since"] = (self.since or self.updated_at).isoformat()
            entry["past"] = [version.to_dict() for version in self.past]
        return entry

    def _present(self) -> JSONObject:
        return {
            "key": self.key,
            "value": self.value,
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
            "importance": self.importance,
            "category": self.category.value,
        }


def _written(value: JSONValue) -> str:
    return json.dumps(value, sort_keys=True)


def searchable_text(entry: MemoryEntry) -> str:
    """Return key and value as one case-folded string."""
    value = entry.value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"{entry.key}\n{text}".casefold()


def lifetime(seconds: float) -> timedelta:
    """Return a ttl as a duration.

    Raises:
        ValidationError: Not a number of seconds above 0 and below about 3,000 years.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < 1e11:
        raise ValidationError(f"ttl must be a number of seconds above 0, not {seconds!r}")
    return timedelta(seconds=seconds)


def importance_at(entry: MemoryEntry, now: datetime, *, decay_factor: float) -> float:
    """Return the remaining importance: ``importance × (1 − decay_factor) ^ (age / 30 days)``.

    The age is the time since the value was last stored.
    """
    age = max(now - entry.updated_at, timedelta()) / DECAY_PERIOD
    return float(entry.importance * (1 - decay_factor) ** age)


def retention(importance: float, stored_at: datetime, *, decay_factor: float) -> float:
    """Return the rank for eviction: a full memory evicts the entry with the lowest rank first.

    The rank orders entries as ``importance_at`` does at any point in time, but is constant, so that a store
    can index it: all entries fade at the same rate, and the order of ``log(importance) + rate × stored_at``
    never changes. Without decay, the importance alone decides. Time is measured in decay periods, so that
    entries stored one microsecond apart still differ in a double.
    """
    weight = log(importance) if importance > 0 else -inf
    rate = -log(1 - min(decay_factor, _CERTAIN_DECAY))
    rank = weight + rate * (to_microseconds(stored_at) / (DECAY_PERIOD / timedelta(microseconds=1)))
    return max(rank, -1e300)
