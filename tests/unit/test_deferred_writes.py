"""DeferredWriteWrapper: a deferred session is written by flush only."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.adapters.wrappers.deferred_writes import DeferredWriteWrapper
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    IndexRewrite,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    Purged,
    SessionQuery,
    SessionRecord,
    TailReceipt,
)
from luminoracore_sdk.domain.errors import ConflictError, StorageTimeoutError
from luminoracore_sdk.session import (
    EncryptedStorageWrapper,
    InMemoryStorage,
    Keyring,
    SessionManager,
    SessionStorage,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import json_payload, memory_record, message_record, session_record

SCOPE = MemoryScope("session", "s")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def base(clock: ManualClock) -> AsyncIterator[InMemoryStorage]:
    async with InMemoryStorage(clock=clock) as storage:
        yield storage


@pytest.fixture
def deferring(base: InMemoryStorage, clock: ManualClock) -> DeferredWriteWrapper:
    return DeferredWriteWrapper(base, clock=clock)


async def ids(storage: InMemoryStorage | DeferredWriteWrapper, session_id: str = "s") -> list[str]:
    return [found.message_id for found in await storage.read_messages(session_id, MessageRange())]


async def test_a_new_deferred_session_is_stored_by_flush_only(
    base: InMemoryStorage, deferring: DeferredWriteWrapper
) -> None:
    await deferring.defer("s")
    await deferring.put_session(session_record())
    await deferring.append_messages("s", [message_record("a"), message_record("b")])
    await deferring.put_memory(memory_record("k"))
    assert await base.list_sessions() == []
    assert await deferring.list_sessions() == ["s"]
    await deferring.flush("s")
    assert await ids(base) == ["a", "b"]
    assert [entry.key for entry in await base.list_memories(SCOPE)] == ["k"]


async def test_a_stored_session_can_be_deferred(
    base: InMemoryStorage, deferring: DeferredWriteWrapper, clock: ManualClock
) -> None:
    await base.put_session(session_record())
    await base.append_messages("s", [message_record(f"m{index}") for index in range(1000)])
    await base.append_messages("s", [message_record("last")])
    await base.put_memory(memory_record("old"))
    clock.advance(5)
    await deferring.defer("s")
    await deferring.defer("s")
    found = await deferring.find_session("s")
    assert found is not None
    assert found.created_at_us == (await base.query_sessions(SessionQuery())).sessions[0].created_at_us
    await deferring.append_messages("s", [message_record("new")])
    await deferring.delete_memory(SCOPE, "old")
    await deferring.put_memory(memory_record("fresh"))
    assert await base.find_memory(SCOPE, "old") is not None
    await deferring.flush("s")
    await deferring.flush("s")
    assert (await ids(base))[-2:] == ["last", "new"]
    assert [entry.key for entry in await base.list_memories(SCOPE)] == ["fresh"]


async def test_more_messages_than_one_append_allows_are_flushed(
    base: InMemoryStorage, deferring: DeferredWriteWrapper
) -> None:
    await deferring.defer("s")
    await deferring.put_session(session_record())
    for start in range(0, 2100, 700):
        await deferring.append_messages("s", [message_record(f"m{start + index}") for index in range(700)])
    await deferring.flush("s")
    assert await ids(base) == [f"m{index}" for index in range(2100)]


async def test_a_truncation_is_deferred_too(base: InMemoryStorage, deferring: DeferredWriteWrapper) -> None:
    await base.put_session(session_record())
    await base.append_messages("s", [message_record("a"), message_record("b"), message_record("c")])
    await deferring.defer("s")
    assert await deferring.truncate_messages("s", after=1) == 2
    await deferring.append_messages("s", [message_record("d")])
    assert await ids(base) == ["a", "b", "c"]
    await deferring.flush("s")
    assert await ids(base) == ["a", "d"]


async def test_a_truncation_keeps_messages_of_another_writer(
    base: InMemoryStorage, deferring: DeferredWriteWrapper
) -> None:
    await base.put_session(session_record())
    await base.append_messages("s", [message_record("a"), message_record("b")])
    await deferring.defer("s")
    await deferring.truncate_messages("s", after=1)
    await base.append_messages("s", [message_record("other")])
    with pytest.raises(ConflictError, match="expected last position 2, found last position 3"):
        await deferring.flush("s")
    assert await ids(base) == ["a", "b", "other"]


async def test_a_conflict_keeps_the_deferred_writes(base: InMemoryStorage, deferring: DeferredWriteWrapper) -> None:
    await base.put_session(session_record())
    await deferring.defer("s")
    await deferring.append_messages("s", [message_record("mine")])
    await base.append_messages("s", [message_record("other")])
    with pytest.raises(ConflictError):
        await deferring.flush("s")
    assert await ids(deferring) == ["mine"]
    assert await ids(base) == ["other"]


async def test_a_deferred_session_is_deleted_here_and_below(
    base: InMemoryStorage, deferring: DeferredWriteWrapper
) -> None:
    await base.put_session(session_record())
    await deferring.defer("s")
    assert await deferring.delete_session("s") is True
    assert (await base.find_session("s"), deferring.is_deferred("s")) == (None, False)
    await deferring.defer("new")
    await deferring.put_session(session_record("new"))
    assert await deferring.delete_session("new") is True
    assert await deferring.delete_session("new") is False


async def test_flushing_an_unknown_or_expired_session_does_nothing(
    base: InMemoryStorage, deferring: DeferredWriteWrapper, clock: ManualClock
) -> None:
    await deferring.flush("unknown")
    await deferring.defer("s")
    await deferring.put_session(session_record(ttl_us=1_000_000))
    clock.advance(2)
    await deferring.flush("s")
    assert await base.list_sessions() == []


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_list_deferred_and_stored_sessions_once(
    base: InMemoryStorage, deferring: DeferredWriteWrapper, clock: ManualClock, newest_first: bool, limit: int
) -> None:
    for index in range(7):
        clock.advance(1)
        name = f"s{index}"
        if index in (1, 2, 5):
            await deferring.defer(name)
            await deferring.put_session(session_record(name))
        else:
            await base.put_session(session_record(name))
    await deferring.defer("s3")
    seen: list[str] = []
    cursor = None
    while True:
        query = SessionQuery(limit=limit, newest_first=newest_first, cursor=cursor)
        page = await deferring.query_sessions(query)
        assert len(page.sessions) <= limit
        seen += [record.session_id for record in page.sessions]
        cursor = page.next_cursor
        if cursor is None:
            break
    expected = [f"s{index}" for index in range(7)]
    assert seen == (expected[::-1] if newest_first else expected)


async def test_a_purge_covers_deferred_and_stored_sessions(
    base: InMemoryStorage, deferring: DeferredWriteWrapper, clock: ManualClock
) -> None:
    await base.put_session(session_record("below", ttl_us=1))
    await deferring.defer("here")
    await deferring.put_session(session_record("here", ttl_us=1))
    clock.advance(1)
    assert await deferring.purge_expired() == Purged(sessions=2, memories=0)


async def test_unsaved_lists_sessions_with_unflushed_writes(
    base: InMemoryStorage, deferring: DeferredWriteWrapper, clock: ManualClock
) -> None:
    for name in ("new", "changed", "expired", "saved", "empty"):
        await deferring.defer(name)
        if name != "empty":
            await deferring.put_session(session_record(name, ttl_us=1 if name == "expired" else None))
    await deferring.flush("changed")
    await deferring.append_messages("changed", [message_record("a")])
    await deferring.flush("saved")
    clock.advance(1)
    assert await deferring.unsaved() == ["new", "changed"]
    await deferring.close()
    assert await deferring.unsaved() == []


async def test_a_manager_logs_the_number_of_unsaved_sessions(caplog: pytest.LogCaptureFixture) -> None:
    async with InMemoryStorage() as storage:
        manager = SessionManager(storage)
        await manager.create_session({}, {"name": "echo"}, {"auto_save": False})
        with caplog.at_level(logging.WARNING):
            await manager.close()
    assert caplog.messages == ["1 sessions were closed without save_session"]


async def test_the_memory_of_users_is_never_deferred(base: InMemoryStorage, deferring: DeferredWriteWrapper) -> None:
    scope = MemoryScope("user", "s")
    await deferring.defer("s")
    await deferring.put_memory(memory_record("k", kind="user"))
    assert [entry.key for entry in await base.list_memories(scope)] == ["k"]
    assert await deferring.clear_memories(scope) == 1
    assert await deferring.find_memory(scope, "k") is None
    await deferring.ping()
    assert (await deferring.schema_version(), deferring.backend) == (1, "memory")


async def test_a_truncation_during_a_flush_is_kept(base: InMemoryStorage, clock: ManualClock) -> None:
    class Slow(StorageWrapper):
        appending = asyncio.Event()
        go_on = asyncio.Event()

        async def append_messages(
            self,
            session_id: str,
            messages: Sequence[MessageRecord],
            *,
            expected_last: int | None = None,
            fence: int | None = None,
        ) -> AppendReceipt:
            self.appending.set()
            await self.go_on.wait()
            return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)

    slow = Slow(base)
    deferring = DeferredWriteWrapper(slow, clock=clock)
    await deferring.defer("s")
    await deferring.put_session(session_record())
    await deferring.append_messages("s", [message_record("a"), message_record("b")])
    flush = asyncio.ensure_future(deferring.flush("s"))
    await slow.appending.wait()
    truncate = asyncio.ensure_future(deferring.truncate_messages("s", after=0))
    await asyncio.wait([truncate], timeout=0.02)
    slow.go_on.set()
    await asyncio.gather(flush, truncate)
    await deferring.append_messages("s", [message_record("c")])
    await deferring.flush("s")
    assert await ids(base) == await ids(deferring) == ["c"]


async def test_a_flush_does_not_undo_the_change_of_another_writer(
    base: InMemoryStorage, deferring: DeferredWriteWrapper
) -> None:
    """Such as a redaction; the unsaved change is kept."""
    await base.put_session(session_record())
    await base.append_messages("s", [message_record("a", text="secret")])
    (read,) = await base.read_messages("s", MessageRange())
    await deferring.defer("s")
    await deferring.update_message("s", 1, payload=json_payload({"content": "annotated"}), expected=read.payload)
    redacted = json_payload({"content": ""})
    await base.update_message("s", 1, payload=redacted, expected=read.payload)
    for _ in range(2):
        with pytest.raises(ConflictError):
            await deferring.flush("s")
        assert [message.payload for message in await base.read_messages("s", MessageRange())] == [redacted]
    assert await deferring.unsaved() == ["s"]


async def test_a_flush_does_not_change_a_message_of_another_session_of_the_same_id(
    base: InMemoryStorage, deferring: DeferredWriteWrapper
) -> None:
    await base.put_session(session_record())
    await base.append_messages("s", [message_record("a", text="of the first user")])
    (read,) = await base.read_messages("s", MessageRange())
    await deferring.defer("s")
    await deferring.update_message("s", 1, payload=json_payload({"content": "annotated"}), expected=read.payload)
    await base.delete_session("s")
    await base.put_session(session_record())
    await base.append_messages("s", [message_record("b", text="of the second user")])
    before = await base.read_messages("s", MessageRange())
    with pytest.raises(ConflictError):
        await deferring.flush("s")
    assert await base.read_messages("s", MessageRange()) == before


async def test_a_flush_whose_answer_is_lost_may_be_repeated_with_a_further_change(clock: ManualClock) -> None:
    class LosesOneAnswer(StorageWrapper):
        is_due = True

        async def update_message(self, session_id: str, position: int, **arguments: Any) -> MessageRecord:
            message = await super().update_message(session_id, position, **arguments)
            if self.is_due:
                self.is_due = False
                raise StorageTimeoutError("memory", "the answer was lost", in_doubt=True)
            return message

    async with InMemoryStorage(clock=clock) as base:
        await base.put_session(session_record())
        await base.append_messages("s", [message_record("a")])
        deferring = DeferredWriteWrapper(LosesOneAnswer(base), clock=clock)
        await deferring.defer("s")
        (read,) = await base.read_messages("s", MessageRange())
        one, two = (json_payload({"content": text}) for text in ("one", "two"))
        await deferring.update_message("s", 1, payload=one, expected=read.payload)
        with pytest.raises(StorageTimeoutError):
            await deferring.flush("s")
        await deferring.update_message("s", 1, payload=two, expected=one)
        await deferring.flush("s")
        assert [message.payload for message in await base.read_messages("s", MessageRange())] == [two]
        assert await deferring.unsaved() == []


class LosesAnAnswer(StorageWrapper):
    """Pass every call on, and lose the answer of the one that ``lost`` names, once."""

    lost = ""

    def _answer(self, name: str) -> None:
        if self.lost == name:
            self.lost = ""
            raise StorageTimeoutError("memory", "the answer was lost", in_doubt=True)

    async def append_messages(self, session_id: str, messages: Sequence[MessageRecord], **more: Any) -> AppendReceipt:
        receipt = await super().append_messages(session_id, messages, **more)
        self._answer("append")
        return receipt

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        header = await super().put_session(record, expected_version=expected_version)
        self._answer("put")
        return header

    async def replace_tail(self, session_id: str, **arguments: Any) -> TailReceipt:
        receipt = await super().replace_tail(session_id, **arguments)
        self._answer("tail")
        return receipt


def counted(message_id: str, text: str = "") -> MessageRecord:
    return attrs.evolve(message_record(message_id, text=text or message_id), adds={"n": 1})


async def sum_and_ids(base: InMemoryStorage) -> tuple[int | None, list[str]]:
    header = await base.find_session("s")
    assert header is not None
    return header.summary.counters.get("n"), await ids(base)


@pytest.mark.parametrize("lost", ["append", "put"])
@pytest.mark.parametrize("more", [[], ["b"]])
async def test_a_flush_that_failed_half_way_counts_once(base: InMemoryStorage, lost: str, more: list[str]) -> None:
    losing = LosesAnAnswer(base)
    deferring = DeferredWriteWrapper(losing)
    await deferring.defer("s")
    await deferring.put_session(session_record())
    await deferring.append_messages("s", [counted("replaced")])
    await deferring.truncate_messages("s", after=0)
    await deferring.append_messages("s", [counted("a")])
    losing.lost = lost
    with pytest.raises(StorageTimeoutError):
        await deferring.flush("s")
    for message_id in more:
        await deferring.append_messages("s", [counted(message_id)])
        await deferring.put_session(session_record(tags=("changed",)))
    await deferring.flush("s")
    assert await sum_and_ids(base) == (2 + len(more), ["a", *more])
    assert await deferring.unsaved() == []
    header = await base.find_session("s")
    assert header is not None
    assert header.tags == (("changed",) if more else ())


async def test_a_lost_answer_does_not_hide_the_header_of_another_writer(base: InMemoryStorage) -> None:
    losing = LosesAnAnswer(base)
    deferring = DeferredWriteWrapper(losing)
    await deferring.defer("s")
    await deferring.put_session(session_record())
    losing.lost = "put"
    with pytest.raises(StorageTimeoutError):
        await deferring.flush("s")
    await base.put_session(session_record(tags=("of another",)))
    with pytest.raises(ConflictError):
        await deferring.flush("s")


@pytest.mark.parametrize("more", [[], ["d"]])
@pytest.mark.parametrize("again", ["b", "c"])
async def test_a_replaced_tail_whose_answer_is_lost_counts_once(
    base: InMemoryStorage, again: str, more: list[str]
) -> None:
    losing = LosesAnAnswer(base)
    deferring = DeferredWriteWrapper(losing)
    await deferring.defer("s")
    await deferring.put_session(session_record())
    await deferring.append_messages("s", [counted("a"), counted("b")])
    await deferring.flush("s")
    await deferring.truncate_messages("s", after=1)
    await deferring.append_messages("s", [counted("replaced")])
    await deferring.truncate_messages("s", after=1)
    await deferring.append_messages("s", [counted(again, "another text")])
    losing.lost = "tail"
    with pytest.raises(StorageTimeoutError):
        await deferring.flush("s")
    for message_id in more:
        await deferring.append_messages("s", [counted(message_id)])
    await deferring.flush("s")
    await deferring.append_messages("s", [counted("last")])
    await deferring.flush("s")
    assert await sum_and_ids(base) == (5 + len(more), ["a", again, *more, "last"])


async def test_a_deferred_change_of_a_message_brings_its_brief(base: InMemoryStorage) -> None:
    one, two, three = (json_payload(text) for text in ("one", "two", "three"))
    await base.put_session(session_record())
    await base.append_messages("s", [attrs.evolve(message_record("a"), brief=one)])
    deferring = DeferredWriteWrapper(base)
    await deferring.defer("s")
    (message,) = await deferring.read_messages("s", MessageRange())
    await deferring.update_message("s", 1, payload=three, expected=message.payload, brief=two)
    await deferring.flush("s")
    header = await base.find_session("s")
    assert header is not None
    assert header.summary.first is not None
    assert header.summary.first.payload == two
    assert header.summary.last == header.summary.first


async def test_a_deferred_session_keeps_its_indexes(base: InMemoryStorage) -> None:
    one, two, three, four = (json_payload(text) for text in ("one", "two", "three", "four"))
    await base.put_session(session_record())
    await base.append_messages("s", [attrs.evolve(message_record(name), index=one) for name in "abc"])

    async def indexes(storage: SessionStorage) -> list[Payload | None]:
        return [record.index for record in await storage.read_index("s", MessageRange())]

    deferring = DeferredWriteWrapper(EncryptedStorageWrapper(base, Keyring({"k": bytes(32)})))  # reads give no index
    await deferring.defer("s")
    await deferring.append_messages("s", [attrs.evolve(message_record("d"), index=two)])
    old = message_record("a").payload
    await deferring.update_message("s", 1, payload=json_payload("new"), expected=old, index=three)
    changes = [
        IndexRewrite(position=position, message_id=name, old=before, new=four)
        for position, name, before in ((2, "b", one), (4, "d", two))
    ]
    assert await deferring.rewrite_index("s", changes) == 2
    assert await indexes(deferring) == [three, four, one, four]
    assert await indexes(deferring.stored) == [one, four, one]
    await deferring.flush("s")
    await deferring.release("s")
    assert await indexes(deferring) == await indexes(deferring.stored) == [three, four, one, four]
