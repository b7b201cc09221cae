"""Validated access to the fields of an imported JSON object; errors name the field."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue

__all__ = ["field_of", "objects_of", "placed", "read_json", "refuse_twice", "refuse_unknown"]


def read_json(text: str | bytes) -> JSONValue:
    """Return the value of a JSON text.

    Raises:
        ValidationError: The text is not JSON (RFC 8259, which excludes NaN); the error names the column and
            quotes nothing.
    """
    try:
        value: JSONValue = json.loads(text, parse_constant=_refuse_constant)
    except ValidationError:
        raise
    except json.JSONDecodeError as exc:
        raise ValidationError(f"not JSON: {exc.msg}, at column {exc.colno}") from exc
    except (ValueError, RecursionError) as exc:
        reason = "not UTF-8" if isinstance(exc, UnicodeDecodeError) else type(exc).__name__
        raise ValidationError(f"not JSON: {reason}") from exc
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValidationError(f"not JSON: {name} has no JSON form")


_REQUIRED: Any = object()


def field_of(data: Mapping[str, Any], name: str, kind: Any, default: Any = _REQUIRED) -> Any:
    """Return a field of the given type; with a default it may be missing or null."""
    value = data.get(name)
    if value is None and default is not _REQUIRED:
        return default
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ValidationError(f"{name!r} is of type {type(value).__name__}")
    return value


def objects_of(data: Mapping[str, Any], name: str) -> list[JSONObject]:
    """Return a field that must be a list of objects."""
    items: list[JSONObject] = field_of(data, name, list)
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise ValidationError(f"{name}[{index}] is of type {type(item).__name__}, not an object")
    return items


def refuse_unknown(data: JSONObject, known: frozenset[str], what: str) -> None:
    """Refuse unknown keys, which an import would lose."""
    if unknown := sorted(data.keys() - known):
        raise ValidationError(f"{what} has no field {unknown[0]!a}")


def refuse_twice(names: list[str], what: str) -> None:
    """Refuse duplicate names."""
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValidationError(f"{what} {twice!a} occurs twice")


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Prefix validation errors with the place in the session."""
    try:
        yield
    except ValidationError as exc:
        raise ValidationError(f"{place}: {exc}") from exc
