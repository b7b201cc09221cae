"""Settings from environment variables: text made into the types of the fields, by cattrs."""

from collections.abc import Mapping
from typing import Any

import attrs
import cattrs

from luminoracore_sdk.bootstrap.config import StorageConfig, StorageType, storage_config_from_url
from luminoracore_sdk.domain.errors import ConfigurationError
from luminoracore_sdk.domain.settings import MemoryConfig

__all__ = ["settings_fields"]

_FLAGS = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def _to_flag(text: Any, _: Any) -> bool:
    try:
        return _FLAGS[str(text).strip().lower()]
    except KeyError:
        raise ValueError("not a flag") from None


_WANTED = {bool: f"one of {', '.join(_FLAGS)}", int: "a whole number", float: "a number"}


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=False)
    converter.register_structure_hook(bool, _to_flag)
    converter.register_structure_hook(StorageType, lambda text, _: text)
    return converter


_CONVERTER = _make_converter()


def settings_fields(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the fields of ``Settings`` that the environment sets.

    Raises:
        ConfigurationError: A variable that no field has, or with a wrong value.
    """
    storage = _section("LUMINORA_STORAGE_", StorageConfig, environ)
    memory = _section("LUMINORA_MEMORY_", MemoryConfig, environ)
    fields: dict[str, Any] = {"memory": MemoryConfig(**memory)} if memory else {}
    url = environ.get("LUMINORA_STORE")
    if url:
        base = storage_config_from_url(url)
        fields["storage"] = attrs.evolve(base, **storage)
    elif storage:
        fields["storage"] = StorageConfig(**storage)
    if text := environ.get("LUMINORA_MAX_HISTORY"):
        fields["max_history"] = _value("LUMINORA_MAX_HISTORY", text, int)
    return fields


def _section(prefix: str, kind: type[Any], environ: Mapping[str, str]) -> dict[str, Any]:
    types = {field.name: field.type for field in attrs.fields(kind)}
    found: dict[str, Any] = {}
    for variable, text in environ.items():
        if not variable.startswith(prefix):
            continue
        name = variable.removeprefix(prefix).lower()
        if name not in types:
            known = ", ".join(prefix + name.upper() for name in types)
            raise ConfigurationError(f"environment variable {variable} is not known; known are: {known}")
        found[name] = _value(variable, text, types[name])
    return found


def _value(variable: str, text: str, kind: Any) -> Any:
    if kind == float | None:
        kind = float
    if kind == str | None:
        kind = str
    try:
        return _CONVERTER.structure(text, kind)
    except (ValueError, TypeError) as exc:
        wanted = _WANTED.get(kind, f"a {kind}")
        raise ConfigurationError(f"environment variable {variable} must be {wanted}, not {text!a}") from exc
