"""The provider port: a service that runs a model."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Protocol

from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.vendors import VendorRules, rules_of

__all__ = ["BaseProvider", "ProviderRegistry"]


class BaseProvider(ABC):
    """A provider with one configuration; the base class of custom providers.

    Args:
        config: The configuration. The constructor validates it, raising ``ProviderError``, and opens no
            connection.
    """

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config

    @property
    def rules(self) -> VendorRules:
        """What the provider accepts in a prompt; those of OpenAI unless a class says otherwise."""
        return rules_of(self.config.name)

    @abstractmethod
    def get_default_model(self) -> str:
        """Return the model that is used if the configuration names none."""

    @abstractmethod
    async def chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> ChatResponse:
        """Return the whole answer.

        Args:
            messages: The prompt, in order.
            temperature: The sampling temperature, 0..2; its meaning is the provider's.
            max_tokens: The largest length of the answer; None: the provider's default.
            **kwargs: Passed to the provider's API unchanged.

        Raises:
            ProviderError: The provider did not answer; nothing of the turn is stored.
        """

    @abstractmethod
    def stream_chat(
        self, messages: list[ChatMessage], temperature: float = 0.7, max_tokens: int | None = None, **kwargs: Any
    ) -> AsyncIterator[ChatResponse]:
        """Yield the answer in deltas; arguments and errors are those of ``chat``.

        Implementations are async generators. The last delta has a ``finish_reason``; a stream that ends
        without one raises ``ProviderStreamError`` if the protocol has one.
        """

    async def close(self) -> None:
        """Close connections; may be called twice. Does nothing by default."""
        return


class ProviderRegistry(Protocol):
    """Creates providers by name."""

    def needs_key(self, config: ProviderConfig) -> bool:
        """Return whether the provider of a configuration needs a key; True if that is not known.

        Raises:
            ProviderError: Unknown name.
        """
        ...

    def create_provider(self, config: ProviderConfig) -> BaseProvider:
        """Return a provider for a configuration.

        Raises:
            ProviderError: Unknown name, missing key or invalid setting.
        """
        ...
