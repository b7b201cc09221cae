"""Validated access to the fields of an imported JSON object; errors name the field."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from luminoracore_sdk.application.exchange.raw_json import resolved
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["each_object", "field_of", "objects_of", "placed", "refuse_twice", "refuse_unknown"]


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
    return list(each_object(data, name))


def each_object(data: Mapping[str, Any], name: str) -> Iterator[JSONObject]:
    """Yield the objects of a field that must be a list of objects, each parsed when its turn comes."""
    for index, item in enumerate(field_of(data, name, list)):
        with placed(f"{name}[{index}]"):
            value = resolved(item)
        if not isinstance(value, dict):
            raise ValidationError(f"{name}[{index}] is of type {type(value).__name__}, not an object")
        yield value


def refuse_unknown(data: JSONObject, known: frozenset[str], what: str) -> None:
    """Refuse unknown keys, which an import would lose."""
    if unknown := sorted(data.keys() - known):
        raise ValidationError(f"{what} has no field {unknown[0]!a}")


def refuse_twice(names: list[str], what: str) -> None:
    """Refuse duplicate names."""
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValidationError(f"{what} {twice!a} occurs twice")


@contextmanager
def placed(place: str) -> Iterator[None]:
    """Prefix validation errors with the place in the session."""
    try:
        yield
    except ValidationError as exc:
        raise ValidationError(f"{place}: {exc}") from exc
