"""Adapter of Core's MemorySystem, if Core is installed."""

import logging
from importlib import import_module
from typing import Any

from luminoracore_sdk.application.ports.memory_system import MemorySystem
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError
from luminoracore_sdk.domain.json_value import JSONValue, copy_json, same_json

__all__ = ["CoreMemorySystem", "FactNotKeptError", "find_core_memory_system"]

logger = logging.getLogger(__name__)

_MEMORY_SYSTEM = "luminoracore.core.memory_system"
_IN_MEMORY_STORAGE = "luminoracore.storage.in_memory_storage"


class FactNotKeptError(LuminoraCoreSDKError):
    """Core accepted a fact but does not return it."""


class CoreMemorySystem:
    """Mirror facts into Core; a session is a user in Core's terms.

    Core's MemorySystem only reads facts, through its storage; so they are written to that storage. Core stores and
    returns the objects that it is given; so it is given copies.

    Args:
        system: A ``luminoracore.core.memory_system.MemorySystem``.
        storage: The ``StorageInterface`` of that system.
    """

    def __init__(self, system: Any, storage: Any) -> None:
        self._system = system
        self._storage = storage

    async def remember(self, session_id: str, category: str, key: str, value: JSONValue) -> None:
        """Store a fact and verify it; a fact of the same key in another category is deleted.

        Raises:
            FactNotKeptError: Core returned False, which is how its storages report a failure, or the stored value
                is not equal.
        """
        saved = await self._storage.save_fact(session_id, category, key, copy_json(value))
        if saved is False:
            raise FactNotKeptError("Core did not save a fact")
        try:
            kept = await self.recall(session_id, category, key)
        except LookupError as exc:
            raise FactNotKeptError("Core does not return a fact that it saved") from exc
        if not same_json(kept, value):
            raise FactNotKeptError("Core returns another value than the one it saved")
        await self._forget_in_other_categories(session_id, category, key)

    async def recall(self, session_id: str, category: str, key: str) -> JSONValue:
        """Return a copy of the value of a fact.

        Raises:
            LookupError: Core has no such fact.
        """
        for fact in await self._storage.get_facts(session_id, category):
            if fact.get("key") == key and fact.get("category") == category:
                value: JSONValue = copy_json(fact.get("value"))
                return value
        raise LookupError("Core has no such fact")

    async def forget(self, session_id: str, category: str, key: str) -> None:
        """Delete a fact."""
        await self._storage.delete_fact(session_id, category, key)

    async def _forget_in_other_categories(self, session_id: str, category: str, key: str) -> None:
        facts = await self._storage.get_facts(session_id)
        others = [fact["category"] for fact in facts if fact["key"] == key and fact["category"] != category]
        for other in others:
            await self.forget(session_id, other, key)

    async def stats(self, session_id: str) -> dict[str, Any]:
        """Return Core's statistics of a session."""
        stats: dict[str, Any] = await self._system.get_memory_stats(session_id)
        return stats


def find_core_memory_system() -> MemorySystem | None:
    """Return Core's MemorySystem over Core's own in-memory storage, or None if there is none that works.

    A Core that is not installed is logged at INFO; an installed one that fails is logged as a WARNING with the
    cause.
    """
    try:
        core: Any = import_module(_MEMORY_SYSTEM)
        storages: Any = import_module(_IN_MEMORY_STORAGE)
        storage = storages.InMemoryStorage()
        return CoreMemorySystem(core.MemorySystem(storage), storage)
    except ModuleNotFoundError as exc:
        if any(f"{module}.".startswith(f"{exc.name}.") for module in (_MEMORY_SYSTEM, _IN_MEMORY_STORAGE)):
            logger.info("Core MemorySystem not available; using the SDK's own memory")
        else:  # installed, but a dependency of its own is missing
            logger.warning("Core MemorySystem cannot be used (%s); using the SDK's own memory", exc)
    except Exception as exc:  # noqa: BLE001  # third-party code: whatever it raises, memory works without it
        cause = exc if isinstance(exc, ImportError) else type(exc).__name__
        logger.warning("Core MemorySystem cannot be used (%s); using the SDK's own memory", cause)
    return None
