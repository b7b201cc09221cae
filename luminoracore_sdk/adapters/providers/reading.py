"""Reads a streamed answer event by event."""

from abc import ABC, abstractmethod
from typing import Any

from luminoracore_sdk.adapters.providers.wire import plain_object, storable
from luminoracore_sdk.domain.chat import ChatResponse
from luminoracore_sdk.domain.errors import ProviderResponseError, ProviderStreamError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.surrogates import SurrogateJoiner

__all__ = ["StreamReading"]


class StreamReading(ABC):
    """One answer; a protocol implements ``_note``, ``_is_whole`` and ``_end``.

    Args:
        provider: Named in errors.
        accept_unfinished: Whether a stream that ends without a finish reason is an answer.
    """

    def __init__(self, provider: str, *, accept_unfinished: bool = False) -> None:
        self._provider = provider
        self._accept_unfinished = accept_unfinished
        self._events = 0
        self._model: str | None = None
        self._texts = {"content": SurrogateJoiner(), "reasoning": SurrogateJoiner()}
        self._shown = False

    def take(self, event: Any) -> ChatResponse | None:
        """Read one event; return a delta if it brought text.

        Raises:
            ProviderResponseError: The protocol has no such event.
        """
        self._events += 1
        return self._note(plain_object(event, provider=self._provider))

    def last(self, response: Any) -> ChatResponse:
        """Return the delta that ends the answer.

        Args:
            response: The HTTP response that brought the events.

        Raises:
            ProviderStreamError: The stream ended before the answer did.
            ProviderResponseError: It was no event stream, or holds what no store could keep.
        """
        if self._is_whole() or (self._accept_unfinished and self._shown):
            return storable(self._end(), provider=self._provider)
        if not self._events and "event-stream" not in response.headers.get("content-type", ""):
            raise ProviderResponseError(f"{self._provider} did not send an event stream")
        raise ProviderStreamError(f"{self._provider}: the stream ended before the answer did")

    def _delta(self, content: str, reasoning: str = "") -> ChatResponse | None:
        """Return a delta of new texts, without halves of characters; None: nothing can be shown yet."""
        text = self._texts["content"].push(content)
        thought = self._texts["reasoning"].push(reasoning)
        if not text and not thought:
            return None
        self._shown = True
        return ChatResponse(content=text, model=self._model, reasoning=thought or None)

    def _rest(self) -> tuple[str, str | None]:
        """Return content and reasoning that were held back to the end."""
        return self._texts["content"].end(), self._texts["reasoning"].end() or None

    @abstractmethod
    def _note(self, event: JSONObject) -> ChatResponse | None:
        """Read one event; return a delta if it brought text."""

    @abstractmethod
    def _is_whole(self) -> bool:
        """Whether the answer has ended."""

    @abstractmethod
    def _end(self) -> ChatResponse:
        """Return the last delta: finish reason, usage, whole tool calls, and text that was held back."""
