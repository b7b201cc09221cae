"""The provider port: a model that answers."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Protocol

from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.vendors import VendorRules, rules_of

__all__ = ["BaseProvider", "ProviderRegistry"]


class BaseProvider(ABC):
    """One provider, reached with one configuration. A user's own class subclasses this.

    Args:
        config: How to reach it. The constructor checks it and raises ``ProviderError``; it opens no
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
        """Return the model used when the configuration names none."""

    @abstractmethod
    async def chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        """Return the whole answer.

        Args:
            messages: The prompt, in order.
            temperature: 0..2, as the provider reads it.
            max_tokens: Upper bound of the answer; None: the provider's own.
            **kwargs: Handed to the provider's API as they are.

        Raises:
            ProviderError: Or one below it; nothing is kept of the turn.
        """

    @abstractmethod
    def stream_chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatResponse]:
        """Yield the answer in deltas; an async generator. Same arguments and errors as ``chat``.

        The last delta carries ``finish_reason``. A stream that ends without one, where the protocol
        has one, raises ``ProviderStreamError``.
        """

    async def close(self) -> None:
        """Let go of connections; safe to call twice. Nothing by default."""
        return


class ProviderRegistry(Protocol):
    """Makes providers by name."""

    def create_provider(self, config: ProviderConfig) -> BaseProvider:
        """Return a provider for a configuration.

        Raises:
            ProviderError: Unknown name, missing key or wrong setting.
        """
        ...
