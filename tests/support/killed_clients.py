"""Storages of processes that are killed: what creates one from a string, and which string."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import attrs

from luminoracore_sdk.session import SessionStorage
from tests.support.backends import MONGODB, POSTGRES, REDIS, REDIS_CLUSTER, Backend
from tests.support.servers import mongodb_url, postgres_url, redis_cluster_url, redis_url
from tests.support.servers.places import place_name

__all__ = ["CLIENTS", "Client"]

_STORAGES = "luminoracore_sdk.adapters.storage"
_FACTORIES = "tests.support.server_factories"


@attrs.frozen
class Client:
    """A process that is killed while it writes.

    Attributes:
        factory: ``module:name`` of the factory of its storage.
        url: Returns the address of its server; None: it writes to a path.
        backend: Clears its store on the server.
    """

    factory: str
    url: Callable[[], str] | None = None
    backend: Backend | None = None

    def place(self, path: Path) -> str:
        """Return the argument of the factory."""
        return f"{self.url()}#{place_name(path)}" if self.url else str(path)

    def storage(self, place: str) -> SessionStorage:
        """Return a storage of this process on a place."""
        module, _, name = self.factory.partition(":")
        made: SessionStorage = getattr(import_module(module), name)(place)
        return made

    def clear(self, path: Path) -> None:
        """Remove the store from a shared server."""
        if self.backend is not None:
            self.backend.clear(path)


CLIENTS = {
    "files": Client(f"{_STORAGES}.json_file:JSONFileStorage"),
    "sqlite": Client(f"{_STORAGES}.sqlite:SQLiteStorage"),
    "postgres": Client(f"{_FACTORIES}:postgres", postgres_url, POSTGRES),
    "redis": Client(f"{_FACTORIES}:redis", redis_url, REDIS),
    "redis-cluster": Client(f"{_FACTORIES}:redis", redis_cluster_url, REDIS_CLUSTER),
    "mongodb": Client(f"{_FACTORIES}:mongodb", mongodb_url, MONGODB),
}
