"""A clock that stands still until it is told to move."""

from datetime import UTC, datetime, timedelta

from luminoracore_sdk.domain.values import to_microseconds, to_utc

__all__ = ["ManualClock"]

_START = datetime(2026, 1, 1, 12, 0, 0, 123_456, tzinfo=UTC)


class ManualClock:
    """Tells the time it was given; tests of expiry need no sleeps.

    Args:
        start: Aware; some fixed moment with microseconds when None.
    """

    def __init__(self, start: datetime | None = None) -> None:
        self._now = _START if start is None else to_utc(start)

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
        return self._now

    @property
    def now_us(self) -> int:
        """The present as stores keep it: microseconds since 1970-01-01 UTC."""
        return to_microseconds(self._now)

    def set(self, moment: datetime) -> None:
        """Go to a moment, back in time too, as a computer's clock may when it is put right."""
        self._now = to_utc(moment)

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds, to the microsecond."""
        self.advance_us(round(seconds * 1_000_000))

    def advance_us(self, microseconds: int) -> None:
        """Move on by so many microseconds, exactly."""
        if microseconds < 0:
            raise ValueError("time does not run backwards here")
        self._now += timedelta(microseconds=microseconds)
