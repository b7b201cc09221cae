"""A server of a module's own, empty for each test, and a storage on it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from luminoracore_sdk.adapters.storage.redis import RedisStorage
from luminoracore_sdk.testing import ManualClock
from tests.support.servers.valkey import ValkeyServer


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def server(shared: ValkeyServer) -> ValkeyServer:
    shared.command("FLUSHALL")
    shared.command("SCRIPT", "FLUSH")
    shared.command("CONFIG", "RESETSTAT")
    return shared


@pytest.fixture
async def storage(server: ValkeyServer, clock: ManualClock) -> AsyncIterator[RedisStorage]:
    async with RedisStorage(server.url, clock=clock) as storage:
        yield storage
