"""Forks, and changes of a session's header."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import attrs
import pytest

from luminoracore_sdk.application.ports.records import (
    MemoryPut,
    MemoryRecord,
    MemoryScope,
    RewriteMessage,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import MessageNotFoundError
from luminoracore_sdk.session import ConversationManager, InMemoryStorage, SessionManager, SessionStorage
from luminoracore_sdk.storage import StorageWrapper
from luminoracore_sdk.types.session import Message
from luminoracore_sdk.utils.exceptions import (
    ConflictError,
    SessionExistsError,
    SessionNotFoundError,
    StorageUnavailableError,
    ValidationError,
)
from tests.support.scripted_provider import Script


async def begin(manager: SessionManager, script: Script) -> list[Message]:
    await manager.create_session(
        {"name": "Ada"}, {"name": "scripted"}, {"session_id": "s", "user_id": "u", "tags": ["t"], "ttl": 100}
    )
    script.answers = ["Answer 1", "Answer 2", "Answer 3"]
    await manager.memory_manager.store_memory("s", "town", "Paris")
    for number in (1, 2):
        await manager.send_message("s", f"Question {number}")
    return await said(manager, "s")


async def said(manager: SessionManager, session_id: str) -> list[Message]:
    return await manager.conversation_manager.get_messages(session_id)


async def test_a_fork_is_the_same_and_independent(manager: SessionManager, script: Script) -> None:
    before = await begin(manager, script)
    await manager.update_session("s", metadata={"title": "A talk"})
    new = await manager.fork("s", before[1].id, metadata={"title": "Another talk"})
    assert await said(manager, new) == before[:2]
    old, fork = await manager.get_session("s"), await manager.get_session(new)
    assert old is not None
    assert fork is not None
    assert fork.metadata == {"title": "Another talk", "parent": {"session_id": "s", "position": 2}}
    assert (fork.personality, fork.provider) == (old.personality, old.provider)
    assert attrs.evolve(fork.config, session_id="s") == attrs.evolve(old.config, session_id="s")
    assert await manager.memory_manager.get_memory(new, "town") == "Paris"
    await manager.send_message(new, "Question 3")
    await manager.memory_manager.store_memory(new, "town", "Rome")
    assert script.prompts[-1][-1] == ("user", "Question 3")
    assert await said(manager, "s") == before
    assert await manager.memory_manager.get_memory("s", "town") == "Paris"
    await manager.delete_session("s")
    assert [message.content for message in await said(manager, new)] == [
        *["Question 1", "Answer 1"],
        *["Question 3", "Answer 3"],
    ]


@pytest.mark.parametrize(("at", "count"), [(None, 4), (0, 0), (1, 1), (4, 4)])
async def test_a_fork_ends_where_it_is_told(
    manager: SessionManager, script: Script, at: int | None, count: int
) -> None:
    before = await begin(manager, script)
    assert await manager.fork("s", at, new_session_id="new") == "new"
    assert await said(manager, "new") == before[:count]


async def test_what_cannot_be_forked_is_refused(manager: SessionManager, script: Script) -> None:
    await begin(manager, script)
    await manager.create_session({"name": "Bob"}, {"name": "scripted"}, {"session_id": "taken"})
    with pytest.raises(SessionNotFoundError):
        await manager.fork("t")
    for at in (5, -1, "nobody's"):
        with pytest.raises(MessageNotFoundError):
            await manager.fork("s", at)
    with pytest.raises(SessionExistsError):
        await manager.fork("s", new_session_id="taken")
    assert sorted(await manager.list_sessions()) == ["s", "taken"]


class ActsBeforeCopiedMemories(StorageWrapper):
    """Lets a test act right before a memory of a fork is stored."""

    act: Callable[[], Awaitable[object]] | None = None

    async def change_memories(
        self,
        scope: MemoryScope,
        puts: Sequence[MemoryPut] = (),
        *,
        deletes: Sequence[str] = (),
        max_entries: int | None = None,
    ) -> list[MemoryRecord]:
        if scope.owner_id != "s" and self.act:
            await self.act()
        return await super().change_memories(scope, puts, deletes=deletes, max_entries=max_entries)


async def fail() -> None:
    raise StorageUnavailableError("memory", "gone")


async def test_a_fork_that_failed_is_completed_by_the_same_call(script: Script) -> None:
    storage = ActsBeforeCopiedMemories(InMemoryStorage())
    async with SessionManager(storage) as manager:
        await begin(manager, script)
        await manager.memory_manager.store_memory("s", "town", "Turin")
        storage.act = fail
        with pytest.raises(StorageUnavailableError):
            await manager.fork("s", new_session_id="new")
        assert await said(manager, "new") == await said(manager, "s")  # the messages were copied in one step
        assert (await manager.get_session("new")).metadata["parent"]["copied"] is False  # type: ignore[union-attr]
        storage.act = None
        await manager.fork("s", new_session_id="new")
        assert await manager.memory_manager.get_memory("new", "town") == "Turin"
        fork = await manager.get_session("new")
        assert fork is not None
        assert fork.metadata["parent"] == {"session_id": "s", "position": 4}
        await manager.send_message("new", "On we go.")
        with pytest.raises(SessionExistsError):
            await manager.fork("s", 3, new_session_id="new")


class ChangesTheSource(StorageWrapper):
    """Changes the source right before it is forked."""

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        await self.base.truncate_messages(source_id, after=1)
        return await super().fork_session(source_id, record, at=at, rewrite=rewrite)


async def test_a_source_that_is_cut_off_before_the_copy_is_a_conflict(script: Script) -> None:
    async with SessionManager(ChangesTheSource(InMemoryStorage())) as manager:
        await begin(manager, script)
        with pytest.raises(ConflictError):
            await manager.fork("s", new_session_id="new")
        assert await manager.get_session("new") is None


class RedactsInTheSource(StorageWrapper):
    """Does so once, when the header of the source was read already."""

    is_due = True

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        if self.is_due:
            self.is_due = False
            async with SessionManager(self.base) as another:
                for message in await said(another, source_id):
                    await another.redact(source_id, message.id or "")
        return await super().fork_session(source_id, record, at=at, rewrite=rewrite)


@pytest.mark.parametrize("cancels", [False, True])
async def test_a_fork_without_a_given_id_is_made_whole_or_not(
    storage: SessionStorage, script: Script, *, cancels: bool
) -> None:
    acting = ActsBeforeCopiedMemories(storage)
    async with SessionManager(acting) as manager:
        await begin(manager, script)
        for new_session_id, left in ((None, ["s"]), ("new", ["new", "s"])):
            forking = asyncio.create_task(manager.fork("s", new_session_id=new_session_id))

            async def cancel(task: "asyncio.Task[str]" = forking) -> None:
                task.cancel()
                await asyncio.Event().wait()

            acting.act = cancel if cancels else fail
            with pytest.raises((asyncio.CancelledError, StorageUnavailableError)):
                await forking
            assert sorted(await manager.list_sessions()) == left


async def test_what_is_redacted_before_the_copy_is_not_in_its_summary(script: Script) -> None:
    async with SessionManager(RedactsInTheSource(InMemoryStorage())) as manager:
        await begin(manager, script)
        new = await manager.fork("s")
        assert [message.content for message in await said(manager, new)] == [""] * 4
        for row in (await manager.list_conversations()).conversations:
            assert (row.first_text, row.last_text) == (None, None)


class ForkedByAnotherToo(StorageWrapper):
    """Another process makes the same fork right before this one."""

    async def fork_session(
        self, source_id: str, record: SessionRecord, *, at: int, rewrite: RewriteMessage | None = None
    ) -> SessionRecord:
        async with SessionManager(self.base) as another:
            await another.fork(source_id, at, new_session_id=record.session_id)
        return await super().fork_session(source_id, record, at=at, rewrite=rewrite)


async def test_a_fork_that_another_process_made_meanwhile_is_the_same_fork(script: Script) -> None:
    storage = InMemoryStorage()
    async with SessionManager(ForkedByAnotherToo(storage)) as manager, SessionManager(storage) as reader:
        before = await begin(manager, script)
        assert await manager.fork("s", 3, new_session_id="new") == "new"
        assert await said(reader, "new") == before[:3]
        assert await reader.memory_manager.get_memory("new", "town") == "Paris"


async def test_two_same_forks_at_once_make_one(script: Script) -> None:
    async with SessionManager() as manager:
        await begin(manager, script)
        await manager.memory_manager.store_memory("s", "town", "Turin")
        assert await asyncio.gather(*(manager.fork("s", 3, new_session_id="new") for _ in range(5))) == ["new"] * 5
        assert len(await said(manager, "new")) == 3
        assert await manager.memory_manager.get_memory("new", "town") == "Turin"


async def test_a_fork_has_its_own_summary(script: Script) -> None:
    async with SessionManager() as manager:
        await begin(manager, script)
        await manager.update_session("s", title="Of the source", pinned=True)
        rows = []
        for at in (4, 3, 2, 1, 0):
            new = await manager.fork("s", at)
            rows += [row for row in (await manager.list_conversations()).conversations if row.session_id == new]
        texts = [(row.first_text, row.last_text, row.message_count) for row in rows]
        assert texts == [
            ("Question 1", "Answer 2", 4),
            ("Question 1", "Question 2", 3),
            ("Question 1", "Answer 1", 2),
            ("Question 1", "Question 1", 1),
            (None, None, 0),
        ]
        assert {(row.title, row.pinned, row.usage.input_tokens) for row in rows} == {("Of the source", True, 0)}
        assert [dict(row.messages) for row in rows[1:4:2]] == [{"user": 2, "assistant": 1}, {"user": 1}]


async def test_the_summary_of_a_fork_is_of_what_was_said(script: Script) -> None:
    async with SessionManager() as manager:
        await begin(manager, script)
        await manager.conversation_manager.append("s", [Message("system", "Be brief."), Message("user", "Well?")])
        new = await manager.fork("s", 5)
        [row] = [row for row in (await manager.list_conversations()).conversations if row.session_id == new]
        assert (row.first_text, row.last_text, row.message_count) == ("Question 1", "Answer 2", 5)


async def test_the_header_of_a_session_is_changed(
    manager: SessionManager, storage: SessionStorage, script: Script
) -> None:
    await begin(manager, script)
    assert await manager.update_session("s", metadata={"title": "A talk", "pinned": True}, tags=["a", "b"], ttl=50)
    assert await manager.update_session("s", metadata={"pinned": None}, config={"max_history_length": 2})
    session = await manager.get_session("s")
    assert session is not None
    assert session.metadata == {"title": "A talk"}
    assert (session.config.tags, session.config.ttl, session.config.max_history_length) == (("a", "b"), 50, 2)
    assert session.config.user_id == "u"
    assert await manager.list_sessions(tag="b") == ["s"]
    assert await manager.list_sessions(tag="t") == []
    await manager.update_session("s", ttl=None)
    async with SessionManager(storage) as other:
        stored = await other.get_session("s")
        assert stored is not None
        assert (stored.config.ttl, stored.metadata) == (None, {"title": "A talk"})
    assert await manager.update_session("t", tags=["a"]) is False
    wrong: list[dict[str, object]] = [
        {"config": {"user_id": "another"}},
        {"config": {"auto_save": True}},
        {"config": [1]},
        {"metadata": [1]},
        {"config": {"nothing": 1}},
        {"config": {"max_history": 0}},
        {"metadata": {"title": float("nan")}},
        {"ttl": -1},
        {"tags": "a"},
    ]
    for arguments in wrong:
        with pytest.raises(ValidationError):
            await manager.update_session("s", **arguments)  # type: ignore[arg-type]
    assert await manager.get_session("s") == stored


async def test_pages_stay_right_while_others_append(manager: SessionManager, script: Script) -> None:
    await begin(manager, script)
    conversations = manager.conversation_manager
    await conversations.append("s", [Message("user", str(number)) for number in range(5, 11)])

    async def page(**bounds: int) -> list[int | None]:
        return [message.position for message in await conversations.get_messages("s", 3, **bounds)]

    assert await page(before=11) == [8, 9, 10]
    await conversations.add_message("s", "user", "meanwhile")
    assert await page(before=8) == [5, 6, 7]
    assert await page(before=2) == [1]
    assert await page(before=1) == []
    assert await page(after=8) == [9, 10, 11]
    assert await page(after=11) == []
    assert await page(after=2, before=5) == [3, 4]
    assert len(await conversations.get_messages("s", after=0)) == 11


async def test_pages_of_a_manager_without_a_storage_end_with_its_history() -> None:
    manager = ConversationManager(max_history=3)
    for number in range(6):
        await manager.add_message("s", "user", number)
    assert [message.content for message in await manager.get_messages("s", 2, before=6)] == [3, 4]
    assert [message.content for message in await manager.get_messages("s", after=0)] == [3, 4, 5]
    assert await manager.get_messages("t", after=0) == []


async def test_a_title_is_suggested_by_the_provider(manager: SessionManager, script: Script) -> None:
    await manager.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s"})
    assert await manager.suggest_title("s") == ""
    script.answers = ["Because of its iron.", '"Why blood\nis red."']
    await manager.send_message("s", "Why is blood red? " + "x" * 2000)
    before = await said(manager, "s")
    assert await manager.suggest_title("s") == "Why blood is red"
    (system, transcript) = script.prompts[-1]
    assert "title" in system[1]
    assert transcript[1].startswith("user: Why is blood red?")
    assert transcript[1].endswith("assistant: Because of its iron.")
    assert len(transcript[1]) < 700
    assert await said(manager, "s") == before
    script.answers = [f"{'x' * 79} and more"]  # cut behind the blank
    assert await manager.suggest_title("s") == "x" * 79
    with pytest.raises(SessionNotFoundError):
        await manager.suggest_title("t")


async def test_a_complete_fork_is_left_as_it_is(manager: SessionManager, script: Script) -> None:
    await begin(manager, script)
    await manager.fork("s", new_session_id="new")
    await manager.memory_manager.store_memory("new", "town", "Rome")
    await manager.send_message("s", "Question 3")  # the source goes on
    assert await manager.fork("s", new_session_id="new") == "new"
    assert await manager.memory_manager.get_memory("new", "town") == "Rome"
    assert len(await said(manager, "new")) == 4
    with pytest.raises(SessionExistsError):
        await manager.fork("s", 1, new_session_id="new")


async def test_a_fork_uses_the_key_of_its_source(script: Script) -> None:
    async with SessionManager() as manager:
        await manager.create_session({"name": "Ada"}, {"name": "scripted", "api_key": "sk-of-s"}, {"session_id": "s"})
        new = await manager.fork("s")
        await manager.send_message(new, "Hello")
        assert script.calls[-1].config.api_key == "sk-of-s"
