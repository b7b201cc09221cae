"""Behaviour of the managers that the tests of the documented API do not cover."""

from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application import session_access
from luminoracore_sdk.application.core_mirror import Mirror
from luminoracore_sdk.application.ports.records import MessageRange, SessionRecord
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.domain.errors import (
    ConflictError,
    ProviderError,
    SessionBusyError,
    SessionExistsError,
    SessionNotFoundError,
    ValidationError,
)
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.providers import ProviderFactory
from luminoracore_sdk.session import ConversationManager, InMemoryStorage, SessionManager
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse
from luminoracore_sdk.types.session import Message, SessionConfig
from tests.support.stub_provider import StubProvider


class Vanishing(StorageWrapper):
    """Deletes every session right after its creation, like another process."""

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        stored = await super().put_session(record, expected_version=expected_version)
        await self.delete_session(record.session_id)
        return stored


async def test_a_conversation_deleted_during_creation_is_not_found() -> None:
    conversations = ConversationManager(storage=Vanishing(InMemoryStorage()))
    with pytest.raises(SessionNotFoundError):
        await conversations.create_conversation("s")


class Appearing(StorageWrapper):
    """Creates every session right before it is put, like another process, with a message."""

    async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
        await ConversationManager(storage=self.base).add_message(record.session_id, "user", "first")
        return await super().put_session(record, expected_version=expected_version)


async def test_a_conversation_created_by_another_process_meanwhile_is_used() -> None:
    conversations = ConversationManager(storage=Appearing(InMemoryStorage()))
    assert [message.content for message in await conversations.create_conversation("s")] == ["first"]
    await conversations.add_message("t", "user", "second")
    assert [message.content for message in await conversations.get_messages("t")] == ["first", "second"]


async def test_the_newest_of_a_role_are_found_across_many_chunks() -> None:
    conversations = ConversationManager(storage=InMemoryStorage())
    await conversations.create_conversation("s")
    for start in (0, 700):
        messages = [
            Message("system" if index % 600 == 0 else "user", str(index)) for index in range(start, start + 700)
        ]
        await conversations.append("s", messages)
    found = await conversations.get_messages_by_role("s", "system")
    assert [message.content for message in found] == ["0", "600", "1200"]
    found = await conversations.get_messages_by_role("s", "system", limit=2)
    assert [message.content for message in found] == ["600", "1200"]
    found = await conversations.get_messages_by_role("s", "user", limit=500)
    assert [message.content for message in found][-1] == "1399"
    assert len(found) == 500
    assert await conversations.get_messages_by_role("s", "user", limit=0) == []


async def test_a_message_may_be_sent_as_a_dictionary() -> None:
    async with SessionManager() as manager:
        session_id = await manager.create_session({}, {"name": "echo"})
        question: Any = {"role": "user", "content": "hi", "metadata": {"from": "web"}}
        assert (await manager.send_message(session_id, question)).content == "You said: hi"
        conversation = await manager.get_conversation(session_id)
    assert conversation is not None
    assert conversation.messages[0].metadata == {"from": "web"}


@pytest.mark.parametrize("role", ["user", "tool"])
async def test_a_role_without_content_is_not_taken_for_a_message(role: str) -> None:
    with pytest.raises(ValidationError, match=f"role '{role}' needs a content"):
        await ConversationManager().add_message("s", role)


async def test_more_sessions_than_a_page_holds_are_listed() -> None:
    storage = InMemoryStorage()
    for index in range(1001):
        await storage.save_session(f"s{index}", {"personality": {}, "n": index})
    async with SessionManager(storage) as manager:
        assert sorted(await manager.list_sessions()) == sorted(f"s{index}" for index in range(1001))


def test_a_string_is_refused_as_tags() -> None:
    with pytest.raises(ValidationError, match="a list of strings"):
        SessionConfig(tags="vip")


async def test_an_updated_provider_answers_also_after_a_restart() -> None:
    storage = InMemoryStorage()
    async with SessionManager(storage) as manager:
        session_id = await manager.create_session({}, {"name": "openai", "api_key": "sk-secret"})
        assert await manager.update_provider(session_id, {"name": "echo", "model": "other"}) is True
        assert (await manager.send_message(session_id, "hi")).model == "other"
        assert await manager.update_provider("unknown", {"name": "echo"}) is False
    async with SessionManager(storage) as manager:
        assert (await manager.send_message(session_id, "hi")).model == "other"
        with pytest.raises(ProviderError, match="update_provider"):
            await manager.load_session(session_id, provider_config={"name": "openai", "api_key": "k"})
        with pytest.raises(ProviderError, match="no provider 'nope'"):
            await manager.update_provider(session_id, {"name": "nope"})


async def test_a_provider_without_a_default_model_needs_a_model() -> None:
    config = {"name": "vllm", "model": "m", "base_url": "http://localhost:9/v1"}
    async with SessionManager() as manager:
        session_id = await manager.create_session({}, config)
        info = await manager.get_session_info(session_id)
        with pytest.raises(ProviderError, match="model"):
            await manager.create_session({}, {**config, "model": None})
    assert info is not None
    assert info["model"] == "m"


async def test_a_session_replaces_an_expired_deferred_one() -> None:
    clock = ManualClock()
    storage = InMemoryStorage(clock=clock)
    async with SessionManager(storage, services=attrs.evolve(default_services(), clock=clock)) as manager:
        await manager.create_session({}, {"name": "echo"}, {"session_id": "s", "auto_save": False, "ttl": 10})
        clock.advance(11)
        await manager.create_session({}, {"name": "echo"}, {"session_id": "s"})
        await manager.send_message("s", "hi")
    found = await storage.find_session("s")
    assert found is not None
    assert found.last_position == 2


async def test_writes_of_an_id_that_is_taken_are_not_deferred() -> None:
    storage = InMemoryStorage()
    await storage.save_session("s", {"personality": {}})

    class SeenLate(StorageWrapper):
        looks = 0

        async def find_session(self, session_id: str) -> SessionRecord | None:
            self.looks += 1
            return None if self.looks == 1 else await super().find_session(session_id)

    async with SessionManager(SeenLate(storage)) as manager:
        with pytest.raises(SessionExistsError):
            await manager.create_session({}, {"name": "echo"}, {"session_id": "s", "auto_save": False})
        await manager.conversation_manager.add_message("s", "user", "hi")
    assert len(await storage.read_messages("s", MessageRange())) == 1


async def test_a_deferred_session_that_expired_below_is_saved_whole() -> None:
    clock = ManualClock()
    storage = InMemoryStorage(clock=clock)
    async with SessionManager(storage, services=attrs.evolve(default_services(), clock=clock)) as manager:
        config = {"session_id": "s", "auto_save": False, "ttl": 10}
        await manager.create_session({}, {"name": "echo"}, config)
        await manager.send_message("s", "one")
        assert await manager.save_session("s") is True
        clock.advance(6)
        await manager.send_message("s", "two")
        clock.advance(6)
        assert await storage.find_session("s") is None
        assert await manager.save_session("s") is True
    messages = await storage.read_messages("s", MessageRange())
    assert [message.role for message in messages] == ["user", "assistant"] * 2


async def test_a_save_does_not_overwrite_another_writers_header() -> None:
    storage = InMemoryStorage()
    async with SessionManager(storage) as mine, SessionManager(storage) as theirs:
        await mine.create_session({"a": 1}, {"name": "echo"}, {"session_id": "s", "auto_save": False})
        await mine.save_session("s")
        await mine.update_personality("s", {"a": 2})
        await theirs.update_personality("s", {"a": 3})
        await theirs.save_session("s")
        with pytest.raises(ConflictError):
            await mine.save_session("s")
        stored = await mine.load_session("s")
    assert stored is not None
    assert stored.personality == {"a": 3}


async def test_sending_within_an_open_stream_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_access, "GRACE_SECONDS", 0.01)
    async with SessionManager() as manager:
        session_id = await manager.create_session({}, {"name": "echo", "extra": {"delay": 0.1}})
        async with aclosing(manager.stream_message(session_id, "a b c")) as deltas:
            await anext(deltas)
            with pytest.raises(SessionBusyError, match="still open"):
                await manager.send_message(session_id, "again")
        assert (await manager.send_message(session_id, "again")).content == "You said: again"


async def test_a_stored_turn_unlocks_the_session_for_its_last_delta() -> None:
    async with SessionManager() as manager:
        session_id = await manager.create_session({}, {"name": "echo"})
        async for delta in manager.stream_message(session_id, "a b"):
            if delta.finish_reason:
                assert (await manager.send_message(session_id, "next")).content == "You said: next"
        assert await manager.conversation_manager.get_message_count(session_id) == 4


async def test_a_message_added_again_is_returned_as_stored() -> None:
    conversations = ConversationManager()
    await conversations.add_message("s", Message("user", "first", id="m"))
    again = await conversations.add_message("s", Message("user", "second", id="m"))
    assert (again.content, again.position) == ("first", 1)


async def test_a_session_does_not_expire_during_a_turn() -> None:
    clock = ManualClock()

    class Slow(StubProvider):
        async def answer(self, messages: list[ChatMessage], parameters: dict[str, Any]) -> ChatResponse:
            clock.advance(8)
            return ChatResponse("At last.")

    ProviderFactory.register_provider("slow", Slow)
    tools = attrs.evolve(default_services(), clock=clock)
    try:
        async with SessionManager(InMemoryStorage(clock=clock), services=tools) as manager:
            session_id = await manager.create_session({}, {"name": "slow"}, {"ttl": 10})
            clock.advance(9)
            assert (await manager.send_message(session_id, "hi")).content == "At last."
            assert await manager.conversation_manager.get_message_count(session_id) == 2
    finally:
        ProviderFactory.unregister_provider("slow")


async def test_a_change_is_repeated_after_a_conflict() -> None:
    storage = InMemoryStorage()

    class Raced(StorageWrapper):
        raced = False

        async def put_session(self, record: SessionRecord, *, expected_version: int | None = None) -> SessionRecord:
            if expected_version and not self.raced:
                self.raced = True
                async with SessionManager(storage) as other:
                    await other.update_personality(record.session_id, {"theirs": 1})
            return await super().put_session(record, expected_version=expected_version)

    async with SessionManager(Raced(storage)) as manager:
        session_id = await manager.create_session({}, {"name": "echo"})
        assert await manager.update_personality(session_id, {"mine": 1}) is True
        session = await manager.load_session(session_id)
    assert session is not None
    assert session.personality == {"theirs": 1, "mine": 1}


async def test_a_mirror_without_a_system_does_nothing() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    entry = MemoryEntry(key="k", value="v", created_at=now, updated_at=now)
    mirror = Mirror(None)
    assert mirror.is_active is False
    await mirror.remember("s", entry)
    await mirror.forget("s", entry)
    assert await mirror.stats("s") is None


async def test_saving_a_document_keeps_tags_set_meanwhile() -> None:
    storage = InMemoryStorage()
    await storage.save_session("s", {"n": 1})

    class LabelledMeanwhile(StorageWrapper):
        labelled = False

        async def find_session(self, session_id: str) -> SessionRecord | None:
            found = await super().find_session(session_id)
            if found is not None and not self.labelled:
                self.labelled = True
                await storage.put_session(attrs.evolve(found, tags=("vip",)))
            return found

    await LabelledMeanwhile(storage).save_session("s", {"n": 2})
    found = await storage.find_session("s")
    assert found is not None
    assert (found.tags, await storage.load_session("s")) == (("vip",), {"n": 2})
