"""The documented classes: the use cases with every port wired, so that each works alone."""

from functools import partial

import attrs

from luminoracore_sdk.adapters.clock import SystemClock, UuidFactory
from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.core_memory import find_core_memory_system
from luminoracore_sdk.adapters.notation.choice import default_notations
from luminoracore_sdk.adapters.providers.registry import ProviderFactory
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.tokens.choice import default_token_counter
from luminoracore_sdk.adapters.wrappers.deferred_writes import DeferredWriteWrapper
from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper
from luminoracore_sdk.application import conversations, memories, sessions
from luminoracore_sdk.application.ports.codec import EntityCodec
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.prompting import TokenCounter
from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError
from luminoracore_sdk.domain.settings import MemoryConfig

__all__ = ["ConversationManager", "MemoryManager", "SessionManager", "default_services"]


def default_services() -> Services:
    """Return the ports that are used when none are given."""
    return Services(
        codec=JsonEntityCodec(),
        clock=SystemClock(),
        ids=UuidFactory(),
        tokens=default_token_counter(),
        notations=default_notations(),
        providers=ProviderFactory(),
    )


def _is_saved_on_demand(codec: EntityCodec, record: SessionRecord) -> bool:
    try:
        return not codec.session(record, backend="").config.auto_save
    except CorruptRecordError:  # not a manager's session; what is wrong with it shows when it is read
        return False


def _checked(storage: SessionStorage | None) -> SessionStorage | None:
    if storage is not None and not isinstance(storage, SessionStorage):
        raise ConfigurationError(f"storage must be a SessionStorage (see create_storage), not {type(storage).__name__}")
    return storage


class ConversationManager(conversations.Conversations):
    """Keeps conversations: in this process alone, or in a storage.

    Args:
        max_history: Newest messages that reads without a range return.
        storage: Where they are kept; None: in memory, where only the newest ``max_history`` can be read.
        services: Other ports than the usual ones.
    """

    def __init__(
        self,
        max_history: int = 100,
        *,
        storage: SessionStorage | None = None,
        services: Services | None = None,
    ) -> None:
        super().__init__(
            storage=_checked(storage) or InMemoryStorage(),
            services=services or default_services(),
            max_history=max_history,
            whole_history=storage is not None,
        )


class MemoryManager(memories.Memories):
    """Remembers values by key, for each session: in this process alone, or in a storage.

    Core's MemorySystem, where Core is installed, is told of every change as well.

    Args:
        config: Limits and switches; the defaults when None.
        optimizer: Compresses what is stored.
        storage: Where it is kept; None: in memory.
        services: Other ports than the usual ones.
    """

    def __init__(
        self,
        config: MemoryConfig | None = None,
        optimizer: Optimizer | None = None,
        *,
        storage: SessionStorage | None = None,
        services: Services | None = None,
    ) -> None:
        place = _checked(storage) or InMemoryStorage()
        super().__init__(
            storage=place if optimizer is None else OptimizedStorageWrapper(place, optimizer),
            services=services or default_services(),
            config=config or MemoryConfig(),
            mirror=find_core_memory_system(),
        )
        self.optimizer = optimizer


class SessionManager(sessions.Sessions):
    """Creates sessions of AI personalities, resumes them, and talks to their providers.

    Composed of a ConversationManager, a MemoryManager and a storage. See the methods for what each
    promises; ``async with`` closes the providers and, if this manager made it, the storage.

    Args:
        storage: Where sessions live; it is the caller's to close. None: in memory.
        memory_config: Limits and switches of the memory.
        max_history: Newest messages that reads without a range return.
        services: Other ports than the usual ones.
        token_counter: Another one than the services's; anything with ``count(text)``.
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
        tools = services or default_services()
        if token_counter is not None:
            tools = attrs.evolve(tools, tokens=token_counter)
        held = DeferredWriteWrapper(
            _checked(storage) or InMemoryStorage(),
            clock=tools.clock,
            wanted=partial(_is_saved_on_demand, tools.codec),
        )
        super().__init__(
            storage=held,
            services=tools,
            conversations=ConversationManager(max_history, storage=held, services=tools),
            memories=MemoryManager(memory_config, storage=held, services=tools),
            owns_storage=storage is None,
        )
