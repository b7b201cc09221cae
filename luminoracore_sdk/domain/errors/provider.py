"""Errors of model providers and of the network to them."""

from luminoracore_sdk.domain.errors.base import LuminoraCoreSDKError

__all__ = [
    "AuthenticationError",
    "NetworkError",
    "ProviderAuthenticationError",
    "ProviderConnectionError",
    "ProviderError",
    "ProviderRateLimitError",
    "ProviderResponseError",
    "ProviderStreamError",
    "ProviderTimeoutError",
    "RateLimitError",
]


class NetworkError(LuminoraCoreSDKError):
    """A connection failed."""


class AuthenticationError(LuminoraCoreSDKError):
    """Credentials were refused."""


class RateLimitError(LuminoraCoreSDKError):
    """Too many requests."""


class ProviderError(LuminoraCoreSDKError):
    """The model provider could not be created or did not answer; the conversation is unchanged."""


class ProviderAuthenticationError(ProviderError, AuthenticationError):
    """The provider refused the key (401, 403), or no key was found."""


class ProviderRateLimitError(ProviderError, RateLimitError):
    """The provider refused the request for now (429), after the client's own retries."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, details={"retry_after": retry_after})
        self.retry_after = retry_after


class ProviderConnectionError(ProviderError, NetworkError):
    """The provider could not be reached, or answered 5xx, after the client's own retries."""


class ProviderTimeoutError(ProviderConnectionError, TimeoutError):
    """The provider did not answer within the time limit."""


class ProviderResponseError(ProviderError):
    """The provider's answer violates its protocol."""


class ProviderStreamError(ProviderError, NetworkError):
    """A streamed answer ended early; nothing of it was stored."""
