"""The storages that the contract, the properties and the state machines run over.

A new backend is one entry here and one class in tests/contract/test_storage_contract.py.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.adapters.optimizer.optimizer import Optimizer
from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage
from luminoracore_sdk.adapters.wrappers.deferred_writes import DeferredWriteWrapper
from luminoracore_sdk.adapters.wrappers.encrypted import EncryptedStorageWrapper
from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper
from luminoracore_sdk.adapters.wrappers.retrying import RetryingStorage
from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.domain.values import check_id
from luminoracore_sdk.testing import StorageFactory
from tests.support.servers import (
    mongodb_replica_set_url,
    mongodb_url,
    postgres_url,
    redis_cluster_url,
    redis_url,
)
from tests.support.servers.places import (
    clear_mongodb,
    clear_postgres,
    clear_redis,
    clear_redis_cluster,
    execute_postgres,
    place_name,
)
from tests.support.unreliable import FailsEverySecondCall

__all__ = [
    "BACKENDS",
    "EMBEDDED",
    "FILES",
    "MEMORY",
    "MONGODB",
    "MONGODB_PYMONGO",
    "MONGODB_REPLICA_SET",
    "POSTGRES",
    "REDIS",
    "REDIS_CLUSTER",
    "SERVERS",
    "SQLITE",
    "Backend",
    "encrypted",
    "held",
    "optimized",
    "retrying",
    "with_nothing_held",
]


@attrs.frozen
class Backend:
    """How to make a storage.

    Attributes:
        name: For test ids.
        at: Returns the factory of storages that live at a path, which does not exist yet.
        persistent: Whether a second storage at the path sees what the first one wrote.
        clear: Removes what lives at a path from the server that it is on.
    """

    name: str
    at: Callable[[Path], StorageFactory]
    persistent: bool = True
    clear: Callable[[Path], None] = lambda _: None

    @contextmanager
    def place(self) -> Iterator[StorageFactory]:
        """Give an empty place for the length of a ``with`` block."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "store"
            try:
                yield self.at(path)
            finally:
                self.clear(path)


def optimized(backend: Backend) -> Backend:
    """Return a backend under the optimizing wrapper."""

    def at(path: Path) -> StorageFactory:
        make = backend.at(path)
        return lambda clock: OptimizedStorageWrapper(make(clock), Optimizer())

    return Backend(f"optimized {backend.name}", at, backend.persistent, backend.clear)


_KEYS = Keyring({"2026": bytes(range(32)), "2025": bytes(range(32, 64))})


def encrypted(backend: Backend) -> Backend:
    """Return a backend that sees nothing but ids, positions, roles and times."""

    def at(path: Path) -> StorageFactory:
        make = backend.at(path)
        return lambda clock: EncryptedStorageWrapper(make(clock), _KEYS)

    return Backend(f"encrypted {backend.name}", at, backend.persistent, backend.clear)


def retrying(backend: Backend) -> Backend:
    """Return a backend whose calls fail at first, under the wrapper that repeats them."""

    def at(path: Path) -> StorageFactory:
        make = backend.at(path)
        return lambda clock: RetryingStorage(FailsEverySecondCall(make(clock)), first_wait=0)

    return Backend(f"retrying {backend.name}", at, backend.persistent, backend.clear)


class HoldsEverything(DeferredWriteWrapper):
    """Keeps every session back."""

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        check_id(record.session_id)
        await self.hold(record.session_id)
        return await super().put_session(record, expected_version=expected_version)


def held(backend: Backend) -> Backend:
    """Return a backend that sees nothing of its sessions."""

    def at(path: Path) -> StorageFactory:
        make = backend.at(path)
        return lambda clock: HoldsEverything(make(clock), clock=clock)

    return Backend(f"held {backend.name}", at, persistent=False, clear=backend.clear)


def with_nothing_held(backend: Backend) -> Backend:
    """Return a backend under a holding wrapper that has nothing to hold."""

    def at(path: Path) -> StorageFactory:
        make = backend.at(path)
        return lambda clock: DeferredWriteWrapper(make(clock), clock=clock)

    return Backend(f"{backend.name}, nothing held", at, backend.persistent, backend.clear)


def _postgres(path: Path) -> StorageFactory:
    # by search_path, so that the SQL is the same in all places, and compiled once in a run
    url, name = postgres_url(), place_name(path)
    execute_postgres(url, f"CREATE SCHEMA IF NOT EXISTS {name}")
    place = f"{url}{'&' if '?' in url else '?'}search_path={name}"
    return lambda clock: PostgreSQLStorage(place, clock=clock)


def _redis(path: Path) -> StorageFactory:
    url = redis_url()
    return lambda clock: RedisStorage(url, prefix=f"{place_name(path)}:", clock=clock)


def _redis_cluster(path: Path) -> StorageFactory:
    url = redis_cluster_url()
    return lambda clock: RedisStorage(url, prefix=f"{place_name(path)}:", clock=clock)


def _mongodb(path: Path) -> StorageFactory:
    url = mongodb_url()
    return lambda clock: MongoDBStorage(url, database=place_name(path), driver="motor", clock=clock)


def _mongodb_pymongo(path: Path) -> StorageFactory:
    url = mongodb_url()
    return lambda clock: MongoDBStorage(url, database=place_name(path), clock=clock)


def _mongodb_replica_set(path: Path) -> StorageFactory:
    url = mongodb_replica_set_url()
    return lambda clock: MongoDBStorage(url, database=place_name(path), clock=clock)


MEMORY = Backend("memory", lambda _: lambda clock: InMemoryStorage(clock=clock), persistent=False)
FILES = Backend("files", lambda path: lambda clock: JSONFileStorage(path, clock=clock))
SQLITE = Backend("sqlite", lambda path: lambda clock: SQLiteStorage(path, clock=clock))

POSTGRES = Backend("postgres", _postgres, clear=lambda path: clear_postgres(postgres_url(), place_name(path)))
REDIS = Backend("redis", _redis, clear=lambda path: clear_redis(redis_url(), place_name(path)))
REDIS_CLUSTER = Backend(
    "redis cluster",
    _redis_cluster,
    clear=lambda path: clear_redis_cluster(redis_cluster_url(), place_name(path)),
)
MONGODB = Backend("mongodb", _mongodb, clear=lambda path: clear_mongodb(mongodb_url(), place_name(path)))
MONGODB_PYMONGO = Backend("mongodb pymongo", _mongodb_pymongo, clear=MONGODB.clear)
MONGODB_REPLICA_SET = Backend(
    "mongodb replica set",
    _mongodb_replica_set,
    clear=lambda path: clear_mongodb(mongodb_replica_set_url(), place_name(path)),
)

EMBEDDED = (MEMORY, FILES, SQLITE)
SERVERS = (POSTGRES, REDIS, REDIS_CLUSTER, MONGODB, MONGODB_PYMONGO, MONGODB_REPLICA_SET)
_OF_THE_LONG_RUN = (POSTGRES, REDIS, MONGODB) if "LUMINORA_ALL_WRAPPERS" in os.environ else ()
BACKENDS = (
    *EMBEDDED,
    *SERVERS,
    *(optimized(backend) for backend in (*EMBEDDED, POSTGRES, REDIS, MONGODB)),
    *(optimized(encrypted(backend)) for backend in (*EMBEDDED, *_OF_THE_LONG_RUN)),
)
"""Every backend, and the optimizing and the encrypting wrapper over every backend, keep the contract."""
