"""Core's storage in memory. Like Core's own, it stores and returns the caller's objects without a copy."""

from typing import Any


class InMemoryStorage:
    def __init__(self) -> None:
        self.data: dict[str, dict[str, Any]] = {"facts": {}, "episodes": {}, "affinities": {}}

    async def save_fact(self, user_id: str, category: str, key: str, value: Any, confidence: float = 0.8) -> bool:
        fact = {
            "user_id": user_id,
            "category": category,
            "key": key,
            "value": value,
            "confidence": confidence,
        }
        self.data["facts"].setdefault(user_id, {})[f"{user_id}_{category}_{key}"] = fact
        return True

    async def get_facts(self, user_id: str, category: str | None = None) -> list[dict[str, Any]]:
        facts = self.data["facts"].get(user_id, {}).values()
        return [fact for fact in facts if category is None or fact["category"] == category]

    async def update_fact(self, user_id: str, category: str, key: str, value: Any, confidence: float = 0.8) -> bool:
        return await self.save_fact(user_id, category, key, value, confidence)

    async def delete_fact(self, user_id: str, category: str, key: str) -> bool:
        facts = self.data["facts"].get(user_id, {})
        return facts.pop(f"{user_id}_{category}_{key}", None) is not None

    async def search_facts(self, user_id: str, query: str, limit: int | None = None) -> list[dict[str, Any]]:
        facts = [fact for fact in await self.get_facts(user_id) if query.lower() in str(fact).lower()]
        return facts[:limit]

    async def get_user_stats(self, user_id: str) -> dict[str, Any]:
        return {"user_id": user_id, "fact_count": len(await self.get_facts(user_id))}
