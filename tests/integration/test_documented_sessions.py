"""Every documented call of the SessionManager: order of arguments, defaults, results, unknown ids."""

from datetime import UTC
from typing import Any

import pytest

from luminoracore_sdk.session import (
    ConversationManager,
    InMemoryStorage,
    MemoryManager,
    PersonalitySession,
    SessionManager,
    SessionStorage,
)
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.provider import ChatResponse, ProviderConfig
from luminoracore_sdk.types.session import Conversation, SessionConfig
from luminoracore_sdk.utils.exceptions import (
    ConfigurationError,
    ProviderError,
    SessionError,
    SessionExistsError,
    ValidationError,
)
from tests.support.scripted_provider import Script

ADA = {"name": "Ada", "system_prompt": "You are Ada."}
ECHO = {"name": "echo"}


def test_personality_session_is_the_same_class() -> None:
    assert PersonalitySession is SessionManager


async def test_a_manager_without_a_storage_keeps_sessions_in_memory() -> None:
    async with SessionManager() as manager:
        session_id = await manager.create_session(ADA, ECHO)
        assert type(manager.storage) is InMemoryStorage
        assert await manager.storage.list_sessions() == [session_id]


async def test_a_manager_is_composed_of_the_two_other_ones(manager: SessionManager, storage: SessionStorage) -> None:
    session_id = await manager.create_session(ADA, ECHO)
    assert isinstance(manager.conversation_manager, ConversationManager)
    assert isinstance(manager.memory_manager, MemoryManager)
    assert manager.storage is storage
    await manager.send_message(session_id, "Hello")
    assert await manager.conversation_manager.get_message_count(session_id) == 2
    assert await ConversationManager(storage=storage).get_message_count(session_id) == 2


def test_a_manager_refuses_what_is_no_storage() -> None:
    with pytest.raises(ConfigurationError, match="storage must be a SessionStorage"):
        SessionManager(storage="sqlite:///store.db")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "session_config",
    [{"session_id": "../mine", "timeout": 5}, SessionConfig(session_id="../mine", timeout=5)],
)
async def test_create_session_uses_the_configured_id(manager: SessionManager, session_config: Any) -> None:
    assert await manager.create_session(ADA, ECHO, session_config) == "../mine"
    session = await manager.get_session("../mine")
    assert session is not None
    assert (session.session_id, session.config.timeout, session.message_count) == ("../mine", 5, 0)
    with pytest.raises(SessionExistsError):
        await manager.create_session(ADA, ECHO, session_config)


async def test_create_session_uses_its_config(
    manager: SessionManager,
) -> None:
    session_id = await manager.create_session(
        session_config=SessionConfig(personality=ADA, provider_config={"name": "echo", "model": "m"})
    )
    session = await manager.load_session(session_id)
    assert session is not None
    assert session.personality == ADA
    assert (session.provider or {})["model"] == "m"


async def test_two_sessions_have_different_ids(manager: SessionManager) -> None:
    ids = [await manager.create_session(ADA, ECHO) for _ in range(2)]
    assert all(type(session_id) is str for session_id in ids)
    assert len(set(ids)) == 2
    assert await manager.list_sessions() == sorted(ids)  # created at the same time, so by id


@pytest.mark.parametrize(
    ("provider_config", "reason"),
    [
        ({"name": "no-such"}, "no provider 'no-such'; available: .*echo"),
        ({"name": ""}, "needs a 'name'"),
        ({}, "needs a 'name'|must be a dict"),
        (None, "provider_config needs a 'name', for example"),
        ("echo", "must be a dict, not str"),
        ({"name": "echo", "apikey": "x"}, "unknown key 'apikey'; valid keys: name, api_key"),
        ({"name": "echo", "base_url": "ftp://host"}, "must begin with http"),
        ({"name": "echo", "base_url": "https://me:secret@host"}, "'base_url' holds credentials"),
        ({"name": "echo", "extra": {"no_such": 1}}, "unknown key 'no_such'"),
        ({"name": "echo", "model": 3}, "'model' must be a non-empty string"),
    ],
)
async def test_a_bad_provider_configuration_leaves_nothing_behind(
    manager: SessionManager, storage: SessionStorage, provider_config: Any, reason: str
) -> None:
    with pytest.raises(ProviderError, match=reason):
        await manager.create_session(ADA, provider_config, {"session_id": "s"})
    assert await storage.list_sessions() == []
    assert await manager.create_session(ADA, ECHO, {"session_id": "s"}) == "s"


@pytest.mark.parametrize(
    "session_config",
    [{"no_such": 1}, {"max_history": 0}, {"session_id": ""}, {"auto_save": 1}, {"storage": {}}, 5],
)
async def test_a_bad_session_configuration_leaves_nothing_behind(manager: SessionManager, session_config: Any) -> None:
    with pytest.raises(ValidationError):
        await manager.create_session(ADA, ECHO, session_config)
    assert await manager.list_sessions() == []


@pytest.mark.parametrize("personality", [None, "Ada", {"name": float("nan")}, {1: "x"}, {"x": object()}])
async def test_an_invalid_personality_leaves_nothing_behind(manager: SessionManager, personality: Any) -> None:
    with pytest.raises(ValidationError):
        await manager.create_session(personality, ECHO)
    assert await manager.list_sessions() == []


async def test_unknown_ids_give_what_is_documented(manager: SessionManager) -> None:
    assert await manager.get_session("nobody") is None
    assert await manager.load_session("nobody") is None
    assert await manager.get_conversation("nobody") is None
    assert await manager.get_session_info("nobody") is None
    assert await manager.clear_conversation("nobody") is False
    assert await manager.delete_session("nobody") is False
    assert await manager.update_personality("nobody", {}) is False
    assert await manager.save_session("nobody") is False
    with pytest.raises(SessionError, match="no session 'nobody' in"):
        await manager.send_message("nobody", "Hello")
    with pytest.raises(SessionError, match="no session 'nobody' in"):
        await anext(manager.stream_message("nobody", "Hello"))
    assert await manager.list_sessions() == []


async def test_send_message_has_the_documented_parameter_order(manager: SessionManager, script: Script) -> None:
    session_id = await manager.create_session(ADA, {"name": "scripted"})
    response = await manager.send_message(session_id, "Hello", 0.1, 7, seed=3)
    assert isinstance(response, ChatResponse)
    assert (response.content, response.role) == ("An answer.", "assistant")
    await manager.send_message(session_id, "Again")
    assert [call.parameters for call in script.calls] == [
        {"temperature": 0.1, "max_tokens": 7, "seed": 3},
        {"temperature": 0.7, "max_tokens": None},
    ]


async def test_call_arguments_override_generation_params(manager: SessionManager, script: Script) -> None:
    config = {"generation_params": {"temperature": 0.2, "max_tokens": 9, "top_p": 0.5}}
    session_id = await manager.create_session(ADA, {"name": "scripted"}, config)
    await manager.send_message(session_id, "Hello")
    await manager.send_message(session_id, "Hello", temperature=1, max_tokens=3, top_p=1)
    assert [call.parameters for call in script.calls] == [
        {"temperature": 0.2, "max_tokens": 9, "top_p": 0.5},
        {"temperature": 1, "max_tokens": 3, "top_p": 1},
    ]


async def test_stream_message_yields_the_answer_in_parts(manager: SessionManager, script: Script) -> None:
    script.answers = ["One two three"]
    session_id = await manager.create_session(ADA, {"name": "scripted"})
    deltas = [delta async for delta in manager.stream_message(session_id, "Count", 0.3, 8, seed=1)]
    assert [delta.content for delta in deltas] == ["One ", "two ", "three"]
    assert [delta.finish_reason for delta in deltas] == [None, None, "stop"]
    assert script.calls[0].parameters == {"temperature": 0.3, "max_tokens": 8, "seed": 1}
    last = await manager.conversation_manager.get_last_message(session_id)
    assert last is not None
    assert (last.role, last.content) == ("assistant", "One two three")


async def test_get_conversation_returns_a_snapshot(manager: SessionManager) -> None:
    session_id = await manager.create_session(ADA, ECHO)
    await manager.memory_manager.store_memory(session_id, "k", "v")
    await manager.send_message(session_id, "Hello")
    conversation = await manager.get_conversation(session_id)
    assert isinstance(conversation, Conversation)
    assert [said.content for said in conversation] == ["Hello", "You said: Hello"]
    conversation.messages.clear()
    assert len(await manager.get_conversation(session_id) or []) == 2
    assert await manager.clear_conversation(session_id) is True
    assert len(await manager.get_conversation(session_id) or []) == 0
    assert await manager.memory_manager.get_memory(session_id, "k") == "v"


async def test_update_personality_replaces_only_given_fields(manager: SessionManager, storage: SessionStorage) -> None:
    session_id = await manager.create_session({**ADA, "tone": "dry"}, ECHO)
    held = await manager.get_session(session_id)
    assert held is not None
    assert await manager.update_personality(session_id, {"system_prompt": "You are Eve."}) is True
    changed = await SessionManager(storage).load_session(session_id)
    assert changed is not None
    assert changed.personality == {"name": "Ada", "system_prompt": "You are Eve.", "tone": "dry"}
    assert (held.personality["system_prompt"], held.version, changed.version) == ("You are Ada.", 1, 2)


async def test_delete_session_takes_everything_with_it(manager: SessionManager, storage: SessionStorage) -> None:
    session_id = await manager.create_session(ADA, ECHO)
    await manager.send_message(session_id, "Hello")
    await manager.memory_manager.store_memory(session_id, "k", "v")
    assert await manager.delete_session(session_id) is True
    assert await manager.delete_session(session_id) is False
    assert await manager.memory_manager.get_memory(session_id, "k") is None
    assert await manager.conversation_manager.get_messages(session_id) == []
    assert await storage.list_sessions() == []


async def test_get_session_info_has_the_documented_keys(manager: SessionManager, clock: ManualClock) -> None:
    session_id = await manager.create_session(ADA, {"name": "echo", "model": "m"})
    created = clock.now()
    clock.advance(3)
    await manager.send_message(session_id, "Hello")
    assert await manager.get_session_info(session_id) == {
        "session_id": session_id,
        "personality": "Ada",
        "provider": "echo",
        "model": "m",
        "created_at": created,
        "last_activity": clock.now(),
        "message_count": 2,
    }
    assert created.tzinfo is UTC


async def test_list_sessions_filters_by_user_and_tag(manager: SessionManager, clock: ManualClock) -> None:
    for name, user, tags in (("b", "u1", ["x"]), ("a", "u2", ["x", "y"]), ("c", "u1", [])):
        await manager.create_session(ADA, ECHO, {"session_id": name, "user_id": user, "tags": tags})
        clock.advance(1)
    assert await manager.list_sessions() == ["b", "a", "c"]
    assert await manager.list_sessions(user_id="u1") == ["b", "c"]
    assert await manager.list_sessions(tag="x") == ["b", "a"]
    assert await manager.list_sessions(user_id="u1", tag="x") == ["b"]


async def test_callers_get_copies_of_stored_objects(
    manager: SessionManager,
) -> None:
    personality = {"name": "Ada", "traits": ["dry"]}
    session_id = await manager.create_session(personality, ProviderConfig("echo", extra={"delay": 0}))
    personality["traits"].append("loud")  # type: ignore[attr-defined]
    session = await manager.get_session(session_id)
    assert session is not None
    session.personality["traits"].append("rude")
    again = await manager.get_session(session_id)
    assert again is not None
    assert again.personality == {"name": "Ada", "traits": ["dry"]}
