"""Counts tokens, so that a prompt fits its context window and costs no more than it must."""

from typing import Protocol

__all__ = ["TokenCounter"]


class TokenCounter(Protocol):
    """Counts the tokens of a text as a model would, or nearly.

    Anything with ``count`` is one. It is asked on the event loop, several times a prompt: it must be
    quick, and reach for nothing outside the process.
    """

    def count(self, text: str) -> int:
        """Return the number of tokens, 0 for an empty text.

        Args:
            text: Any text, lone surrogates among it.
        """
        ...
