"""JSON values (RFC 8259): validation, copies and exact comparison.

The rules are strict because a value must be read back *equal*: a tuple would come back as a list, an integer
key as a string, NaN not at all. They are therefore refused before anything is written.
"""

import math
from collections.abc import Iterable, Iterator
from typing import Any

from luminoracore_sdk.domain.errors import InvalidJSONError
from luminoracore_sdk.domain.pieces import let_others_run

__all__ = ["MAX_JSON_DEPTH", "JSONObject", "JSONValue", "check_json", "copy_json", "same_json"]

JSONValue = None | bool | int | float | str | list[Any] | dict[str, Any]
"""None, bool, int of any size, finite float, str (NUL and lone surrogates too), list, dict with str keys."""

JSONObject = dict[str, Any]

MAX_JSON_DEPTH = 200
"""Deepest nesting of a value: orjson 3.13 writes at most 254 levels, of which a record needs some itself."""

_SCALARS = frozenset({str, int, bool, type(None)})
_MANY = 64
_PIECE_NODES = 2048


def check_json(value: object, *, where: str = "value") -> None:
    """Refuse a value that could not be read back equal.

    Args:
        value: Any object.
        where: The name of the value in the error.

    Raises:
        InvalidJSONError: NaN, an infinity, a type that JSON does not have (subclasses included), a key that is
            not ``str``, or more than 200 levels; the error names the place in the value.
    """
    if _is_json(value):
        return
    level: list[tuple[object, str]] = [(value, where)]
    for _ in range(MAX_JSON_DEPTH):
        found = (child for node, path in level for child in _children(node, path))
        # each object once: a list that contains itself twice would double every level
        level = list({id(child[0]): child for child in found}.values())
    for node, path in level:
        if type(node) in (dict, list):
            raise InvalidJSONError(where, f"nested deeper than {MAX_JSON_DEPTH} levels")
        _check_leaf(node, path)


def _is_json(value: Any) -> bool:
    """Return whether a value is JSON, in a third of the time needed to find out where it is not."""
    level: Iterable[Any] = [value]
    for _ in range(MAX_JSON_DEPTH):
        inner: list[Any] = []
        for node in level:
            kind = type(node)
            if kind is dict:
                for key, item in node.items():
                    if type(key) is not str:
                        return False
                    if type(item) not in _SCALARS:
                        inner.append(item)
            elif kind is list:
                inner += [item for item in node if type(item) not in _SCALARS]
            elif kind not in _SCALARS and not (kind is float and math.isfinite(node)):
                return False
        if not inner:
            return True
        level = inner if len(inner) < _MANY else _each_once(inner)
    return False


def _each_once(nodes: list[Any]) -> Iterator[Any]:
    """Yield each object once, as in ``check_json``; other threads run in between."""
    unique: dict[int, Any] = {}
    for start in range(0, len(nodes), _PIECE_NODES):
        unique.update((id(node), node) for node in nodes[start : start + _PIECE_NODES])
        let_others_run()
    for number, node in enumerate(unique.values(), start=1):
        yield node
        if not number % _PIECE_NODES:
            let_others_run()


def _children(node: object, path: str) -> Iterator[tuple[object, str]]:
    if type(node) is dict:
        for key, item in node.items():
            if type(key) is not str:
                raise InvalidJSONError(path, f"a key is of type {type(key).__name__}, not str")
            if type(item) not in _SCALARS:
                yield item, f"{path}[{key[:40]!a}]"
    elif type(node) is list:
        for index, item in enumerate(node):
            if type(item) not in _SCALARS:
                yield item, f"{path}[{index}]"
    else:
        _check_leaf(node, path)


def _check_leaf(leaf: object, path: str) -> None:
    if type(leaf) is float:
        if not math.isfinite(leaf):
            raise InvalidJSONError(path, f"{leaf} has no JSON form")
    else:
        raise InvalidJSONError(path, f"type {type(leaf).__name__} is not a JSON type")


def copy_json(value: Any) -> Any:
    """Return an independent copy of a valid JSON value, see ``check_json``."""
    if type(value) is dict:
        return {key: copy_json(item) for key, item in value.items()}
    if type(value) is list:
        return [copy_json(item) for item in value]
    return value


def same_json(left: Any, right: Any) -> bool:
    """Return whether two JSON values are equal *and* have the same types.

    It is stricter than ``==``: ``1``, ``1.0`` and ``True`` differ, ``0.0`` and ``-0.0`` differ, and
    the order of keys counts.
    """
    if type(left) is not type(right):
        return False
    if type(left) is dict:
        return list(left) == list(right) and all(same_json(left[key], right[key]) for key in left)
    if type(left) is list:
        return len(left) == len(right) and all(map(same_json, left, right))
    if type(left) is float:
        return bool(left == right) and math.copysign(1.0, left) == math.copysign(1.0, right)
    return bool(left == right)
