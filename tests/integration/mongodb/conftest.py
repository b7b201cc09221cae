"""A database of a test's own on the shared standalone server, and storages in it."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage
from tests.support.mongodb import Moments, MongoPlace, mongo_place
from tests.support.servers import mongodb_url


@pytest.fixture
def place(tmp_path: Path) -> Iterator[MongoPlace]:
    with mongo_place(mongodb_url, tmp_path) as place:
        yield place


@pytest.fixture
async def storages(place: MongoPlace) -> AsyncIterator[list[MongoDBStorage]]:
    """Storages that share nothing, as in processes of their own."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(place.storage(driver))
            for driver in ("motor", "pymongo", "motor", "pymongo")
        ]


@pytest.fixture
async def late(place: MongoPlace) -> AsyncIterator[tuple[MongoDBStorage, Moments]]:
    """A storage that others overtake, and its client."""
    async with place.interrupted() as found:
        yield found


@pytest.fixture
async def other(place: MongoPlace) -> AsyncIterator[MongoDBStorage]:
    """A storage that overtakes others."""
    async with place.storage() as storage:
        yield storage
