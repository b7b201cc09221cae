"""A group commit over paper."""

from collections.abc import AsyncIterator

import pytest

from luminoracore_sdk.adapters.storage.group_commit import GroupCommit
from tests.support.paper import BACKEND, Paper


@pytest.fixture
async def paper() -> Paper:
    return Paper()


@pytest.fixture
async def group(paper: Paper) -> AsyncIterator[GroupCommit]:
    made = GroupCommit(BACKEND, alone=paper.alone, together=paper.together, most_requests=1, timeout=30)
    yield made
    assert not made._tasks, "a request is still under way"
    assert min(paper.sizes, default=2) > 1, "what is alone is written alone"
