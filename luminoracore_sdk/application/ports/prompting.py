"""Ports of the prompt: notations that write a JSON value as text, and token counters."""

from typing import Protocol

from luminoracore_sdk.domain.json_value import JSONValue

__all__ = [
    "Notation",
    "TokenCounter",
]


class Notation(Protocol):
    """Writes JSON values as text that a model can read.

    Two values that differ never come out as the same text. As in JSON itself, it is no difference in which
    order an object has its items, nor whether a number is written 1 or 1.0. The text is not empty, has
    no blank line, and can be encoded in UTF-8.

    Attributes:
        name: What a heading calls it; empty where it explains itself.
    """

    @property
    def name(self) -> str:
        """What a heading calls it."""
        ...

    def render(self, value: JSONValue) -> str | None:
        """Return the text, or None for a value that this notation cannot write exactly."""
        ...


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
