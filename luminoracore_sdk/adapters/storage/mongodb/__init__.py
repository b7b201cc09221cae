"""The MongoDB backend."""

from luminoracore_sdk.adapters.storage.mongodb.storage import MongoDBStorage

__all__ = ["MongoDBStorage"]
