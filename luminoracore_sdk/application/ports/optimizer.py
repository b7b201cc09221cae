"""The optimizer port, as documented: JSON values in, JSON values out."""

from typing import Any, Protocol, runtime_checkable

__all__ = ["Optimizer"]


@runtime_checkable
class Optimizer(Protocol):
    """Makes JSON values smaller, and restores them.

    Not trusted: whoever uses one checks that ``expand(compress(value))`` is ``value``.
    """

    def compress(self, data: Any) -> Any:
        """Return a smaller JSON value."""
        ...

    def expand(self, data: Any) -> Any:
        """Return what ``compress`` was given."""
        ...
