"""Copying a store that is damaged, that somebody else writes to, that is cut off; stopping in the middle."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import pytest

from luminoracore_sdk.application.copying import Copied, Outcome
from luminoracore_sdk.application.copying_steps import CHUNK
from luminoracore_sdk.application.ports.records import (
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import PayloadTooLargeError, StorageUnavailableError
from luminoracore_sdk.session import InMemoryStorage
from luminoracore_sdk.testing import CancelAt, ManualClock
from luminoracore_sdk.testing.builders import memory_record, message_record, session_record
from tests.support.copying import (
    DAMAGED,
    LONG,
    OF_S,
    OF_U,
    change_header,
    change_memory,
    change_message,
    contents,
    copy,
    filled,
    summary,
    whole,
)
from tests.support.unreliable import Fault, Unreliable

Change = Callable[[SessionStorage], Awaitable[object]]
Copy = Callable[..., Awaitable[list[Copied]]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def source(clock: ManualClock) -> InMemoryStorage:
    storage = InMemoryStorage(clock=clock)
    await filled(storage, clock)
    return storage


@pytest.fixture
def target(clock: ManualClock) -> InMemoryStorage:
    return InMemoryStorage(clock=clock)


@pytest.fixture
def copied(source: InMemoryStorage, target: InMemoryStorage, clock: ManualClock) -> Copy:
    """Copies from the source to the target, unless another one is named."""

    async def run(query: SessionQuery | None = None, **given: Any) -> list[Copied]:
        stores: dict[str, Any] = {"source": source, "target": target, "clock": clock}
        return await copy(query=query, **stores | given)

    return run


# -- what cannot be copied -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda storage: change_header(storage, payload=DAMAGED),
        lambda storage: change_message(storage, payload=DAMAGED),
        lambda storage: change_memory(storage, OF_S, "a", payload=DAMAGED),
    ],
    ids=["header", "message", "memory"],
)
async def test_a_damaged_session_is_named_not_left_by_half_and_the_others_go_over(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy, damage: Change
) -> None:
    await damage(source)
    await source.put_session(session_record("t"))
    _, bad, good = await copied()
    assert (bad.outcome, good.outcome) == (Outcome.FAILED, Outcome.COPIED)
    assert bad.reason is not None
    assert bad.reason.endswith("is damaged: not valid json")
    assert await target.list_sessions() == ["t"]


async def test_the_beginning_of_a_session_that_turns_out_to_be_damaged_stays(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    await copied()
    await target.truncate_messages("s", after=CHUNK)
    await change_message(source, payload=DAMAGED)
    assert (await copied())[1].outcome is Outcome.FAILED
    found = await target.find_session("s")
    assert found is not None
    assert found.last_position == 2 * CHUNK


async def test_what_is_damaged_about_a_user_is_named(source: InMemoryStorage, copied: Copy) -> None:
    await change_memory(source, OF_U, "name", payload=DAMAGED)
    assert [one.outcome for one in await copied()] == [Outcome.FAILED, Outcome.COPIED]


async def test_a_header_without_a_document_is_damage(source: InMemoryStorage, copied: Copy) -> None:
    class Hollow(InMemoryStorage):
        async def find_session(self, session_id: str) -> SessionRecord | None:
            record = await source.find_session(session_id)
            return record and attrs.evolve(record, payload=None)

        async def query_sessions(self, query: SessionQuery) -> Any:
            return await source.query_sessions(query)

    assert (await copied(source=Hollow()))[1].reason == (
        "memory storage: session 's' is damaged: it has no payload"
    )


async def test_a_session_that_the_target_refuses_is_not_left_by_half(
    target: InMemoryStorage, copied: Copy
) -> None:
    error = PayloadTooLargeError(backend="m", key="the message", size_bytes=2, limit_bytes=1)
    small = Unreliable(target, *[None] * 10, Fault(error))
    assert summary(await copied(target=small))[1] == ("session", "s", "failed", 0, 0)
    assert "append_messages" in small.calls
    assert await target.list_sessions() == []


# -- meanwhile -----------------------------------------------------------------------------------


async def append_one(storage: SessionStorage) -> None:
    await storage.append_messages("s", [message_record("x")])


async def delete(storage: SessionStorage) -> None:
    await storage.delete_session("s")


class Meddled(Unreliable):
    """Before a call of some name, at its count-th time, somebody else does something to the store below."""

    def __init__(self, base: SessionStorage, call: str, count: int, change: Change) -> None:
        super().__init__(base)
        self._moment = (call, count)
        self._change = change

    async def meet(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls.append(name)
        if (name, self.calls.count(name)) == self._moment:
            await self._change(self.base)
        return await call()


async def test_messages_that_are_added_meanwhile_are_left_to_the_next_copy(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    meddled = Meddled(source, "read_messages", 2, append_one)
    assert summary(await copied(source=meddled)) == whole(Outcome.COPIED)
    assert summary(await copied(source=meddled))[1] == ("session", "s", "completed", LONG + 1, 3)
    assert await contents(target) == await contents(source)


async def test_a_session_deleted_from_the_source_meanwhile_is_taken_back(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    meddled = Meddled(source, "read_messages", 2, delete)
    _, gone = await copied(source=meddled)
    assert (gone.outcome, gone.is_equal) == (Outcome.GONE, True)
    assert await target.list_sessions() == []


async def test_a_session_that_is_gone_when_its_turn_comes_is_passed_over(
    source: InMemoryStorage, copied: Copy
) -> None:
    meddled = Meddled(source, "find_session", 1, delete)
    assert [one.outcome for one in await copied(source=meddled)] == [Outcome.COPIED, Outcome.GONE]


async def test_a_session_shortened_in_the_source_meanwhile_is_no_copy(
    source: InMemoryStorage, copied: Copy
) -> None:
    meddled = Meddled(source, "read_messages", 3, lambda storage: storage.truncate_messages("s", after=CHUNK))
    assert (await copied(source=meddled))[1].reason == "is shortened in the source by somebody else"


OTHERS: dict[str, tuple[str, int, Change, str]] = {
    "begin it": (
        "put_session",
        1,
        lambda storage: storage.put_session(session_record()),
        "is written by somebody else in the target: memory storage: session 's': expected no such session",
    ),
    "append to it": (
        "append_messages",
        2,
        append_one,
        f"expected last position {CHUNK}, found last position {CHUNK + 1}",
    ),
    "delete it": ("append_messages", 2, delete, "no session 's'"),
    "delete it at the end": (
        "find_session",
        2,
        delete,
        "no session 's'",
    ),
    "append at the end": (
        "find_session",
        2,
        append_one,
        "did not come back equal",
    ),
    "forget": (
        "find_session",
        2,
        lambda storage: storage.clear_memories(OF_S),
        "did not come back equal",
    ),
    "remember": (
        "find_session",
        2,
        lambda storage: storage.put_memory(memory_record("a", value="x")),
        "did not come back equal",
    ),
}


@pytest.mark.parametrize(("call", "count", "change", "reason"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("overwrite", [False, True])
async def test_what_somebody_else_writes_in_the_target_meanwhile_is_reported_and_left(
    target: InMemoryStorage, copied: Copy, call: str, count: int, change: Change, reason: str, overwrite: bool
) -> None:
    _, one = await copied(target=Meddled(target, call, count, change), overwrite=overwrite)
    assert one.outcome is Outcome.DIFFERENT
    assert one.reason is not None
    assert reason in one.reason


async def test_memories_that_expire_meanwhile_are_missed_by_nobody(
    clock: ManualClock, source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    async def pass_an_hour(_: SessionStorage) -> None:
        clock.advance(3600)

    slow = Meddled(target, "find_session", 2, pass_an_hour)
    assert summary(await copied(target=slow)) == whole(Outcome.COPIED)
    assert await source.list_memories(OF_S) == []


async def test_a_store_that_cannot_be_reached_ends_the_copy_and_the_next_one_goes_on(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    cut = StorageUnavailableError("remote", "the connection was cut", in_doubt=True)
    for step in range(6):  # a copy that has nothing to write makes six calls
        with pytest.raises(StorageUnavailableError):
            await copied(target=Unreliable(target, *[None] * step, Fault(cut, done=True)))
    assert summary(await copied())[1] == ("session", "s", "completed", LONG, 3)
    assert await contents(target) == await contents(source)


async def test_a_copy_cancelled_at_any_step_is_completed_by_the_next_one(
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
