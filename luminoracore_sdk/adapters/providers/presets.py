"""Default settings of the built-in providers, verified in November 2026."""

from enum import Enum
from types import MappingProxyType

import attrs

from luminoracore_sdk.domain.chat import ProviderConfig

__all__ = ["ANTHROPIC", "OPENAI_COMPATIBLE", "KeyRule", "Preset", "provider_key"]


class KeyRule(Enum):
    """When a provider needs a key."""

    ALWAYS = "always"
    HOSTED = "unless base_url is given"
    """Needed at the provider's own address, optional for another server."""
    NEVER = "never"
    """Optional."""


@attrs.frozen(kw_only=True)
class Preset:
    """Default settings of a provider.

    Attributes:
        base_url: Its address; None: the configuration must give one.
        model: The default model; None: the configuration must name one.
        key: When a key is needed.
        stream_usage: Whether it accepts ``stream_options``, which make it count the tokens of a stream.
    """

    base_url: str | None = None
    model: str | None = None
    key: KeyRule = KeyRule.ALWAYS
    stream_usage: bool = True

    def needs_key(self, config: ProviderConfig) -> bool:
        """Return whether a configuration needs a key."""
        if self.key is KeyRule.HOSTED:
            return config.base_url is None
        return self.key is KeyRule.ALWAYS


_GEMINI = Preset(base_url="https://generativelanguage.googleapis.com/v1beta/openai/", model="gemini-3.6-flash")

OPENAI_COMPATIBLE = MappingProxyType(
    {
        "openai": Preset(base_url="https://api.openai.com/v1", model="gpt-6-luna"),
        "deepseek": Preset(base_url="https://api.deepseek.com", model="deepseek-v4-flash"),
        "gemini": _GEMINI,
        "google": _GEMINI,
        "groq": Preset(base_url="https://api.groq.com/openai/v1", model="openai/gpt-oss-120b"),
        "llama": Preset(
            base_url="https://api.llama.com/compat/v1",
            model="Llama-3.3-8B-Instruct",
            key=KeyRule.HOSTED,
            stream_usage=False,
        ),
        "mistral": Preset(
            base_url="https://api.mistral.ai/v1", model="mistral-small-latest", stream_usage=False
        ),  # counts without being asked
        "ollama": Preset(base_url="http://localhost:11434/v1", model="llama3.2", key=KeyRule.NEVER),
        "openrouter": Preset(base_url="https://openrouter.ai/api/v1", model="openrouter/auto"),
        "vllm": Preset(base_url="http://localhost:8000/v1", key=KeyRule.NEVER),  # no default model
    }
)
"""Servers of OpenAI's chat completions protocol, by name."""

ANTHROPIC = Preset(base_url="https://api.anthropic.com", model="claude-sonnet-5-5")


def provider_key(name: str) -> str:
    """Return a provider's name in its normal form: stripped and in lower case."""
    return name.strip().lower()
