"""The ports of time and identity: the domain has neither a clock nor randomness."""

from datetime import datetime
from typing import Protocol

__all__ = ["Clock", "IdFactory"]


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the current time as an aware datetime in UTC."""
        ...


class IdFactory(Protocol):
    """Generates ids."""

    def new_id(self) -> str:
        """Return a globally unique id."""
        ...
