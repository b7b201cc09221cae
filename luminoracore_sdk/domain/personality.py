"""Personalities, and the system messages composed from them."""

from collections.abc import Mapping
from typing import Any

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, check_json, copy_json

__all__ = ["check_personality", "merge_personality", "personality_name", "system_prompt"]

_HEADINGS = {
    "description": "",
    "role": "Your role",
    "background": "Background",
    "core_traits": "Traits",
    "traits": "Traits",
    "tone": "Tone",
    "style": "Style",
    "linguistic_profile": "Language",
    "behavioral_rules": "Rules",
    "rules": "Rules",
    "instructions": "Instructions",
    "examples": "Examples",
}


def check_personality(personality: object) -> JSONObject:
    """Return an independent copy of a personality.

    Raises:
        ValidationError: The value is not a JSON object.
    """
    if not isinstance(personality, Mapping):
        raise ValidationError(f"a personality must be a JSON object, not {type(personality).__name__}")
    plain = dict(personality)
    check_json(plain, where="personality")
    copied: JSONObject = copy_json(plain)
    return copied


def merge_personality(current: JSONObject, changes: object) -> JSONObject:
    """Return a personality with some top-level fields replaced."""
    return {**current, **check_personality(changes)}


def personality_name(personality: Mapping[str, Any]) -> str:
    """Return the name of a personality: ``name``, or ``persona.name``, or ``""``."""
    persona = personality.get("persona")
    nested = persona.get("name") if isinstance(persona, Mapping) else None
    name = personality.get("name") or nested
    return name if isinstance(name, str) else ""


def system_prompt(personality: Mapping[str, Any]) -> str:
    """Return the personality's own ``system_prompt``, or one composed from its fields.

    A composed prompt contains the name, then the known fields in a fixed order; unknown fields are data of
    the caller and are omitted. An empty personality gives ``""``.
    """
    own = personality.get("system_prompt")
    if isinstance(own, str) and own.strip():
        return own
    persona = personality.get("persona")
    fields = {**persona, **personality} if isinstance(persona, Mapping) else dict(personality)
    lines = [f"You are {name}."] if (name := personality_name(personality)) else []
    for field, heading in _HEADINGS.items():
        if text := _as_text(fields.get(field)):
            lines.append(f"{heading}: {text}" if heading else text)
    return "\n".join(lines)


def _as_text(value: object) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list):
        return "; ".join(filter(None, map(_as_text, value)))
    if isinstance(value, Mapping):
        pairs = ((str(key), _as_text(item)) for key, item in value.items())
        return "; ".join(f"{key.replace('_', ' ')}: {text}" for key, text in pairs if text)
    return ""
