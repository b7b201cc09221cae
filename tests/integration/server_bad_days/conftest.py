"""Fixtures: a store on a real server of each kind, which is repaired before each test."""

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
    """Return the name of a kind of server and, if there are several, of its driver."""
    name: str = request.param
    return name


@pytest_asyncio.fixture
async def place(kind: str, tmp_path: Path) -> AsyncIterator[Place]:
    """Yield an empty store on the server of a kind."""
    rig = running_rig(kind)
    rig.mend()
    made = Place(rig, tmp_path)
    yield made
    rig.mend()
    await made.close()
