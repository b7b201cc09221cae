"""The Redis backend."""

from luminoracore_sdk.adapters.storage.redis.storage import RedisStorage

__all__ = ["RedisStorage"]
