"""Stores named on the command line: existence, display name, identity, number of sessions."""

import os
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import attrs

from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.bootstrap.config import StorageConfig, StorageType
from luminoracore_sdk.cli.output import public_url
from luminoracore_sdk.domain.errors import StorageError

__all__ = [
    "NoStoreError",
    "compressing",
    "count_sessions",
    "existing",
    "is_same_store",
    "is_server",
    "missing_path",
    "store_name",
    "untouched",
    "without_wrappers",
]

_FILES = (StorageType.JSON, StorageType.SQLITE)
_SQL = (StorageType.SQLITE, StorageType.POSTGRES)
_LOCATION_OPTIONS = frozenset(
    {"schema", "table_prefix", "search_path", "options", "prefix", "db", "host", "port", "database"}
)
_PORTS = {StorageType.REDIS: 6379, StorageType.POSTGRES: 5432, StorageType.MONGODB: 27017}


class NoStoreError(StorageError):
    """The store does not exist, and the command does not create one."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"no store at {path}. `luminora chat` without --session and `luminora sessions import` create one"
        )


def missing_path(storage: StorageConfig) -> Path | None:
    """Return the path of a missing json or sqlite store, else None; an empty folder is not a store yet."""
    if storage.storage_type not in _FILES:
        return None
    path = storage.path
    is_empty_folder = storage.storage_type is StorageType.JSON and path.is_dir() and not any(path.iterdir())
    return path if is_empty_folder or not path.exists() else None


def existing(storage: StorageConfig) -> StorageConfig:
    """Return the configuration that opens an existing store without changing its layout.

    Raises:
        NoStoreError: The file or folder does not exist.
    """
    if (path := missing_path(storage)) is not None:
        raise NoStoreError(path)
    return untouched(storage)


def compressing(storage: StorageConfig, *, is_plain: bool = False) -> StorageConfig:
    """Return the configuration that opens an existing store with compression, or without.

    Raises:
        NoStoreError: The file or folder does not exist.
    """
    return attrs.evolve(existing(storage), compression_enabled=not is_plain, retry_attempts=1)


def without_wrappers(storage: StorageConfig) -> StorageConfig:
    """Return the configuration of the backend alone."""
    return attrs.evolve(
        storage,
        compression_enabled=False,
        encryption_enabled=False,
        encryption_required=False,
        retry_attempts=1,
    )


def untouched(storage: StorageConfig) -> StorageConfig:
    """Return the configuration that refuses missing or old tables instead of creating or migrating them."""
    return attrs.evolve(storage, auto_create_tables=False) if storage.storage_type in _SQL else storage


def is_server(storage: StorageConfig) -> bool:
    """Return whether a store is a server."""
    return storage.storage_type in _PORTS


def store_name(storage: StorageConfig) -> str:
    """Return the display name of a store, without a password."""
    if storage.storage_type in _FILES:
        return f"{storage.storage_type}: {storage.path}"
    return public_url(storage.connection_string or f"{storage.storage_type}://")


def is_same_store(one: StorageConfig, other: StorageConfig) -> bool:
    """Return whether two configurations name the same store, judging by their text and the file system.

    Two names of one host are not recognized; ``StoreCopy`` detects that before it deletes anything.
    """
    if one.storage_type is not other.storage_type:
        return False
    if one.storage_type in _FILES:
        return os.path.realpath(one.path) == os.path.realpath(other.path)
    return one.storage_type is StorageType.MEMORY or _location(one) == _location(other)


def _location(storage: StorageConfig) -> tuple[object, ...]:
    """Return the parts of a server's URL that identify the store."""
    parts = urlsplit(storage.connection_string or "")
    hosts = parts.netloc.rpartition("@")[2].lower().replace("localhost", "127.0.0.1").split(",")
    port = f":{_PORTS[storage.storage_type]}"
    path = parts.path.strip("/") or ("0" if storage.storage_type is StorageType.REDIS else "")
    choice = sorted(pair for pair in parse_qsl(parts.query) if pair[0] in _LOCATION_OPTIONS)
    # without a name, PostgreSQL's role determines the database and the schema
    named = bool(path) and any(name in ("schema", "search_path") for name, _ in choice)
    user = parts.username if storage.storage_type is StorageType.POSTGRES and not named else None
    return sorted(host.removesuffix(port) for host in hosts), path, user, choice


async def count_sessions(storage: SessionStorage, query: SessionQuery) -> int:
    """Return how many sessions match a query; for the total of a progress bar."""
    count = 0
    async for _ in headers(storage, query):
        count += 1
    return count
