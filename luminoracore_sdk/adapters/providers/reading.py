"""The base of readers of streamed answers."""

from abc import ABC, abstractmethod
from typing import Any

from luminoracore_sdk.adapters.providers.wire import plain_object, storable
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.errors import ProviderResponseError, ProviderStreamError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["StreamReading"]


class StreamReading(ABC):
    """Read one streamed answer; a protocol implements ``_note``, ``_is_whole`` and ``_end``."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._events = 0

    def take(self, event: Any) -> ChatResponse | None:
        """Read one event; return a delta if it holds text.

        Raises:
            ProviderResponseError: The event does not follow the protocol.
        """
        self._events += 1
        return self._note(plain_object(event, provider=self._provider))

    def last(self, response: Any) -> ChatResponse:
        """Return the delta that ends the answer.

        Args:
            response: The HTTP response of the events.

        Raises:
            ProviderStreamError: The stream ended before the answer did.
            ProviderResponseError: It was no event stream, or holds values that are not JSON.
        """
        if self._is_whole():
            return storable(self._end(), provider=self._provider)
        if not self._events and "event-stream" not in response.headers.get("content-type", ""):
            raise ProviderResponseError(f"{self._provider} did not send an event stream")
        raise ProviderStreamError(f"{self._provider}: the stream ended before the answer did")

    @abstractmethod
    def _note(self, event: JSONObject) -> ChatResponse | None:
        """Read one event; return a delta if it holds text."""

    @abstractmethod
    def _is_whole(self) -> bool:
        """Tell whether the answer is complete."""

    @abstractmethod
    def _end(self) -> ChatResponse:
        """Return the last delta, without text: finish reason, usage, complete tool calls."""
