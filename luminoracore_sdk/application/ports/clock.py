"""Time and identity from outside: the domain has neither a clock nor randomness."""

from datetime import datetime
from typing import Protocol

__all__ = ["Clock", "IdFactory"]


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
        ...


class IdFactory(Protocol):
    """Makes ids."""

    def new_id(self) -> str:
        """Return an id that no other call anywhere returns."""
        ...
