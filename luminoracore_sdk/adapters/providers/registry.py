"""Creation of model providers by name: built-in and registered ones."""

import inspect
from types import MappingProxyType
from typing import Any, ClassVar

from luminoracore_sdk.adapters.providers.anthropic import AnthropicProvider
from luminoracore_sdk.adapters.providers.credentials import api_key_variable, with_environment_key
from luminoracore_sdk.adapters.providers.echo import EchoProvider
from luminoracore_sdk.adapters.providers.http import HttpProvider
from luminoracore_sdk.adapters.providers.openai_compatible import OpenAIProvider
from luminoracore_sdk.adapters.providers.presets import OPENAI_COMPATIBLE, provider_key
from luminoracore_sdk.adapters.providers.redaction import Secrets, scrub_error
from luminoracore_sdk.adapters.providers.vendor_apis import PydanticAIProvider
from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError, ProviderError
from luminoracore_sdk.domain.errors.base import shown
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["ProviderFactory"]

_BUILT_IN: MappingProxyType[str, type[BaseProvider]] = MappingProxyType(
    {
        "echo": EchoProvider,
        "anthropic": AnthropicProvider,
        "pydantic-ai": PydanticAIProvider,
        **dict.fromkeys(OPENAI_COMPATIBLE, OpenAIProvider),
    }
)


class ProviderFactory:
    """Create model providers by name; one registry serves the whole process.

    Every method works on the class and on an instance. Names are case-insensitive.
    """

    _registered: ClassVar[dict[str, type[BaseProvider]]] = {}

    @classmethod
    def register_provider(cls, name: str, provider_class: type[BaseProvider]) -> None:
        """Register a class under a name, replacing the one registered before.

        Raises:
            ProviderError: The name is empty, or the class is no subclass of ``BaseProvider`` or does not
                implement all of its abstract methods.
        """
        if not isinstance(name, str) or not name.strip():
            raise ProviderError("a provider's name must be a non-empty string")
        if not isinstance(provider_class, type) or not issubclass(provider_class, BaseProvider):
            raise ProviderError(f"provider {shown(name)}: its class must be a subclass of BaseProvider")
        if inspect.isabstract(provider_class):
            missing = ", ".join(sorted(provider_class.__abstractmethods__))
            raise ProviderError(f"provider {shown(name)}: {provider_class.__name__} does not implement {missing}")
        cls._registered[provider_key(name)] = provider_class

    @classmethod
    def unregister_provider(cls, name: str) -> bool:
        """Remove a registered class; a built-in class of that name is used again.

        Returns:
            Whether the name was registered. Built-in providers cannot be removed.
        """
        return cls._registered.pop(provider_key(name), None) is not None

    @classmethod
    def get_available_providers(cls) -> list[str]:
        """Return all names, sorted."""
        return sorted({**_BUILT_IN, **cls._registered})

    @classmethod
    def is_provider_available(cls, name: str) -> bool:
        """Return whether a provider has that name; its client package may still be missing."""
        return provider_key(name) in cls.get_available_providers()

    @classmethod
    def get_provider_class(cls, name: str) -> type[BaseProvider]:
        """Return the class of a name.

        Raises:
            ProviderError: The name is unknown; the error lists the available ones.
        """
        key = provider_key(name)
        found = cls._registered.get(key) or _BUILT_IN.get(key)
        if found is None:
            names = ", ".join(cls.get_available_providers())
            raise ProviderError(f"no provider {shown(name)}; available: {names}")
        return found

    @classmethod
    def create_provider(cls, config: ProviderConfig) -> BaseProvider:
        """Return a provider for a configuration, without opening a connection.

        A configuration without a key takes it from ``<NAME>_API_KEY``, if that is set.

        Raises:
            ProviderError: The name is unknown, a setting is wrong, or the class raised an error from outside
                this package, which is chained.
            ProviderAuthenticationError: A required key is missing.
            MissingDependencyError: The client package is not installed.
        """
        found = cls.get_provider_class(config.name)
        config = with_environment_key(config)
        try:
            return found(config)
        except LuminoraCoreSDKError:
            raise
        except Exception as exc:
            scrub_error(exc, Secrets(config))
            raise ProviderError(f"{config.name}: {found.__name__} cannot be created: {type(exc).__name__}") from exc

    @classmethod
    def needs_key(cls, config: ProviderConfig) -> bool:
        """Return whether the provider of a configuration needs a key; True for a class that does not use HttpProvider.

        Raises:
            ProviderError: The name is unknown.
        """
        found = cls.get_provider_class(config.name)
        return not issubclass(found, HttpProvider) or found.find_preset(config.name).needs_key(config)

    @classmethod
    def create_provider_from_dict(cls, data: object) -> BaseProvider:
        """Return a provider for a ``provider_config``; raises what ``create_provider`` raises."""
        return cls.create_provider(ProviderConfig.from_dict(data))

    @classmethod
    def create_provider_from_env(cls, name: str, **kwargs: Any) -> BaseProvider:
        """Return a provider whose key is in the environment; raises what ``create_provider`` raises.

        Args:
            name: A built-in or registered name.
            **kwargs: The other fields of ``ProviderConfig``.
        """
        return cls.create_provider_from_dict({**kwargs, "name": name})

    @classmethod
    def get_provider_info(cls, name: str) -> JSONObject:
        """Return information about a provider as a JSON object.

        Returns:
            ``name``, ``class``, ``api_key_variable``; for built-in HTTP providers also ``package``,
            ``base_url``, ``default_model`` and ``api_key`` (when a key is needed).

        Raises:
            ProviderError: The name is unknown.
        """
        found = cls.get_provider_class(name)
        info: JSONObject = {
            "name": provider_key(name),
            "class": found.__name__,
            "api_key_variable": api_key_variable(name),
        }
        if issubclass(found, HttpProvider):
            preset = found.find_preset(name)
            info |= {
                "package": found.package,
                "base_url": preset.base_url,
                "default_model": preset.model,
                "api_key": preset.key.value,
            }
        return info
