"""Reading attrs classes from environment variables: one variable per field, parsed by the field's type."""

import re
from collections.abc import Mapping
from types import NoneType
from typing import Any, get_args

import attrs

from luminoracore_sdk.domain.errors import ConfigurationError

__all__ = ["environment_fields", "environment_value"]

_FLAGS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def _to_flag(text: str) -> bool:
    return _FLAGS[text.strip().lower()]


_PARSERS: Mapping[Any, Any] = {
    bool: (_to_flag, f"one of {', '.join(_FLAGS)}"),
    int: (int, "a whole number"),
    float: (float, "a number"),
}
"""Parser and description by type; a value of any other type stays text, which the class checks."""


def environment_fields(prefix: str, kind: type[Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of a class that variables with a prefix set.

    Args:
        prefix: Beginning of the variables' names; the field's name in capitals follows.
        kind: An attrs class.
        environ: The environment variables.

    A variable that is empty or blank counts as unset.

    Raises:
        ConfigurationError: A variable with this prefix matches no field, or its value is wrong.
    """
    types = {field.name: field.type for field in attrs.fields(kind)}
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix) or not text.strip():
            continue
        name = variable.removeprefix(prefix).lower()
        if name not in types:
            known = ", ".join(prefix + name.upper() for name in types)
            raise ConfigurationError(f"environment variable {variable} is unknown; the known ones are: {known}")
        found[name] = environment_value(variable, text, types[name])
    return found


def environment_value(variable: str, text: str, kind: Any) -> Any:
    """Return the value of a variable as a type, which may be optional.

    Raises:
        ConfigurationError: The text does not have that type; the error names the variable.
    """
    kind = next((one for one in get_args(kind) if one is not NoneType), kind)
    text = text.strip()  # secret stores add a newline
    if kind not in _PARSERS:
        return text
    parse, wanted = _PARSERS[kind]
    try:
        return parse(text)
    except (ValueError, KeyError):  # its text may be a URL with a password
        raise ConfigurationError(f"environment variable {variable} must be {wanted}{not_secret(text)}") from None


def not_secret(text: object) -> str:
    """Return ", not …" for an error, or nothing if the text may hold a password."""
    return f", not {text!a}" if isinstance(text, str) and re.fullmatch(r"[\w.,+-]{0,40}", text) else ""
