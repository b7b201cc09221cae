"""A table: for facts that all have the same fields, the names of the fields stand once."""

from collections.abc import Sequence

from luminoracore_sdk.adapters.notation.plain import plain_value, read_value
from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue, same_json

__all__ = ["TableNotation", "read_table"]

_BAR = "|"
_SHARED = "each: "


class TableNotation:
    """Writes several JSON objects as the rows of a table, with a bar between the cells.

    Rows are a list, or the values of an object: then the first column is their keys, and has no name. A
    cell is written like a value of ``LinesNotation``; one that is empty is a field that the row does
    not have. What is the same in all rows stands once, before the table: ``each: {"source":"user"}``.
    Anything but two or more objects that are not empty is left to other notations.

    Attributes:
        name: What a heading calls it.
    """

    name = "table"

    def render(self, value: JSONValue) -> str | None:
        """Return the table, or None. The order of the fields within a row is not kept."""
        items = list(value.values()) if isinstance(value, dict) else value
        if not isinstance(items, list) or len(items) < 2 or not all(map(_is_row, items)):
            return None
        fields = list(dict.fromkeys(field for item in items for field in item))
        shared = _shared(items, fields)
        if any(item.keys() <= shared.keys() for item in items):
            shared = {}  # else that row would be an empty line
        columns = [field for field in fields if field not in shared]
        rows = [list(map(_cell, columns))]
        rows += [[_cell(item[field]) if field in item else "" for field in columns] for item in items]
        if isinstance(value, dict):
            rows = [[key, *cells] for key, cells in zip(["", *map(_cell, value)], rows, strict=True)]
        lines = [f"{_SHARED}{compact_json(shared)}"] if shared else []
        return "\n".join([*lines, *map(_BAR.join, rows)])


def read_table(text: str) -> JSONValue:
    """Return what ``TableNotation`` wrote; the fields of a row come in the order of the table.

    Raises:
        ValueError: It is not such a table.
    """
    lines = text.split("\n")
    shared = read_value(lines.pop(0).removeprefix(_SHARED)) if text.startswith(_SHARED) else {}
    if not isinstance(shared, dict) or not lines:
        raise ValueError("a table has a line of shared fields, or none, and a line of names")
    names, *rows = [line.split(_BAR) for line in lines]
    has_keys = not names[0]
    columns = [_read_text(name) for name in names[has_keys:]]
    items = [_read_row(columns, row[has_keys:]) | shared for row in rows]
    if not has_keys:
        return items
    return {_read_text(row[0]): item for row, item in zip(rows, items, strict=True)}


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
    return plain_value(value, forbidden=_BAR).replace(_BAR, "\\u007c")  # of JSON texts: no bare text has one


def _read_text(cell: str) -> str:
    return str(read_value(cell))


def _read_row(columns: Sequence[str], cells: Sequence[str]) -> JSONObject:
    return {name: read_value(cell) for name, cell in zip(columns, cells, strict=True) if cell}
