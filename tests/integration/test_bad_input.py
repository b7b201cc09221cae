"""Invalid input raises a typed error and changes nothing."""

import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.domain.memory import MemorySource
from luminoracore_sdk.session import ConversationManager, RetentionPolicy, SessionManager, SessionStorage
from luminoracore_sdk.types.session import Message
from luminoracore_sdk.utils.exceptions import InvalidIdError, InvalidJSONError, ProviderError, ValidationError

ADA = {"name": "Ada"}
ECHO = {"name": "echo"}


@pytest.fixture
async def session_id(manager: SessionManager) -> str:
    """Return a session with one turn, which invalid input must not change."""
    made = await manager.create_session(ADA, ECHO, {"session_id": "s"})
    await manager.send_message(made, "Safe")
    return made


async def said(storage: SessionStorage, session_id: str = "s") -> list[Any]:
    return [message.content for message in await ConversationManager(storage=storage).get_messages(session_id)]


NOT_JSON = [float("nan"), float("inf"), -float("inf"), b"bytes", {1: "x"}, ("a",), {"x": {2j}}, object()]


@pytest.mark.parametrize("value", NOT_JSON, ids=lambda value: repr(value)[:12])
async def test_a_value_that_is_not_json_is_refused(
    manager: SessionManager, storage: SessionStorage, session_id: str, value: Any
) -> None:
    calls: list[Awaitable[Any]] = [
        manager.send_message(session_id, Message("user", value)),
        manager.conversation_manager.add_message(session_id, "user", value),
        manager.conversation_manager.add_message(session_id, "user", "x", {"k": value}),
        manager.memory_manager.store_memory(session_id, "k", value),
        manager.update_personality(session_id, {"k": value}),
        storage.save_session(session_id, {"k": value}),
    ]
    for call in calls:
        with pytest.raises(InvalidJSONError):
            await call
    assert await said(storage) == ["Safe", "You said: Safe"]
    assert await manager.memory_manager.list_memories(session_id) == []
    session = await manager.get_session(session_id)
    assert session is not None
    assert (session.personality, session.version) == (ADA, 1)


@pytest.mark.parametrize("role", ["robot", "", "USER", None, 5, ["user"]])
async def test_a_wrong_role_is_refused(manager: SessionManager, session_id: str, role: Any) -> None:
    with pytest.raises(ValidationError, match=r"role .* is not one of: user, assistant, system, tool"):
        await manager.conversation_manager.add_message(session_id, role, "text")
    assert await manager.conversation_manager.get_message_count(session_id) == 2


@pytest.mark.parametrize(
    "message", [None, 5, [], {}, {"role": "user"}, {"content": "x"}, {"role": "user", "content": "x", "k": 1}]
)
async def test_an_invalid_message_is_refused(manager: SessionManager, session_id: str, message: Any) -> None:
    with pytest.raises(ValidationError):
        await manager.conversation_manager.add_message(session_id, message)
    assert await manager.conversation_manager.get_message_count(session_id) == 2


BAD_IDS = ["", "a\0b", "\ud800", "x" * 513, "x" * 10_000, 5, None, b"s", ("s",), ["s"]]


@pytest.mark.parametrize("bad", BAD_IDS, ids=lambda bad: f"{ascii(bad)[:8]}-{len(ascii(bad))}")
async def test_an_invalid_id_is_refused_by_every_call(
    manager: SessionManager, storage: SessionStorage, bad: Any
) -> None:
    conversations, memory = manager.conversation_manager, manager.memory_manager
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: manager.get_session(bad),
        lambda: manager.load_session(bad),
        lambda: manager.save_session(bad),
        lambda: manager.delete_session(bad),
        lambda: manager.send_message(bad, "x"),
        lambda: anext(manager.stream_message(bad, "x")),
        lambda: manager.get_conversation(bad),
        lambda: manager.clear_conversation(bad),
        lambda: manager.update_personality(bad, {}),
        lambda: manager.get_session_info(bad),
        lambda: conversations.create_conversation(bad),
        lambda: conversations.add_message(bad, "user", "x"),
        lambda: conversations.get_messages(bad),
        lambda: conversations.delete_conversation(bad),
        lambda: memory.store_memory(bad, "k", 1),
        lambda: memory.store_memory("s", bad, 1),
        lambda: memory.get_memory(bad, "k"),
        lambda: memory.get_memory("s", bad),
        lambda: memory.list_memories(bad),
        lambda: storage.save_session(bad, {}),
        lambda: storage.load_session(bad),
    ]
    accepted = []
    for number, call in enumerate(calls):
        try:
            await call()
        except InvalidIdError:
            continue
        accepted.append(number)
    assert accepted == []
    assert await storage.list_sessions() == []


async def test_an_argument_of_another_type_is_refused(
    manager: SessionManager, storage: SessionStorage, session_id: str
) -> None:
    anything: Any = manager
    conversations: Any = manager.conversation_manager
    user: Any = manager.for_user("u")
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: anything.usage(session_id, since="2026-01-01"),
        lambda: anything.usage(session_id, until=datetime(2026, 1, 1, tzinfo=UTC)),
        lambda: anything.usage(since=0),
        lambda: anything.list_conversations(archived="no"),
        lambda: anything.list_conversations(pinned=0),
        lambda: anything.send_message(session_id, "x", context=None),
        lambda: anything.edit_message(session_id, None, "x"),
        lambda: anext(anything.stream_edit_message(session_id, None, "x")),
        lambda: anything.fork(session_id, new_session_id=""),
        lambda: anything.apply_retention(RetentionPolicy(max_messages=1), dry_run="no"),
        lambda: user.store_memory("k", 1, source={"session_id": session_id}),
        lambda: user.store_memory("k", 1, source=MemorySource(session_id="", position=1)),
        lambda: user.store_memory("k", 1, source=MemorySource(session_id=session_id, position=-1)),
        lambda: conversations.append(session_id, None),
        lambda: conversations.append(session_id, "x"),
        lambda: conversations.get_recent_messages(session_id, None),
        lambda: anext(conversations.stream_messages(session_id, after="1")),
    ]
    accepted = []
    for number, call in enumerate(calls):
        try:
            await call()
        except ValidationError:
            continue
        accepted.append(number)
    assert accepted == []
    assert await said(storage) == ["Safe", "You said: Safe"]
    assert await manager.list_sessions() == [session_id]


async def test_a_provider_configuration_of_another_type_is_refused(manager: SessionManager, session_id: str) -> None:
    config: Any = "echo"
    for call in (
        manager.send_message(session_id, "x", provider_config=config),
        manager.suggest_title(session_id, provider_config=config),
    ):
        with pytest.raises(ProviderError, match="must be a dict"):
            await call


ODD_IDS = [
    "../../etc/passwd",
    "/",
    "..",
    "a\nb",
    "a:b*?\"'<>|",
    "CON",
    " ",
    "💥" * 512,
    "a;DROP TABLE x--",
    "%00",
]


async def test_odd_ids_do_no_harm(manager: SessionManager, storage: SessionStorage, tmp_path: Path) -> None:
    for name in ODD_IDS:
        assert await manager.create_session(ADA, ECHO, {"session_id": name}) == name
        await manager.send_message(name, name)
        await manager.memory_manager.store_memory(name, name, name)
    assert sorted(await manager.list_sessions()) == sorted(ODD_IDS)
    for name in ODD_IDS:
        assert (await said(storage, name))[0] == name
        assert await manager.memory_manager.get_memory(name, name) == name
    assert {name.partition("-")[0] for name in os.listdir(tmp_path)} <= {"store"}  # noqa: PTH208  # in a test
    for name in ODD_IDS:
        assert await manager.delete_session(name) is True
    assert await manager.list_sessions() == []


async def test_a_message_of_20_mb_comes_back_equal(manager: SessionManager, storage: SessionStorage) -> None:
    text = "0123456789abcde\n" * (20 * 1024 * 1024 // 16)
    await manager.conversation_manager.add_message("big", "user", text)
    assert (await said(storage, "big")) == [text]


async def test_nesting_has_a_documented_limit(manager: SessionManager, session_id: str) -> None:
    def nested(levels: int) -> Any:
        value: Any = []
        for _ in range(levels - 1):
            value = [value]
        return value

    await manager.memory_manager.store_memory(session_id, "deep", nested(198))
    assert await manager.memory_manager.get_memory(session_id, "deep") == nested(198)
    with pytest.raises(InvalidJSONError, match="nested deeper than 200 levels"):
        await manager.memory_manager.store_memory(session_id, "deep", nested(201))
