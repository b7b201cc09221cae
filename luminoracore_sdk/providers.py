"""Model providers: the documented names."""

from luminoracore_sdk.adapters.providers.anthropic import AnthropicProvider
from luminoracore_sdk.adapters.providers.echo import EchoProvider
from luminoracore_sdk.adapters.providers.openai_compatible import OpenAIProvider
from luminoracore_sdk.adapters.providers.presets import KeyRule, Preset
from luminoracore_sdk.adapters.providers.registry import ProviderFactory
from luminoracore_sdk.adapters.providers.vendor_apis import PydanticAIProvider
from luminoracore_sdk.application.ports.provider import BaseProvider, ProviderRegistry

__all__ = [
    "AnthropicProvider",
    "BaseProvider",
    "EchoProvider",
    "KeyRule",
    "OpenAIProvider",
    "Preset",
    "ProviderFactory",
    "ProviderRegistry",
    "PydanticAIProvider",
]
