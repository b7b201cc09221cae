"""Servers that do not answer: every call ends in time, and a repeated call resolves the doubt."""

import asyncio
import gc

import pytest

from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import StorageTimeoutError, WrongEventLoopError
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
    await storage.append_messages("s", batch)  # replayed or not: the server may have stored it
    assert await stored_ids(storage) == ["m1", "m2", "m3"]
    await assert_whole(storage, 2)


async def test_a_late_delivery_is_not_doubled(place: Place) -> None:
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


async def test_a_silent_server_times_out(place: Place) -> None:
    place.rig.each_proxy(FaultProxy.hang)
    storage = place.storage(pool=1)
    assert (await failure(storage.open())).in_doubt is False
    place.rig.each_proxy(FaultProxy.cut)
    place.rig.each_proxy(FaultProxy.pass_on)
    await storage.put_session(session_record())
    await assert_whole(storage, 1)


async def test_an_unreachable_host_times_out(place: Place) -> None:
    with unanswering_port() as port:
        storage = place.storage(ports=[port])
        error = await failure(storage.put_session(session_record()))
        assert error.in_doubt is False


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_storage_refuses_a_second_event_loop(place: Place) -> None:
    storage = place.rig.storage(place.account, pool=1)

    async def first(storage: SessionStorage) -> None:
        await storage.put_session(session_record())
        await storage.append_messages("s", [message_record("m1")])

    async def second(storage: SessionStorage) -> None:
        with pytest.raises(WrongEventLoopError):
            await storage.append_messages("s", [message_record("m2")])

    async def third() -> list[str]:
        async with place.storage(pool=1) as other:
            await other.append_messages("s", [message_record("m2")])
            return await stored_ids(other)

    asyncio.run(first(storage))
    asyncio.run(second(storage))
    del storage
    assert asyncio.run(third()) == ["m1", "m2"]
    gc.collect()  # connections of the closed loop warn here, not in a later test
