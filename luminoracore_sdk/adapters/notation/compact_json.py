"""Compact JSON: it can write everything, and everything can read it."""

from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["CompactJsonNotation"]


class CompactJsonNotation:
    """Writes compact JSON; never None.

    Attributes:
        name: What a heading calls it.
    """

    name = "JSON"

    def render(self, value: JSONValue) -> str:
        """Return the value on one line."""
        return compact_json(value)
