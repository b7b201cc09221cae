"""The kinds of servers that can fail: how each is started and connected to."""

import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pymongo import MongoClient

from luminoracore_sdk.application.ports.storage import SessionStorage
from tests.support.servers.mongo import MongoServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.rig import HOST, PASSWORD, Account, Rig
from tests.support.servers.valkey import ValkeyCluster, ValkeyServer

__all__ = ["RIGS", "VALKEY_USERS", "MongoRig", "PostgresRig", "ValkeyClusterRig", "ValkeyRig"]


class PostgresRig(Rig):
    name = "postgres"
    missing_database = "nowhere"

    def __init__(self, folder: Path) -> None:
        self.server = PostgresServer(folder)
        super().__init__([self.server])

    def prepare(self) -> None:
        self.execute(f"CREATE ROLE guarded SUPERUSER LOGIN PASSWORD '{PASSWORD}'")
        self.execute("CREATE ROLE reader LOGIN")
        self.execute("CREATE ROLE powerless LOGIN")

    def allow_reading(self, place: str) -> None:
        self.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")

    def execute(self, statement: str) -> None:
        """Run SQL as a superuser."""
        psql = str(self.server.binaries / "psql")
        command = [psql, "--no-psqlrc", "-v", "ON_ERROR_STOP=1", "-c", statement, self.server.url]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    def storage_at(self, ports: Sequence[int], account: Account, *, pool: int, seconds: float) -> SessionStorage:
        from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage

        return PostgreSQLStorage(
            f"postgresql://{account.login}@{HOST}:{ports[0]}/{account.database or 'postgres'}",
            table_prefix=f"{account.place}_",
            pool_size=pool,
            connect_timeout=seconds,
            timeout=seconds,
        )


VALKEY_USERS = (
    *("--user", "guarded", "on", f">{PASSWORD}", "~*", "&*", "+@all"),
    *("--user", "reader", "on", f">{PASSWORD}", "~*", "&*", "+@all", "-@write"),
    *("--user", "powerless", "on", f">{PASSWORD}", "+@connection"),
)


class ValkeyRig(Rig):
    name = "valkey"
    missing_database: ClassVar[str | None] = "99"

    def __init__(self, folder: Path) -> None:
        self.servers = [ValkeyServer(folder, durable=True, settings=VALKEY_USERS)]
        super().__init__(self.servers)

    def command(self, *words: object) -> None:
        """Send one command to every node, with all permissions."""
        for server in self.servers:
            server.command(*words)

    def limit_memory(self, room: int) -> None:
        """Limit the memory of every node to a number of bytes above its present use."""
        for server in self.servers:
            limit = server.command("INFO", "memory")["used_memory"] + room
            server.command("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", limit)

    def storage_at(self, ports: Sequence[int], account: Account, *, pool: int, seconds: float) -> SessionStorage:
        from luminoracore_sdk.adapters.storage.redis import RedisStorage

        return RedisStorage(
            self._url(ports, account),
            prefix=f"{account.place}:",
            max_connections=pool,
            connect_timeout=seconds,
            timeout=seconds,
        )

    def _url(self, ports: Sequence[int], account: Account) -> str:
        return f"redis://{account.login}@{HOST}:{ports[0]}/{account.database or 0}"


class ValkeyClusterRig(ValkeyRig):
    name = "valkey-cluster"
    missing_database = None  # a cluster has one database

    def __init__(self, folder: Path) -> None:
        self._cluster = ValkeyCluster(folder, durable=True)
        self.servers = [*self._cluster.nodes]
        Rig.__init__(self, self.servers)
        for server, proxy in zip(self.servers, self.proxies, strict=True):
            announced = ("--cluster-announce-port", str(proxy.port))  # the address in redirections
            server.settings = (*server.settings, *VALKEY_USERS, *announced)

    @property
    def reachable_ports(self) -> list[int]:
        return [proxy.port for proxy in self.proxies]  # the addresses in its redirections

    def start(self) -> None:
        if not all(server.is_running for server in self.servers):
            self.kill()
            self._cluster.start()

    def _url(self, ports: Sequence[int], account: Account) -> str:
        return f"redis+cluster://{account.login}@" + ",".join(f"{HOST}:{port}" for port in ports)


class MongoRig(Rig):
    """MongoDB with one of the two drivers."""

    name = "mongodb"
    missing_database = "nowhere"
    short_wait = "&waitQueueTimeoutMS=300"

    def __init__(self, folder: Path, driver: Literal["motor", "pymongo"]) -> None:
        self.server = MongoServer(folder, settings=("--auth",))
        self._driver: Literal["motor", "pymongo"] = driver
        super().__init__([self.server])

    def prepare(self) -> None:
        with self.server.client() as client:  # the first account is created without a login
            client.admin.command("createUser", "guarded", pwd=PASSWORD, roles=["root"])
        with self.client() as client:
            for user in ("reader", "powerless"):
                client.admin.command("createUser", user, pwd=PASSWORD, roles=[])

    def allow_reading(self, place: str) -> None:
        with self.client() as client:
            client.admin.command("grantRolesToUser", "reader", roles=[{"role": "read", "db": place}])

    def client(self) -> MongoClient[dict[str, Any]]:
        """Return a client with all permissions; the caller closes it."""
        return MongoClient(HOST, self.server.port, username="guarded", password=PASSWORD, timeoutMS=5000)

    def storage_at(self, ports: Sequence[int], account: Account, *, pool: int, seconds: float) -> SessionStorage:
        from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage

        source = account.database or "admin"
        return MongoDBStorage(
            f"mongodb://{account.login}@{HOST}:{ports[0]}/{account.place}?authSource={source}{account.options}",
            driver=self._driver,
            max_pool_size=pool,
            connect_timeout=seconds,
            timeout=seconds,
        )


RIGS: dict[str, Callable[[Path], Rig]] = {
    "postgres": PostgresRig,
    "valkey": ValkeyRig,
    "valkey-cluster": ValkeyClusterRig,
    "mongodb-motor": partial(MongoRig, driver="motor"),
    "mongodb-pymongo": partial(MongoRig, driver="pymongo"),
}
"""One of each kind, by the name of its case."""
