"""A provider's key: from the configuration, else from ``<NAME>_API_KEY``."""

import os
import re

import attrs

from luminoracore_sdk.adapters.providers.presets import Preset, provider_key
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import ProviderAuthenticationError

__all__ = ["api_key_variable", "checked_key", "with_environment_key"]

_VISIBLE_ASCII = re.compile(r"[!-~]+")


def api_key_variable(name: str) -> str:
    """Return the name of the environment variable for a provider's key, for example ``OPENAI_API_KEY``."""
    return f"{re.sub('[^A-Z0-9]', '_', provider_key(name).upper())}_API_KEY"


def with_environment_key(config: ProviderConfig) -> ProviderConfig:
    """Return the configuration with the key of the environment, if it has no key and one is set."""
    key = os.environ.get(api_key_variable(config.name), "").strip()
    return attrs.evolve(config, api_key=key) if key and config.api_key is None else config


def checked_key(config: ProviderConfig, preset: Preset) -> str | None:
    """Return the key, or None if none is needed.

    Raises:
        ProviderAuthenticationError: A required key is missing, or the key does not fit into an HTTP header: the
            HTTP client would quote it in its own error.
    """
    if config.api_key is None:
        if preset.needs_key(config):
            raise ProviderAuthenticationError(
                f"{config.name} needs a key: set {api_key_variable(config.name)}, or pass 'api_key' in provider_config"
            )
        return None
    if not _VISIBLE_ASCII.fullmatch(config.api_key):
        raise ProviderAuthenticationError(
            f"the key for {config.name} contains characters that no key has (blank, line end, not ASCII)"
        )
    return config.api_key
