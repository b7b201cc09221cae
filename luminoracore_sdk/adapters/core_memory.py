"""Core's MemorySystem behind our port, when Core is installed."""

import logging
from importlib import import_module
from typing import Any

from luminoracore_sdk.application.ports.memory_system import MemorySystem

__all__ = ["CoreMemorySystem", "find_core_memory_system"]

logger = logging.getLogger(__name__)


class CoreMemorySystem:
    """Mirrors facts into Core; a session is what Core calls a user.

    Args:
        system: A ``luminoracore.core.memory_system.MemorySystem``.
        storage: The ``StorageInterface`` that the system was made with.
    """

    def __init__(self, system: Any, storage: Any) -> None:
        self._system = system
        self._storage = storage

    async def remember(self, session_id: str, category: str, key: str, value: Any) -> None:
        """Keep a fact."""
        await self._storage.save_fact(session_id, category, key, value)

    async def forget(self, session_id: str, category: str, key: str) -> None:
        """Drop a fact."""
        await self._storage.delete_fact(session_id, category, key)

    async def stats(self, session_id: str) -> dict[str, Any]:
        """Return Core's figures about one session."""
        figures: dict[str, Any] = await self._system.get_memory_stats(session_id)
        return figures


def find_core_memory_system() -> MemorySystem | None:
    """Return Core's MemorySystem over Core's own in-memory storage, or None where Core is not installed."""
    try:
        core: Any = import_module("luminoracore.core.memory_system")
        storages: Any = import_module("luminoracore.storage.in_memory_storage")
    except ImportError:
        logger.info("Core MemorySystem not available; using the SDK's own memory")
        return None
    storage = storages.InMemoryStorage()
    return CoreMemorySystem(core.MemorySystem(storage), storage)
