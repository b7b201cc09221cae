"""Copying: damaged records, lost connections, cancellation."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.maintenance.copy import CHUNK, Outcome
from luminoracore_sdk.application.ports.records import SessionQuery, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import PayloadTooLargeError, StorageUnavailableError, ValidationError
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.session import InMemoryStorage
from luminoracore_sdk.testing import CancelAt, ManualClock
from luminoracore_sdk.testing.records import session_record
from tests.support.copying import (
    DAMAGED,
    LONG,
    OF_S,
    OF_U,
    Copy,
    change_header,
    change_memory,
    change_message,
    contents,
    summary,
)
from tests.support.unreliable import Fault, Unreliable

Change = Callable[[SessionStorage], Awaitable[object]]


# -- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda storage: change_header(storage, payload=DAMAGED),
        lambda storage: change_message(storage, payload=DAMAGED),
        lambda storage: change_memory(storage, OF_S, "a", payload=DAMAGED),
    ],
    ids=["header", "message", "memory"],
)
async def test_a_damaged_session_is_reported_and_not_left_partial(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy, damage: Change
) -> None:
    await damage(source)
    await source.put_session(session_record("t"))
    _, bad, good = await copied()
    assert (bad.outcome, good.outcome) == (Outcome.FAILED, Outcome.COPIED)
    assert bad.reason is not None
    assert bad.reason.endswith("is damaged: not valid json")
    assert await target.list_sessions() == ["t"]


async def test_a_copied_prefix_of_a_damaged_session_is_kept(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    await copied()
    await target.truncate_messages("s", after=CHUNK)
    await change_message(source, payload=DAMAGED)
    assert (await copied())[1].outcome is Outcome.FAILED
    found = await target.find_session("s")
    assert found is not None
    assert found.last_position == 2 * CHUNK


async def test_a_damaged_user_memory_is_reported(source: InMemoryStorage, copied: Copy) -> None:
    await change_memory(source, OF_U, "name", payload=DAMAGED)
    assert [one.outcome for one in await copied()] == [Outcome.FAILED, Outcome.COPIED]


async def test_a_header_without_a_payload_is_damaged(source: InMemoryStorage, copied: Copy) -> None:
    class Hollow(InMemoryStorage):
        async def find_session(self, session_id: str) -> SessionRecord | None:
            record = await source.find_session(session_id)
            return record and attrs.evolve(record, payload=None)

        async def query_sessions(self, query: SessionQuery) -> Any:
            return await source.query_sessions(query)

    assert [one.reason for one in await copied(source=Hollow())] == [
        "memory storage: session 's' is damaged: it has no payload"
    ]


async def test_a_session_that_is_too_large_is_not_left_partial(target: InMemoryStorage, copied: Copy) -> None:
    error = PayloadTooLargeError(backend="m", key="the message", size_bytes=2, limit_bytes=1)
    small = Unreliable(target, *[None] * 10, Fault(error))
    assert summary(await copied(target=small))[1] == ("session", "s", "failed", 0, 0)
    assert "append_messages" in small.calls
    assert await target.list_sessions() == []


# -- interruption --------------------------------------------------------------------------------


async def test_an_unreachable_target_ends_a_copy_that_can_be_repeated(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    cut = StorageUnavailableError("remote", "the connection was cut", in_doubt=True)
    for step in range(6):  # a copy without anything to write makes six calls
        with pytest.raises(StorageUnavailableError):
            await copied(target=Unreliable(target, *[None] * step, Fault(cut, done=True)))
    assert summary(await copied())[1] == ("session", "s", "completed", LONG, 3)
    assert await contents(target) == await contents(source)


async def test_a_copy_cancelled_at_any_step_can_be_repeated(
    source: InMemoryStorage, clock: ManualClock, copied: Copy
) -> None:
    class Yielding(Unreliable):
        async def meet(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
            await asyncio.sleep(0)
            return await call()

    step, reached = 0, True
    while reached:
        target = InMemoryStorage(clock=clock)
        call = CancelAt(copied(target=Yielding(target)), step, late=True)
        try:
            await call
        except asyncio.CancelledError:
            assert call.reached
        reached, step = call.reached, step + 1
        assert all(one.is_equal for one in await copied(target=target))
        assert await contents(target) == await contents(source)
    assert step > 10


async def test_a_stores_own_records_are_not_copied(copied: Copy) -> None:
    with pytest.raises(ValidationError, match="is not a user"):
        await copied(SessionQuery(user_id=STORE_OWNER))
