"""Places of stores that the adapters for frameworks are tested on, in this process and in others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from tests.support.servers import mongodb_url, postgres_url, redis_url
from tests.support.servers.places import clear_mongodb, clear_postgres, clear_redis, place_name


def _memory(_: Path) -> StorageConfig:
    return StorageConfig()


def _files(path: Path) -> StorageConfig:
    return StorageConfig("json", file_path=str(path / "files"))


def _sqlite(path: Path) -> StorageConfig:
    return StorageConfig("sqlite", file_path=str(path / "store.db"))


def _wrapped(path: Path) -> StorageConfig:
    return attrs.evolve(_sqlite(path), encryption_enabled=True, encryption_required=True, compression_enabled=True)


def _postgres(path: Path) -> StorageConfig:
    url = postgres_url()
    return StorageConfig("postgres", f"{url}{'&' if '?' in url else '?'}schema={place_name(path)}")


def _redis(path: Path) -> StorageConfig:
    return StorageConfig("redis", redis_url(), redis_prefix=f"{place_name(path)}:")


def _mongodb(path: Path) -> StorageConfig:
    return StorageConfig("mongodb", urlsplit(mongodb_url())._replace(path=f"/{place_name(path)}").geturl())


def _nothing(_: Path) -> None:
    """Leave the store in the folder of the test."""


@attrs.frozen
class Place:
    """How to name a store, and how to remove it."""

    config: Callable[[Path], StorageConfig]
    clear: Callable[[Path], None] = _nothing

    @contextmanager
    def at(self, path: Path) -> Iterator[StorageConfig]:
        """Yield the configuration of an empty store."""
        try:
            yield self.config(path)
        finally:
            self.clear(path)


SHARED = {
    "files": Place(_files),
    "SQLite": Place(_sqlite),
    "Postgres": Place(_postgres, lambda path: clear_postgres(postgres_url(), place_name(path))),
    "Redis": Place(_redis, lambda path: clear_redis(redis_url(), place_name(path))),
    "MongoDB": Place(_mongodb, lambda path: clear_mongodb(mongodb_url(), place_name(path))),
}
"""Places that several processes can use."""

ALL = {"memory": Place(_memory), "encrypted and compressed SQLite": Place(_wrapped), **SHARED}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMINORA_ENCRYPTION_KEYS", f"2026:{bytes(range(32)).hex()}")


@pytest.fixture(params=list(ALL.values()), ids=list(ALL))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageConfig]:
    """Return the configuration of an empty store, on every backend."""
    with request.param.at(tmp_path) as config:
        yield config


@pytest.fixture(params=list(SHARED.values()), ids=list(SHARED))
def shared_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageConfig]:
    """Return the configuration of an empty store, on every backend that several processes can use."""
    with request.param.at(tmp_path) as config:
        yield config


@pytest.fixture
def sqlite(tmp_path: Path) -> StorageConfig:
    """Return the configuration of an empty store in a file."""
    return _sqlite(tmp_path)


pytest.register_assert_rewrite("tests.integrations.agent_runs", "tests.integrations.import_runs")
