"""The real clock and the real id factory."""

import os
from datetime import UTC, datetime

__all__ = ["SystemClock", "UuidFactory"]


class SystemClock:
    """The computer's clock, in UTC."""

    def now(self) -> datetime:
        """Return the present."""
        return datetime.now(UTC)


_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""RFC 9562 fixes the two high bits of the 17th digit."""


class UuidFactory:
    """Random ids: 32 hexadecimal digits, 122 random bits (RFC 9562, version 4)."""

    def new_id(self) -> str:
        """Return a new id."""
        random = os.urandom(16).hex()  # what uuid4().hex does, without the object: 0.7 µs for 3.3
        return f"{random[:12]}4{random[13:16]}{_VARIANT[random[16]]}{random[17:]}"
