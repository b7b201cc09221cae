"""The documented names of backends that this release does not have yet.

Importing them works, as documented; making one says plainly that it is not there, instead of keeping
nothing.
"""

from typing import Any, NoReturn

from luminoracore_sdk.domain.errors import ConfigurationError

__all__ = ["MongoDBStorage", "PostgreSQLStorage", "RedisStorage"]


class _Unreleased:
    def __new__(cls, *_: Any, **__: Any) -> NoReturn:
        raise ConfigurationError(
            f"{cls.__name__} is not in this release yet; in it are: "
            "InMemoryStorage, JSONFileStorage, SQLiteStorage"
        )


class RedisStorage(_Unreleased):
    """Sessions in Redis; not in this release."""


class PostgreSQLStorage(_Unreleased):
    """Sessions in PostgreSQL; not in this release."""


class MongoDBStorage(_Unreleased):
    """Sessions in MongoDB; not in this release."""
