"""Plain lines, ``key: value``: what people write down for each other."""

import json

from luminoracore_sdk.adapters.notation.plain import is_plain, plain_value, read_value
from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = ["LinesNotation", "read_lines"]


class LinesNotation:
    """Writes a JSON object as one line an item.

    ``key: value``, where what reads as JSON is JSON, and all else is the text that it says. Keys and texts
    that could be taken for something else are quoted as JSON: ``zip: "10121"``. Other values than an
    object that is not empty are left to other notations.

    Attributes:
        name: Empty: it explains itself.
    """

    name = ""

    def render(self, value: JSONValue) -> str | None:
        """Return the lines in the object's order, or None."""
        if not isinstance(value, dict) or not value:
            return None
        return "\n".join(f"{_key(key)}: {plain_value(item)}" for key, item in value.items())


def read_lines(text: str) -> JSONObject:
    """Return what ``LinesNotation`` wrote.

    Raises:
        ValueError: A line is no ``key: value``.
    """
    return dict(map(_read_line, text.split("\n")))


def _key(key: str) -> str:
    is_bare = is_plain(key, forbidden=": ") and key[0] not in '"[{-#'
    return key if is_bare else compact_json(key)


def _read_line(line: str) -> tuple[str, JSONValue]:
    if line.startswith('"'):
        key, end = json.JSONDecoder().raw_decode(line)
        colon, said = line[end : end + 2], line[end + 2 :]
    else:
        key, colon, said = line.partition(": ")
    if colon != ": ":
        raise ValueError("a line of remembered facts is 'key: value'")
    return key, read_value(said)
