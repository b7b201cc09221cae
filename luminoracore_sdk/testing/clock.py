"""A clock that moves only when a test moves it."""

from datetime import UTC, datetime, timedelta

from luminoracore_sdk.domain.values import to_microseconds, to_utc

__all__ = ["ManualClock"]

_START = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)


class ManualClock:
    """Tells a time that is set by the test, so that tests of expiry do not sleep.

    Args:
        start: The initial time, aware; None: a fixed time with microseconds.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = _START if start is None else to_utc(start)

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC."""
        return self._now

    @property
    def now_us(self) -> int:
        """The current time in microseconds since 1970-01-01 UTC, as in records."""
        return to_microseconds(self._now)

    def set(self, moment: datetime) -> None:
        """Set the time, which may also go back, as a computer's clock does when it is corrected."""
        self._now = to_utc(moment)

    def advance(self, seconds: float) -> None:
        """Advance by a number of seconds, rounded to microseconds."""
        self.advance_us(round(seconds * 1_000_000))

    def advance_us(self, microseconds: int) -> None:
        """Advance by a number of microseconds."""
        if microseconds < 0:
            raise ValueError("advance_us() cannot go back; use set()")
        self._now += timedelta(microseconds=microseconds)
