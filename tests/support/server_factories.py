"""Storages on servers, made from one string, which a process that will be killed gets as an argument.

The string is a URL and, after a ``#``, the name of the schema, prefix or database on that server.
"""

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.redis import RedisStorage

__all__ = ["mongodb", "postgres", "redis"]


def _parts(place: str) -> tuple[str, str]:
    url, _, name = place.rpartition("#")
    return url, name


def postgres(place: str) -> PostgreSQLStorage:
    """Return a storage on a schema."""
    url, name = _parts(place)
    return PostgreSQLStorage(url, schema=name)


def redis(place: str) -> RedisStorage:
    """Return a storage under a prefix, on a server or a cluster."""
    url, name = _parts(place)
    return RedisStorage(url, prefix=f"{name}:")


def mongodb(place: str) -> MongoDBStorage:
    """Return a storage on a database."""
    url, name = _parts(place)
    return MongoDBStorage(url, database=name)
