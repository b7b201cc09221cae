"""The storages that the contract, the property tests and the state machines run over.

A new backend is one entry in ``BACKENDS``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.encryption.keyring import Keyring
from luminoracore_sdk.adapters.optimizer import Optimizer
from luminoracore_sdk.adapters.shared_storage import share
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
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
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
    emptied_mongodb,
    emptied_postgres,
    execute_postgres,
    place_name,
)
from tests.support.servers.shared import temporary_root
from tests.support.unreliable import FailsEverySecondCall

__all__ = [
    "BACKENDS",
    "CONTRACT_BACKENDS",
    "EMBEDDED",
    "FILES",
    "MEMORY",
    "MEMORY_OR_SERVERS",
    "MONGODB",
    "MONGODB_MOTOR",
    "MONGODB_REPLICA_SET",
    "POSTGRES",
    "REDIS",
    "REDIS_CLUSTER",
    "SERVERS_LATER",
    "SQLITE",
    "Backend",
    "backend_fixture",
    "each_backend",
    "encrypted",
    "marks",
    "optimized",
]


@attrs.frozen
class Backend:
    """How to create a storage.

    Attributes:
        name: Used in test ids.
        at: Returns the factory of storages at a path that does not exist yet.
        persistent: Whether a second storage at the path sees what the first one wrote.
        clear: Removes what was stored at a path from a shared server.
        emptied: Yields a function that empties the store at a path, in less time than ``clear``; None: there is none.
        embedded: Whether it needs no server.
        rewrites: Whether it implements ``RewritingStorage``; wrappers do not.
        nightly: Whether it is left to ``make nightly``.
    """

    name: str
    at: Callable[[Path], StorageFactory]
    persistent: bool = True
    clear: Callable[[Path], None] = lambda _: None
    emptied: Callable[[Path], AbstractContextManager[Callable[[], None]]] | None = None
    embedded: bool = False
    rewrites: bool = True
    nightly: bool = False

    @contextmanager
    def place(self) -> Iterator[StorageFactory]:
        """Yield the factory of an empty store, and remove the store afterwards."""
        with TemporaryDirectory(dir=temporary_root()) as folder:
            path = Path(folder) / "store"
            try:
                yield self.at(path)
            finally:
                self.clear(path)

    def wrapped(self, how: str, wrap: Callable[[SessionStorage, Clock], SessionStorage]) -> "Backend":
        """Return this backend under a wrapper; those on files and servers run in ``make nightly``."""

        def at(path: Path) -> StorageFactory:
            make = self.at(path)
            return lambda clock: wrap(make(clock), clock)

        nightly = not (self.embedded and "files" not in self.name)
        return attrs.evolve(self, name=f"{how} {self.name}", at=at, rewrites=False, nightly=nightly)


def optimized(backend: Backend) -> Backend:
    """Return a backend under the optimizing wrapper."""
    return backend.wrapped("optimized", lambda storage, _: OptimizedStorageWrapper(storage, Optimizer()))


_KEYS = Keyring({"2026": bytes(range(32)), "2025": bytes(range(32, 64))})


def encrypted(backend: Backend) -> Backend:
    """Return a backend that stores ids, positions, roles and times, and everything else encrypted."""
    return backend.wrapped("encrypted", lambda storage, _: EncryptedStorageWrapper(storage, _KEYS))


def retrying(backend: Backend) -> Backend:
    """Return a backend whose every second call fails, under the wrapper that repeats it."""
    return backend.wrapped("retrying", lambda storage, _: RetryingStorage(FailsEverySecondCall(storage), first_wait=0))


class DefersEverySession(DeferredWriteWrapper):
    """Defers the writes of every session."""

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        check_id(record.session_id)
        await self.defer(record.session_id)
        return await super().put_session(record, expected_version=expected_version)


def deferred(backend: Backend) -> Backend:
    """Return a backend under a wrapper that defers every write of a session."""
    wrapped = backend.wrapped("deferred", lambda storage, clock: DefersEverySession(storage, clock=clock))
    return attrs.evolve(wrapped, persistent=False)


def undeferred(backend: Backend) -> Backend:
    """Return a backend under a deferring wrapper that has nothing to defer."""
    return backend.wrapped("undeferred", lambda storage, clock: DeferredWriteWrapper(storage, clock=clock))


def shared(backend: Backend) -> Backend:
    """Return a backend whose calls all run on the portal."""
    return backend.wrapped("shared", lambda storage, _: share(lambda: storage))


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
    return lambda clock: MongoDBStorage(url, database=place_name(path), clock=clock)


def _mongodb_motor(path: Path) -> StorageFactory:
    url = mongodb_url()
    return lambda clock: MongoDBStorage(url, database=place_name(path), driver="motor", clock=clock)


def _mongodb_replica_set(path: Path) -> StorageFactory:
    url = mongodb_replica_set_url()
    return lambda clock: MongoDBStorage(url, database=place_name(path), clock=clock)


MEMORY = Backend("memory", lambda _: lambda clock: InMemoryStorage(clock=clock), persistent=False, embedded=True)
FILES = Backend("files", lambda path: lambda clock: JSONFileStorage(path, clock=clock), embedded=True)
SQLITE = Backend("SQLite", lambda path: lambda clock: SQLiteStorage(path, clock=clock), embedded=True)

POSTGRES = Backend(
    "Postgres",
    _postgres,
    clear=lambda path: clear_postgres(postgres_url(), place_name(path)),
    emptied=lambda path: emptied_postgres(postgres_url(), place_name(path)),
)
REDIS = Backend("Redis", _redis, clear=lambda path: clear_redis(redis_url(), place_name(path)))
REDIS_CLUSTER = Backend(
    "Redis cluster",
    _redis_cluster,
    clear=lambda path: clear_redis_cluster(redis_cluster_url(), place_name(path)),
    nightly=True,
)
MONGODB = Backend(
    "MongoDB",
    _mongodb,
    clear=lambda path: clear_mongodb(mongodb_url(), place_name(path)),
    emptied=lambda path: emptied_mongodb(mongodb_url(), place_name(path)),
)
MONGODB_MOTOR = attrs.evolve(MONGODB, name="MongoDB motor", at=_mongodb_motor, nightly=True)
MONGODB_REPLICA_SET = Backend(
    "MongoDB replica set",
    _mongodb_replica_set,
    clear=lambda path: clear_mongodb(mongodb_replica_set_url(), place_name(path)),
    emptied=lambda path: emptied_mongodb(mongodb_replica_set_url(), place_name(path)),
    nightly=True,
)

EMBEDDED = (MEMORY, FILES, SQLITE)
_PLAIN = (*EMBEDDED, POSTGRES, REDIS, REDIS_CLUSTER, MONGODB, MONGODB_MOTOR, MONGODB_REPLICA_SET)
_WRAPPED = (*EMBEDDED, POSTGRES, REDIS, MONGODB)

BACKENDS = (*_PLAIN, *map(optimized, _WRAPPED), *(optimized(encrypted(backend)) for backend in _WRAPPED))
"""Every backend, and the optimizing and the encrypting wrapper over every backend."""


def _nightly(backend: Backend) -> Backend:
    return attrs.evolve(backend, nightly=True)


SERVERS_LATER = [pytest.param(server, marks=pytest.mark.nightly) for server in (POSTGRES, REDIS, MONGODB)]
"""Servers, in the long run."""

MEMORY_OR_SERVERS = (MEMORY, *map(_nightly, (POSTGRES, REDIS, MONGODB)))
"""The store in memory, and in the long run servers, for what is mostly independent of the backend."""

_IN_THE_LONG_RUN = {
    *("optimized memory", "optimized SQLite", "encrypted memory", "encrypted SQLite"),
    *("retrying SQLite", "undeferred SQLite", "shared SQLite", "optimized encrypted SQLite"),
    *("undeferred memory", "shared memory"),
}

CONTRACT_BACKENDS = tuple(
    _nightly(backend) if backend.name in _IN_THE_LONG_RUN else backend
    for backend in (
        *BACKENDS,
        *map(encrypted, _WRAPPED),
        *map(retrying, (MEMORY, SQLITE, REDIS)),
        deferred(MEMORY),
        *map(undeferred, (MEMORY, SQLITE)),
        *map(shared, _WRAPPED),
    )
)
"""Every backend, and every wrapper over every backend. The ordinary run takes the optimizing and the encrypting wrapper
at once, over memory."""


def marks(backend: Backend) -> list[pytest.MarkDecorator]:
    """Return the marks of the tests of a backend."""
    return [pytest.mark.nightly] if backend.nightly else []


def each_backend(backends: Sequence[Backend] = BACKENDS) -> pytest.MarkDecorator:
    """Parametrize a test over backends, as ``backend``."""
    return pytest.mark.parametrize(
        "backend", [pytest.param(backend, id=backend.name, marks=marks(backend)) for backend in backends]
    )


def backend_fixture(backends: Iterable[Any]) -> Callable[..., Backend]:
    """Return a fixture that is each of some backends; one that is left to the long run is a ``pytest.param``."""

    @pytest.fixture(params=list(backends), ids=lambda backend: backend.name)
    def backend(request: pytest.FixtureRequest) -> Backend:
        chosen: Backend = request.param
        return chosen

    return backend
