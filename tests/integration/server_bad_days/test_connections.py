"""Connections that are refused, cut or unavailable."""

import asyncio
from collections import Counter
from types import NoneType

import attrs

from luminoracore_sdk.domain.errors import (
    StorageBusyError,
    StorageTimeoutError,
    StorageUnavailableError,
)
from luminoracore_sdk.testing import message_record, session_record
from tests.support.bad_days import Place, assert_whole, failure, possible_failure, stored_ids
from tests.support.servers.proxy import FaultProxy

_LONG = "x" * 400_000


async def test_a_stopped_server_is_found_when_it_runs(place: Place) -> None:
    place.rig.each_proxy(FaultProxy.refuse)
    storage = place.storage()
    for call in (storage.open, lambda: storage.put_session(session_record())):
        error = await failure(call())
        assert (type(error), error.in_doubt) == (StorageUnavailableError, False)
    place.rig.each_proxy(FaultProxy.pass_on)
    await storage.open()
    assert (await storage.put_session(session_record())).version == 1


async def test_a_restarted_server_is_found_again(place: Place) -> None:
    storage = await place.begun(pool=2)
    await storage.append_messages("s", [message_record("m1")])
    place.rig.each_proxy(FaultProxy.refuse)
    wrote, read = await asyncio.gather(
        failure(storage.append_messages("s", [message_record("m2")])), failure(storage.find_session("s"))
    )
    assert type(wrote) is type(read) is StorageUnavailableError
    assert read.in_doubt is False
    error = await failure(storage.append_messages("s", [message_record("m2")]))
    assert (type(error), error.in_doubt) == (StorageUnavailableError, False)  # the storage knows by now
    place.rig.each_proxy(FaultProxy.pass_on)
    receipt = await storage.append_messages("s", [message_record("m2")])
    assert (receipt.first_position, receipt.replayed) == (2, False)
    assert await stored_ids(storage) == ["m1", "m2"]
    await assert_whole(storage, 2)


async def test_cut_idle_connections_fail_one_call_at_most(place: Place) -> None:
    storage = await place.begun(pool=3)
    await asyncio.gather(*(storage.find_session("s") for _ in range(6)))
    place.rig.each_proxy(FaultProxy.cut)
    error = await possible_failure(storage.append_messages("s", [message_record("m1")]))
    assert type(error) in {NoneType, StorageUnavailableError}
    await storage.append_messages("s", [message_record("m1")])
    assert await stored_ids(storage) == ["m1"]
    await assert_whole(storage, 3)


async def test_a_write_cut_in_the_middle_is_in_doubt(place: Place) -> None:
    storage = await place.begun(pool=1)
    await storage.append_messages("s", [message_record("m1")])
    strikes = place.rig.strikes
    place.rig.each_proxy(lambda proxy: proxy.cut_after(100_000))
    batch = [message_record("m2", text=_LONG), message_record("m3")]
    error = await failure(storage.append_messages("s", batch))
    assert (type(error), error.in_doubt) == (StorageUnavailableError, True)
    assert place.rig.strikes == strikes + 1
    place.rig.each_proxy(FaultProxy.pass_on)
    assert await stored_ids(storage) == ["m1"]
    receipt = await storage.append_messages("s", batch, expected_last=1)
    assert (receipt.first_position, receipt.last_position, receipt.replayed) == (2, 3, False)
    await assert_whole(storage, 1)


async def test_an_append_with_a_lost_answer_can_be_repeated(place: Place) -> None:
    storage = await place.begun(pool=1)
    await storage.append_messages("s", [message_record("m1")])
    strikes = place.rig.strikes
    place.rig.each_proxy(lambda proxy: proxy.lose_answer(b"lost-1"))
    batch = [message_record("lost-1"), message_record("lost-2")]
    error = await failure(storage.append_messages("s", batch, expected_last=1))
    assert (type(error), error.in_doubt) == (StorageUnavailableError, True)
    assert place.rig.strikes == strikes + 1
    receipt = await storage.append_messages("s", batch, expected_last=1)
    assert (receipt.first_position, receipt.last_position, receipt.replayed) == (2, 3, True)
    assert await stored_ids(storage) == ["m1", "lost-1", "lost-2"]
    await assert_whole(storage, 1)


async def test_a_read_with_a_lost_answer_is_not_in_doubt(place: Place) -> None:
    storage = await place.begun(pool=1)
    await storage.put_session(session_record("to-be-lost"))
    strikes = place.rig.strikes
    place.rig.each_proxy(lambda proxy: proxy.lose_answer(b"to-be-lost"))
    error = await possible_failure(storage.find_session("to-be-lost"))
    assert error is None or (type(error), error.in_doubt) == (StorageUnavailableError, False)
    assert place.rig.strikes == strikes + 1
    await assert_whole(storage, 1)


async def test_waiting_for_a_connection_times_out(place: Place) -> None:
    account = attrs.evolve(place.account, options=place.rig.short_wait)
    storage = await place.begun(account=account, pool=2)
    await assert_whole(storage, 2)
    place.rig.each_proxy(FaultProxy.hang)
    errors = await asyncio.gather(*(failure(storage.find_session("s")) for _ in range(20)))
    assert {error.in_doubt for error in errors} == {False}
    kinds = Counter(type(error) for error in errors)
    assert kinds[StorageTimeoutError] >= 2  # the calls that had the connections
    assert kinds[StorageBusyError] >= 12  # on a slow machine, calls that get a connection afterwards time out too
    place.rig.each_proxy(FaultProxy.cut)
    place.rig.each_proxy(FaultProxy.pass_on)
    await possible_failure(storage.ping())
    await assert_whole(storage, 2)
