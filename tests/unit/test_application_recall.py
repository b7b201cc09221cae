"""Recall while the store changes, and what it keeps in the process."""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from luminoracore_sdk.adapters.embedders import HashingEmbedder
from luminoracore_sdk.adapters.wrappers.searching import SearchWrapper
from luminoracore_sdk.application import recall as recall_module
from luminoracore_sdk.application.off_loop import off_loop_to_the_end
from luminoracore_sdk.application.ports.records import (
    IndexRecord,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
)
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError
from luminoracore_sdk.domain.recall.index import ScopeIndex
from luminoracore_sdk.domain.recall.ranking import EVERYTHING
from luminoracore_sdk.session import InMemoryStorage, SessionManager, SessionStorage
from luminoracore_sdk.storage import StorageWrapper
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import message_record, session_record
from tests.support.recall import Meanwhile, found_by, manager_of, reindexed, say, searched


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def base(clock: ManualClock) -> Meanwhile:
    return Meanwhile(InMemoryStorage(clock=clock))


async def texts(manager: SessionManager, query: str = "boat", **arguments: Any) -> list[str]:
    return [hit.text for hit in await manager.recall(query, **arguments)]


async def test_recall_over_a_storage_without_search_is_an_error(base: Meanwhile, clock: ManualClock) -> None:
    services = default_services()
    recall = recall_module.Recall(base, services.codec, services.tokens, clock)
    with pytest.raises(ConfigurationError, match="search is off"):
        await recall.find("boat", recall_module.RecallScope(), only=EVERYTHING)


async def test_a_cancelled_wait_for_a_thread_waits_for_its_end() -> None:
    begun, may_end, done = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        may_end.wait(5)
        done.append(True)

    waiting = asyncio.create_task(off_loop_to_the_end(work, large=True))
    await asyncio.to_thread(begun.wait, 5)
    for _ in range(2):
        waiting.cancel()
        await asyncio.wait([waiting], timeout=0.02)
        assert (waiting.done(), done) == (False, [])
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done == [True]
    assert await off_loop_to_the_end(lambda: 7, large=True) == await off_loop_to_the_end(lambda: 7, large=False) == 7


async def test_a_query_waits_for_the_thread_of_one_that_was_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, may_go_on, cut = threading.Event(), threading.Event(), ScopeIndex.cut

    def slow(self: ScopeIndex, session_id: str, *, after: int) -> None:
        if not begun.is_set():
            begun.set()
            may_go_on.wait(5)
        cut(self, session_id, after=after)

    monkeypatch.setattr(ScopeIndex, "cut", slow)
    async with searched(InMemoryStorage()) as storage:
        manager = SessionManager(storage)
        await say(manager, *(f"boat {number}" for number in range(600)))
        cancelled = asyncio.create_task(manager.recall("boat"))
        await asyncio.to_thread(begun.wait, 5)
        cancelled.cancel()
        second = asyncio.create_task(texts(manager, "boat 599", limit=1))
        await asyncio.wait([second], timeout=0.05)
        assert not second.done()
        may_go_on.set()
        assert await second == ["boat 599"]
        assert cancelled.cancelled()


Happens = Callable[[SessionManager], Awaitable[object]]


async def replace(manager: SessionManager) -> None:
    await manager.delete_session("s")
    await manager.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "s"})
    await say(manager, "another boat")


async def redact(manager: SessionManager) -> None:
    (message, *_) = await manager.conversation_manager.get_messages("s")
    await manager.redact("s", message.id or "")


CHANGES: dict[str, Happens] = {
    "delete": lambda manager: manager.delete_session("s"),
    "replace": replace,
    "redact": redact,
    "rewind": lambda manager: manager.rewind("s", 1),
    "append": lambda manager: say(manager, "boat 4"),
}


@pytest.mark.parametrize("call", ["read_index", "read_messages", "find_session"])
@pytest.mark.parametrize("before", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("first", ["new", "appended", "rewound"])
async def test_a_change_during_a_query_is_followed_by_the_next(
    base: Meanwhile, clock: ManualClock, call: str, before: str, change: str, first: str
) -> None:
    storage = searched(base)
    manager = manager_of(storage, clock)
    await say(manager, "boat 1", "boat 2", "boat 3")
    if first != "new":
        await manager.recall("boat")
        await (manager.rewind("s", 2) if first == "rewound" else say(manager, "boat"))

    async def happen() -> None:
        clock.advance(1)
        await CHANGES[change](manager)

    base.happens[f"{before} {call}"] = happen
    during = await texts(manager)
    assert base.happens == {}
    assert set(during) <= {"boat", "boat 1", "boat 2", "boat 3", "boat 4", "another boat"}
    asked: list[tuple[str, dict[str, Any]]] = [("boat", {"explain": True})]
    assert await found_by(manager, asked) == await found_by(manager_of(storage, clock), asked)


class Counting(StorageWrapper):
    """Notes the session of each read of an index.

    Attributes:
        reads: The sessions.
    """

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.reads = ""

    async def read_index(self, session_id: str, span: MessageRange) -> list[IndexRecord]:
        """Read, and note it."""
        self.reads += session_id
        return await super().read_index(session_id, span)


async def test_each_handle_of_a_user_asks_the_same_index() -> None:
    counting = Counting(InMemoryStorage())
    manager = SessionManager(searched(counting))
    await manager.create_session({"name": "A"}, {"name": "echo"}, {"session_id": "s", "user_id": "ada"})
    await say(manager, "a boat")
    for _ in range(3):  # as a web service makes one for each request
        assert [hit.text for hit in await manager.for_user("ada").recall("boat")] == ["a boat"]
    assert await texts(manager, user_id="ada") == ["a boat"]
    assert counting.reads == "s"


async def test_the_index_used_longest_ago_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(InMemoryStorage())
    manager = SessionManager(searched(counting))
    for session_id in "abc":
        await say(manager, *(f"boat {number}" for number in range(10)), session_id=session_id)
    monkeypatch.setattr(recall_module, "_KEPT_DOCUMENTS", 70)
    for session_id in "abacab":
        assert len(await texts(manager, session_ids=[session_id], limit=20)) == 10
    assert counting.reads == "abcb"


async def test_indexes_of_users_without_messages_make_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def indexes() -> int:
        gc.collect()
        return sum(type(found) is ScopeIndex for found in gc.get_objects())

    monkeypatch.setattr(recall_module, "_KEPT_DOCUMENTS", 80)
    before = indexes()
    manager = SessionManager(searched(InMemoryStorage()))
    for number in range(50):
        assert await manager.for_user(f"user {number}").recall("boat") == []
    assert indexes() - before <= 4


async def test_pages_that_begin_elsewhere_than_before_are_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall_module, "MAX_PAGE", 3)
    async with searched(InMemoryStorage(clock=ManualClock())) as storage:
        manager, ids = SessionManager(storage), set("abcdefgh")
        for session_id in ids:
            await say(manager, f"boat {session_id}", session_id=session_id)
        assert set(await texts(manager, limit=20)) == {f"boat {session_id}" for session_id in ids}
        for gone, new in (("h", "bb"), ("a", "ee"), ("b", "a")):
            await manager.delete_session(gone)
            await say(manager, f"boat {new}", session_id=new)
            ids = ids - {gone} | {new}
            assert set(await texts(manager, limit=20)) == {f"boat {session_id}" for session_id in ids}


async def test_an_index_of_many_messages_is_completed_in_parts() -> None:
    async with searched(InMemoryStorage()) as storage:
        plain = SessionManager(InMemoryStorage())
        assert plain.storage.search is None
        base = storage.base if isinstance(storage, SearchWrapper) else storage
        await say(SessionManager(base), *(f"boat {number}" for number in range(600)))
        assert await reindexed(storage) == 600
        assert await reindexed(storage) == 0


async def test_a_session_that_is_deleted_while_it_is_indexed_is_left(base: Meanwhile) -> None:
    await say(SessionManager(base), "boat")
    base.happens["after read_index"] = lambda: base.delete_session("s")
    assert await reindexed(searched(base)) == 0


async def test_a_repeated_append_is_not_embedded_again() -> None:
    storage = searched(InMemoryStorage(), HashingEmbedder(8))
    assert isinstance(storage, SearchWrapper)
    await storage.put_session(session_record("s"))
    for replayed in (False, True):
        assert (await storage.append_messages("s", [message_record("m")])).replayed is replayed
    assert await storage.drain() is True


async def test_a_session_that_is_deleted_before_its_vectors_is_forgotten(base: Meanwhile) -> None:
    storage = searched(base, HashingEmbedder(8))
    await say(SessionManager(base), "a boat", "boats")  # without vectors
    manager = SessionManager(storage)
    asked = 0

    async def delete() -> None:
        await base.delete_session("s")

    async def then() -> None:
        nonlocal asked
        asked += 1
        base.happens["before read_index"] = delete

    base.happens["after find_session"] = then
    assert await texts(manager) == []
    assert (asked, await texts(manager)) == (1, [])


class NamesNoMemory(StorageWrapper):
    """Cannot tell which memory is damaged."""

    async def list_memories(self, scope: MemoryScope, query: MemoryQuery | None = None) -> list[MemoryRecord]:
        raise CorruptRecordError(backend=self.backend, key=f"a memory of {scope.owner_id}", reason="it was cut off")


async def test_memories_that_cannot_be_listed_hide_no_message(caplog: pytest.LogCaptureFixture) -> None:
    manager = SessionManager(searched(NamesNoMemory(InMemoryStorage())))
    await say(manager, "a boat")
    assert await texts(manager, session_ids=["s"]) == ["a boat"]
    assert "a memory of s is damaged: it was cut off; recall leaves it out" in caplog.text
