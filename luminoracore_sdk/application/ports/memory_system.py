"""Core's MemorySystem, as far as this package uses it."""

from typing import Any, Protocol

__all__ = ["MemorySystem"]


class MemorySystem(Protocol):
    """A second memory that facts are mirrored to; the storage port stays the source of truth."""

    async def remember(self, session_id: str, category: str, key: str, value: Any) -> None:
        """Keep a fact."""
        ...

    async def forget(self, session_id: str, category: str, key: str) -> None:
        """Drop a fact."""
        ...

    async def stats(self, session_id: str) -> dict[str, Any]:
        """Return the system's own figures about one session."""
        ...
