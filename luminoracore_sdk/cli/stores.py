"""Stores as the user names them: whether one is there, what it is called, whether two are one."""

import os
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import attrs

from luminoracore_sdk.bootstrap.config import StorageConfig, StorageType
from luminoracore_sdk.cli.output import public_url
from luminoracore_sdk.domain.errors import StorageError

__all__ = [
    "NoStoreError",
    "compressing",
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
_CHOOSES_PLACE = frozenset(
    {"schema", "table_prefix", "search_path", "options", "prefix", "db", "host", "port", "database"}
)
_PORTS = {StorageType.REDIS: 6379, StorageType.POSTGRES: 5432, StorageType.MONGODB: 27017}


class NoStoreError(StorageError):
    """There is no store where it was looked for, and the command is none that makes one."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"no store at {path}; chat and import make one")


def missing_path(storage: StorageConfig) -> Path | None:
    """Return where a store of files should be and is not; an empty folder is none yet."""
    if storage.storage_type not in _FILES:
        return None
    path = storage.path
    is_empty_folder = storage.storage_type is StorageType.JSON and path.is_dir() and not any(path.iterdir())
    return path if is_empty_folder or not path.exists() else None


def existing(storage: StorageConfig) -> StorageConfig:
    """Return the configuration that opens a store only if it is there, and changes nothing of its layout.

    Raises:
        NoStoreError: There is no file or folder.
    """
    if (path := missing_path(storage)) is not None:
        raise NoStoreError(path)
    return untouched(storage)


def compressing(storage: StorageConfig, *, is_plain: bool = False) -> StorageConfig:
    """Return the configuration that opens a store that is there with compression, or without.

    Raises:
        NoStoreError: There is no file or folder.
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
    """Return the configuration that refuses a database without tables, or with old ones."""
    return attrs.evolve(storage, auto_create_tables=False) if storage.storage_type in _SQL else storage


def is_server(storage: StorageConfig) -> bool:
    """Tell whether a store is a server."""
    return storage.storage_type in _PORTS


def store_name(storage: StorageConfig) -> str:
    """Return what a store is called, without a password."""
    if storage.storage_type in _FILES:
        return f"{storage.storage_type}: {storage.path}"
    return public_url(storage.connection_string or f"{storage.storage_type}://")


def is_same_store(one: StorageConfig, other: StorageConfig) -> bool:
    """Tell whether two configurations name one store, as far as their text and the file system say.

    Two names of one host are not recognised; ``StoreCopy`` finds out before it deletes anything.
    """
    if one.storage_type is not other.storage_type:
        return False
    if one.storage_type in _FILES:
        return os.path.realpath(one.path) == os.path.realpath(other.path)
    return one.storage_type is StorageType.MEMORY or _place(one) == _place(other)


def _place(storage: StorageConfig) -> tuple[object, ...]:
    """Return what tells servers' stores apart, as far as the URLs say it."""
    parts = urlsplit(storage.connection_string or "")
    hosts = parts.netloc.rpartition("@")[2].lower().replace("localhost", "127.0.0.1").split(",")
    port = f":{_PORTS[storage.storage_type]}"
    path = parts.path.strip("/") or ("0" if storage.storage_type is StorageType.REDIS else "")
    choice = sorted(pair for pair in parse_qsl(parts.query) if pair[0] in _CHOOSES_PLACE)
    # PostgreSQL's role chooses the database that is not named, and the schema
    named = bool(path) and any(name in ("schema", "search_path") for name, _ in choice)
    user = parts.username if storage.storage_type is StorageType.POSTGRES and not named else None
    return sorted(host.removesuffix(port) for host in hosts), path, user, choice
