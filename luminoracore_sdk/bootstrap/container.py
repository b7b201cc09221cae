"""The container: every part made once, in order, and replaceable in tests."""

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from dependency_injector import containers, providers

from luminoracore_sdk.adapters.clock import SystemClock, UuidFactory
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.notation.choice import default_notations
from luminoracore_sdk.adapters.providers.registry import ProviderFactory
from luminoracore_sdk.adapters.tokens.choice import default_token_counter
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.bootstrap.config import Settings, StorageConfig
from luminoracore_sdk.bootstrap.factory import create_storage
from luminoracore_sdk.bootstrap.managers import ConversationManager, MemoryManager, SessionManager

__all__ = ["Container", "make_container", "running"]


async def _run(storage: SessionStorage, sessions: SessionManager) -> AsyncIterator[SessionManager]:
    await storage.open()
    try:
        yield sessions
    finally:
        try:
            await sessions.close()
        finally:
            await storage.close()


class Container(containers.DeclarativeContainer):
    """Wires the package from ``settings``.

    ``settings`` is a ``Settings``; each other provider may be overridden:
    ``with container.storage.override(providers.Object(fake)): ...``.
    """

    settings: providers.Provider[Settings] = providers.Singleton(Settings)
    clock: providers.Provider[Any] = providers.Singleton(SystemClock)
    ids: providers.Provider[Any] = providers.Singleton(UuidFactory)
    codec: providers.Provider[Any] = providers.Singleton(JsonEntityCodec)
    tokens: providers.Provider[Any] = providers.Singleton(default_token_counter)
    notations: providers.Provider[Any] = providers.Singleton(default_notations)
    provider_registry: providers.Provider[Any] = providers.Singleton(ProviderFactory)
    services: providers.Provider[Services] = providers.Singleton(
        Services,
        codec=codec,
        clock=clock,
        ids=ids,
        tokens=tokens,
        notations=notations,
        providers=provider_registry,
    )
    storage: providers.Provider[SessionStorage] = providers.Singleton(
        create_storage, config=settings.provided.storage, clock=clock
    )
    conversations: providers.Provider[ConversationManager] = providers.Singleton(
        ConversationManager,
        max_history=settings.provided.max_history,
        storage=storage,
        services=services,
    )
    memories: providers.Provider[MemoryManager] = providers.Singleton(
        MemoryManager, config=settings.provided.memory, storage=storage, services=services
    )
    sessions: providers.Provider[SessionManager] = providers.Singleton(
        SessionManager,
        storage=storage,
        memory_config=settings.provided.memory,
        max_history=settings.provided.max_history,
        services=services,
    )
    lifecycle: providers.Provider[Any] = providers.Resource(_run, storage=storage, sessions=sessions)


def make_container(
    settings: Settings | StorageConfig | Mapping[str, Any] | str | None = None,
) -> Container:
    """Return a container.

    Args:
        settings: Settings, a StorageConfig, a mapping (storage, memory, max_history), a store's URL, or
            None for the environment.

    Raises:
        ConfigurationError: Or ValidationError: it cannot work.
    """
    if settings is None:
        settings = Settings.from_environment()
    elif isinstance(settings, StorageConfig | str):
        settings = Settings(storage=settings)
    elif not isinstance(settings, Settings):
        settings = Settings.from_mapping(settings)
    container = Container()
    container.settings.override(providers.Object(settings))
    return container


@asynccontextmanager
async def running(container: Container) -> AsyncIterator[SessionManager]:
    """Open the storage, lend the SessionManager, and close providers and storage in that order."""
    await _done(container.init_resources())
    try:
        yield container.sessions()
    finally:
        await _done(container.shutdown_resources())


async def _done(call: Awaitable[None] | None) -> None:
    if call is not None:
        await call
