"""Providers in use, shared by sessions of the same configuration."""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable, Iterable
from contextlib import asynccontextmanager

import attrs

from luminoracore_sdk.application.ports.provider import BaseProvider, ProviderRegistry
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.json_value import JSONValue

__all__ = ["ProviderPool"]

logger = logging.getLogger(__name__)


@attrs.define
class _Entry:
    provider: BaseProvider
    users: int = 0


class ProviderPool:
    """Makes a provider for each configuration once; lets the least used idle ones go above ``size``.

    Args:
        registry: Makes them.
        size: Most idle providers kept, each with its connections.
    """

    def __init__(self, registry: ProviderRegistry, *, size: int = 64) -> None:
        self._registry = registry
        self._size = size
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def model_of(self, config: ProviderConfig) -> str:
        """Make the provider of a configuration, so that a wrong one is refused now; return its model.

        Raises:
            ProviderError: Unknown name, missing key or wrong setting.
        """
        if config.model is None:  # not pooled: whoever asks goes on with the model filled in
            return self._registry.create_provider(config).get_default_model()
        self._entry(config)
        return config.model

    def _entry(self, config: ProviderConfig) -> _Entry:
        key = _identity(config)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(self._registry.create_provider(config))
        self._entries.move_to_end(key)
        return entry

    @asynccontextmanager
    async def lease(self, config: ProviderConfig) -> AsyncIterator[BaseProvider]:
        """Lend the provider of a configuration; it is not closed meanwhile.

        Raises:
            ProviderError: Unknown name, missing key or wrong setting.
        """
        entry = self._entry(config)
        entry.users += 1
        try:
            yield entry.provider
        finally:
            entry.users -= 1
            await self._close(self._surplus())

    def _surplus(self) -> list[_Entry]:
        """Take out the least used idle entries above the size; nobody can be lent them any more."""
        idle = [key for key, entry in self._entries.items() if entry.users == 0]
        surplus = idle[: max(0, len(self._entries) - self._size)]
        return [self._entries.pop(key) for key in surplus]

    @staticmethod
    async def _close(entries: Iterable[_Entry]) -> None:
        for entry in entries:
            try:
                await entry.provider.close()
            except Exception as exc:  # noqa: BLE001  # the others must be closed too
                logger.warning("a provider failed to close: %s", type(exc).__name__)

    async def close(self) -> None:
        """Close every provider; what one of them raises is logged."""
        entries = list(self._entries.values())
        self._entries.clear()
        await self._close(entries)


def _identity(config: ProviderConfig) -> Hashable:
    return (config.name, config.api_key, config.model, config.base_url, _frozen(config.extra))


def _frozen(value: JSONValue) -> Hashable:
    if isinstance(value, dict):
        return tuple((key, _frozen(item)) for key, item in value.items())
    if isinstance(value, list):
        return ("list", *map(_frozen, value))
    return (type(value).__name__, value)
