"""Rules that several entities share: ids, counts, search queries and points in time."""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

from luminoracore_sdk.domain.errors import InvalidIdError, ValidationError

__all__ = [
    "MAX_ID_LENGTH",
    "STORE_OWNER",
    "NamedValue",
    "check_count",
    "check_id",
    "check_whole",
    "folded_query",
    "from_microseconds",
    "parse_time",
    "to_microseconds",
    "to_utc",
]

MAX_ID_LENGTH = 512
"""Longest id in characters; at 4 bytes each it fits PostgreSQL's 2,704-byte B-tree entry."""

STORE_OWNER = "luminoracore:store"
"""The user id under which a store keeps its own records (dictionaries, marks); reserved for that."""


class NamedValue(StrEnum):
    """An enumeration of strings with ``to_dict`` and ``from_dict``, which every documented type has."""

    def to_dict(self) -> str:
        """Return the value, which is the JSON form of a member."""
        return self.value

    @classmethod
    def from_dict(cls, data: object) -> Self:
        """Return the member with a value.

        Raises:
            ValidationError: There is none; the error lists the valid values.
        """
        try:
            return cls(data)  # type: ignore[arg-type]  # a ValueError refuses other types
        except ValueError as exc:
            name, valid = cls.__name__, ", ".join(cls)
            raise ValidationError(f"{name} {ascii(data)[:40]} is not one of: {valid}") from exc


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def check_id(value: object, what: str = "session id") -> str:
    """Return an opaque id unchanged, or refuse it.

    A path, a quote, a colon or a newline is valid. Refused are values that are not ``str``, the empty string,
    more than 512 characters, NUL (PostgreSQL text cannot hold it) and lone surrogates (no UTF-8 form).

    Raises:
        InvalidIdError: The id is refused; the text says why.
    """
    if type(value) is not str:
        raise InvalidIdError(what, value, f"it is of type {type(value).__name__}, not str")
    if not value:
        raise InvalidIdError(what, value, "it is empty")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidIdError(what, value, f"{len(value)} characters; at most {MAX_ID_LENGTH}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidIdError(what, value, "it holds a lone surrogate") from None
    if "\0" in value:
        raise InvalidIdError(what, value, "it holds a NUL character")
    return value


def check_count(value: object, name: str) -> None:
    """Refuse a value that is neither None nor an integer of at least 0."""
    if value is not None and (type(value) is not int or value < 0):
        raise ValidationError(f"{name} must be a whole number of at least 0, not {value!r}")


def check_whole(value: object, name: str) -> None:
    """Refuse a value that is neither None nor an integer."""
    if value is not None and type(value) is not int:
        raise ValidationError(f"{name} must be a whole number, not {value!a:.80}")


def folded_query(query: object) -> str:
    """Return a search query in the form in which it is compared without regard to case.

    Raises:
        ValidationError: Not a string, or an empty one.
    """
    if not isinstance(query, str) or not query:
        raise ValidationError("a search query must be a non-empty string")
    return query.casefold()


def to_utc(value: Any) -> datetime:
    """Return an aware datetime in UTC, microseconds kept.

    Raises:
        ValidationError: Not a datetime, or a naive one, whose time zone is unknown.
    """
    if type(value) is datetime and value.tzinfo is UTC:
        return value  # as astimezone would, in a third of the time
    if not isinstance(value, datetime):
        raise ValidationError(f"a time must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None or value.utcoffset() is None:
        raise ValidationError("a naive datetime is not a point in time; use datetime.now(UTC) or attach a time zone")
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
    """Return the exact number of microseconds since 1970-01-01 UTC."""
    return (value - _EPOCH) // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """Return the aware UTC datetime for a number of microseconds since 1970-01-01 UTC."""
    return _EPOCH + _MICROSECOND * value
