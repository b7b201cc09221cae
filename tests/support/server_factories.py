"""Storages on servers, made of one text: what a process that is to be killed can be told.

A place is an address and, after a ``#``, the name of the schema, prefix or database on that server.
"""

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.redis import RedisStorage

__all__ = ["mongodb", "mongodb_pymongo", "postgres", "redis"]


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
    """Return a storage on a database, with motor."""
    url, name = _parts(place)
    return MongoDBStorage(url, database=name, driver="motor")


def mongodb_pymongo(place: str) -> MongoDBStorage:
    """Return a storage on a database, with PyMongo's own client."""
    url, name = _parts(place)
    return MongoDBStorage(url, database=name)
