"""PgBouncer, from the system's packages (Debian: ``pgbouncer``)."""

import os
import pwd
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.servers.process import ServerProcess

__all__ = ["PgBouncer", "binary"]

CONNECTIONS = 3


def binary() -> str | None:
    """Return the path of the program, or None where there is none."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class PgBouncer(ServerProcess):
    """A PgBouncer in transaction mode, with three connections to the server.

    Args:
        folder: For its settings and log.
        server: The address of the database; its role needs no password.
    """

    name = "PgBouncer"

    def __init__(self, folder: Path, server: str) -> None:
        super().__init__(folder)
        self._server = urlsplit(server)

    @property
    def url(self) -> str:
        return f"postgresql://{self._server.username}@127.0.0.1:{self.port}/{self._server.path[1:]}"

    def _prepare(self) -> None:
        database = self._server.path[1:]
        self.folder.chmod(0o755)
        (self.folder / "pgbouncer.ini").write_text(
            f"""
            [databases]
            {database} = host={self._server.hostname} port={self._server.port} dbname={database} \
user={self._server.username}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {self.port}
            unix_socket_dir =
            auth_type = any
            pool_mode = transaction
            default_pool_size = {CONNECTIONS}
            max_client_conn = 200
            """.replace("            ", "")
        )

    def _user(self) -> str | None:
        return pwd.getpwnam("nobody").pw_name if os.getuid() == 0 else None  # it refuses to run as root

    def _command(self) -> Sequence[str]:
        found = binary()
        assert found is not None
        return [found, str(self.folder / "pgbouncer.ini")]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == os.EX_OK
