"""The cattrs converter for settings: mappings in, checked attrs objects out.

Deviations from cattrs' defaults: unknown keys are refused, numbers and flags are taken as they are
(the validators of the classes decide, so that ``"5"`` is not silently 5), tags come from any list.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_unstructure_fn, override

from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, copy_json
from luminoracore_sdk.domain.settings import SessionConfig, SessionType

__all__ = ["settings_from_mapping", "settings_to_mapping"]

T = TypeVar("T")


def _make_converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True, prefer_attrib_converters=True, detailed_validation=False)
    for plain in (bool, int, float, str):
        converter.register_structure_hook(plain, lambda value, _: value)
    converter.register_structure_hook(SessionType, lambda value, _: value)
    converter.register_structure_hook_func(lambda kind: attrs.has(kind) is False, lambda value, _: value)
    converter.register_unstructure_hook(SessionType, lambda value: value.value)
    converter.register_unstructure_hook(
        SessionConfig,
        make_dict_unstructure_fn(
            SessionConfig,
            converter,
            _cattrs_omit_if_default=True,
            session_id=override(omit=True),
            personality=override(omit=True),
            provider_config=override(omit=True),
            storage=override(omit=True),
            ttl=override(omit=True),
            user_id=override(omit=True),
            tags=override(omit=True),
        ),
    )
    return converter


_CONVERTER = _make_converter()


def settings_from_mapping(kind: type[T], data: object) -> T:
    """Make an attrs settings object of a mapping.

    Raises:
        ValidationError: Not a mapping, an unknown key (the known ones are listed), a wrong value.
    """
    name = kind.__name__
    if not isinstance(data, Mapping):
        raise ValidationError(f"{name} must be a {name} or a dict, not {type(data).__name__}")
    known = _names(kind)  # type: ignore[arg-type]  # a class is hashable
    if unknown := sorted(str(key) for key in data if key not in known):
        raise ValidationError(f"{name} has no field {unknown[0]!a}; it knows: {', '.join(known)}")
    try:
        return _CONVERTER.structure(dict(data), kind)
    except LuminoraCoreSDKError:
        raise
    except Exception as exc:
        raise ValidationError(f"{name} cannot be read: {exc}") from exc


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind))


def settings_to_mapping(settings: SessionConfig) -> JSONObject:
    """Return the fields that differ from the defaults, as JSON values."""
    data: JSONObject = copy_json(_CONVERTER.unstructure(settings))
    return data
