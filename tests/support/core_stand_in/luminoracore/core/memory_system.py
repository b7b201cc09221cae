"""Core's MemorySystem, as far as the SDK and its tests use it."""

from typing import Any

from ..storage.in_memory_storage import InMemoryStorage  # noqa: TID252  # works wherever it is put


class MemorySystem:
    def __init__(self, storage: InMemoryStorage) -> None:
        self.storage = storage

    async def get_user_context(self, user_id: str) -> dict[str, Any]:
        return {"user_id": user_id, "facts": await self.storage.get_facts(user_id)}

    async def search_memories(
        self, user_id: str, query: str, memory_types: list[str] | None = None
    ) -> list[dict[str, Any]]:
        if memory_types is not None and "facts" not in memory_types:
            return []
        return await self.storage.search_facts(user_id, query)

    async def get_memory_stats(self, user_id: str) -> dict[str, Any]:
        stats = await self.storage.get_user_stats(user_id)
        return {**stats, "memory_types": {"facts": stats["fact_count"], "episodes": 0, "affinities": 0}}
