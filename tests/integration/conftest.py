"""Fixtures: a storage of each embedded kind, a manager with a manual clock, a scripted provider."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import attrs
import pytest

from luminoracore_sdk.application.services import Services
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.session import SessionManager, SessionStorage
from luminoracore_sdk.testing import ManualClock
from tests.support.backends import FILES, MEMORY, SQLITE, Backend, backend_fixture
from tests.support.scripted_provider import Script, scripted


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def services(clock: ManualClock) -> Services:
    return attrs.evolve(default_services(), clock=clock)


backend = backend_fixture((MEMORY, FILES, SQLITE))


@pytest.fixture
def open_storage(backend: Backend, tmp_path: Path, clock: ManualClock) -> Iterator[Callable[[], SessionStorage]]:
    """Yield a factory of storages on one store; a second storage sees what the first one wrote."""
    yield lambda: backend.at(tmp_path / "store")(clock)
    backend.clear(tmp_path / "store")


@pytest.fixture
async def storage(open_storage: Callable[[], SessionStorage]) -> AsyncIterator[SessionStorage]:
    async with open_storage() as opened:
        yield opened


@pytest.fixture
async def manager(storage: SessionStorage, services: Services) -> AsyncIterator[SessionManager]:
    async with SessionManager(storage, services=services) as made:
        yield made


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted() as running:
        yield running
