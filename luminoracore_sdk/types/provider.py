"""Types of the model providers: the documented names."""

from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig

__all__ = ["ChatMessage", "ChatResponse", "ProviderConfig"]
