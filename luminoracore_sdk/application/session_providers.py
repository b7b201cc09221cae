"""Which provider answers for which session, with keys that are never stored."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs

from luminoracore_sdk.application.ports.provider import BaseProvider, ProviderRegistry
from luminoracore_sdk.application.provider_pool import ProviderPool
from luminoracore_sdk.domain.chat import ProviderConfig
from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.domain.session import Session

__all__ = ["SessionProviders"]


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
                f"the session's provider is {stored.get('name')!r}, not {passed.name!r}; "
                "update_provider() changes it"
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
            raise ProviderError(
                "this conversation was begun without a provider; create it with create_session"
            )
        known = self._passed.get(session.session_id)
        async with self._pool.lease(known or ProviderConfig.from_dict(session.provider)) as provider:
            yield provider

    async def close(self) -> None:
        """Close every provider."""
        await self._pool.close()
