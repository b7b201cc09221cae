"""The real clock and the real id factory."""

from datetime import UTC, datetime
from uuid import uuid4

__all__ = ["SystemClock", "UuidFactory"]


class SystemClock:
    """The computer's clock, in UTC."""

    def now(self) -> datetime:
        """Return the present."""
        return datetime.now(UTC)


class UuidFactory:
    """Random ids: 32 hexadecimal digits, 122 random bits (RFC 9562, version 4)."""

    def new_id(self) -> str:
        """Return a new id."""
        return uuid4().hex
