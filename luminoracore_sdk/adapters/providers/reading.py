"""Reads a streamed answer: what is known of it while its events come in."""

from abc import ABC, abstractmethod
from typing import Any

from luminoracore_sdk.adapters.providers.wire import plain_object, storable
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.errors import ProviderResponseError, ProviderStreamError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["StreamReading"]


class StreamReading(ABC):
    """One answer; a protocol writes ``_note``, ``_is_whole`` and ``_end``."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._events = 0

    def take(self, event: Any) -> ChatResponse | None:
        """Note one event; return a delta if it brought text.

        Raises:
            ProviderResponseError: The protocol has no such event.
        """
        self._events += 1
        return self._note(plain_object(event, provider=self._provider))

    def last(self, response: Any) -> ChatResponse:
        """Return the delta that ends the answer.

        Args:
            response: The HTTP response that the events came in.

        Raises:
            ProviderStreamError: The stream ended before the answer did.
            ProviderResponseError: It was no stream of events, or holds what no store could keep.
        """
        if self._is_whole():
            return storable(self._end(), provider=self._provider)
        if not self._events and "event-stream" not in response.headers.get("content-type", ""):
            raise ProviderResponseError(f"{self._provider} sent something else than a stream of events")
        raise ProviderStreamError(f"{self._provider}: the stream ended before the answer did")

    @abstractmethod
    def _note(self, event: JSONObject) -> ChatResponse | None:
        """Note one event; return a delta if it brought text."""

    @abstractmethod
    def _is_whole(self) -> bool:
        """Tell whether the answer has ended."""

    @abstractmethod
    def _end(self) -> ChatResponse:
        """Return the last delta: no text; finish reason, usage, whole tool calls."""
