"""Servers that all tests of a run share: one of each, started at first use, stopped with the run.

Each process of pytest-xdist has a PostgreSQL server of its own, as tests count notifications, waiting locks and
connections, which are those of the whole server, and terminate connections.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.support.servers.process import OWNER, end_all

__all__ = [
    "begin_run",
    "end_run",
    "mongodb_replica_set_url",
    "mongodb_url",
    "postgres_url",
    "redis_cluster_url",
    "redis_url",
    "temporary_root",
]

_FOLDER = "LUMINORA_TEST_SERVERS"
_TEMPORARY_ROOT = "PYTEST_DEBUG_TEMPROOT"  # where pytest creates tmp_path
_MEMORY = Path("/dev/shm")  # noqa: S108  # where fsync costs nothing
_ROOM = 2 * 2**30
_started: list[Any] = []  # the folder, until the end of the run


def begin_run() -> None:
    """Create the folder of the shared servers and of ``tmp_path``, for this process and its children."""
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > _ROOM
    folder = tempfile.mkdtemp(prefix="luminora-", dir=_MEMORY if roomy else None)  # short, for the paths of sockets
    os.environ[_FOLDER] = folder
    os.environ.setdefault(_TEMPORARY_ROOT, folder)
    os.environ[OWNER] = str(os.getpid())


def end_run() -> None:
    """Stop the shared servers, and delete their data and the temporary files of the tests."""
    if folder := os.environ.pop(_FOLDER, None):
        end_all(Path(folder))
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop(OWNER, None)


def temporary_root() -> str:
    """Return the folder of all temporary files of the run."""
    return os.environ[_TEMPORARY_ROOT]


def postgres_url() -> str:
    """Return the address of an empty database of this process's PostgreSQL server."""

    def start(folder: Path) -> Any:
        from tests.support.servers.postgres import PostgresServer

        return PostgresServer(folder, durable=False).start()

    return _url("POSTGRES", start, os.environ.get("PYTEST_XDIST_WORKER", ""))


def redis_url() -> str:
    """Return the address of the shared Valkey server."""

    def start(folder: Path) -> Any:
        from tests.support.servers.valkey import ValkeyServer

        return ValkeyServer(folder).start()

    return _url("REDIS", start)


def redis_cluster_url() -> str:
    """Return the addresses of the shared Valkey cluster of three."""

    def start(folder: Path) -> Any:
        from tests.support.servers.valkey import ValkeyCluster

        return ValkeyCluster(folder).start()

    return _url("REDIS_CLUSTER", start)


def mongodb_url() -> str:
    """Return the address of the shared standalone MongoDB server."""

    def start(folder: Path) -> Any:
        from tests.support.servers.mongo import MongoServer

        return MongoServer(folder).start()

    return _url("MONGODB", start)


def mongodb_replica_set_url() -> str:
    """Return the address of the shared MongoDB replica set of one."""

    def start(folder: Path) -> Any:
        from tests.support.servers.mongo import MongoServer

        return MongoServer(folder, replica_set="luminora").start()

    return _url("MONGODB_REPLICA_SET", start)


def _url(kind: str, start: Callable[[Path], Any], process: str = "") -> str:
    """Return the value of ``LUMINORA_TEST_<KIND>_URL``, or the address of a server started here.

    Without either, the test is skipped, or fails if ``CI`` is set.
    """
    if given := os.environ.get(f"LUMINORA_TEST_{kind}_URL"):
        return given
    place = Path(os.environ[_FOLDER]) / f"{kind.lower()}{process}"
    address = place.with_suffix(".url")
    with FileLock(place.with_suffix(".lock")):
        if not address.exists():
            try:
                _started.append(server := start(place))
                address.write_text(server.url)
            except ImportError as exc:
                reason = f"no server: {exc}; LUMINORA_TEST_{kind}_URL may name one"
                if os.environ.get("CI"):
                    pytest.fail(reason)
                pytest.skip(reason)
        return address.read_text()
