"""The ``opt1`` notation: smaller JSON values that describe themselves.

It never changes, because stores hold values in it. A new notation gets a new name.

``["opt1", data]``, where ``data`` is read from the outside in:

- an object's key that is a code of ``CODES`` stands for the long key; a key that begins with ``=`` stands for the
  text after the ``=``. A real key that equals a code, ``#`` or ``@``, or begins with ``=``, is written with an
  additional ``=`` in front;
- ``{"#": [keys, row, row, …]}`` stands for a list of objects with the same keys in the same order; a row that is a
  number repeats the row with that index;
- ``{"@": n}`` as an item of a list repeats the item with index n of that list.
"""

from typing import Any

__all__ = ["CODES", "MARK", "REPEAT", "TABLE", "expand", "read_key", "write_key"]

MARK = "opt1"
TABLE = "#"
REPEAT = "@"
_ESCAPE = "="

CODES = {
    "b": "base_url",
    "c": "content",
    "ca": "created_at",
    "ci": "tool_call_id",
    "ct": "category",
    "d": "description",
    "e": "extra",
    "ea": "expires_at",
    "f": "finish_reason",
    "g": "config",
    "i": "importance",
    "k": "key",
    "m": "metadata",
    "md": "model",
    "n": "name",
    "p": "personality",
    "pc": "provider_config",
    "pr": "provider",
    "r": "role",
    "s": "session_id",
    "sp": "system_prompt",
    "t": "timestamp",
    "tc": "tool_calls",
    "tt": "total_tokens",
    "ty": "type",
    "tx": "text",
    "u": "user_id",
    "ua": "updated_at",
    "us": "usage",
    "w": "confidence",
    "x": "value",
}
_SHORT = {long: short for short, long in CODES.items()}


def write_key(key: str, *, abbreviate: bool) -> str:
    """Return the written form of a key."""
    if abbreviate and key in _SHORT:
        return _SHORT[key]
    if key in CODES or key in (TABLE, REPEAT) or key.startswith(_ESCAPE):
        return _ESCAPE + key
    return key


def read_key(key: str) -> str:
    """Return the key of a written form."""
    return key[1:] if key.startswith(_ESCAPE) else CODES.get(key, key)


def expand(data: Any) -> Any:
    """Return the value that data in this notation stands for."""
    if type(data) is dict:
        if list(data) == [TABLE]:
            return _read_table(data[TABLE])
        return {read_key(key): expand(item) for key, item in data.items()}
    if type(data) is list:
        return _read_list(data)
    return data


def _read_table(table: list[Any]) -> list[Any]:
    keys = [read_key(key) for key in table[0]]
    rows = table[1:]
    return [dict(zip(keys, map(expand, rows[row] if type(row) is int else row), strict=True)) for row in rows]


def _read_list(items: list[Any]) -> list[Any]:
    return [expand(items[item[REPEAT]] if type(item) is dict and list(item) == [REPEAT] else item) for item in items]
