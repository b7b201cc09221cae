"""The base of providers that are reached by HTTP: calls, key, one client per event loop, errors."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, ClassVar

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.providers.bodies import bounded_client
from luminoracore_sdk.adapters.providers.clients import LoopClients
from luminoracore_sdk.adapters.providers.credentials import checked_key, with_environment_key
from luminoracore_sdk.adapters.providers.errors import Peer, translated_errors
from luminoracore_sdk.adapters.providers.presets import Preset
from luminoracore_sdk.adapters.providers.reading import StreamReading
from luminoracore_sdk.adapters.providers.redaction import Secrets, guard_logs
from luminoracore_sdk.adapters.providers.settings import HttpSettings
from luminoracore_sdk.adapters.providers.wire import plain_object, storable
from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.domain.chat import ChatMessage, ChatResponse, ProviderConfig
from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.domain.json_value import JSONObject

__all__ = ["HttpProvider", "with_dropped"]

_EVENTS_AT_A_TIME = 8
"""Events of a stream after which other tasks run; some servers send hundreds at once."""


class HttpProvider(BaseProvider):
    """Call a model provider through a client package that speaks HTTP.

    ``chat`` and ``stream_chat`` are implemented here; a protocol implements the abstract methods.

    One client per event loop is created at its first use; see ``LoopClients``.

    Args:
        config: Without a key, ``<NAME>_API_KEY`` is used.
        settings: Read from ``extra`` by the subclass.

    Raises:
        ProviderAuthenticationError: A required key is missing.
        MissingDependencyError: The client package is not installed.
        ProviderError: Another setting is wrong.
    """

    package: ClassVar[str]
    """The client package, and the extra of this package that installs it."""

    def __init__(self, config: ProviderConfig, settings: HttpSettings) -> None:
        super().__init__(with_environment_key(config))
        self._http_settings = settings
        self._preset = self.find_preset(self.config.name)
        self._secrets = Secrets(self.config)
        self._key = checked_key(self.config, self._preset)
        base_url = self.config.base_url or self._preset.base_url
        if base_url is None:
            raise ProviderError(f"{self.config.name} has no default address: give 'base_url'")
        self._base_url = base_url
        self._model = self.config.model or self.get_default_model()
        self._driver = import_extra(self.package, needed_by=type(self).__name__, extra=self.package)
        self._without_temperature: set[str] = set()
        self._clients = LoopClients[Any](self._new_client, lambda client: client.close())

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.config.name!r}, model={self._model!r})"

    @classmethod
    @abstractmethod
    def find_preset(cls, name: str) -> Preset:
        """Return the default settings of the provider with that name."""

    @abstractmethod
    def _make_client(self, driver: ModuleType, **common: Any) -> Any:
        """Return a new client of the package.

        Args:
            driver: The package.
            **common: Constructor arguments that are the same for every package.
        """

    @abstractmethod
    def _request(
        self, messages: list[ChatMessage], temperature: float, max_tokens: int | None, **kwargs: Any
    ) -> dict[str, Any]:
        """Return the arguments of the API call, except ``stream``; ``kwargs`` take precedence.

        Raises:
            ProviderError: The protocol cannot express a message.
        """

    @abstractmethod
    async def _create(self, client: Any, request: dict[str, Any]) -> Any:
        """Call the API; ``request["stream"]`` selects the kind of answer."""

    @abstractmethod
    def _answer(self, answer: JSONObject) -> ChatResponse:
        """Return a complete answer as a ``ChatResponse``.

        Raises:
            ProviderResponseError: The answer does not follow the protocol.
        """

    @abstractmethod
    def _reading(self) -> StreamReading:
        """Return the reader of one streamed answer."""

    async def chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> ChatResponse:
        """Return the complete answer; see ``BaseProvider.chat``."""
        request = self._request(messages, temperature, max_tokens, **kwargs) | {"stream": False}
        name = self.config.name
        with self._errors():
            sent, dropped = await self._call(request)
            response = storable(self._answer(plain_object(sent, provider=name)), provider=name)
        return with_dropped(response, dropped)

    async def stream_chat(
        self,
        messages: list[ChatMessage],
        temperature: float = 0.7,
        max_tokens: int | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatResponse]:
        """Yield the answer in deltas; see ``BaseProvider.stream_chat``.

        The last delta has the usage, if the server reports it, and the complete tool calls.
        """
        request = self._request(messages, temperature, max_tokens, **kwargs) | {"stream": True}
        with self._errors():
            stream, dropped = await self._call(request)
        reading = self._reading()
        with self._errors(streaming=True):
            async with stream:
                number = 0
                async for event in stream:
                    number += 1
                    if not number % _EVENTS_AT_A_TIME:  # many events may have come in one piece
                        await asyncio.sleep(0)
                    delta = reading.take(event)
                    if delta is not None:
                        yield delta
                yield with_dropped(reading.last(stream.response), dropped)

    async def _call(self, request: dict[str, Any]) -> tuple[Any, list[str]]:
        """Call the API; a model that refuses ``temperature`` is called without it, from then on."""
        model = str(request.get("model"))
        if model in self._without_temperature:
            request.pop("temperature", None)
        client = await self._clients.get()
        try:
            answer = await self._create(client, request)
        except self._driver.BadRequestError as exc:
            if "temperature" not in request or not _refuses(exc, "temperature"):
                raise
            self._without_temperature.add(model)
            answer = await self._create(client, {key: item for key, item in request.items() if key != "temperature"})
            return answer, ["temperature"]
        return answer, [] if self._sends_temperature(request) else ["temperature"]

    def _sends_temperature(self, request: dict[str, Any]) -> bool:
        """Whether the temperature is part of a request."""
        return "temperature" in request

    def get_default_model(self) -> str:
        """Return the model that is used when the configuration names none.

        Raises:
            ProviderError: The provider has no default model.
        """
        if self._preset.model is None:
            raise ProviderError(f"{self.config.name} has no default model: give 'model'")
        return self._preset.model

    async def close(self) -> None:
        """Close the client of the running event loop; the next call creates a new one."""
        await self._clients.close()

    def _new_client(self) -> Any:
        guard_logs()
        return self._make_client(self._driver, **self._client_arguments())

    def _client_arguments(self) -> dict[str, Any]:
        timeout = self._http_settings.timeout
        return {
            "base_url": self._base_url,
            "timeout": timeout,
            "max_retries": self._http_settings.max_retries,
            # a redirect would send custom headers, which may hold keys, to another host
            "http_client": bounded_client(
                self._driver.DefaultAsyncHttpxClient,
                max_answer_bytes=self._http_settings.max_answer_bytes,
                provider=self.config.name,
                timeout=timeout,
                follow_redirects=False,
            ),
        }

    def _errors(self, *, streaming: bool = False) -> AbstractContextManager[None]:
        peer = Peer(name=self.config.name, base_url=self._base_url)
        return translated_errors(self._driver, peer, self._secrets, streaming=streaming)


def _refuses(exc: Any, parameter: str) -> bool:
    """Whether a server refuses a request because of one parameter."""
    body: JSONObject = exc.body if isinstance(exc.body, dict) else {}
    error = body.get("error")
    inner: JSONObject = error if isinstance(error, dict) else body
    if inner.get("param") == parameter:
        return True
    message = inner.get("message")
    return isinstance(message, str) and f"'{parameter}'" in message and "support" in message


def with_dropped(response: ChatResponse, dropped: list[str]) -> ChatResponse:
    """Return a response that says which parameters its model did not get."""
    if not dropped:
        return response
    return attrs.evolve(response, provider_metadata={**response.provider_metadata, "dropped": dropped})
