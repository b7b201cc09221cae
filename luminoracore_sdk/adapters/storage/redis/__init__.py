"""The Redis backend. Importing it does not import redis-py; making a storage does."""

from luminoracore_sdk.adapters.storage.redis.storage import RedisStorage

__all__ = ["RedisStorage"]
