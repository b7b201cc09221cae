"""The cattrs converter for settings: it structures mappings into validated attrs objects.

Deviations from cattrs' defaults: unknown keys are refused; numbers and flags are passed through unchanged, so
that the validators of the classes decide and ``"5"`` does not silently become 5; tags may be any list.
"""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, copy_json
from luminoracore_sdk.domain.settings import SessionConfig, SessionType

if TYPE_CHECKING:
    import cattrs

__all__ = ["settings_from_mapping", "settings_to_mapping"]

T = TypeVar("T")

_NOT_STORED = (
    "session_id",
    "personality",
    "provider_config",
    "storage",
    "ttl",
    "user_id",
    "tags",
    "archived",
    "pinned",
)
"""Fields of a session's settings that lie elsewhere in its record, or nowhere."""


@cache
def _converter() -> "cattrs.Converter":
    # imported at the first use: cattrs has as many modules as asyncio, and not every program reads settings
    import cattrs  # noqa: PLC0415
    from cattrs.gen import make_dict_unstructure_fn, override  # noqa: PLC0415

    converter = cattrs.Converter(forbid_extra_keys=True, prefer_attrib_converters=True, detailed_validation=False)
    for plain in (bool, int, float, str):
        converter.register_structure_hook(plain, lambda value, _: value)
    converter.register_structure_hook(SessionType, lambda value, _: value)
    converter.register_structure_hook_func(lambda kind: attrs.has(kind) is False, lambda value, _: value)
    converter.register_unstructure_hook(SessionType, lambda value: value.value)
    omitted: dict[str, Any] = {name: override(omit=True) for name in _NOT_STORED}
    unstructure = make_dict_unstructure_fn(SessionConfig, converter, _cattrs_omit_if_default=True, **omitted)
    converter.register_unstructure_hook(SessionConfig, unstructure)
    return converter


def settings_from_mapping(kind: type[T], data: object) -> T:
    """Return an attrs settings object from a mapping.

    Raises:
        ValidationError: It is not a mapping, a key is unknown (the error lists the known ones), or a value is wrong.
    """
    name = kind.__name__
    if not isinstance(data, Mapping):
        raise ValidationError(f"{name} must be a {name} or a dict, not {type(data).__name__}")
    known = _names(kind)  # type: ignore[arg-type]  # a class is hashable
    if unknown := sorted(str(key) for key in data if key not in known):
        raise ValidationError(f"{name} has no field {unknown[0]!a}; its fields are: {', '.join(known)}")
    try:
        return _converter().structure(dict(data), kind)
    except LuminoraCoreSDKError:
        raise
    except Exception as exc:
        raise ValidationError(f"{name} cannot be read: {exc}") from exc


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind))


def settings_to_mapping(settings: SessionConfig) -> JSONObject:
    """Return the fields that differ from the defaults, as JSON values."""
    data: JSONObject = copy_json(_converter().unstructure(settings))
    return data
