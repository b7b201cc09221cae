"""The parameters of one call to a provider."""

from collections.abc import Mapping
from typing import Any

from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["DEFAULT_TEMPERATURE", "generation_parameters"]

DEFAULT_TEMPERATURE = 0.7

MAX_TEMPERATURE = 100
"""No provider takes more than 2; a bound keeps out NaN, infinities and typing errors."""


def generation_parameters(
    defaults: Mapping[str, Any], temperature: float, max_tokens: int | None, extra: Mapping[str, Any]
) -> JSONObject:
    """Return what is passed to the provider: what the call names, over the session's defaults.

    A temperature of 0.7 counts as not named, as it is the signature's default.

    Raises:
        ValidationError: A temperature that is not a number from 0 to 100, or a max_tokens that is not a
            whole number of at least 1.
    """
    if temperature == DEFAULT_TEMPERATURE:
        temperature = defaults.get("temperature", DEFAULT_TEMPERATURE)
    if max_tokens is None:
        max_tokens = defaults.get("max_tokens")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise ValidationError(f"temperature must be a number, not {type(temperature).__name__}")
    if not 0 <= temperature <= MAX_TEMPERATURE:
        raise ValidationError(f"temperature must be from 0 to {MAX_TEMPERATURE}")
    if max_tokens is not None and (type(max_tokens) is not int or max_tokens < 1):
        raise ValidationError(f"max_tokens must be a whole number of at least 1, not {max_tokens!r}")
    return {**defaults, **extra, "temperature": temperature, "max_tokens": max_tokens}
