"""Core's MemorySystem behind our port, when Core is installed."""

import logging
from importlib import import_module
from typing import Any

from luminoracore_sdk.application.ports.memory_system import MemorySystem
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError
from luminoracore_sdk.domain.json_value import JSONValue, copy_json, same_json

__all__ = ["CoreMemorySystem", "FactNotKeptError", "find_core_memory_system"]

logger = logging.getLogger(__name__)


class FactNotKeptError(LuminoraCoreSDKError):
    """Core took a fact without complaint and does not give it back."""


class CoreMemorySystem:
    """Mirrors facts into Core; a session is what Core calls a user.

    Core's MemorySystem reads facts through the storage that it is made with, and has no way of its own
    to write one: so facts are written to that storage. Core keeps and hands out the very objects that it
    is given: so it is given copies.

    Args:
        system: A ``luminoracore.core.memory_system.MemorySystem``.
        storage: The ``StorageInterface`` that the system was made with.
    """

    def __init__(self, system: Any, storage: Any) -> None:
        self._system = system
        self._storage = storage

    async def remember(self, session_id: str, category: str, key: str, value: JSONValue) -> None:
        """Keep a fact, and read it back.

        Core would keep one key once for each category; here it has one.

        Raises:
            FactNotKeptError: Core's storages report a failure as False; and what does not come back equal
                was not kept either.
        """
        told = await self._storage.save_fact(session_id, category, key, copy_json(value))
        if told is False:
            raise FactNotKeptError("Core did not save a fact")
        try:
            kept = await self.recall(session_id, category, key)
        except LookupError as exc:
            raise FactNotKeptError("Core does not have a fact that it saved") from exc
        if not same_json(kept, value):
            raise FactNotKeptError("Core gives back another value than it saved")
        await self._forget_elsewhere(session_id, category, key)

    async def recall(self, session_id: str, category: str, key: str) -> JSONValue:
        """Return the value of a fact, a copy.

        Raises:
            LookupError: Core has no such fact.
        """
        for fact in await self._storage.get_facts(session_id, category):
            if fact.get("key") == key and fact.get("category") == category:
                value: JSONValue = copy_json(fact.get("value"))
                return value
        raise LookupError("Core has no such fact")

    async def forget(self, session_id: str, category: str, key: str) -> None:
        """Drop a fact."""
        await self._storage.delete_fact(session_id, category, key)

    async def _forget_elsewhere(self, session_id: str, category: str, key: str) -> None:
        facts = await self._storage.get_facts(session_id)
        others = [fact["category"] for fact in facts if fact["key"] == key and fact["category"] != category]
        for other in others:
            await self.forget(session_id, other, key)

    async def stats(self, session_id: str) -> dict[str, Any]:
        """Return Core's figures about one session."""
        figures: dict[str, Any] = await self._system.get_memory_stats(session_id)
        return figures


def find_core_memory_system() -> MemorySystem | None:
    """Return Core's MemorySystem over Core's own in-memory storage, or None where there is none to use.

    That Core is not installed is normal, and logged at the level INFO; that an installed one cannot be
    used is a warning.
    """
    try:
        core: Any = import_module("luminoracore.core.memory_system")
        storages: Any = import_module("luminoracore.storage.in_memory_storage")
        storage = storages.InMemoryStorage()
        return CoreMemorySystem(core.MemorySystem(storage), storage)
    except ImportError:
        logger.info("Core MemorySystem not available; using the SDK's own memory")
    except Exception as exc:  # noqa: BLE001  # whatever is wrong with Core: a memory works without it
        logger.warning("Core MemorySystem cannot be used (%s); using the SDK's own memory", type(exc).__name__)
    return None
