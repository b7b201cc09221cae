"""The port of Core's MemorySystem, as far as this package uses it."""

from typing import Any, Protocol

from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["MemorySystem"]


class MemorySystem(Protocol):
    """A second memory system that receives every memory; the storage remains the source of truth.

    Any method may raise any error of the system.
    """

    async def remember(self, session_id: str, category: str, key: str, value: JSONValue) -> None:
        """Store a fact, replacing the previous one; it can be recalled when the call returns."""
        ...

    async def recall(self, session_id: str, category: str, key: str) -> JSONValue:
        """Return the value of a fact.

        Raises:
            LookupError: The system has no such fact.
        """
        ...

    async def forget(self, session_id: str, category: str, key: str) -> None:
        """Delete a fact, if it exists."""
        ...

    async def stats(self, session_id: str) -> dict[str, Any]:
        """Return the system's own statistics of one session."""
        ...
