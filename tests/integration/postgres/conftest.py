"""A schema for each test, and a storage in it that holds the empty session ``s``."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.testing.records import session_record
from tests.support.postgres import Schema
from tests.support.servers import postgres_url
from tests.support.servers.places import clear_postgres, place_name

POOL_SIZE = 4


@pytest.fixture
def schema(tmp_path: Path) -> Iterator[Schema]:
    made = Schema(postgres_url(), place_name(tmp_path))
    yield made
    clear_postgres(made.url, made.name)


@pytest.fixture
async def storage(schema: Schema) -> AsyncIterator[PostgreSQLStorage]:
    async with schema.storage(pool_size=POOL_SIZE, timeout=10) as opened:
        await opened.put_session(session_record())
        yield opened
