"""A place on a real server of each kind; the server is mended before each test and lives for the run."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.bad_days import Place, running_rig

_KINDS = (
    "postgres",
    "valkey",
    "valkey-cluster",
    "mongodb-pymongo",
    pytest.param("mongodb-motor", marks=pytest.mark.nightly),
)


@pytest.fixture(params=_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Name of a kind of server and, where there are several, of its driver."""
    name: str = request.param
    return name


@pytest_asyncio.fixture
async def place(kind: str, tmp_path: Path) -> AsyncIterator[Place]:
    """An empty place on the server of a kind."""
    rig = running_rig(kind)
    rig.mend()
    made = Place(rig, tmp_path)
    yield made
    rig.mend()
    await made.close()
