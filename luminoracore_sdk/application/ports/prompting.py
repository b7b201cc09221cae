"""The ports of the prompt: notations that render JSON values as text, and token counters."""

from typing import Protocol

from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["Notation", "TokenCounter"]


class Notation(Protocol):
    """Renders JSON values as text that a model can read.

    Different values never give the same text, where, as in JSON, neither the order of an object's items nor
    the spelling of a number as 1 or 1.0 makes a difference. The text is not empty, has no blank line, and can
    be encoded in UTF-8.

    Attributes:
        name: The name for headings; empty if the notation is self-explanatory.
    """

    @property
    def name(self) -> str:
        """The name for headings."""
        ...

    def render(self, value: JSONValue) -> str | None:
        """Return the text, or None for a value that this notation cannot represent exactly."""
        ...


class TokenCounter(Protocol):
    """Counts the tokens of a string, exactly or approximately.

    ``count`` is called on the event loop, several times per prompt: it must be fast and must not do I/O.
    """

    def count(self, text: str) -> int:
        """Return the number of tokens, 0 for an empty string.

        Args:
            text: Any string, which may contain lone surrogates.
        """
        ...
