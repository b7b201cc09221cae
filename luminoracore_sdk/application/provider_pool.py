"""Providers in use: shared by sessions with equal configuration, with keys that are never stored."""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs

from luminoracore_sdk.application.ports.provider import BaseProvider, ProviderRegistry
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.session import Session

__all__ = [
    "ProviderPool",
    "SessionProviders",
]


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


class SessionProviders:
    """Lends the provider of a session; remembers, in this process only, the keys that callers passed.

    Args:
        registry: Makes providers.
    """

    def __init__(self, registry: ProviderRegistry) -> None:
        self._pool = ProviderPool(registry)
        self._passed: dict[str, ProviderConfig] = {}

    def checked(self, config: Mapping[str, Any] | ProviderConfig | None) -> ProviderConfig:
        """Return a configuration whose provider can be made, with the model that will answer.

        Raises:
            ProviderError: It cannot; the reason says why.
        """
        known = config if isinstance(config, ProviderConfig) else ProviderConfig.from_dict(config)
        model = self._pool.model_of(known)
        return known if known.model else attrs.evolve(known, model=model)

    def remember(self, session_id: str, config: ProviderConfig) -> None:
        """Use this configuration for a session from now on, if it holds anything that is not stored."""
        if config.secrets():
            self._passed[session_id] = config

    def reattach(self, session: Session, config: Mapping[str, Any] | ProviderConfig) -> None:
        """Use a configuration with its key for a resumed session; what it leaves out stays as stored.

        Raises:
            ProviderError: It is wrong, or of another provider than the session's.
        """
        passed = config if isinstance(config, ProviderConfig) else ProviderConfig.from_dict(config)
        stored = session.provider or {}
        if passed.name != stored.get("name"):
            raise ProviderError(
                f"the session's provider is {stored.get('name')!r}, not {passed.name!r}; update_provider() changes it"
            )
        known = attrs.evolve(
            passed,
            model=passed.model or stored["model"],
            base_url=passed.base_url or stored["base_url"],
            extra={**stored["extra"], **passed.extra},
        )
        self._passed[session.session_id] = self.checked(known)

    def forget(self, session_id: str) -> None:
        """Drop what was remembered for a session."""
        self._passed.pop(session_id, None)

    @asynccontextmanager
    async def lease(self, session: Session) -> AsyncIterator[BaseProvider]:
        """Lend the session's provider.

        Raises:
            ProviderError: It has none, or it cannot be made (no key, say).
        """
        if session.provider is None:
            raise ProviderError("this conversation was begun without a provider; create it with create_session")
        known = self._passed.get(session.session_id)
        async with self._pool.lease(known or ProviderConfig.from_dict(session.provider)) as provider:
            yield provider

    async def close(self) -> None:
        """Close every provider."""
        await self._pool.close()
