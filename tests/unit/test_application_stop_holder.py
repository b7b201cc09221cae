"""A request to stop the turn of another process, and what may happen to its lease meanwhile."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.leases import stop_holder, turn_lease
from luminoracore_sdk.application.ports.records import Lease, SessionRecord
from luminoracore_sdk.session import InMemoryStorage, SessionStorage
from luminoracore_sdk.testing.records import session_record

HOLDER = "turn:a"
SECOND = 1_000_000

Step = Callable[[], Awaitable[object]]


class Meanwhile(StorageWrapper):
    """Makes calls after its own."""

    def __init__(self, storage: SessionStorage, *, found: Step | None = None, asked: Step | None = None) -> None:
        super().__init__(storage)
        self._found, self._asked = found, asked

    async def find_session(self, session_id: str) -> SessionRecord | None:
        result = await super().find_session(session_id)
        step, self._found = self._found, None
        if step:
            await step()
        return result

    async def acquire_lease(self, *args: Any, **kwargs: Any) -> Lease:
        result = await super().acquire_lease(*args, **kwargs)
        step, self._asked = self._asked, None
        if step:
            await step()
        return result


async def stop(storage: SessionStorage, seconds: float = 5.0) -> bool:
    return await stop_holder(storage, "s", now_us=time.time_ns() // 1000, seconds=seconds)


@pytest.fixture
async def base() -> InMemoryStorage:
    storage = InMemoryStorage()
    await storage.put_session(session_record())
    return storage


async def held(base: InMemoryStorage) -> Lease:
    return await base.acquire_lease("s", holder=HOLDER, ttl_us=30 * SECOND)


async def test_a_lease_that_another_one_got_is_left_to_it(base: InMemoryStorage) -> None:
    lease = await held(base)

    async def next_holder() -> None:
        await base.release_lease("s", fence=lease.fence)
        await base.acquire_lease("s", holder="b", ttl_us=30 * SECOND)

    assert await stop(Meanwhile(base, found=next_holder)) is True
    found = await base.find_session("s")
    assert found
    assert found.lease
    assert found.lease.holder == "b"


async def test_a_turn_that_has_just_ended_leaves_no_lease(base: InMemoryStorage) -> None:
    lease = await held(base)

    async def end() -> None:
        await base.release_lease("s", fence=lease.fence)

    assert await stop(Meanwhile(base, found=end)) is True
    assert await base.acquire_lease("s", holder="b", ttl_us=SECOND)


async def test_a_request_that_a_renewal_overwrote_is_repeated(base: InMemoryStorage) -> None:
    lease = await held(base)

    async def renew() -> None:
        await base.acquire_lease("s", holder=HOLDER, ttl_us=30 * SECOND)

    stopping = asyncio.create_task(stop(Meanwhile(base, asked=renew)))
    await asyncio.sleep(0.1)
    found = await base.find_session("s")
    assert found
    assert found.lease
    assert found.lease.until_us < (time.time_ns() // 1000) + 10 * SECOND
    await base.release_lease("s", fence=lease.fence)
    assert await stopping is True


async def test_a_holder_that_does_not_answer_is_not_waited_for(base: InMemoryStorage) -> None:
    await held(base)
    assert await stop(base, seconds=0.4) is True


async def test_a_lease_that_nobody_asks_to_stop_is_renewed(base: InMemoryStorage) -> None:
    stopped: list[None] = []
    async with turn_lease(base, "s", holder="a", seconds=0.15, stop=lambda: stopped.append(None)) as lease:
        await asyncio.sleep(0.4)
        assert not lease.is_lost
    assert stopped == []
