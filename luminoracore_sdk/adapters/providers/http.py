"""What the providers behind HTTP share: settings, the key, one client an event loop, errors."""

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar

from luminoracore_sdk.adapters.providers.credentials import checked_key, with_environment_key
from luminoracore_sdk.adapters.providers.errors import translated_errors
from luminoracore_sdk.adapters.providers.presets import Preset
from luminoracore_sdk.adapters.providers.redaction import Secrets, guard_logs
from luminoracore_sdk.application.ports.provider import BaseProvider
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import MissingDependencyError, ProviderError

__all__ = ["HttpProvider"]


class HttpProvider(BaseProvider):
    """A provider reached through a client package that speaks HTTP.

    The client is made on first use, one for each event loop, and closed with its loop: by ``close``,
    else when the loop ends (``asyncio.run`` does that). So one provider may serve several loops, one
    after the other or in several threads.

    Args:
        config: How to reach it; without a key it takes ``<NAME>_API_KEY``.
    Raises:
        ProviderAuthenticationError: A key is needed and there is none.
        MissingDependencyError: The client package is not installed.
        ProviderError: Any other wrong setting.
    """

    package: ClassVar[str]
    """The client package, which is also the name of our extra."""

    def __init__(self, config: ProviderConfig) -> None:
        super().__init__(with_environment_key(config))
        self._preset = self.find_preset(self.config.name)
        self._secrets = Secrets(self.config)
        self._key = checked_key(self.config, self._preset)
        self._base_url = self.config.base_url or self._preset.base_url
        if self._base_url is None:
            raise ProviderError(f"{self.config.name} has no address of its own: give 'base_url'")
        self._model = self.config.model or self.get_default_model()
        self._driver = _load(self.package, needed_by=type(self).__name__)
        self._clients: dict[asyncio.AbstractEventLoop, tuple[Any, AsyncGenerator[None]]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(name={self.config.name!r}, model={self._model!r})"

    @classmethod
    @abstractmethod
    def find_preset(cls, name: str) -> Preset:
        """Return how the provider of that name is reached by default."""

    @abstractmethod
    def _make_client(self, driver: ModuleType) -> Any:
        """Return a new client of the package."""

    def get_default_model(self) -> str:
        """Return the model used when the configuration names none.

        Raises:
            ProviderError: The server has none: it serves what it was started with.
        """
        if self._preset.model is None:
            raise ProviderError(f"{self.config.name} has no default model: give 'model'")
        return self._preset.model

    async def close(self) -> None:
        """Close the client of this event loop; the next call makes a new one."""
        self._forget_ended_loops()
        _, closing = self._clients.pop(asyncio.get_running_loop(), (None, None))
        if closing is not None:
            await closing.aclose()

    async def _client(self) -> Any:
        self._forget_ended_loops()
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            guard_logs()
            client = self._make_client(self._driver)
            closing = _close_at_end(client)
            self._clients[loop] = client, closing
            await anext(closing)
        return self._clients[loop][0]

    def _forget_ended_loops(self) -> None:
        for loop in [loop for loop in self._clients if loop.is_closed()]:
            self._clients.pop(loop, None)

    def _errors(self, *, streaming: bool = False) -> AbstractContextManager[None]:
        return translated_errors(self._driver, self.config.name, self._secrets, streaming=streaming)


async def _close_at_end(client: Any) -> AsyncGenerator[None]:
    """Close a client when this generator is closed.

    An event loop closes the generators that were started on it before it ends (PEP 525,
    ``loop.shutdown_asyncgens``), which is the last moment at which the client can close its sockets.
    """
    try:
        yield
    finally:
        await client.close()


def _load(package: str, *, needed_by: str) -> ModuleType:
    try:
        return import_module(package)
    except ImportError as exc:
        raise MissingDependencyError(needed_by, package) from exc
