"""The documented managers: the use cases with default ports, so that each works on its own."""

from functools import partial
from typing import TYPE_CHECKING

import attrs

from luminoracore_sdk.adapters.clock import SystemClock, UuidFactory
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.wrappers.deferred_writes import DeferredWriteWrapper
from luminoracore_sdk.application import conversations, memories, sessions
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.prompting import TokenCounter
from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError
from luminoracore_sdk.domain.settings import MemoryConfig

if TYPE_CHECKING:
    from luminoracore_sdk.application.exchange.export_import import SessionExchange

__all__ = ["ConversationManager", "MemoryManager", "SessionManager", "default_services", "searching"]


def default_services() -> Services:
    """Return the default ports; their modules are imported when the first manager needs them."""
    from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec  # noqa: PLC0415
    from luminoracore_sdk.adapters.notation import default_notations  # noqa: PLC0415
    from luminoracore_sdk.adapters.providers.registry import ProviderFactory  # noqa: PLC0415
    from luminoracore_sdk.adapters.tokens import default_token_counter  # noqa: PLC0415

    return Services(
        codec=JsonEntityCodec(),
        clock=SystemClock(),
        ids=UuidFactory(),
        tokens=default_token_counter(),
        notations=default_notations(),
        providers=ProviderFactory(),
    )


def _exchange(storage: SessionStorage, services: Services) -> "SessionExchange":
    from luminoracore_sdk.adapters.codec.values import JsonCodec  # noqa: PLC0415
    from luminoracore_sdk.application.exchange.export_import import SessionExchange  # noqa: PLC0415

    return SessionExchange(storage=storage, services=services, values=JsonCodec())


def _defers_writes(codec: EntityCodec, record: SessionRecord) -> bool:
    try:
        return not codec.session(record, backend="").config.auto_save
    except CorruptRecordError:  # not written by a manager, or damaged: reading it raises the error
        return False


def searching(services: Services, storage: SessionStorage) -> Services:
    """Return the services with a codec that indexes messages, where the storage is searched."""
    search = storage.search
    return services if search is None else attrs.evolve(services, codec=services.codec.indexing(search.analyzer))


def _checked(storage: SessionStorage | None) -> SessionStorage | None:
    if storage is not None and not isinstance(storage, SessionStorage):
        raise ConfigurationError(f"storage must be a SessionStorage (see create_storage), not {type(storage).__name__}")
    return storage


class ConversationManager(conversations.Conversations):
    """Keep conversations in memory, or in a storage.

    Args:
        max_history: Number of newest messages that reads without a range return.
        storage: Where they are kept; None: in memory, where only the newest ``max_history`` can be read.
        services: The other ports; None: the defaults.
    """

    def __init__(
        self,
        max_history: int = 100,
        *,
        storage: SessionStorage | None = None,
        services: Services | None = None,
    ) -> None:
        kept = _checked(storage) or InMemoryStorage()
        super().__init__(
            storage=kept,
            services=searching(services or default_services(), kept),
            max_history=max_history,
            whole_history=storage is not None,
        )


class MemoryManager(memories.Memories):
    """Remember values by key for each session, in memory or in a storage.

    Every change is also mirrored into Core's MemorySystem when Core is installed.

    Args:
        config: Limits and switches; None: the defaults.
        optimizer: Compresses what is stored.
        storage: Where it is kept; None: in memory.
        services: The other ports; None: the defaults.
    """

    def __init__(
        self,
        config: MemoryConfig | None = None,
        optimizer: Optimizer | None = None,
        *,
        storage: SessionStorage | None = None,
        services: Services | None = None,
    ) -> None:
        from luminoracore_sdk.adapters.core_memory import find_core_memory_system  # noqa: PLC0415

        storage = _checked(storage) or InMemoryStorage()
        if optimizer is not None:
            from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper  # noqa: PLC0415

            storage = OptimizedStorageWrapper(storage, optimizer)
        super().__init__(
            storage=storage,
            services=services or default_services(),
            config=config or MemoryConfig(),
            mirror=find_core_memory_system(),
        )
        self.optimizer = optimizer


class SessionManager(sessions.Sessions):
    """Create and resume sessions of AI personalities, and send messages to their model providers.

    Composed of a ConversationManager, a MemoryManager and a storage. ``async with`` closes the model
    providers and, if the manager created it, the storage.

    Args:
        storage: Where sessions are kept; the caller closes it. None: in memory.
        memory_config: Limits and switches of the memory; None: the defaults.
        max_history: Number of newest messages that reads without a range return.
        services: The other ports; None: the defaults.
        token_counter: Replaces the token counter of the services; anything with ``count(text)``.
    """

    def __init__(
        self,
        storage: SessionStorage | None = None,
        *,
        memory_config: MemoryConfig | None = None,
        max_history: int = 100,
        services: Services | None = None,
        token_counter: TokenCounter | None = None,
    ) -> None:
        services = services or default_services()
        if token_counter is not None:
            services = attrs.evolve(services, tokens=token_counter)
        deferring = DeferredWriteWrapper(
            _checked(storage) or InMemoryStorage(),
            clock=services.clock,
            wanted=partial(_defers_writes, services.codec),
        )
        services = searching(services, deferring)
        super().__init__(
            storage=deferring,
            services=services,
            conversations=ConversationManager(max_history, storage=deferring, services=services),
            memories=MemoryManager(memory_config, storage=deferring, services=services),
            exchange=partial(_exchange, deferring, services),
            owns_storage=storage is None,
        )
