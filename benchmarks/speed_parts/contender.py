"""What every side of the comparison can do: the raw drivers, and the layers of this package."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = ["BATCH", "Contender"]

BATCH = 1000
"""Messages written at once where only their number matters."""


class Contender(ABC):
    """One way to keep messages. Positions are 1, 2, 3 …."""

    system: ClassVar[str]
    layer: ClassVar[str]

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make what is needed once."""

    @abstractmethod
    async def close(self) -> None: ...

    @abstractmethod
    async def begin(self, session: str) -> None:
        """Make a session."""

    @abstractmethod
    async def append(self, session: str, text: str) -> None:
        """Write one message; it is durable on return."""

    @abstractmethod
    async def fill(self, session: str, texts: Sequence[str]) -> None:
        """Write many messages as quickly as it goes."""

    @abstractmethod
    async def newest(self, session: str, count: int) -> Sequence[Any]:
        """Return the newest messages, decoded."""

    @abstractmethod
    async def page(self, session: str, after: int, count: int) -> Sequence[Any]:
        """Return the messages behind a position, oldest first, decoded."""
