"""Provider instances, shared by sessions with equal configurations; API keys are kept in memory only."""

import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs

from luminoracore_sdk.application.ports.provider import BaseProvider, ProviderRegistry
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import ProviderAuthenticationError, ProviderError
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.vendors import VendorRules

__all__ = ["ProviderPool", "SessionProviders"]


logger = logging.getLogger(__name__)


@attrs.define
class _Entry:
    provider: BaseProvider
    users: int = 0


class ProviderPool:
    """Creates one provider per configuration; closes the least recently used idle ones above ``size``.

    Args:
        registry: Creates providers.
        size: Number of providers kept, each with its connections; those in use may exceed it.
    """

    def __init__(self, registry: ProviderRegistry, *, size: int = 64) -> None:
        self._registry = registry
        self._size = size
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def model_of(self, config: ProviderConfig) -> str:
        """Return the model of a configuration; create its provider, which validates the configuration.

        Raises:
            ProviderError: Unknown name, missing key or invalid setting.
        """
        if config.model is None:  # not pooled: the caller continues with the model filled in
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

    def rules_of(self, config: ProviderConfig) -> VendorRules:
        """Return what the provider of a configuration accepts in a prompt.

        Raises:
            ProviderError: Unknown name, missing key or invalid setting.
        """
        return self._entry(config).provider.rules

    @asynccontextmanager
    async def lease(self, config: ProviderConfig) -> AsyncIterator[BaseProvider]:
        """Yield the provider of a configuration, which stays open within the block.

        Raises:
            ProviderError: Unknown name, missing key or invalid setting.
        """
        entry = self._entry(config)
        entry.users += 1
        try:
            yield entry.provider
        finally:
            entry.users -= 1
            await self._close(self._surplus())

    def _surplus(self) -> list[_Entry]:
        """Remove and return the least recently used idle entries above the size."""
        idle = [key for key, entry in self._entries.items() if entry.users == 0]
        surplus = idle[: max(0, len(self._entries) - self._size)]
        return [self._entries.pop(key) for key in surplus]

    @staticmethod
    async def _close(entries: Iterable[_Entry]) -> None:
        for entry in entries:
            try:
                await entry.provider.close()
            except Exception as exc:  # noqa: BLE001  # the other providers must be closed too
                logger.warning("a provider failed to close: %s", type(exc).__name__)

    async def close(self) -> None:
        """Close every provider; log errors."""
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


_NO_KEY = "none"
"""Is sent to a server that needs no key; without it the registry would take the key of the environment."""


def _for_another_server(known: ProviderConfig, override: ProviderConfig, *, needs_key: bool) -> ProviderConfig:
    """Return what is known without keys, headers and secrets, which are meant for the session's own server."""
    if override.api_key is None and needs_key:
        raise ProviderAuthenticationError(
            f"{known.name}: a call with a 'base_url' of its own needs an 'api_key' of its own; "
            "the session's key is not sent to another server"
        )
    extra = {key: value for key, value in known.public()["extra"].items() if key != "headers"}
    return attrs.evolve(known, api_key=_NO_KEY, extra=extra)


class SessionProviders:
    """Leases the providers of sessions; keeps API keys that were passed in, in memory only.

    Args:
        registry: Creates providers.
    """

    def __init__(self, registry: ProviderRegistry) -> None:
        self._registry = registry
        self._pool = ProviderPool(registry)
        self._passed: dict[str, ProviderConfig] = {}

    def checked(self, config: Mapping[str, Any] | ProviderConfig | None) -> ProviderConfig:
        """Return a validated configuration with its model filled in.

        Raises:
            ProviderError: The provider cannot be created.
        """
        known = config if isinstance(config, ProviderConfig) else ProviderConfig.from_dict(config)
        model = self._pool.model_of(known)
        return known if known.model else attrs.evolve(known, model=model)

    def remember(self, session_id: str, config: ProviderConfig) -> None:
        """Use this configuration for a session from now on, if it has secrets, which are not stored."""
        if config.secrets():
            self._passed[session_id] = config

    def reattach(self, session: Session, config: Mapping[str, Any] | ProviderConfig) -> None:
        """Use a configuration with its key for a resumed session; fields it omits stay as stored.

        Raises:
            ProviderError: It is invalid, or names another provider than the session's.
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

    def share(self, session_id: str, other_id: str) -> None:
        """Use what was passed in for one session for another one too, unless that has something of its own."""
        if (passed := self._passed.get(session_id)) is not None:
            self._passed.setdefault(other_id, passed)

    def forget(self, session_id: str) -> None:
        """Drop the configuration of a session."""
        self._passed.pop(session_id, None)

    def rules(self, session: Session, passed: Mapping[str, Any] | ProviderConfig | None = None) -> VendorRules:
        """Return what the provider of a session accepts in a prompt.

        Raises:
            ProviderError: The session has none, or it cannot be created (for example without a key).
        """
        return self._pool.rules_of(self._config(session, passed))

    @asynccontextmanager
    async def lease(
        self, session: Session, passed: Mapping[str, Any] | ProviderConfig | None = None
    ) -> AsyncIterator[BaseProvider]:
        """Yield the provider of a session.

        Args:
            session: The session.
            passed: Fields that count for this call alone, such as ``api_key``. No known key, header or secret
                goes to a ``base_url`` that is named here and is not the session's, nor does the key of the
                environment: it needs an ``api_key`` here too, unless the provider works without one.

        Raises:
            ProviderAuthenticationError: ``passed`` has another ``base_url`` and no ``api_key``, which is needed.
            ProviderError: The session has none, or it cannot be created (for example without a key).
        """
        async with self._pool.lease(self._config(session, passed)) as provider:
            yield provider

    def _config(self, session: Session, passed: Mapping[str, Any] | ProviderConfig | None) -> ProviderConfig:
        if session.provider is None:
            raise ProviderError("this conversation has no provider; create it with create_session")
        known = self._passed.get(session.session_id) or ProviderConfig.from_dict(session.provider)
        if passed is None:
            return known
        if isinstance(passed, ProviderConfig):
            passed = {field.name: getattr(passed, field.name) for field in attrs.fields(ProviderConfig)}
        fields = {"name": known.name, **passed} if isinstance(passed, Mapping) else passed
        override = ProviderConfig.from_dict(fields)
        if override.name != known.name:
            raise ProviderError(
                f"the session's provider is {known.name!r}, not {override.name!r}; update_provider() changes it"
            )
        if override.base_url and override.base_url.rstrip("/") != (known.base_url or "").rstrip("/"):
            known = _for_another_server(known, override, needs_key=self._registry.needs_key(override))
        return attrs.evolve(
            override,
            api_key=override.api_key or known.api_key,
            model=override.model or known.model,
            base_url=override.base_url or known.base_url,
            extra={**known.extra, **override.extra},
        )

    async def close(self) -> None:
        """Close every provider."""
        await self._pool.close()
