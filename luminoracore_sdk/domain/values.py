"""Small rules that several entities share: ids and points in time."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from luminoracore_sdk.domain.errors import InvalidIdError, ValidationError

__all__ = [
    "MAX_ID_LENGTH",
    "STORE_OWNER",
    "NamedValue",
    "check_id",
    "from_microseconds",
    "parse_time",
    "to_microseconds",
    "to_utc",
]

MAX_ID_LENGTH = 512
"""Longest id in characters: at 4 bytes each it still fits PostgreSQL's 2,704-byte B-tree entry."""

STORE_OWNER = "luminoracore:store"
"""The user id under which a store keeps what it needs to read itself: nobody may be called so."""


class NamedValue(StrEnum):
    """An enumeration of texts with the two methods that every documented type has."""

    def to_dict(self) -> str:
        """Return the text, which is the JSON form of a member."""
        return self.value

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Return the member of a text.

        Raises:
            ValidationError: There is none; the valid ones are listed.
        """
        try:
            return cls(data)  # type: ignore[arg-type]  # whatever it is, it is a member or refused
        except ValueError as exc:
            name, valid = cls.__name__, ", ".join(cls)
            raise ValidationError(f"{name} {ascii(data)[:40]} is not one of: {valid}") from exc


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def check_id(value: object, what: str = "session id") -> str:
    """Return an opaque id unchanged, or refuse it.

    A path, a quote, a colon or a newline is fine. Refused are: what is not ``str``, the empty
    string, more than 512 characters, NUL (PostgreSQL text cannot hold it) and lone surrogates
    (no UTF-8 form).

    Raises:
        InvalidIdError: With the reason.
    """
    if type(value) is not str:
        raise InvalidIdError(what, value, f"it is of type {type(value).__name__}, not str")
    if not value:
        raise InvalidIdError(what, value, "it is empty")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidIdError(what, value, f"{len(value)} characters; at most {MAX_ID_LENGTH}")
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidIdError(what, value, "it holds a lone surrogate")
    if "\0" in value:
        raise InvalidIdError(what, value, "it holds a NUL character")
    return value


def to_utc(value: Any) -> datetime:
    """Return an aware datetime in UTC, microseconds kept.

    Raises:
        ValidationError: Not a datetime, or a naive one (guessing its zone would be wrong).
    """
    if type(value) is datetime and value.tzinfo is UTC:
        return value  # what astimezone would return, in a third of the time
    if not isinstance(value, datetime):
        raise ValidationError(f"a time must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValidationError("a naive datetime has no point in time; use datetime.now(UTC) or attach a zone")
    try:
        return value.astimezone(UTC)
    except OverflowError as exc:
        raise ValidationError(f"{value.isoformat()} is before the year 1 or after 9999 in UTC") from exc


def parse_time(value: Any) -> datetime:
    """Read a time as ``to_dict`` writes it: ISO 8601 with an offset, or a datetime.

    Raises:
        ValidationError: Not a time, or one without an offset.
    """
    if not isinstance(value, str):
        return to_utc(value)
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError as exc:
        raise ValidationError(f"{value[:40]!r} is not an ISO 8601 time") from exc
    return to_utc(parsed)


def to_microseconds(value: datetime) -> int:
    """Return whole microseconds since 1970-01-01 UTC; exact, no float in between."""
    return (value - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """Return the aware UTC datetime of so many microseconds since 1970-01-01 UTC."""
    return _EPOCH + timedelta(0, 0, value)  # by position: 0.7 µs, by name 1.0
