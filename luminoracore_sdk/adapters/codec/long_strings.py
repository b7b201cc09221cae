"""Reading of JSON with long strings in pieces, so that other threads run in between.

orjson reads a string of 5 MB in one call of 3 to 6 ms. A long string is taken out of the document, decoded in parts,
and put back into what orjson makes of the rest.
"""

from typing import Any
from uuid import uuid4

import orjson

from luminoracore_sdk.domain.pieces import let_others_run

__all__ = ["read_long_strings"]

_LONG = 64 * 1024
_LONGEST_ESCAPE = 6
_SURROGATE = b"\\ud"
"""Beginning of the escape of a surrogate; two such escapes may be one character."""


def read_long_strings(data: bytes) -> Any:
    """Return the value of a JSON document.

    Raises:
        ValueError: It is not JSON.
    """
    name = uuid4().hex  # of a string that the document cannot hold
    rest: list[bytes] = []
    strings: dict[str, str] = {}
    begun = place = 0
    while (opening := data.find(b'"', place)) >= 0:
        closing = _closing_quote(data, opening + 1)
        place = closing + 1
        if closing - opening > _LONG and data[place : place + 1] != b":":
            mark = f"{name}{len(strings)}"
            strings[mark] = _decoded(data, opening + 1, closing)
            rest += [data[begun:opening], f'"{mark}"'.encode()]
            begun = place
    return _filled(orjson.loads(b"".join([*rest, data[begun:]])), strings)


def _closing_quote(data: bytes, place: int) -> int:
    while True:
        place = data.find(b'"', place)
        if place < 0:
            raise ValueError("a string has no end")
        first = place
        while data[first - 1] == ord("\\"):
            first -= 1
        if (place - first) % 2 == 0:
            return place
        place += 1


def _decoded(data: bytes, start: int, end: int) -> str:
    """Return the string between two quotes."""
    parts: list[str] = []
    while start < end:
        cut = _cut(data, start, start + _LONG) if start + _LONG < end else end
        if cut == start:  # nothing but backslashes
            cut = end
        parts.append(orjson.loads(b'"%b"' % data[start:cut]))
        start = cut
        let_others_run()
    return "".join(parts)


def _cut(data: bytes, start: int, place: int) -> int:
    """Return the last place up to the given one that divides neither a character nor an escape."""
    while data[place] & 0xC0 == 0x80:
        place -= 1
    escape = data.rfind(b"\\", max(start, place - _LONGEST_ESCAPE), place)
    while escape >= 0:
        place = escape
        while place > start and data[place - 1] == ord("\\"):  # the first of several begins an escape
            place -= 1
        escape = max(start, place - _LONGEST_ESCAPE)
        pair = {data[one : one + len(_SURROGATE)].lower() for one in (escape, place)}
        escape = escape if pair == {_SURROGATE} and escape < place else -1
    return place


def _filled(value: Any, strings: dict[str, str]) -> Any:
    if isinstance(value, str):
        return strings.get(value, value)
    if isinstance(value, list):
        return [_filled(item, strings) for item in value]
    if isinstance(value, dict):
        return {key: _filled(item, strings) for key, item in value.items()}
    return value
