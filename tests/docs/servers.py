"""Databases of shared servers that only one page uses."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from tests.support.servers import mongodb_url, postgres_url, redis_cluster_url, redis_url
from tests.support.servers.places import (
    clear_mongodb,
    clear_redis,
    clear_redis_cluster,
    execute_postgres,
    place_name,
)

__all__ = ["SERVERS"]

_ROOT = Path(__file__).parents[2]


@contextmanager
def _postgres(page: Path) -> Iterator[str]:
    url, name = postgres_url(), place_name(page)
    execute_postgres(url, f"DROP DATABASE IF EXISTS {name} (FORCE)", f"CREATE DATABASE {name}")
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        execute_postgres(url, f"DROP DATABASE {name} (FORCE)")


@contextmanager
def _redis(page: Path) -> Iterator[str]:
    with_redis = sorted(path for path in (_ROOT / "docs").rglob("*.md") if "REDIS_URL" in path.read_text())
    number = 1 + with_redis.index(page)  # 0 belongs to the other tests
    url = urlunsplit(urlsplit(redis_url())._replace(path=f"/{number}"))
    try:
        yield url
    finally:
        clear_redis(url, "")


@contextmanager
def _redis_cluster(_: Path) -> Iterator[str]:
    url = redis_cluster_url()
    try:
        yield url
    finally:
        clear_redis_cluster(url, "luminoracore:")


@contextmanager
def _mongodb(page: Path) -> Iterator[str]:
    url, name = mongodb_url(), place_name(page)
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        clear_mongodb(url, name)


SERVERS: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "POSTGRES_URL": _postgres,
    "REDIS_URL": _redis,
    "REDIS_CLUSTER_URL": _redis_cluster,
    "MONGODB_URL": _mongodb,
}
"""The variables that pages use for the address of a server."""
