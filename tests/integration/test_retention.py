"""``apply_retention``: what a policy does not keep is deleted, and nothing that is in use."""

import asyncio
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application import retention
from luminoracore_sdk.application.ports.records import (
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.session import (
    InMemoryStorage,
    Message,
    RetentionPolicy,
    RetentionReport,
    SessionManager,
    SessionStorage,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.testing.records import message_record, session_record
from luminoracore_sdk.utils.exceptions import CorruptRecordError, InvalidIdError, ValidationError
from tests.support.backends import (
    EMBEDDED,
    FILES,
    SERVERS_LATER,
    SQLITE,
    Backend,
    backend_fixture,
    encrypted,
    optimized,
)
from tests.support.command import process_environment
from tests.support.scripted_provider import Script
from tests.support.users import fill_user, records_of, session_of

BACKENDS = [*EMBEDDED, *(optimized(encrypted(backend)) for backend in (FILES, SQLITE)), *SERVERS_LATER]
DAY = 86_400

Write = Callable[[SessionStorage], Awaitable[object]]


backend = backend_fixture(BACKENDS)


def days(count: float) -> timedelta:
    return timedelta(days=count)


async def create(manager: SessionManager, session_id: str, messages: int = 0, **config: Any) -> None:
    await manager.create_session({"name": "Ada"}, {"name": "echo"}, {"session_id": session_id, **config})
    if messages:
        batch = [Message("user", f"text {number}", id=f"m{number}") for number in range(1, messages + 1)]
        await manager.conversation_manager.append(session_id, batch)


async def left(manager: SessionManager, session_id: str) -> list[str | None]:
    return [message.id for message in await manager.conversation_manager.get_messages(session_id, 10_000)]


def counts(report: RetentionReport) -> dict[str, Any]:
    """Return what is not 0 of a report."""
    fields = attrs.asdict(report, filter=lambda field, value: bool(value) and not field.name.endswith("_at"))
    return {**fields, "session_ids": list(report.session_ids)} if report.session_ids else fields


async def apply(manager: SessionManager, policy: RetentionPolicy, **options: Any) -> RetentionReport:
    """Apply a policy, after a dry run that must foretell it and change nothing."""
    headers = [await manager.storage.find_session(one) for one in await manager.list_sessions()]
    planned = await manager.apply_retention(policy, dry_run=True, **options)
    assert [await manager.storage.find_session(one) for one in await manager.list_sessions()] == headers
    report = await manager.apply_retention(policy, **options)
    assert attrs.evolve(planned, dry_run=False) == report
    assert counts(await manager.apply_retention(policy, **options)).keys() <= {"held"}
    return report


# -- rules -----------------------------------------------------------------------------------------


async def test_sessions_of_an_age_are_deleted_whole(
    manager: SessionManager, storage: SessionStorage, clock: ManualClock
) -> None:
    await fill_user(manager, "ada", sessions=2)
    clock.advance(60 * DAY)
    await fill_user(manager, "bob", sessions=2)
    kept = await records_of(storage, "bob")
    clock.advance(31 * DAY)
    report = await apply(manager, RetentionPolicy(max_age=days(90)))
    assert counts(report) == {"sessions": 2, "session_ids": [session_of("ada", 0), session_of("ada", 1)]}
    assert report.started_at == report.finished_at == clock.now()
    assert report.to_dict() == {
        "dry_run": False,
        "sessions": 2,
        "session_ids": list(report.session_ids),
        "trimmed_sessions": 0,
        "trimmed_messages": 0,
        "held": 0,
        "in_use": 0,
        "unreadable": 0,
        "started_at": clock.now().isoformat(),
        "finished_at": clock.now().isoformat(),
    }
    assert len(await records_of(storage, "ada")) == 2  # the memories of the user are not of a session
    assert await records_of(storage, "bob") == kept


async def test_idle_sessions_are_deleted(manager: SessionManager, clock: ManualClock) -> None:
    for name in ("idle", "changed", "appended", "annotated"):
        await create(manager, name, 1)
    clock.advance(20 * DAY)
    await create(manager, "young")
    await manager.update_session("changed", metadata={"title": "x"})
    await manager.conversation_manager.add_message("appended", "user", "again")
    await manager.annotate("annotated", "m1", {"rating": 1})  # is no activity
    clock.advance(15 * DAY)
    assert counts(await apply(manager, RetentionPolicy(idle=days(30)))) == {
        "sessions": 2,
        "session_ids": ["annotated", "idle"],
    }
    assert sorted(await manager.list_sessions()) == ["appended", "changed", "young"]


async def test_the_oldest_messages_of_long_conversations_are_deleted(
    manager: SessionManager, storage: SessionStorage, clock: ManualClock
) -> None:
    await create(manager, "long", 25)
    await create(manager, "short", 10)
    await create(manager, "gaps", 25)
    await manager.delete_messages("gaps", ["m3", "m20", "m21"])
    clock.advance(1)
    headers = {name: await storage.find_session(name) for name in ("long", "short", "gaps")}
    assert counts(await apply(manager, RetentionPolicy(max_messages=10))) == {
        "trimmed_sessions": 2,
        "trimmed_messages": 15 + 12,
    }
    assert await left(manager, "long") == [f"m{number}" for number in range(16, 26)]
    assert await left(manager, "short") == [f"m{number}" for number in range(1, 11)]
    assert await left(manager, "gaps") == [f"m{number}" for number in (*range(14, 20), *range(22, 26))]
    for name, before in headers.items():
        now = await storage.find_session(name)
        assert before is not None
        assert now is not None
        assert attrs.evolve(now, summary=before.summary) == before  # it is no activity
        assert (now.summary.last, now.summary.counters) == (before.summary.last, before.summary.counters)
    rows = (await manager.list_conversations()).conversations
    assert {row.session_id for row in rows if row.first_text is None} == {"long", "gaps"}  # their texts were deleted
    conversations = manager.conversation_manager
    assert await conversations.get_message_count("long") == 10
    assert [message.id for message in await conversations.get_messages("long", 3, 4)] == ["m20", "m21", "m22"]
    records = await storage.read_messages("long", MessageRange(before=16))
    assert "text" not in "".join(repr(record.payload) for record in records)
    await conversations.append("long", [Message("user", "more", id=f"m{number}") for number in range(26, 31)])
    assert counts(await apply(manager, RetentionPolicy(max_messages=10))) == {
        "trimmed_sessions": 1,
        "trimmed_messages": 5,
    }
    assert await left(manager, "long") == [f"m{number}" for number in range(21, 31)]
    await manager.rewind("long", 22)
    assert await left(manager, "long") == ["m21", "m22"]
    await manager.rewind("long", 5)
    assert await left(manager, "long") == []
    await conversations.append("long", [Message("user", "new", id=f"n{number}") for number in range(12)])
    assert counts(await apply(manager, RetentionPolicy(max_messages=10))) == {
        "trimmed_sessions": 1,
        "trimmed_messages": 2,
    }
    assert await left(manager, "long") == [f"n{number}" for number in range(2, 12)]


async def test_the_latest_sessions_of_each_user_are_kept(manager: SessionManager, clock: ManualClock) -> None:
    for number in range(4):
        for user in ("ada", "bob", None):
            if not (user == "bob" and number > 1):
                await create(manager, f"{user} {number}", user_id=user)
                clock.advance(1)
    clock.advance(99 * DAY)
    policy = RetentionPolicy(max_age=days(90), keep_latest=2)
    assert counts(await apply(manager, policy, user_id="ada")) == {"sessions": 2, "session_ids": ["ada 0", "ada 1"]}
    assert counts(await apply(manager, policy)) == {"sessions": 2, "session_ids": ["None 0", "None 1"]}
    kept = ["ada 2", "ada 3", "bob 0", "bob 1", "None 2", "None 3"]
    assert sorted(await manager.list_sessions()) == sorted(kept)
    await create(manager, "ada 4", 1, user_id="ada")
    assert counts(await apply(manager, policy)) == {"sessions": 1, "session_ids": ["ada 2"]}


async def test_a_session_that_is_kept_for_being_late_is_trimmed(manager: SessionManager, clock: ManualClock) -> None:
    await create(manager, "s", 5, user_id="ada")
    clock.advance(99 * DAY)
    policy = RetentionPolicy(max_age=days(90), keep_latest=1, max_messages=2)
    assert counts(await apply(manager, policy)) == {"trimmed_sessions": 1, "trimmed_messages": 3}


async def test_a_held_session_is_left_as_it_is(
    manager: SessionManager, storage: SessionStorage, clock: ManualClock
) -> None:
    await create(manager, "held", 9, tags=["a", "hold", "z"])
    await create(manager, "other", 9, tags=["holds"])
    before = [await storage.find_session("held"), await storage.read_messages("held", MessageRange())]
    clock.advance(99 * DAY)
    policy = RetentionPolicy(max_age=days(90), max_messages=2, hold="hold")
    assert counts(await apply(manager, policy)) == {"sessions": 1, "session_ids": ["other"], "held": 1}
    assert [await storage.find_session("held"), await storage.read_messages("held", MessageRange())] == before


async def test_rules_apply_to_one_user_if_given(manager: SessionManager, clock: ManualClock) -> None:
    for user in ("ada", "bob"):
        await create(manager, f"{user}'s", 5, user_id=user)
    assert counts(await apply(manager, RetentionPolicy(max_messages=2), user_id="bob")) == {
        "trimmed_sessions": 1,
        "trimmed_messages": 3,
    }
    assert len(await left(manager, "ada's")) == 5
    clock.advance(DAY)
    report = await apply(manager, RetentionPolicy(idle=days(0.5)), user_id="ada")
    assert counts(report) == {"sessions": 1, "session_ids": ["ada's"]}


# -- no storage of its own is needed for these ---------------------------------------------------------


@pytest.fixture
async def local(services: Services, clock: ManualClock) -> AsyncIterator[SessionManager]:
    """A manager over a storage in memory."""
    async with InMemoryStorage(clock=clock) as storage, SessionManager(storage, services=services) as manager:
        yield manager


async def test_a_policy_without_a_rule_lists_nothing(services: Services, clock: ManualClock) -> None:
    class Listed(StorageWrapper):
        async def query_sessions(self, query: SessionQuery) -> Page:
            raise AssertionError(query)

    async with Listed(InMemoryStorage(clock=clock)) as storage, SessionManager(storage, services=services) as manager:
        await create(manager, "s", 3)
        report = await manager.apply_retention(RetentionPolicy(keep_latest=1, hold="h"))
        assert counts(report) == {}
        assert await manager.storage.session_exists("s")


async def test_invalid_arguments_are_refused(local: SessionManager) -> None:
    wrong: Any = {"max_age": 5}
    with pytest.raises(ValidationError, match="RetentionPolicy"):
        await local.apply_retention(wrong)
    with pytest.raises(InvalidIdError):
        await local.apply_retention(RetentionPolicy(max_messages=1), user_id="")


async def test_a_very_long_age_deletes_nothing(local: SessionManager, clock: ManualClock) -> None:
    await create(local, "s")
    clock.advance(DAY)
    assert counts(await apply(local, RetentionPolicy(max_age=timedelta.max))) == {}


async def test_more_sessions_may_be_kept_than_a_page_has(local: SessionManager, clock: ManualClock) -> None:
    for number in range(1205):
        record = session_record(f"s{number:04}", user_id="ada" if number % 600 else None)
        await local.storage.put_session(record)
        clock.advance(1)
    clock.advance(DAY)
    policy = RetentionPolicy(max_age=days(0.5), keep_latest=1100)
    assert (await local.apply_retention(policy)).sessions == 1205 - 3 - 1100
    policy = RetentionPolicy(max_age=days(0.5), keep_latest=2)
    report = await local.apply_retention(policy)
    assert report.sessions == 1100 - 2 + 1
    assert len(report.session_ids) == retention.MAX_IDS
    assert await local.list_sessions() == ["s0600", "s1200", "s1203", "s1204"]


async def test_of_many_users_the_latest_are_found_again(
    local: SessionManager, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_REMEMBERED_USERS", 2)
    for number in range(3):
        for user in range(5):
            await local.storage.put_session(session_record(f"{user} {number}", user_id=str(user)))
        clock.advance(1)
    clock.advance(DAY)
    report = await local.apply_retention(RetentionPolicy(idle=days(0.5), keep_latest=1))
    assert report.sessions == 10
    assert await local.list_sessions() == [f"{user} 2" for user in range(5)]


async def test_a_turn_reads_no_more_of_a_trimmed_conversation_than_its_end(
    services: Services, clock: ManualClock, script: Script
) -> None:
    class Counted(StorageWrapper):
        reads = 0

        async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
            self.reads += 1
            return await super().read_messages(session_id, span)

        def taken(self) -> int:
            reads, self.reads = self.reads, 0
            return reads

    base = InMemoryStorage(clock=clock)
    async with Counted(base) as storage, SessionManager(storage, services=services) as manager:
        await manager.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s"})
        for start in range(0, 3000, 1000):
            batch = [Message("user", "old", id=f"m{number}") for number in range(start, start + 1000)]
            await manager.conversation_manager.append("s", batch)
        policy = RetentionPolicy(max_messages=5)
        assert (await manager.apply_retention(policy)).trimmed_messages == 2995
        storage.taken()
        assert len(await manager.conversation_manager.get_recent_messages("s", 40)) == 5
        assert await manager.conversation_manager.search_messages("s", "new") == []
        assert storage.taken() == 2
        assert counts(await manager.apply_retention(policy)) == {}
        assert storage.taken() == 2
        await manager.send_message("s", "Now")
        assert storage.taken() == 1  # the turn's own, which a wrapper takes in three calls
        assert len(await manager.conversation_manager.get_messages("s", 9)) == 7


# -- in use ----------------------------------------------------------------------------------------


class Overtaken(StorageWrapper):
    """Lets another writer write once, right before the first session is read after the listing."""

    def __init__(self, base: SessionStorage) -> None:
        super().__init__(base)
        self.write: Write | None = None

    async def find_session(self, session_id: str) -> SessionRecord | None:
        if self.write is not None:
            write, self.write = self.write, None
            await write(self.base)
        return await super().find_session(session_id)


async def retagged(storage: SessionStorage) -> None:
    record = await storage.find_session("s")
    assert record is not None
    await storage.put_session(attrs.evolve(record, tags=("hold",)))


async def made_anew(storage: SessionStorage) -> None:
    record = await storage.find_session("s")
    assert record is not None
    await storage.delete_session("s")
    await storage.put_session(attrs.evolve(record, created_at_us=0, version=0))


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda storage: storage.append_messages("s", [message_record("new")]), {"in_use": 1}),
        (lambda storage: storage.truncate_messages("s", after=1), {"in_use": 1}),
        (retagged, {"in_use": 1}),
        (made_anew, {"in_use": 1}),
        (lambda storage: storage.delete_session("s"), {}),
    ],
    ids=["appended", "truncated", "tagged", "made anew", "deleted"],
)
async def test_a_session_that_is_written_since_it_was_listed_is_kept(
    services: Services, clock: ManualClock, write: Write, expected: dict[str, int]
) -> None:
    base = InMemoryStorage(clock=clock)
    async with Overtaken(base) as storage, SessionManager(storage, services=services) as manager:
        await create(manager, "s", 3)
        clock.advance(99 * DAY)
        storage.write = write
        assert counts(await manager.apply_retention(RetentionPolicy(idle=days(30), hold="hold"))) == expected
        assert await manager.list_sessions() == (["s"] if expected else [])


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (retagged, {"held": 1}),
        (lambda storage: storage.delete_session("s"), {}),
        (lambda storage: storage.truncate_messages("s", after=2), {}),
        (lambda storage: storage.truncate_messages("s", after=3), {"trimmed_sessions": 1, "trimmed_messages": 1}),
    ],
    ids=["tagged", "deleted", "cut off", "shortened"],
)
async def test_a_conversation_is_trimmed_as_it_is_now(
    services: Services, clock: ManualClock, write: Write, expected: dict[str, int]
) -> None:
    base = InMemoryStorage(clock=clock)
    async with Overtaken(base) as storage, SessionManager(storage, services=services) as manager:
        await create(manager, "s", 9)
        storage.write = write
        assert counts(await manager.apply_retention(RetentionPolicy(max_messages=2, hold="hold"))) == expected


async def test_a_session_deleted_while_it_is_trimmed(services: Services, clock: ManualClock) -> None:
    class Deleted(StorageWrapper):
        async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
            await self.base.delete_session(session_id)
            return await super().read_messages(session_id, span)

    async with Deleted(InMemoryStorage(clock=clock)) as storage, SessionManager(storage, services=services) as manager:
        await create(manager, "s", 9)
        assert counts(await manager.apply_retention(RetentionPolicy(max_messages=2))) == {}


async def test_a_conversation_cut_off_while_it_is_trimmed(services: Services, clock: ManualClock) -> None:
    class Cut(StorageWrapper):
        async def read_messages(self, session_id: str, span: MessageRange) -> list[MessageRecord]:
            await self.base.truncate_messages(session_id, after=0)
            return await super().read_messages(session_id, span)

    async with Cut(InMemoryStorage(clock=clock)) as storage, SessionManager(storage, services=services) as manager:
        await create(manager, "s", 9)
        assert counts(await manager.apply_retention(RetentionPolicy(max_messages=2))) == {}


async def test_a_turn_in_progress_keeps_its_session(local: SessionManager, script: Script, clock: ManualClock) -> None:
    await local.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s"})
    clock.advance(99 * DAY)
    script.may_answer.clear()
    turn = asyncio.create_task(local.send_message("s", "Hello?"))
    await script.asked.wait()
    policy = RetentionPolicy(idle=days(30))
    assert counts(await local.apply_retention(policy)) == {"in_use": 1}
    script.may_answer.set()
    assert (await turn).content == "An answer."
    assert counts(await local.apply_retention(policy)) == {}


async def test_a_deletion_by_another_task_comes_first(services: Services, clock: ManualClock) -> None:
    class Waiting(StorageWrapper):
        """Does not answer the first call after ``waits`` was set."""

        waits = False
        reached = asyncio.Event()

        async def find_session(self, session_id: str) -> SessionRecord | None:
            if self.waits:
                self.waits = False
                self.reached.set()
                await asyncio.Event().wait()
            return await super().find_session(session_id)

    async with Waiting(InMemoryStorage(clock=clock)) as storage, SessionManager(storage, services=services) as manager:
        await create(manager, "s", 3)
        clock.advance(99 * DAY)
        storage.waits = True
        task = asyncio.create_task(manager.apply_retention(RetentionPolicy(idle=days(30))))
        await storage.reached.wait()
        assert await manager.delete_session("s") is True
        assert counts(await task) == {"in_use": 1}


async def test_sessions_that_cannot_be_read_are_kept(services: Services, clock: ManualClock) -> None:
    class Damaged(StorageWrapper):
        async def find_session(self, session_id: str) -> SessionRecord | None:
            if session_id.startswith("damaged"):
                raise CorruptRecordError(backend="memory", key=session_id, reason="it is damaged")
            return await super().find_session(session_id)

    base = InMemoryStorage(clock=clock)
    async with Damaged(base) as storage, SessionManager(storage, services=services) as manager:
        for name in ("damaged", "good"):
            await base.put_session(session_record(name))
        clock.advance(99 * DAY)
        report = await manager.apply_retention(RetentionPolicy(idle=days(30)))
        assert counts(report) == {"sessions": 1, "session_ids": ["good"], "unreadable": 1}


async def test_a_message_that_cannot_be_read_is_deleted_too(local: SessionManager) -> None:
    await create(local, "s", 9)
    before = await local.storage.read_messages("s", MessageRange(after=3, limit=1))
    damaged = Payload("json", b'{"v": 2, "content": ')
    await local.storage.update_message("s", 4, payload=damaged, expected=before[0].payload)
    assert counts(await apply(local, RetentionPolicy(max_messages=2))) == {
        "trimmed_sessions": 1,
        "trimmed_messages": 7,
    }
    assert await left(local, "s") == ["m8", "m9"]


async def test_unsaved_changes_are_activity(local: SessionManager, clock: ManualClock) -> None:
    await create(local, "s", 1, auto_save=False)
    await local.save_session("s")
    clock.advance(99 * DAY)
    await local.conversation_manager.add_message("s", "user", "unsaved")
    assert counts(await local.apply_retention(RetentionPolicy(idle=days(30)))) == {}
    clock.advance(99 * DAY)
    assert counts(await apply(local, RetentionPolicy(idle=days(30)))) == {"sessions": 1, "session_ids": ["s"]}
    assert await local.storage.list_sessions() == []


async def test_the_key_of_a_deleted_session_is_forgotten(
    local: SessionManager, script: Script, clock: ManualClock
) -> None:
    config = {"name": "scripted", "api_key": "sk-secret"}
    await local.create_session({"name": "Ada"}, config, {"session_id": "s"})
    header = await local.storage.find_session("s")
    assert header is not None
    await local.send_message("s", "hello")
    clock.advance(99 * DAY)
    await local.apply_retention(RetentionPolicy(idle=days(30)))
    await local.storage.put_session(header)
    await local.send_message("s", "hello")
    assert [call.config.api_key for call in script.calls] == ["sk-secret", None]


# -- size and kills --------------------------------------------------------------------------------


async def test_memory_does_not_grow_with_the_number_of_sessions(services: Services, clock: ManualClock) -> None:
    class Endless(InMemoryStorage):
        """Lists so many sessions without having them."""

        count = 0

        async def query_sessions(self, query: SessionQuery) -> Page:
            start = int(query.cursor[1]) + 1 if query.cursor else 0
            end = min(start + query.limit, self.count)
            sessions = tuple(
                SessionRecord(session_id=f"{number:09}", payload=None, user_id="u", created_at_us=1, updated_at_us=1)
                for number in range(start, end)
            )
            return Page(sessions=sessions, next_cursor=None if end == self.count else (1, f"{end - 1:09}"))

    peaks = []
    async with Endless(clock=clock) as storage, SessionManager(storage, services=services) as manager:
        for count in (3000, 100_000):
            storage.count = count
            tracemalloc.start()
            try:
                report = await manager.apply_retention(RetentionPolicy(idle=days(1)), dry_run=True)
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
            assert report.sessions == count
    assert peaks[1] < 1.2 * peaks[0]


class Fails(StorageWrapper):
    """Fails at the write of a number, before or after it is done."""

    def __init__(self, base: SessionStorage, number: int, *, late: bool) -> None:
        super().__init__(base)
        self.number, self.late = number, late

    def _check(self, *, late: bool) -> None:
        self.number -= not late
        if self.number == 0 and late is self.late:
            raise OSError("it fails")

    async def delete_session(self, session_id: str) -> bool:
        self._check(late=False)
        deleted = await super().delete_session(session_id)
        self._check(late=True)
        return deleted

    async def update_message(self, session_id: str, position: int, **payloads: Any) -> MessageRecord:
        self._check(late=False)
        message = await super().update_message(session_id, position, **payloads)
        self._check(late=True)
        return message


SHORT = [f"short {number}" for number in range(4)]
IDLE = RetentionPolicy(idle=days(1), max_messages=5, keep_latest=1)


async def fill(manager: SessionManager, clock: ManualClock) -> None:
    """Store short sessions, and a long one that is the latest."""
    for name in SHORT:
        await create(manager, name, 3)
        await manager.memory_manager.store_memory(name, "k", 1)
        clock.advance(1)
    await create(manager, "long", 40)
    clock.advance(2 * DAY)


async def check(manager: SessionManager) -> None:
    """Check that each session is whole, then that a further run does the rest."""
    sessions = await manager.list_sessions()
    for name in sessions[:-1]:
        assert await left(manager, name) == ["m1", "m2", "m3"]
        assert await manager.memory_manager.list_memories(name) == ["k"]
    long, newest = await left(manager, "long"), [f"m{number}" for number in range(36, 41)]
    assert long[-5:] == newest
    conversations = manager.conversation_manager
    assert await conversations.get_message_count("long") == len(long)
    assert [message.id for message in await conversations.get_messages("long", 9, len(long) - 5)] == newest
    assert counts(await manager.apply_retention(IDLE)) == {
        **({"sessions": len(sessions) - 1, "session_ids": sessions[:-1]} if len(sessions) > 1 else {}),
        **({"trimmed_sessions": 1, "trimmed_messages": len(long) - 5} if len(long) > 5 else {}),
    }
    assert await manager.list_sessions() == ["long"]
    assert await left(manager, "long") == newest


@pytest.mark.parametrize("late", [False, True])
async def test_a_run_that_fails_at_any_write_is_repeated(services: Services, clock: ManualClock, *, late: bool) -> None:
    number, failed = 0, True
    while failed:
        number += 1
        base = InMemoryStorage(clock=clock)
        async with base, SessionManager(base, services=services) as manager:
            await fill(manager, clock)
            async with SessionManager(Fails(base, number, late=late), services=services) as failing:
                try:
                    await failing.apply_retention(IDLE)
                except OSError:
                    failed = True
                else:
                    failed = False
            await check(manager)
    assert number == 4 + 35 + 1 + 1  # sessions, messages, the note, and the run that does not fail


WORKER = """
import asyncio, os, signal, sys
from datetime import timedelta
from luminoracore_sdk.session import RetentionPolicy, SessionManager, create_storage

async def main(url, method, number):
    async with create_storage(url) as storage, SessionManager(storage) as manager:
        call, left = getattr(storage, method), int(number)

        async def killed(*arguments, **options):
            nonlocal left
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            return await call(*arguments, **options)

        setattr(storage, method, killed)
        await manager.apply_retention(RetentionPolicy(idle=timedelta(days=1), max_messages=5, keep_latest=1))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize(("method", "number"), [("delete_session", 3), ("update_message", 1), ("update_message", 20)])
@pytest.mark.parametrize("backend", [FILES, SQLITE], ids=lambda backend: backend.name)
async def test_a_run_that_was_killed_is_repeated(
    tmp_path: Path, clock: ManualClock, backend: Backend, method: str, number: int
) -> None:
    path = tmp_path / "store"
    url = f"sqlite:///{path}" if backend is SQLITE else f"file://{path}"
    clock.set(datetime.now(UTC) - days(9))
    services = attrs.evolve(default_services(), clock=clock)
    async with backend.at(path)(clock) as storage, SessionManager(storage, services=services) as manager:
        await fill(manager, clock)
    killed = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", WORKER, url, method, str(number)],
        env=process_environment(tmp_path),
        check=False,
        capture_output=True,
        text=True,
    )
    assert (killed.returncode, killed.stderr) == (-signal.SIGKILL, "")
    async with backend.at(path)(clock) as storage, SessionManager(storage, services=services) as manager:
        assert len(await manager.list_sessions()) == (3 if method == "delete_session" else 1)
        await check(manager)
