"""Servers that do not answer: every call ends in time, and what was in doubt is cleared up afterwards."""

import asyncio
import gc

import pytest

from luminoracore_sdk.domain.errors import StorageTimeoutError, StorageUnavailableError
from luminoracore_sdk.testing import message_record, session_record
from tests.support.bad_days import Place, assert_whole, failure, in_time, stored_ids
from tests.support.servers.proxy import FaultProxy, unanswering_port


async def test_a_frozen_server_ends_calls_with_a_timeout(place: Place) -> None:
    storage, other = await place.begun(pool=2), await place.begun(pool=1)
    await storage.append_messages("s", [message_record("m1")])
    await assert_whole(storage, 2)
    place.rig.freeze()
    batch = [message_record("m2"), message_record("m3")]
    wrote, read, _ = await asyncio.gather(
        failure(storage.append_messages("s", batch)),
        failure(storage.find_session("s")),
        in_time(other.close()),
    )
    assert (type(wrote), wrote.in_doubt) == (StorageTimeoutError, True)
    assert (type(read), read.in_doubt) == (StorageTimeoutError, False)
    place.rig.thaw()
    await storage.append_messages("s", batch)  # replayed or not: the server may have had it all the time
    assert await stored_ids(storage) == ["m1", "m2", "m3"]
    await assert_whole(storage, 2)


async def test_what_the_network_delivers_late_is_not_doubled(place: Place) -> None:
    storage = await place.begun(pool=1)
    await storage.append_messages("s", [message_record("m1")])
    place.rig.each_proxy(FaultProxy.hang)
    batch = [message_record("m2"), message_record("m3")]
    error = await failure(storage.append_messages("s", batch))
    assert (type(error), error.in_doubt) == (StorageTimeoutError, True)
    place.rig.each_proxy(FaultProxy.pass_on)
    await storage.append_messages("s", batch)
    await storage.append_messages("s", [message_record("m4")])
    assert await stored_ids(storage) == ["m1", "m2", "m3", "m4"]
    await assert_whole(storage, 1)


async def test_a_server_that_accepts_and_never_speaks_is_given_up(place: Place) -> None:
    place.rig.each_proxy(FaultProxy.hang)
    storage = place.storage(pool=1)
    assert (await failure(storage.open())).in_doubt is False
    place.rig.each_proxy(FaultProxy.cut)
    place.rig.each_proxy(FaultProxy.pass_on)
    await storage.put_session(session_record())
    await assert_whole(storage, 1)


async def test_a_host_that_is_switched_off_is_given_up(place: Place) -> None:
    with unanswering_port() as port:
        storage = place.storage(ports=[port])
        error = await failure(storage.put_session(session_record()))
        assert error.in_doubt is False


@pytest.mark.parametrize("under_way", [False, True])
def test_a_loop_that_was_closed_takes_nothing_along(place: Place, under_way: bool) -> None:
    storage = place.storage(pool=1)

    async def first() -> None:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("m1")])
        if under_way:
            place.rig.each_proxy(FaultProxy.hang)
            waiting = asyncio.ensure_future(storage.append_messages("s", [message_record("m2")]))
            await asyncio.sleep(0.05)
            assert not waiting.done()

    async def second() -> list[str]:
        await storage.append_messages("s", [message_record("m2")])
        await assert_whole(storage, 1)
        return await stored_ids(storage)

    asyncio.run(first())
    place.rig.each_proxy(FaultProxy.pass_on)
    assert asyncio.run(second()) == ["m1", "m2"]
    asyncio.run(storage.close())
    gc.collect()  # what was left open would say so now
    place.rig.wait_until_unused()


def test_a_server_that_went_with_the_loop_is_found_again(place: Place) -> None:
    storage = place.storage(pool=1)

    async def first() -> None:
        await storage.put_session(session_record())

    async def second() -> None:
        error = await failure(storage.append_messages("s", [message_record("m1")]))
        assert (type(error), error.in_doubt) == (StorageUnavailableError, False)

    async def third() -> list[str]:
        await storage.append_messages("s", [message_record("m1")])
        return await stored_ids(storage)

    asyncio.run(first())
    place.rig.each_proxy(FaultProxy.refuse)
    asyncio.run(second())
    place.rig.each_proxy(FaultProxy.pass_on)
    assert asyncio.run(third()) == ["m1"]
    asyncio.run(storage.close())
    gc.collect()
    place.rig.wait_until_unused()
