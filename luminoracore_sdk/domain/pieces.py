"""Large values, worked on in pieces, so that other threads can run in between.

One call of a C function keeps every other thread waiting until it returns, the event loop's among them. Large
values are therefore handled in another thread (``application.off_loop``), and there by pieces that take about a
millisecond each.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["LARGE", "is_large", "json_text", "let_others_run", "written"]

LARGE = 128 * 1024
"""Characters above which a value is handled in a thread; of small values, so many take 2 to 4 ms."""

_NODE_CHARACTERS = 4
"""Characters of a value and its separator, beside those of strings."""

_STRING_PIECE = 64 * 1024
_PIECE_ITEMS = 500
_FEW_ITEMS = 16
_LEVELS = 4
_SHORTEST_SLEEP = 1e-6


def let_others_run() -> None:
    """Let a waiting thread run now.

    Python itself asks a thread to do so after 5 ms (``sys.getswitchinterval``), and not within a C function.
    """
    time.sleep(_SHORTEST_SLEEP)


def is_large(value: Any, characters: int = LARGE) -> bool:
    """Return whether a value has more than about so many characters as JSON; only so much of it is read."""
    waiting = [value]
    while waiting and characters >= 0:
        one = waiting.pop()
        kind = type(one)
        if kind is str:
            characters -= len(one)
        elif kind is list or kind is dict:
            characters -= _NODE_CHARACTERS * len(one)
            if characters >= 0:
                waiting += one
                waiting += one.values() if kind is dict else ()
    return characters < 0


def json_text(value: Any) -> str:
    """Return a JSON value as text, as ``json.dumps`` writes it without escaping characters beyond ASCII."""
    return "".join(written(value, _dumps)) if is_large(value) else _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def written(
    value: Any, write: Callable[[Any], str], *, comma: str = ", ", colon: str = ": ", levels: int = _LEVELS
) -> Iterator[str]:
    """Yield the JSON text of a value in pieces; other threads run between two of them.

    Long strings, lists and objects of the outer levels are divided. What is large in one item of a long list
    remains one piece.

    Args:
        value: A JSON value.
        write: Returns the JSON text of a part of it.
        comma: Separates items, as in the text that ``write`` returns.
        colon: Separates key and value, likewise.
        levels: Levels that are divided.
    """
    let_others_run()
    if isinstance(value, str) and len(value) > _STRING_PIECE:
        yield '"'
        for start in range(0, len(value), _STRING_PIECE):
            let_others_run()
            yield write(value[start : start + _STRING_PIECE])[1:-1]
        yield '"'
    elif not isinstance(value, list | dict) or not value or levels == 0:
        yield write(value)
    else:
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        yield opening
        for number, part in enumerate(_parts(value)):
            if number:
                yield comma
            if len(value) > _FEW_ITEMS:
                let_others_run()
                yield write(part)[1:-1]
            elif isinstance(part, dict):
                ((key, item),) = part.items()
                yield f"{write(key)}{colon}"
                yield from written(item, write, comma=comma, colon=colon, levels=levels - 1)
            else:
                yield from written(part[0], write, comma=comma, colon=colon, levels=levels - 1)
        yield closing


def _parts(value: Any) -> Iterator[Any]:
    """Yield the value in parts of its own type: of one item each if it has few, else of many."""
    size = 1 if len(value) <= _FEW_ITEMS else _PIECE_ITEMS
    items = list(value.items()) if isinstance(value, dict) else value
    for start in range(0, len(items), size):
        part = items[start : start + size]
        yield dict(part) if isinstance(value, dict) else part
