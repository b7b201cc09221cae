"""The in-memory backend."""

from luminoracore_sdk.adapters.storage.memory.storage import InMemoryStorage

__all__ = ["InMemoryStorage"]
