"""Killed servers, cut connections and cancelled calls neither lose nor duplicate appends."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest

from luminoracore_sdk.application.ports.records import MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.testing import CancelAt, message_record, session_record
from tests.support.bad_days import Place, assert_whole, possible_failure, stored_ids
from tests.support.servers.proxy import FaultProxy
from tests.support.waiting import until

_WRITERS = 4
_ENOUGH_STEPS = 100


def _batch(name: str) -> list[MessageRecord]:
    return [message_record(f"{name}-{part}") for part in (1, 2, 3)]


@attrs.define
class Writer:
    """Append batches of three to a session of its own, and record the outcome of each.

    Attributes:
        session_id: Its session.
        acknowledged: Batches with a receipt.
        doubtful: Batches that failed and may be stored.
        refused: Batches that failed and are not stored.
    """

    session_id: str
    acknowledged: list[str] = attrs.field(factory=list)
    doubtful: list[str] = attrs.field(factory=list)
    refused: list[str] = attrs.field(factory=list)

    @property
    def failures(self) -> list[str]:
        return [*self.doubtful, *self.refused]

    async def write(self, storage: SessionStorage, under_fire: asyncio.Event) -> None:
        """Append until three batches have been stored after the failures ended."""
        left = 3
        for number in itertools.count():
            peaceful = not under_fire.is_set()
            done = await self._append(storage, f"{self.session_id}-{number}")
            left -= done and peaceful
            if left == 0:
                return

    async def _append(self, storage: SessionStorage, name: str) -> bool:
        error = await possible_failure(storage.append_messages(self.session_id, _batch(name)))
        if error is None:
            self.acknowledged.append(name)
            return True
        (self.doubtful if error.in_doubt else self.refused).append(name)

        async def answers() -> bool:
            return await possible_failure(storage.ping()) is None

        await until(answers, "an answer of the server")
        return False

    async def check(self, storage: SessionStorage) -> None:
        """Assert that acknowledged batches are stored once and whole, and refused batches are not."""
        stored = await stored_ids(storage, self.session_id)
        batches = [name.rpartition("-")[0] for name in stored[::3]]
        assert stored == [message.message_id for name in batches for message in _batch(name)]
        assert [name for name in self.acknowledged if name not in batches] == []
        assert len(set(batches)) == len(batches)
        assert [name for name in self.refused if name in batches] == []
        for name in self.failures:
            receipt = await storage.append_messages(self.session_id, _batch(name))
            assert receipt.replayed == (name in batches)
        stored = await stored_ids(storage, self.session_id)
        assert len(stored) == 3 * (len(self.acknowledged) + len(self.failures))


def _acknowledged(writers: Sequence[Writer]) -> int:
    return sum(len(writer.acknowledged) for writer in writers)


def _have_more_than(writers: Sequence[Writer], count: int) -> Callable[[], bool]:
    return lambda: _acknowledged(writers) > count


@asynccontextmanager
async def _writing(storage: SessionStorage) -> AsyncIterator[Sequence[Writer]]:
    """Write to several sessions while the block causes failures, and until the writers recover; then check."""
    writers = [Writer(f"w{number}") for number in range(_WRITERS)]
    for writer in writers:
        await storage.put_session(session_record(writer.session_id))
    under_fire = asyncio.Event()
    under_fire.set()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.write(storage, under_fire))
        await until(lambda: all(writer.acknowledged for writer in writers), "an append of every writer")
        yield writers
        under_fire.clear()
    assert sum(len(writer.failures) for writer in writers) > 0
    for writer in writers:
        await writer.check(storage)


async def test_a_killed_server_keeps_acknowledged_appends(place: Place) -> None:
    storage = await place.begun(ports=place.rig.reachable_ports)
    async with _writing(storage) as writers:
        await asyncio.to_thread(place.rig.kill)
        await until(lambda: any(writer.failures for writer in writers), "a failure")
        await asyncio.to_thread(place.rig.start)
    await assert_whole(storage, 4)


async def test_appends_over_cut_connections_lose_nothing(place: Place) -> None:
    storage = await place.begun(pool=2)
    async with _writing(storage) as writers:
        for _ in range(8):
            await until(_have_more_than(writers, _acknowledged(writers)), "an append after a cut")
            place.rig.each_proxy(FaultProxy.cut)
    await assert_whole(storage, 2)


@pytest.mark.parametrize("late", [False, True])
async def test_a_cancelled_append_leaves_the_pool_whole(place: Place, late: bool) -> None:
    storage = await place.begun(pool=1)
    done = list[str]()
    for step in range(_ENOUGH_STEPS):
        batch = _batch(f"step-{step}")
        call = CancelAt(storage.append_messages("s", batch), step, late=late)
        await asyncio.wait([asyncio.ensure_future(call)])
        await assert_whole(storage, 1)
        assert len(await stored_ids(storage)) in {len(done), len(done) + 3}
        await storage.append_messages("s", batch)  # a cancelled append may still arrive
        done += [message.message_id for message in batch]
        assert await stored_ids(storage) == done
        if not call.reached:
            return
    raise AssertionError(f"an append still waits after {_ENOUGH_STEPS} steps")


@pytest.mark.parametrize("late", [False, True])
async def test_a_cancelled_first_use_leaves_no_connection(place: Place, late: bool) -> None:
    owner = await place.begun()
    for step in range(_ENOUGH_STEPS):
        storage = place.storage(pool=1)
        call = CancelAt(storage.append_messages("s", _batch(f"step-{step}")), step, late=late)
        await asyncio.wait([asyncio.ensure_future(call)])
        await storage.append_messages("s", _batch(f"step-{step}"))
        await storage.close()
        if not call.reached:
            assert len(await stored_ids(owner)) == 3 * (step + 1)
            return
    raise AssertionError(f"a first append still waits after {_ENOUGH_STEPS} steps")


async def test_cancelling_many_appends_leaves_the_pool_whole(place: Place) -> None:
    storage = await place.begun(pool=2)
    place.rig.each_proxy(FaultProxy.hang)
    calls = [asyncio.ensure_future(storage.append_messages("s", _batch(f"b{number}"))) for number in range(8)]
    assert await asyncio.wait(calls, timeout=0.1) == (set(), set(calls))
    for call in calls:
        call.cancel()
    done, waiting = await asyncio.wait(calls, timeout=5)
    assert (len(done), waiting) == (8, set())
    place.rig.each_proxy(FaultProxy.cut)
    place.rig.each_proxy(FaultProxy.pass_on)
    await possible_failure(storage.ping())
    assert await stored_ids(storage) == []
    await assert_whole(storage, 2)
