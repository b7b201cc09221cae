"""The retrying wrapper over real servers: what fails for a while succeeds in the end, exactly once."""

import asyncio
import logging
import time
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

_WRITERS = 4
_BATCHES = 15


def _retrying(storage: SessionStorage) -> RetryingStorage:
    return RetryingStorage(storage, attempts=200, first_wait=0.02, longest_wait=0.1, time_limit=20)


def _names(writer: int) -> list[str]:
    return [f"w{writer}-{number}-{part}" for number in range(_BATCHES) for part in (1, 2)]


async def _write(storage: SessionStorage, writer: int, pause: float) -> None:
    """Append to a session of one's own, batch by batch, each only where the one before ended."""
    names = _names(writer)
    for last in range(0, len(names), 2):
        batch = [message_record(name) for name in names[last : last + 2]]
        receipt = await storage.append_messages(f"w{writer}", batch, expected_last=last)
        assert (receipt.first_position, receipt.last_position) == (last + 1, last + 2)
        await asyncio.sleep(pause)


async def _begun(place: Place, **options: Any) -> RetryingStorage:
    storage = _retrying(place.storage(**options))
    for writer in range(_WRITERS):
        await storage.put_session(session_record(f"w{writer}"))
    return storage


async def _check(storage: SessionStorage) -> None:
    for writer in range(_WRITERS):
        assert await stored_ids(storage, f"w{writer}") == _names(writer)


async def _until_one_is_stored(storage: SessionStorage) -> None:
    while not await stored_ids(storage, "w0"):  # noqa: ASYNC110  # the server does not call back
        await asyncio.sleep(0.01)


async def _until_one_failed(caplog: pytest.LogCaptureFixture) -> None:
    while "append_messages, attempt 2" not in caplog.text:  # noqa: ASYNC110  # a log does not call back
        await asyncio.sleep(0.01)


async def test_retries_survive_a_killed_server(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    storage = await _begun(place, ports=place.rig.reachable_ports)
    async with asyncio.TaskGroup() as group:
        for writer in range(_WRITERS):
            group.create_task(_write(storage, writer, 0.02))
        await _until_one_is_stored(storage)
        await asyncio.to_thread(place.rig.kill)
        await _until_one_failed(caplog)
        await asyncio.to_thread(place.rig.start)
    assert "append_messages, attempt 2 of 200" in caplog.text
    await _check(storage)
    await assert_whole(storage, 4)


async def test_retries_survive_cut_connections(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    storage = await _begun(place, pool=2)
    async with asyncio.TaskGroup() as group:
        for writer in range(_WRITERS):
            group.create_task(_write(storage, writer, 0.005))
        for _ in range(40):  # often, as an append takes no longer than a millisecond or two
            await asyncio.sleep(0.008)
            place.rig.each_proxy(FaultProxy.cut)
    assert "append_messages, attempt 2 of 200" in caplog.text
    await _check(storage)
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
