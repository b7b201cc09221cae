"""A store with a session of three chunks, an empty one, and a copy between them."""

from typing import Any

import pytest

from luminoracore_sdk.application.maintenance.copy import Copied
from luminoracore_sdk.application.ports.records import SessionQuery
from luminoracore_sdk.session import InMemoryStorage
from luminoracore_sdk.testing import ManualClock
from tests.support.copying import Copy, copy, filled


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def source(clock: ManualClock) -> InMemoryStorage:
    storage = InMemoryStorage(clock=clock)
    await filled(storage, clock)
    return storage


@pytest.fixture
def target(clock: ManualClock) -> InMemoryStorage:
    return InMemoryStorage(clock=clock)


@pytest.fixture
def copied(source: InMemoryStorage, target: InMemoryStorage, clock: ManualClock) -> Copy:
    """Copy from the source to the target, unless others are passed."""

    async def run(query: SessionQuery | None = None, **given: Any) -> list[Copied]:
        stores: dict[str, Any] = {"source": source, "target": target, "clock": clock}
        return await copy(query=query, **stores | given)

    return run
