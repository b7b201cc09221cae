"""Core's MemorySystem, as far as this package uses it."""

from typing import Any, Protocol

from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["MemorySystem"]


class MemorySystem(Protocol):
    """A second memory that facts are mirrored to; the storage port stays the source of truth.

    A call that fails may raise whatever the system raises.
    """

    async def remember(self, session_id: str, category: str, key: str, value: JSONValue) -> None:
        """Keep a fact, in place of the one before; returns when it can be recalled."""
        ...

    async def recall(self, session_id: str, category: str, key: str) -> JSONValue:
        """Return the value of a fact.

        Raises:
            LookupError: The system has no such fact.
        """
        ...

    async def forget(self, session_id: str, category: str, key: str) -> None:
        """Drop a fact; nothing happens where there is none."""
        ...

    async def stats(self, session_id: str) -> dict[str, Any]:
        """Return the system's own figures about one session."""
        ...
