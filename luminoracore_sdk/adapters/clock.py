"""The system clock and the id factory."""

from datetime import UTC, datetime
from uuid import uuid4

__all__ = ["SystemClock", "UuidFactory"]


class SystemClock:
    """Tell the computer's time in UTC."""

    def now(self) -> datetime:
        """Return the current time."""
        return datetime.now(UTC)


class UuidFactory:
    """Create random ids: version 4 UUIDs (RFC 9562) as 32 hexadecimal digits."""

    def new_id(self) -> str:
        """Return a new id."""
        return uuid4().hex
