"""Counts tokens, so that a prompt fits its context window."""

from typing import Protocol

__all__ = ["TokenCounter"]


class TokenCounter(Protocol):
    """Counts the tokens of a text as a model would, or nearly."""

    def count(self, text: str) -> int:
        """Return the number of tokens, 0 for an empty text."""
        ...
