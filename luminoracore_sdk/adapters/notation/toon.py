"""TOON, Token-Oriented Object Notation, by its own library: tables for lists of alike objects.

https://github.com/toon-format/spec; toon-format 1.2 writes version 4.4.
"""

from typing import Any

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.prompts import UNSEEN
from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["ToonNotation"]


class ToonNotation:
    """Writes TOON, after seeing that it reads back the same.

    Attributes:
        name: What a heading calls it.

    Raises:
        MissingDependencyError: The extra ``tokens`` is not installed.
    """

    name = "TOON"

    def __init__(self) -> None:
        self._library: Any = import_extra("toon_format", needed_by="ToonNotation", extra="tokens")

    def render(self, value: JSONValue) -> str | None:
        """Return the document; None for what cannot be seen, and for what would not read back the same."""
        try:
            text = str(self._library.dumps(value))
            read = self._library.loads(text)
        except ValueError:  # the library's way to refuse; its decoding error is one too
            return None
        is_seen = bool(text) and UNSEEN.search(text.replace("\n", "")) is None
        return text if is_seen and _is_same(read, value) else None


def _is_same(left: Any, right: Any) -> bool:
    """Tell whether two JSON values are the same to a reader: a number is its value, and order counts."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(_is_same(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_is_same, left, right))
    return bool(left == right)
