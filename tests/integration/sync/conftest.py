"""Processes for the tests of code without ``await``: workers, servers, notebooks."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.command import process_environment
from tests.support.servers import mongodb_url, postgres_url, redis_url
from tests.support.servers.places import clear_mongodb, clear_postgres, clear_redis, place_name

Worker = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Return variables for a process whose home is an empty folder."""
    return process_environment(tmp_path)


@pytest.fixture
def run_python(tmp_path: Path, environment: dict[str, str]) -> Worker:
    """Return a function that runs Python with arguments, in the folder of the test."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    url, name = postgres_url(), place_name(tmp_path)
    yield f"{url}{'&' if '?' in url else '?'}schema={name}"
    clear_postgres(url, name)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    url, name = redis_url(), place_name(tmp_path)
    yield f"{url}#{name}"  # a URL names no prefix
    clear_redis(url, name)


@pytest.fixture
def mongodb(tmp_path: Path) -> Iterator[str]:
    url, name = mongodb_url(), place_name(tmp_path)
    yield urlsplit(url)._replace(path=f"/{name}").geturl()
    clear_mongodb(url, name)
