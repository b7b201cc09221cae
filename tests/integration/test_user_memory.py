"""The memory of a user, which all sessions of the user share."""

from typing import Any

import pytest

from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.values import STORE_OWNER
from luminoracore_sdk.session import MemoryManager, SessionManager, SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.session import MemoryConfig, SessionConfig
from luminoracore_sdk.utils.exceptions import SessionNotFoundError, ValidationError
from tests.support.scripted_provider import Script

DAY = 24 * 60 * 60


async def begin(manager: SessionManager, session_id: str, user_id: str | None, **config: Any) -> None:
    config = {"session_id": session_id, "user_id": user_id, **config}
    await manager.create_session({"name": "Ada"}, {"name": "scripted"}, config)


async def prompt_of(manager: SessionManager, session_id: str, script: Script) -> str:
    """Return the system message of a turn."""
    await manager.send_message(session_id, "Hello")
    role, content = script.prompts[-1][0]
    assert role == "system"
    return str(content)


async def test_a_memory_of_the_user_is_known_in_all_sessions_of_the_user(
    manager: SessionManager, script: Script
) -> None:
    for session_id, user_id in (("one", "ada"), ("two", "ada"), ("other", "bob"), ("nobody's", None)):
        await begin(manager, session_id, user_id)
    memory = manager.memory_manager
    assert await memory.store_memory("one", "city", "Turin", scope="user") is True
    assert await memory.get_memory("two", "city", scope="user") == "Turin"
    assert await memory.list_memories("two", scope="user") == ["city"]
    (found,) = await memory.search_memories("two", "turin", scope="user")
    assert (found["key"], found["value"]) == ("city", "Turin")
    assert "Turin" in await prompt_of(manager, "one", script)
    assert "Turin" in await prompt_of(manager, "two", script)
    for session_id in ("other", "nobody's", "unknown"):
        assert await memory.get_memory(session_id, "city", scope="user") is None
        assert await memory.list_memories(session_id, scope="user") == []
        assert await memory.search_memories(session_id, "turin", scope="user") == []
        assert await memory.delete_memory(session_id, "city", scope="user") is False
        assert await memory.clear_memory(session_id, scope="user") is False
    for session_id in ("other", "nobody's"):
        assert "Turin" not in await prompt_of(manager, session_id, script)
    assert await memory.list_memories("one") == []
    assert await memory.delete_memory("two", "city", scope="user") is True
    assert await memory.get_memory("one", "city", scope="user") is None
    assert "Turin" not in await prompt_of(manager, "one", script)


async def test_a_memory_of_the_user_outlives_the_session(manager: SessionManager, script: Script) -> None:
    await begin(manager, "one", "ada")
    await manager.memory_manager.store_memory("one", "city", "Turin", scope="user")
    await manager.delete_session("one")
    await begin(manager, "two", "ada")
    assert "Turin" in await prompt_of(manager, "two", script)
    assert await manager.memory_manager.clear_memory("two", scope="user") is True
    assert await manager.memory_manager.clear_memory("two", scope="user") is False


async def test_memories_of_the_session_come_first_and_win(manager: SessionManager, script: Script) -> None:
    await begin(manager, "s", "ada")
    memory = manager.memory_manager
    await memory.store_memory("s", "city", "Turin", scope="user")
    await memory.store_memory("s", "name", "Ada L.", scope="user")
    await memory.store_memory("s", "mood", "cheerful")
    await memory.store_memory("s", "city", "Rome")
    records = await manager.storage.list_memories(MemoryScope("session", "s"))
    entries = await memory.recalled_with_wider(records, SessionConfig(user_id="ada"))
    assert [(entry.key, entry.value) for entry in entries] == [
        ("city", "Rome"),
        ("mood", "cheerful"),
        ("name", "Ada L."),
    ]
    prompt = await prompt_of(manager, "s", script)
    assert "Turin" not in prompt
    assert prompt.index("Rome") < prompt.index("cheerful") < prompt.index("Ada L.")
    assert await memory.get_memory("s", "city", scope="user") == "Turin"


async def test_importance_fades_and_time_ends_for_users_too(
    manager: SessionManager, script: Script, clock: ManualClock
) -> None:
    await begin(manager, "s", "ada", memory_decay_factor=0.5)
    memory = manager.memory_manager
    await memory.store_memory("s", "faint", "a whisper", importance=0.6, scope="user")
    await memory.store_memory("s", "strong", "a shout", scope="user")
    await memory.store_memory("s", "short", "a spark", 10, scope="user")
    before = await prompt_of(manager, "s", script)
    assert [text in before for text in ("a whisper", "a shout", "a spark")] == [True, True, True]
    clock.advance(29 * DAY)
    after = await prompt_of(manager, "s", script)
    assert [text in after for text in ("a whisper", "a shout", "a spark")] == [False, True, False]


async def test_a_session_memory_that_faded_does_not_hide_that_of_the_user(
    manager: SessionManager, script: Script, clock: ManualClock
) -> None:
    await begin(manager, "s", "ada")
    memory = manager.memory_manager
    await memory.store_memory("s", "city", "Turin", scope="user")
    await memory.store_memory("s", "city", "Rome", importance=0.1)
    prompt = await prompt_of(manager, "s", script)
    assert "Turin" in prompt
    assert "Rome" not in prompt


async def test_the_oldest_memories_of_a_full_user_are_evicted(storage: SessionStorage, services: Services) -> None:
    memory = MemoryManager(MemoryConfig(max_entries=2), storage=storage, services=services).of_user("ada")
    for number in range(3):
        await memory.store_memory(f"k{number}", number)
    assert await memory.list_memories() == ["k1", "k2"]


async def test_a_session_without_a_user_remembers_nothing_for_one(manager: SessionManager, script: Script) -> None:
    await begin(manager, "s", None)
    for session_id in ("s", "unknown"):
        with pytest.raises(ValidationError, match=f"'{session_id}' has no user"):
            await manager.memory_manager.store_memory(session_id, "k", 1, scope="user")
    assert await manager.storage.session_exists("unknown") is False
    assert await manager.storage.list_memory_owners() == []


async def test_an_erased_session_is_not_taken_for_one_without_a_user(manager: SessionManager, script: Script) -> None:
    await begin(manager, "s", "ada")
    await manager.erase_user("ada")
    for scope in ("user", "agent"):
        with pytest.raises(SessionNotFoundError):
            await manager.memory_manager.store_memory("s", "k", 1, scope=scope)


async def test_an_unknown_scope_is_refused(manager: SessionManager) -> None:
    scope: Any = "tenant"
    with pytest.raises(ValidationError, match="'session', 'agent' or 'user', not 'tenant'"):
        await manager.memory_manager.get_memory("s", "k", scope=scope)


@pytest.mark.parametrize("user_id", ["", None, "a\0b", STORE_OWNER])
async def test_an_id_that_is_no_users_is_refused(manager: SessionManager, user_id: Any) -> None:
    with pytest.raises(ValidationError, match="user id"):
        manager.memory_manager.of_user(user_id)


async def test_memory_that_is_off_keeps_and_recalls_nothing(storage: SessionStorage, services: Services) -> None:
    manager = MemoryManager(MemoryConfig(enabled=False), storage=storage, services=services)
    memory = manager.of_user("ada")
    assert await manager.recall("s") == []
    assert await memory.store_memory("k", 1) is False
    assert await memory.get_memory("k") is None
    assert await memory.list_memories() == []


async def test_the_memory_of_the_user_is_written_at_once(manager: SessionManager, script: Script) -> None:
    await begin(manager, "draft", "ada", auto_save=False)
    await manager.memory_manager.store_memory("draft", "city", "Turin", scope="user")
    assert await manager.storage.session_exists("draft") is False
    assert await manager.storage.list_memory_owners() == ["ada"]
    assert "Turin" in await prompt_of(manager, "draft", script)


async def test_memories_of_the_agent_come_between_session_and_user(manager: SessionManager, script: Script) -> None:
    await begin(manager, "s", "ada", agent="guide")
    await begin(manager, "other", "bob", agent="guide")
    await begin(manager, "without", "ada")
    memory = manager.memory_manager
    await memory.store_memory("s", "a", "of the session")
    for key in "ab":
        await memory.store_memory("other", key, "of the agent", scope="agent")
    for key in "abc":
        await memory.store_memory("s", key, "of the user", scope="user")
    assert await memory.list_memories("s", scope="agent") == ["a", "b"]
    records = await manager.storage.list_memories(MemoryScope("session", "s"))
    entries = await memory.recalled_with_wider(records, SessionConfig(user_id="ada", agent="guide"))
    assert [(entry.key, entry.value) for entry in entries] == [
        ("a", "of the session"),
        ("b", "of the agent"),
        ("c", "of the user"),
    ]
    prompt = await prompt_of(manager, "s", script)
    assert prompt.index("of the session") < prompt.index("of the agent") < prompt.index("of the user")
    assert "of the agent" not in await prompt_of(manager, "without", script)
    assert await memory.get_memory("without", "a", scope="agent") is None
    with pytest.raises(ValidationError, match="has no agent"):
        await memory.store_memory("without", "a", 1, scope="agent")
    assert await memory.of_agent("guide").get_memory("b") == "of the agent"
    assert await memory.clear_memory("s", scope="agent")
    assert await memory.list_memories("other", scope="agent") == []


async def test_a_prompt_has_the_memories_of_the_agent_of_its_own_tenant(
    manager: SessionManager, script: Script
) -> None:
    for tenant in ("acme", None):
        user = manager.for_user("ada", tenant)
        config = {"session_id": f"of {tenant}", "agent": "guide"}
        await user.create_session({"name": "Ada"}, {"name": "scripted"}, config)
        await manager.memory_manager.of_agent("guide", tenant).store_memory("secret", f"agent of {tenant}")
    assert "agent of acme" in await prompt_of(manager, "of acme", script)
    prompt = await prompt_of(manager, "of None", script)
    assert "agent of None" in prompt
    assert "acme" not in prompt


async def test_apps_share_no_users(manager: SessionManager) -> None:
    apps = ("shop", "u=shop", None)
    for app in apps:
        user = manager.for_user("ada", app=app)
        assert (user.user_id, user.tenant, user.app) == ("ada", None, app)
        await user.create_session({"name": "Ada"}, {"name": "echo"}, {"session_id": f"of {app}"})
        await user.store_memory("secret", f"of {app}")
    for app in apps:
        assert await manager.for_user("ada", app=app).list_sessions() == [f"of {app}"]
        assert await manager.for_user("ada", app=app).get_memory("secret") == f"of {app}"
        assert await manager.memory_manager.of_user("ada", app=app).get_memory("secret") == f"of {app}"
    lines = "".join([piece async for piece in manager.export_user("ada", app="shop")])
    assert "of shop" in lines
    assert "of None" not in lines
    assert (await manager.erase_user("ada", app="shop")).sessions == 1
    assert set(await manager.list_sessions()) == {"of u=shop", "of None"}
    assert await manager.for_user("ada", app="shop").list_memories() == []
    assert await manager.for_user("ada").list_memories() == ["secret"]


async def test_tenants_share_neither_users_nor_agents(manager: SessionManager) -> None:
    tenants = ("acme", "acme/x", "u=acme", None)
    handles = [manager.for_user("ada", tenant) for tenant in tenants]
    for tenant, user in zip(tenants, handles, strict=True):
        config = {"session_id": f"of {tenant}", "agent": "guide", "title": f"of {tenant}"}
        await user.create_session({"name": "Ada"}, {"name": "echo"}, config)
        await user.store_memory("secret", f"of {tenant}")
        await manager.memory_manager.store_memory(f"of {tenant}", "secret", f"agent of {tenant}", scope="agent")
    for tenant, user in zip(tenants, handles, strict=True):
        assert (user.user_id, user.tenant) == ("ada", tenant)
        assert await user.list_sessions() == [f"of {tenant}"]
        assert [row.title for row in (await user.list_conversations()).conversations] == [f"of {tenant}"]
        assert await user.get_memory("secret") == f"of {tenant}"
        assert await manager.memory_manager.of_agent("guide", tenant).get_memory("secret") == f"agent of {tenant}"
        for other in tenants:
            if other != tenant:
                assert await user.get_session(f"of {other}") is None
    lines = "".join([piece async for piece in manager.export_user("ada", "acme")])
    assert "of acme" in lines
    assert "of None" not in lines
    receipt = await manager.erase_user("ada", "acme")
    assert (receipt.sessions, receipt.memories, receipt.verified) == (1, 1, True)
    assert await handles[0].list_sessions() == []
    assert await manager.memory_manager.of_agent("guide", "acme").get_memory("secret") == "agent of acme"
    assert [await user.list_sessions() for user in handles[1:]] == [[f"of {tenant}"] for tenant in tenants[1:]]


@pytest.mark.parametrize("user_id", ["luminora:t=acme/u=ada", "luminora:a=guide", "luminora:x"])
async def test_a_user_cannot_take_the_id_of_a_tenants_user(manager: SessionManager, user_id: str) -> None:
    with pytest.raises(ValidationError):
        manager.for_user(user_id)
    with pytest.raises(ValidationError):
        manager.for_user("x" * 300, "y" * 300)
    with pytest.raises(ValidationError):
        manager.for_user("ada", "")
    with pytest.raises(ValidationError):
        SessionConfig(user_id="luminora:a=guide")
