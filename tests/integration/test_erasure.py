"""``SessionManager.erase_user``: nothing of the user is left, nothing of others is changed."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.application.erasure import MAX_PASSES
from luminoracore_sdk.application.ports.records import MemoryScope, Purged, SessionRecord
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.session import InMemoryStorage, Message, SessionManager, SessionStorage
from luminoracore_sdk.storage import StorageWrapper
from luminoracore_sdk.testing import CancelAt, ManualClock
from luminoracore_sdk.utils.exceptions import (
    CorruptRecordError,
    SessionExistsError,
    SessionNotFoundError,
    TurnInterruptedError,
    ValidationError,
)
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
from tests.support.scripted_provider import Script
from tests.support.users import canary, fill_user, records_of, session_of

BACKENDS = [
    *EMBEDDED,
    *(wrap(backend) for wrap in (optimized, encrypted) for backend in (FILES, SQLITE)),
    *SERVERS_LATER,
]
ON_DISK = (FILES, SQLITE)

on_each_disk = pytest.mark.parametrize("backend", ON_DISK, ids=lambda backend: backend.name)


backend = backend_fixture(BACKENDS)


async def test_an_erasure_deletes_all_of_one_user_and_nothing_else(
    manager: SessionManager, storage: SessionStorage, clock: ManualClock
) -> None:
    users = ["ada", "bob", "cy", None]
    for user in users:
        await fill_user(manager, user, sessions=3)
    others = {user: await records_of(storage, user) for user in users if user != "ada"}
    began = clock.now()
    receipt = await manager.erase_user("ada")
    assert receipt.to_dict() == {
        "sessions": 3,
        "messages": 12,
        "memories": 6,
        "verified": True,
        "started_at": began.isoformat(),
        "finished_at": clock.now().isoformat(),
    }
    assert await records_of(storage, "ada") == []
    assert sorted(await storage.list_memory_owners()) == ["bob", "cy"]
    for number in range(3):
        session_id = session_of("ada", number)
        assert await storage.session_exists(session_id) is False
        assert await storage.list_memories(MemoryScope("session", session_id)) == []
        assert await manager.get_session(session_id) is None
    assert {user: await records_of(storage, user) for user in others} == others
    again = await manager.erase_user("ada")
    assert (again.sessions, again.messages, again.memories, again.verified) == (0, 0, 0, True)


def words_on_disk(folder: Path, word: str) -> list[str]:
    """Return the files of which the name or a byte has a word."""
    assert any(path.is_file() for path in folder.parent.rglob("*"))
    return [
        path.name
        for path in folder.parent.rglob("*")
        if path.is_file() and word.encode() in str(path).encode() + path.read_bytes()
    ]


async def fill_disk(manager: SessionManager, clock: ManualClock, user: str) -> None:
    """Store records of every size and history: long ones, some that were replaced, removed or have expired."""
    word = canary(user)
    await fill_user(manager, user, sessions=2, turns=3)
    session_id = session_of(user)
    long = [Message("user", f"{word} {number} " * 3000, id=f"{word}-long-{number}") for number in range(3)]
    await manager.conversation_manager.append(session_id, long)
    await manager.redact(session_id, f"{word}-long-0")
    await manager.rewind(session_id, f"{word}-long-1")
    for number in range(40):
        await manager.memory_manager.store_memory(session_id, f"{word} {number}", word * number)
    await manager.memory_manager.delete_memory(session_id, f"{word} 7")
    config = {"session_id": f"{word} short", "user_id": user, "ttl": 5}
    await manager.create_session({"name": word}, {"name": "echo"}, config)
    await manager.conversation_manager.append(f"{word} short", [Message("user", word * 99)])
    clock.advance(10)


@pytest.fixture
def sqlite_keeps_what_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open connections as a build of SQLite does that was not compiled with SQLITE_SECURE_DELETE."""
    connect = sqlite3.connect

    def plain(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)
        connection.execute("PRAGMA secure_delete = OFF")
        return connection

    monkeypatch.setattr(sqlite3, "connect", plain)


@pytest.mark.usefixtures("sqlite_keeps_what_is_deleted")
@on_each_disk
async def test_no_byte_of_the_store_has_a_word_of_the_user(
    backend: Backend, tmp_path: Path, clock: ManualClock, services: Services
) -> None:
    folder = tmp_path / "stores" / "store"
    async with backend.at(folder)(clock) as storage, SessionManager(storage, services=services) as manager:
        for user in ("ada", "bob", "cy"):
            await fill_disk(manager, clock, user)
        assert words_on_disk(folder, canary("ada")) != []
        receipt = await manager.erase_user("ada")
        assert (receipt.sessions, receipt.verified) == (2, True)
        assert words_on_disk(folder, canary("ada")) == []
        assert words_on_disk(folder, canary("bob")) != []
        assert await manager.list_sessions(user_id="bob") == [session_of("bob", number) for number in range(2)]
    assert words_on_disk(folder, canary("ada")) == []


async def test_a_log_that_another_connection_reads_is_emptied_by_the_last_close(
    tmp_path: Path, clock: ManualClock, services: Services
) -> None:
    folder = tmp_path / "stores" / "store"
    async with SQLITE.at(folder)(clock) as storage, SessionManager(storage, services=services) as manager:
        await fill_user(manager, "ada")
        reader = sqlite3.connect(folder)
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM sqlite_master").fetchall()
        assert (await manager.erase_user("ada")).verified is True
        assert words_on_disk(folder, canary("ada")) != []
        reader.close()
    assert words_on_disk(folder, canary("ada")) == []


class Meanwhile(InMemoryStorage):
    """Lets a writer write each time a session was deleted or the memory of a user cleared."""

    writes: Any = None

    async def delete_session(self, session_id: str) -> bool:
        deleted = await super().delete_session(session_id)
        await self.write()
        return deleted

    async def clear_memories(self, scope: MemoryScope) -> int:
        cleared = await super().clear_memories(scope)
        await self.write()
        return cleared

    async def write(self) -> None:
        if self.writes is not None:
            await self.writes()


@pytest.fixture
async def meanwhile(clock: ManualClock) -> AsyncIterator[Meanwhile]:
    async with Meanwhile(clock=clock) as storage:
        yield storage


async def test_what_a_writer_stores_meanwhile_is_erased_too(meanwhile: Meanwhile, services: Services) -> None:
    async with SessionManager(meanwhile, services=services) as manager:
        await fill_user(manager, "ada")
        await fill_user(manager, "bob")
        bob = await records_of(meanwhile, "bob")
        left = [1, 2, 3, 4]

        async def writes() -> None:
            meanwhile.writes = None
            if left:
                number = left.pop()
                config = {"session_id": f"late {number}", "user_id": "ada"}
                await manager.create_session({"name": "A"}, {"name": "echo"}, config)
                await manager.memory_manager.store_memory(f"late {number}", "k", 1, scope="user")
            meanwhile.writes = writes

        meanwhile.writes = writes
        receipt = await manager.erase_user("ada")
        assert (left, receipt.sessions, receipt.verified) == ([], 5, True)
        assert await records_of(meanwhile, "ada") == []
        assert await records_of(meanwhile, "bob") == bob


async def test_an_id_that_another_user_takes_meanwhile_is_not_erased(meanwhile: Meanwhile, services: Services) -> None:
    async with SessionManager(meanwhile, services=services) as manager, SessionManager(meanwhile) as another:
        await fill_user(manager, "ada")

        async def writes() -> None:
            meanwhile.writes = None
            config = {"session_id": session_of("ada"), "user_id": "bob"}
            await another.create_session({"name": "B"}, {"name": "echo"}, config)

        meanwhile.writes = writes
        receipt = await manager.erase_user("ada")
        assert (receipt.sessions, receipt.verified) == (1, True)
        assert await manager.list_sessions(user_id="bob") == [session_of("ada")]


async def test_a_session_exchanged_after_the_listing_is_not_erased(clock: ManualClock, services: Services) -> None:
    class Exchanged(InMemoryStorage):
        async def query_sessions(self, query: Any) -> Any:
            page = await super().query_sessions(query)
            for header in page.sessions:
                await manager.delete_session(header.session_id)
                config = {"session_id": header.session_id, "user_id": "bob"}
                await manager.create_session({"name": "B"}, {"name": "echo"}, config)
            return page

    async with SessionManager(Exchanged(clock=clock), services=services) as manager:
        await fill_user(manager, "ada", turns=0)
        receipt = await manager.erase_user("ada")
        assert (receipt.sessions, receipt.verified) == (0, True)
        assert await manager.get_session(session_of("ada")) is not None


async def test_a_writer_that_never_ends_leaves_the_receipt_unverified(meanwhile: Meanwhile, services: Services) -> None:
    async with SessionManager(meanwhile, services=services) as manager:
        written = 0

        async def writes() -> None:
            nonlocal written
            written += 1
            await manager.memory_manager.of_user("ada").store_memory("late", written)

        meanwhile.writes = writes
        await writes()
        receipt = await manager.erase_user("ada")
        assert (receipt.memories, receipt.verified, written) == (MAX_PASSES, False, MAX_PASSES + 1)


async def test_an_erasure_interrupts_turns_and_forgets_keys(manager: SessionManager, script: Script) -> None:
    config = {"name": "scripted", "api_key": "sk-ada"}
    settings = {"session_id": "s", "user_id": "ada"}
    await manager.create_session({"name": "A"}, config, settings)
    script.may_answer.clear()
    running = asyncio.create_task(manager.send_message("s", "hello"))
    await script.asked.wait()
    receipt = await manager.erase_user("ada")
    with pytest.raises(TurnInterruptedError):
        await running
    assert (receipt.sessions, receipt.messages, receipt.verified) == (1, 0, True)
    script.may_answer.set()
    await manager.create_session({"name": "A"}, {"name": "scripted"}, settings)
    await manager.send_message("s", "hello")
    assert [call.config.api_key for call in script.calls] == ["sk-ada", None]


@pytest.mark.parametrize("saved", [False, True])
async def test_sessions_saved_on_demand_are_erased(
    manager: SessionManager, storage: SessionStorage, *, saved: bool
) -> None:
    await fill_user(manager, "ada", auto_save=False)
    await fill_user(manager, "bob", auto_save=False)
    if saved:
        await manager.save_session(session_of("ada"))
        await manager.send_message(session_of("ada"), "more")
    receipt = await manager.erase_user("ada")
    assert (receipt.sessions, receipt.messages, receipt.memories) == (1, 6 if saved else 4, 2)
    assert await manager.save_session(session_of("ada")) is False
    assert await storage.session_exists(session_of("ada")) is False
    assert await manager.list_sessions() == [session_of("bob")]


async def test_a_session_that_cannot_be_read_is_erased(
    clock: ManualClock, services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    class Damaged(InMemoryStorage):
        is_damaged = False

        async def find_session(self, session_id: str) -> SessionRecord | None:
            if self.is_damaged:
                raise CorruptRecordError(backend="memory", key=session_id, reason="damaged")
            return await super().find_session(session_id)

        async def delete_session(self, session_id: str) -> bool:
            self.is_damaged = False
            return await super().delete_session(session_id)

    storage = Damaged(clock=clock)
    async with SessionManager(storage, services=services) as manager:
        await fill_user(manager, "ada")
        storage.is_damaged = True
        with caplog.at_level(logging.WARNING):
            receipt = await manager.erase_user("ada")
        assert (receipt.sessions, receipt.messages, receipt.memories) == (1, 4, 1)
        assert [record.getMessage() for record in caplog.records] == [
            "a session that cannot be read is erased; its memories are not counted"
        ]
        assert await manager.list_sessions() == []


async def test_expired_records_of_the_user_are_removed_and_not_counted(
    manager: SessionManager, storage: SessionStorage, clock: ManualClock
) -> None:
    await fill_user(manager, "ada", ttl=5)
    await manager.memory_manager.of_user("ada").clear_memories()
    await manager.memory_manager.of_user("ada").store_memory("short", 1, 5)
    clock.advance(6)
    receipt = await manager.erase_user("ada")
    assert (receipt.sessions, receipt.memories, receipt.verified) == (0, 0, True)
    assert await storage.purge_expired() == Purged(sessions=0, memories=0)


@pytest.mark.parametrize("user_id", ["", None, STORE_OWNER])
async def test_only_a_user_can_be_erased(manager: SessionManager, user_id: Any) -> None:
    with pytest.raises(ValidationError, match="user id"):
        await manager.erase_user(user_id)


@pytest.mark.parametrize("late", [False, True])
async def test_an_erasure_cancelled_at_any_await_is_repeated(
    clock: ManualClock, services: Services, *, late: bool
) -> None:
    async def store() -> InMemoryStorage:
        storage = InMemoryStorage(clock=clock)
        async with SessionManager(storage, services=services) as manager:
            for user in ("ada", "bob"):
                await fill_user(manager, user, sessions=2, turns=1)
        return storage

    class Yields(StorageWrapper):
        """Suspends before each call, so that it can be cancelled there."""

        async def find_session(self, session_id: str) -> SessionRecord | None:
            await asyncio.sleep(0)
            return await super().find_session(session_id)

        async def delete_session(self, session_id: str) -> bool:
            await asyncio.sleep(0)
            deleted = await super().delete_session(session_id)
            await asyncio.sleep(0)
            return deleted

        async def clear_memories(self, scope: MemoryScope) -> int:
            await asyncio.sleep(0)
            return await super().clear_memories(scope)

    step, reached = 0, True
    while reached:
        storage = await store()
        bob = await records_of(storage, "bob")
        async with SessionManager(Yields(storage), services=services) as manager:
            erasing = CancelAt(manager.erase_user("ada"), step, late=late)
            try:
                assert (await erasing).sessions == 2
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
            reached = erasing.reached
            left = len(await manager.list_sessions(user_id="ada"))
            receipt = await manager.erase_user("ada")
            assert (receipt.sessions, receipt.verified) == (left, True)
        assert await records_of(storage, "ada") == []
        assert await records_of(storage, "bob") == bob
        step += 1
    assert step > 8


async def test_writers_of_another_process_do_not_outlast_the_erasure(
    manager: SessionManager, storage: SessionStorage, services: Services
) -> None:
    await fill_user(manager, "ada", sessions=5)
    await fill_user(manager, "bob", sessions=5)
    writing = asyncio.Event()

    async def write(another: SessionManager, user: str, number: int) -> int:
        """Write some turns and memories; return the number of messages that were acknowledged."""
        acknowledged = 0
        for _ in range(8):
            await asyncio.sleep(0)  # the backend in memory never suspends
            try:
                await another.send_message(session_of(user, number), canary(user))
                acknowledged += 2
            except (SessionNotFoundError, TurnInterruptedError):
                with suppress(SessionExistsError):
                    config = {"session_id": session_of(user, number), "user_id": user}
                    await another.create_session({"name": canary(user)}, {"name": "echo"}, config)
            await another.memory_manager.of_user(user).store_memory(f"late {number}", canary(user))
            writing.set()
        return acknowledged

    async with SessionManager(storage) as another:
        writes = [write(another, user, number) for number in range(5) for user in ("ada", "bob")]
        writers = [asyncio.create_task(one) for one in writes]
        await writing.wait()
        first = await manager.erase_user("ada")
        acknowledged = await asyncio.gather(*writers)
    second = await manager.erase_user("ada")
    assert first.sessions + second.sessions >= 5
    assert second.verified is True
    assert await records_of(storage, "ada") == []
    assert await storage.list_memory_owners() == ["bob"]
    assert sorted(await manager.list_sessions()) == sorted(session_of("bob", number) for number in range(5))
    stored = [len(await manager.conversation_manager.get_messages(session_of("bob", n), 10_000)) for n in range(5)]
    assert stored == [4 + count for count in acknowledged[1::2]] == [20] * 5
