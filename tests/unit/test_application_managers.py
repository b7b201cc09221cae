"""Corners of the managers that the documented-API tests do not reach."""

from typing import Any

import pytest

from luminoracore_sdk.adapters.wrappers.base import StorageWrapper
from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.domain.errors import ProviderError, SessionNotFoundError, ValidationError
from luminoracore_sdk.session import ConversationManager, InMemoryStorage, SessionManager
from luminoracore_sdk.types.session import Message, SessionConfig


class Vanishing(StorageWrapper):
    """Another process deletes every session as soon as it is there."""

    async def put_session(
        self, record: SessionRecord, *, expected_version: int | None = None
    ) -> SessionRecord:
        stored = await super().put_session(record, expected_version=expected_version)
        await self.delete_session(record.session_id)
        return stored


async def test_a_conversation_that_is_deleted_while_it_is_created_is_not_returned() -> None:
    conversations = ConversationManager(storage=Vanishing(InMemoryStorage()))
    with pytest.raises(SessionNotFoundError):
        await conversations.create_conversation("s")


async def test_the_newest_of_a_role_are_found_across_many_chunks() -> None:
    conversations = ConversationManager(storage=InMemoryStorage())
    await conversations.create_conversation("s")
    for start in (0, 700):
        messages = [
            Message("system" if index % 600 == 0 else "user", str(index))
            for index in range(start, start + 700)
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


def test_one_text_is_no_list_of_tags() -> None:
    with pytest.raises(ValidationError, match="a list of texts"):
        SessionConfig(tags="vip")


async def test_another_provider_answers_after_an_update_and_after_a_restart() -> None:
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
