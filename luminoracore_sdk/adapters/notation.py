"""Notations: JSON values as text for models, in forms that cost fewer tokens than JSON.

``LinesNotation`` and ``TableNotation`` write any value in one cell as ``plain_value`` does: a string stands for
itself unless it could be read as something else; then, and for every other type, it is written as JSON.
"""

import json
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.ports.prompting import Notation
from luminoracore_sdk.application.prompts import UNSEEN, compact_json
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, same_json

__all__ = [
    "CompactJsonNotation",
    "LinesNotation",
    "TableNotation",
    "ToonNotation",
    "default_notations",
    "is_plain",
    "plain_value",
    "read_lines",
    "read_table",
    "read_value",
]

_BAR = "|"
_SHARED = "each: "


def default_notations() -> tuple[Notation, ...]:
    """Return the default notations, the most readable one first; TOON needs the ``tokens`` extra."""
    toon = () if find_spec("toon_format") is None else (ToonNotation(),)
    return LinesNotation(), TableNotation(), *toon, CompactJsonNotation()


# -- values on one line ------------------------------------------------------------------------------


def plain_value(value: JSONValue, *, forbidden: str = "") -> str:
    """Return a value on one line: JSON, or a bare string where that is unambiguous.

    Args:
        value: Any JSON value.
        forbidden: Text that a bare string must not contain.
    """
    if isinstance(value, str) and is_plain(value, forbidden=forbidden) and not _reads_as_json(value):
        return value
    return compact_json(value)


def read_value(text: str) -> JSONValue:
    """Return the value that ``plain_value`` wrote: JSON where it parses as JSON, else the string itself."""
    try:
        value: JSONValue = json.loads(text)
    except ValueError:
        return text
    return value


def is_plain(text: str, *, forbidden: str = "") -> bool:
    """Return whether a string has visible ends, no invisible characters, and nothing forbidden in it."""
    if not text or text != text.strip() or UNSEEN.search(text):
        return False
    return not forbidden or forbidden not in text


def _reads_as_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text[0] in '"[{'  # would look like broken JSON
    return True


# -- lines -------------------------------------------------------------------------------------------


class LinesNotation:
    """Write a JSON object as one ``key: value`` line per item.

    Keys and strings that could be misread are quoted as JSON: ``zip: "10121"``. Only non-empty objects can be
    written.

    Attributes:
        name: Empty: the notation needs no explanation.
    """

    name = ""

    def render(self, value: JSONValue) -> str | None:
        """Return the lines in the object's order, or None for anything but a non-empty object."""
        if not isinstance(value, dict) or not value:
            return None
        return "\n".join(f"{_line_key(key)}: {plain_value(item)}" for key, item in value.items())


def read_lines(text: str) -> JSONObject:
    """Return the object that ``LinesNotation`` wrote.

    Raises:
        ValueError: A line is not ``key: value``.
    """
    return dict(map(_read_line, text.split("\n")))


def _line_key(key: str) -> str:
    is_bare = is_plain(key, forbidden=": ") and key[0] not in '"[{-#'
    return key if is_bare else compact_json(key)


def _read_line(line: str) -> tuple[str, JSONValue]:
    if line.startswith('"'):
        key, end = json.JSONDecoder().raw_decode(line)
        colon, value = line[end : end + 2], line[end + 2 :]
    else:
        key, colon, value = line.partition(": ")
    if colon != ": ":
        raise ValueError("a line must be 'key: value'")
    return key, read_value(value)


# -- tables ------------------------------------------------------------------------------------------


class TableNotation:
    """Write JSON objects as the rows of a table, with a bar between the cells.

    The rows are a list, or the values of an object, whose keys are then the first column, without a heading.
    An empty cell is a field that the row does not have. Fields that are equal in all rows are written once,
    before the table: ``each: {"source":"user"}``. Only two or more non-empty objects can be written.

    Attributes:
        name: The name that a heading shows.
    """

    name = "table"

    def render(self, value: JSONValue) -> str | None:
        """Return the table, or None if the value is no table. The order of fields within a row is not kept."""
        items = list(value.values()) if isinstance(value, dict) else value
        if not isinstance(items, list) or len(items) < 2 or not all(map(_is_row, items)):
            return None
        fields = list(dict.fromkeys(field for item in items for field in item))
        shared = _shared(items, fields)
        if any(item.keys() <= shared.keys() for item in items):
            shared = {}  # that row would be an empty line
        columns = [field for field in fields if field not in shared]
        rows = [list(map(_cell, columns))]
        rows += [[_cell(item[field]) if field in item else "" for field in columns] for item in items]
        if isinstance(value, dict):
            rows = [[key, *cells] for key, cells in zip(["", *map(_cell, value)], rows, strict=True)]
        lines = [f"{_SHARED}{compact_json(shared)}"] if shared else []
        return "\n".join([*lines, *map(_BAR.join, rows)])


def read_table(text: str) -> JSONValue:
    """Return the value that ``TableNotation`` wrote; the fields of a row are in the order of the columns.

    Raises:
        ValueError: The text is no such table.
    """
    lines = text.split("\n")
    shared = read_value(lines.pop(0).removeprefix(_SHARED)) if text.startswith(_SHARED) else {}
    if not isinstance(shared, dict) or not lines:
        raise ValueError("a table begins with a line of column names, after an optional line of shared fields")
    names, *rows = [line.split(_BAR) for line in lines]
    has_keys = not names[0]
    columns = [str(read_value(name)) for name in names[has_keys:]]
    items = [_read_row(columns, row[has_keys:]) | shared for row in rows]
    if not has_keys:
        return items
    return {str(read_value(row[0])): item for row, item in zip(rows, items, strict=True)}


def _is_row(item: JSONValue) -> bool:
    return isinstance(item, dict) and bool(item)


def _shared(items: Sequence[JSONObject], fields: Sequence[str]) -> JSONObject:
    first, *others = items
    return {
        field: first[field]
        for field in fields
        if field in first and all(field in item and same_json(item[field], first[field]) for item in others)
    }


def _cell(value: JSONValue) -> str:
    if isinstance(value, str) and value.startswith(_SHARED):
        return compact_json(value)
    return plain_value(value, forbidden=_BAR).replace(_BAR, "\\u007c")  # only JSON can still contain a bar


def _read_row(columns: Sequence[str], cells: Sequence[str]) -> JSONObject:
    return {name: read_value(cell) for name, cell in zip(columns, cells, strict=True) if cell}


# -- TOON and JSON -----------------------------------------------------------------------------------


class ToonNotation:
    """Write TOON, Token-Oriented Object Notation, with its own library, and verify that it reads back equal.

    https://github.com/toon-format/spec; toon-format 1.2 writes version 4.4.

    Attributes:
        name: The name that a heading shows.

    Raises:
        MissingDependencyError: The ``tokens`` extra is not installed.
    """

    name = "TOON"

    def __init__(self) -> None:
        self._library: Any = import_extra("toon_format", needed_by="ToonNotation", extra="tokens")

    def render(self, value: JSONValue) -> str | None:
        """Return the document, or None if it would hold invisible characters or not read back equal."""
        try:
            text = str(self._library.dumps(value))
            read = self._library.loads(text)
        except ValueError:  # raised for values it cannot write; its decoding error is a ValueError too
            return None
        is_visible = bool(text) and UNSEEN.search(text.replace("\n", "")) is None
        return text if is_visible and _reads_equal(read, value) else None


def _reads_equal(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal to a reader: 1 equals 1.0, and the order of keys counts."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if type(left) is not type(right):
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(_reads_equal(left[key], right[key]) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_reads_equal, left, right))
    return bool(left == right)


class CompactJsonNotation:
    """Write compact JSON, which can express every value.

    Attributes:
        name: The name that a heading shows.
    """

    name = "JSON"

    def render(self, value: JSONValue) -> str:
        """Return the value on one line."""
        return compact_json(value)
