"""The container: it creates every part once, in order, and lets tests replace each of them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from dependency_injector import containers, providers

from luminoracore_sdk.adapters.clock import SystemClock, UuidFactory
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.notation import default_notations
from luminoracore_sdk.adapters.providers.registry import ProviderFactory
from luminoracore_sdk.adapters.tokens import default_token_counter
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.bootstrap.config import Settings, StorageConfig
from luminoracore_sdk.bootstrap.factory import create_storage
from luminoracore_sdk.bootstrap.managers import ConversationManager, MemoryManager, SessionManager

__all__ = ["Container", "make_container", "running"]


class Container(containers.DeclarativeContainer):
    """Wire the package from ``settings``.

    ``settings`` is a ``Settings``. Every provider can be overridden:
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
        ConversationManager, max_history=settings.provided.max_history, storage=storage, services=services
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


def make_container(settings: Settings | StorageConfig | Mapping[str, Any] | str | None = None) -> Container:
    """Return a container.

    Args:
        settings: Settings, a StorageConfig, a mapping (storage, memory, max_history) or the URL of a store;
            None: read the environment.

    Raises:
        ConfigurationError: The storage cannot work as configured.
        ValidationError: A key of a mapping is unknown or a value is wrong.
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
    """Open the container's storage and yield its SessionManager; close the model providers, then the storage."""
    async with container.storage():
        sessions = container.sessions()
        try:
            yield sessions
        finally:
            await sessions.close()
