"""The optimizer port, as documented: JSON values in, JSON values out."""

from typing import Any, Protocol, runtime_checkable

__all__ = ["Optimizer"]


@runtime_checkable
class Optimizer(Protocol):
    """Makes JSON values smaller, and restores them.

    It is not trusted: every write verifies that ``expand(compress(value))`` equals ``value``.
    """

    def compress(self, data: Any) -> Any:
        """Return a smaller JSON value."""
        ...

    def expand(self, data: Any) -> Any:
        """Return the value that was compressed."""
        ...
