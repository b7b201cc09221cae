"""Copying while other writers change the source or the target, and copying a store to itself."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from luminoracore_sdk.application.maintenance.copy import CHUNK, Outcome
from luminoracore_sdk.application.ports.records import Purged
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import ConfigurationError
from luminoracore_sdk.session import InMemoryStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import memory_record, message_record, message_records, session_record
from tests.support.copying import LONG, OF_S, Copy, change_header, contents, summary, whole
from tests.support.unreliable import Unreliable

Change = Callable[[SessionStorage], Awaitable[object]]


async def append_one(storage: SessionStorage) -> None:
    await storage.append_messages("s", [message_record("x")])


async def delete(storage: SessionStorage) -> None:
    await storage.delete_session("s")


class Meddled(Unreliable):
    """Changes the storage below before the count-th call of a method."""

    def __init__(self, base: SessionStorage, call: str, count: int, change: Change) -> None:
        super().__init__(base)
        self._moment = (call, count)
        self._change = change

    async def meet(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        self.calls.append(name)
        if (name, self.calls.count(name)) == self._moment:
            await self._change(self.base)
        return await call()


async def test_messages_added_meanwhile_are_left_for_the_next_copy(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    meddled = Meddled(source, "read_messages", 2, append_one)
    assert summary(await copied(source=meddled)) == whole(Outcome.COPIED)
    assert summary(await copied(source=meddled))[1] == ("session", "s", "completed", LONG + 1, 3)
    assert await contents(target) == await contents(source)


@pytest.mark.parametrize(
    ("call", "count"), [("read_messages", 2), ("find_session", 2)], ids=["while read", "when all is read"]
)
async def test_a_session_deleted_meanwhile_is_removed_from_the_target(
    source: InMemoryStorage, target: InMemoryStorage, copied: Copy, call: str, count: int
) -> None:
    meddled = Meddled(source, call, count, delete)
    _, gone = await copied(source=meddled)
    assert (gone.outcome, gone.is_equal) == (Outcome.GONE, True)
    assert await target.list_sessions() == []


async def test_a_session_deleted_after_listing_is_skipped(source: InMemoryStorage, copied: Copy) -> None:
    meddled = Meddled(source, "find_session", 1, delete)
    assert [one.outcome for one in await copied(source=meddled)] == [Outcome.COPIED, Outcome.GONE]


async def test_a_session_truncated_meanwhile_is_reported(source: InMemoryStorage, copied: Copy) -> None:
    meddled = Meddled(source, "read_messages", 3, lambda storage: storage.truncate_messages("s", after=CHUNK))
    assert (await copied(source=meddled))[1].reason == "was truncated in the source during the copy"


async def begin_anew(storage: SessionStorage) -> None:
    """Replace ``s`` with another session of the same length."""
    await storage.delete_session("s")
    await storage.put_session(session_record(user_id="u", tags=("b", "a"), ttl_us=10**12))
    await storage.append_messages("s", message_records(LONG, prefix="new"))


async def rewrite_the_end(storage: SessionStorage) -> None:
    await storage.truncate_messages("s", after=1)
    await storage.append_messages("s", message_records(LONG, prefix="new"))


@pytest.mark.parametrize(
    "change",
    [begin_anew, rewrite_the_end, lambda storage: change_header(storage, tags=("c",))],
    ids=["another session", "another end", "another header"],
)
async def test_a_session_changed_meanwhile_is_not_left_in_the_target(
    source: InMemoryStorage, target: InMemoryStorage, clock: ManualClock, copied: Copy, change: Change
) -> None:
    clock.advance(1)
    meddled = Meddled(source, "read_messages", 2, change)
    _, one = await copied(source=meddled)
    assert (one.outcome, one.digest) == (Outcome.DIFFERENT, None)
    assert one.reason == "was changed in the source during the copy"
    assert await target.list_sessions() == []
    assert (await copied())[1].outcome is Outcome.COPIED


async def test_a_store_is_not_copied_over_itself(source: InMemoryStorage, copied: Copy) -> None:
    with pytest.raises(ConfigurationError, match="the same store"):
        await copied(target=source, overwrite=True)
    assert [one.outcome for one in await copied(target=source)] == [Outcome.PRESENT] * 2
    assert [one.outcome for one in await copied(target=source, overwrite=True, dry_run=True)] == [Outcome.PRESENT] * 2


async def test_the_marker_of_a_copy_is_deleted(
    source: InMemoryStorage, target: InMemoryStorage, clock: ManualClock, copied: Copy
) -> None:
    await copied(source=InMemoryStorage(clock=clock), overwrite=True)
    clock.advance(10**9)
    assert await target.purge_expired() == Purged(sessions=0, memories=0)


OTHERS: dict[str, tuple[str, int, Change, str]] = {
    "begin it": (
        "put_session",
        1,
        lambda storage: storage.put_session(session_record()),
        "was changed by another writer in the target: memory storage: session 's': expected no such session",
    ),
    "append to it": (
        "append_messages",
        2,
        append_one,
        f"expected last position {CHUNK}, found last position {CHUNK + 1}",
    ),
    "delete it": ("append_messages", 2, delete, "no session 's'"),
    "delete it at the end": ("find_session", 2, delete, "no session 's'"),
    "append at the end": ("find_session", 2, append_one, "was not equal when it was read back"),
    "forget": ("find_session", 2, lambda storage: storage.clear_memories(OF_S), "was not equal when it was read back"),
    "remember": (
        "find_session",
        2,
        lambda storage: storage.put_memory(memory_record("a", value="x")),
        "was not equal when it was read back",
    ),
}


@pytest.mark.parametrize(("call", "count", "change", "reason"), OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_change_of_the_target_meanwhile_is_reported_and_kept(
    target: InMemoryStorage, copied: Copy, call: str, count: int, change: Change, reason: str, overwrite: bool
) -> None:
    _, one = await copied(target=Meddled(target, call, count, change), overwrite=overwrite)
    assert one.outcome is Outcome.DIFFERENT
    assert one.reason is not None
    assert reason in one.reason


async def test_memories_that_expire_meanwhile_make_no_difference(
    clock: ManualClock, source: InMemoryStorage, target: InMemoryStorage, copied: Copy
) -> None:
    async def pass_an_hour(_: SessionStorage) -> None:
        clock.advance(3600)

    slow = Meddled(target, "find_session", 2, pass_an_hour)
    assert summary(await copied(target=slow)) == whole(Outcome.COPIED)
    assert await source.list_memories(OF_S) == []
