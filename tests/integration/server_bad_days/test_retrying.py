"""Over real servers, the retrying wrapper completes calls that fail for a while, exactly once."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from operator import methodcaller
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.wrappers.retrying import RetryingStorage
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import StorageAccessError
from luminoracore_sdk.testing import message_record, session_record
from tests.support.bad_days import Place, assert_whole, failed, stored_ids
from tests.support.servers.proxy import FaultProxy
from tests.support.waiting import until

_WRITERS = 4


def _retrying(storage: SessionStorage) -> RetryingStorage:
    return RetryingStorage(storage, attempts=200, first_wait=0.02, longest_wait=0.1, time_limit=20)


@attrs.define
class Writer:
    """Appends batches to a session, each only where the one before ended."""

    session_id: str
    stored: list[str] = attrs.field(factory=list)

    def has_more_than(self, count: int) -> Callable[[], bool]:
        """Return a condition: more messages are stored."""
        return lambda: len(self.stored) > count

    async def write(self, storage: SessionStorage, done: asyncio.Event) -> None:
        """Append until the failures are over, and twice more."""
        more = 2
        while more:
            more -= done.is_set()
            last = len(self.stored)
            names = [f"{self.session_id}-{last + part}" for part in (1, 2)]
            receipt = await storage.append_messages(
                self.session_id, [message_record(name) for name in names], expected_last=last
            )
            assert (receipt.first_position, receipt.last_position) == (last + 1, last + 2)
            self.stored += names


async def _begun(place: Place, **options: Any) -> RetryingStorage:
    storage = _retrying(place.storage(**options))
    for writer in range(_WRITERS):
        await storage.put_session(session_record(f"w{writer}"))
    return storage


@asynccontextmanager
async def _writing(storage: SessionStorage) -> AsyncIterator[Sequence[Writer]]:
    """Write to several sessions while the block runs and a little longer; then check what is stored."""
    writers = [Writer(f"w{number}") for number in range(_WRITERS)]
    done = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for writer in writers:
            group.create_task(writer.write(storage, done))
        yield writers
        done.set()
    for writer in writers:
        assert await stored_ids(storage, writer.session_id) == writer.stored


async def test_retries_survive_a_killed_server(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    storage = await _begun(place, ports=place.rig.reachable_ports)
    async with _writing(storage) as writers:
        await until(lambda: bool(writers[0].stored), "an append")
        await asyncio.to_thread(place.rig.kill)
        await until(lambda: "append_messages, attempt 2 of 200" in caplog.text, "a retry")
        await asyncio.to_thread(place.rig.start)
    await assert_whole(storage, 4)


async def test_retries_survive_cut_connections(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    storage = await _begun(place, pool=2)
    async with _writing(storage) as writers:
        for _ in range(20):
            await until(writers[0].has_more_than(len(writers[0].stored)), "an append after a cut")
            place.rig.each_proxy(FaultProxy.cut)
    assert "append_messages, attempt 2 of 200" in caplog.text
    await assert_whole(storage, 2)


async def test_retries_find_lost_acknowledgements(place: Place) -> None:
    storage = await _begun(place, pool=1)
    strikes = place.rig.strikes
    replayed = []
    for last in range(6):
        name = f"lost-{last}"
        if last % 2:
            place.rig.each_proxy(methodcaller("lose_answer", name.encode()))
        receipt = await storage.append_messages("w0", [message_record(name)], expected_last=last)
        assert receipt.first_position == last + 1
        replayed.append(receipt.replayed)
        place.rig.each_proxy(FaultProxy.pass_on)
    assert replayed == [False, True] * 3
    assert place.rig.strikes == strikes + 3
    assert await stored_ids(storage, "w0") == [f"lost-{last}" for last in range(6)]


async def test_a_conditional_put_with_a_lost_answer_counts_once(place: Place) -> None:
    storage = await _begun(place, pool=1)
    place.rig.each_proxy(methodcaller("lose_answer", b"to be lost"))
    record = session_record("w0", text="to be lost")
    stored = await storage.put_session(record, expected_version=1)
    assert (stored.version, stored.payload) == (2, record.payload)
    assert (await storage.find_session("w0")) == stored


async def test_opening_waits_for_a_server_that_is_starting(place: Place) -> None:
    place.rig.each_proxy(FaultProxy.refuse)
    storage = _retrying(place.storage())
    opening = asyncio.ensure_future(storage.open())
    assert await asyncio.wait([opening], timeout=0.3) == (set(), {opening})
    place.rig.each_proxy(FaultProxy.pass_on)
    await opening
    assert (await storage.put_session(session_record())).version == 1


async def test_a_refused_password_is_not_retried(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    base = place.storage(attrs.evolve(place.account, password="wrong"))
    storage = RetryingStorage(base, attempts=3)
    begin = time.monotonic()
    with caplog.at_level(logging.DEBUG), pytest.raises(StorageAccessError) as caught:
        await storage.open()
    failed(caught.value)
    assert time.monotonic() - begin < 1
    assert "attempt" not in caplog.text
