from datetime import UTC, datetime, timedelta, timezone, tzinfo

import pytest

from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.domain.errors import InvalidIdError, ValidationError
from luminoracore_sdk.domain.message import MessageRole
from luminoracore_sdk.domain.settings import SessionType
from luminoracore_sdk.domain.values import check_id, from_microseconds, parse_time, to_microseconds, to_utc

NOON = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)


class TimelessZone(tzinfo):
    """A zone that does not know its offset, as pytz-like classes may be."""

    def utcoffset(self, dt: datetime | None) -> timedelta | None:
        return None

    def dst(self, dt: datetime | None) -> timedelta | None:
        return None

    def tzname(self, dt: datetime | None) -> str | None:
        return None


@pytest.mark.parametrize("value", ["s", "../x", "a\nb", "é", "\U0001f600", "x" * 512, " "])
def test_a_valid_id_is_returned_unchanged(value: str) -> None:
    assert check_id(value) == value


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("", "it is empty"),
        (7, "of type int, not str"),
        (None, "of type NoneType"),
        (b"s", "of type bytes"),
        ("x" * 513, "513 characters; at most 512"),
        ("a\0b", "NUL"),
        ("é\0b", "NUL"),
        ("a\ud800", "lone surrogate"),
        ("\udfffé", "lone surrogate"),
    ],
)
def test_an_invalid_id_is_refused(value: object, reason: str) -> None:
    with pytest.raises(InvalidIdError, match=reason) as caught:
        check_id(value, "memory key")
    assert caught.value.what == "memory key"


def test_a_long_id_is_cut_in_the_error() -> None:
    with pytest.raises(InvalidIdError) as caught:
        check_id("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_a_time_is_converted_to_utc() -> None:
    elsewhere = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert to_utc(elsewhere) == NOON
    assert to_utc(elsewhere).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "value",
    [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=TimelessZone()), 5, "2026-01-01", None],  # noqa: DTZ001
)
def test_an_invalid_datetime_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        to_utc(value)


def test_a_time_is_read_from_text_and_from_a_datetime() -> None:
    assert parse_time("2026-01-01T13:00:00.123456+01:00") == NOON
    assert parse_time("2026-01-01T12:00:00.123456Z") == NOON
    assert parse_time(NOON) == NOON


@pytest.mark.parametrize("value", ["yesterday", "2026-01-01T12:00:00", "", 5])
def test_an_invalid_time_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        parse_time(value)


@pytest.mark.parametrize(
    ("moment", "microseconds"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), 253_402_300_799_999_999),
        (datetime(1, 1, 1, tzinfo=UTC), -62_135_596_800_000_000),
    ],
)
def test_microseconds_are_exact_both_ways(moment: datetime, microseconds: int) -> None:
    assert to_microseconds(moment) == microseconds
    assert from_microseconds(microseconds) == moment


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_outside_of_the_calendar_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="in UTC"):
        parse_time(text)


def test_an_unknown_kind_of_scope_is_refused() -> None:
    with pytest.raises(ValidationError, match="session or user"):
        MemoryScope("team", "t")


@pytest.mark.parametrize("member", [MessageRole.TOOL, SessionType.STATELESS])
def test_a_named_value_survives_its_json_form(member: MessageRole | SessionType) -> None:
    assert member.to_dict() == member.value
    assert type(member.to_dict()) is str
    assert type(member).from_dict(member.to_dict()) is member


@pytest.mark.parametrize("data", ["robot", None, 5, ["user"]])
def test_an_unknown_named_value_is_refused(data: object) -> None:
    with pytest.raises(ValidationError, match="is not one of: user, assistant, system, tool"):
        MessageRole.from_dict(data)
