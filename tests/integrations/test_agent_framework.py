# pyright: reportMissingImports=false

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES, same

pytest.importorskip("agent_framework", reason="the extra agent-framework is not installed")

from agent_framework import EXCLUDED_KEY, Agent, AgentSession, Content, Message

from luminoracore_sdk.integrations.agent_framework import LuminoraHistoryProvider, LuminoraSessionStore
from tests.integrations.workers.agent_framework_agent import FakeClient

MESSAGES = [
    Message("system", ["Be brief."]),
    Message("user", ["Hi"], author_name="ann"),
    Message("assistant", [Content.from_function_call("1", "add", arguments={"b": 1, "a": 2})], message_id="x"),
    Message("tool", [Content.from_function_result("1", result="3")]),
    Message("assistant", ["Hello", "there"]),
    Message("user", ["What?", Content.from_data(b"\x00\xff", "image/png")]),
    Message("user", ["Hi"]),
    Message("user", ["Hi"]),
    *(Message("user", [text]) for text in HOSTILE_TEXTS),
    *(Message("user", ["x"], additional_properties={"value": value}) for value in HOSTILE_VALUES),
]


def dicts(messages: Any) -> list[Any]:
    return [message.to_dict() for message in messages]


def texts(messages: Any) -> list[str]:
    return [message.text for message in messages]


@pytest.fixture
async def history(store: StorageConfig) -> AsyncIterator[LuminoraHistoryProvider]:
    history = LuminoraHistoryProvider(store)
    yield history
    await history.close()


@pytest.fixture
async def sessions(store: StorageConfig) -> AsyncIterator[LuminoraSessionStore]:
    sessions = LuminoraSessionStore(store)
    yield sessions
    await sessions.close()


def agent_of(*providers: LuminoraHistoryProvider) -> Agent:
    return Agent(client=FakeClient(), context_providers=list(providers))


class TestRuns(AgentRuns):
    framework = "agent_framework"


async def test_messages_come_back_equal(history: LuminoraHistoryProvider) -> None:
    assert await history.get_messages("s") == []
    await history.save_messages("s", MESSAGES)
    assert same(dicts(await history.get_messages("s")), dicts(MESSAGES))


async def test_what_is_sent_again_is_stored_once(history: LuminoraHistoryProvider) -> None:
    await history.save_messages("s", MESSAGES[1:3])
    await history.save_messages("s", MESSAGES[1:5])
    await history.save_messages("s", [MESSAGES[0], *MESSAGES[1:6]])
    await history.save_messages("s", MESSAGES[4:6])
    await history.save_messages("s", MESSAGES[1:6])
    assert dicts(await history.get_messages("s")) == dicts(MESSAGES[1:6])


async def test_what_is_said_twice_is_stored_twice(history: LuminoraHistoryProvider) -> None:
    await history.save_messages("s", MESSAGES[6:7])
    await history.save_messages("s", MESSAGES[7:8])
    assert texts(await history.get_messages("s")) == ["Hi", "Hi"]


async def test_a_long_history_that_is_sent_again_is_known(sqlite: StorageConfig) -> None:
    history = LuminoraHistoryProvider(sqlite)
    messages = [Message("user" if n % 2 else "assistant", [str(n)]) for n in range(2200)]
    await history.save_messages("s", messages)
    await history.save_messages("s", [*messages[100:], Message("user", ["new"])])
    assert len(await history.get_messages("s")) == 2201
    await history.close()


async def test_excluded_messages_are_kept_and_not_loaded() -> None:
    storage = create_storage("memory://")
    messages = [Message("user", ["old"], additional_properties={EXCLUDED_KEY: True}), Message("user", ["new"])]
    history = LuminoraHistoryProvider(storage, skip_excluded=True)
    await history.save_messages("s", messages)
    await history.save_messages("s", messages)
    assert texts(await history.get_messages("s")) == ["new"]
    assert texts(await LuminoraHistoryProvider(storage).get_messages("s")) == ["old", "new"]


async def test_saves_at_once_are_all_kept(history: LuminoraHistoryProvider) -> None:
    turns = [[Message("user", [f"q{n}"]), Message("assistant", [f"a{n}"])] for n in range(10)]
    await asyncio.gather(*(history.save_messages("s", turn) for turn in turns))
    stored = texts(await history.get_messages("s"))
    assert sorted(stored) == sorted(text for turn in turns for text in texts(turn))
    assert [text[1:] for text in stored[::2]] == [text[1:] for text in stored[1::2]]


async def test_an_agent_resumes_its_history(history: LuminoraHistoryProvider) -> None:
    first, second = agent_of(history), agent_of(history)
    assert (await first.run("one", session=first.create_session(session_id="s"))).text == "after 0: one"
    assert (await second.run("two", session=second.create_session(session_id="s"))).text == "after 1: two"
    assert (await second.run("other", session=second.create_session(session_id="t"))).text == "after 0: other"


async def test_providers_of_one_storage_are_apart(sqlite: StorageConfig) -> None:
    async with create_storage(sqlite) as storage:
        history = LuminoraHistoryProvider(storage)
        audit = LuminoraHistoryProvider(
            storage, source_id="audit", load_messages=False, store_inputs=False, store_outputs=True
        )
        agent = agent_of(history, audit)
        await agent.run("one", session=agent.create_session(session_id="s"))
        await agent.run("two", session=agent.create_session(session_id="s"))
        assert texts(await history.get_messages("s")) == ["one", "after 0: one", "two", "after 1: two"]
        assert texts(await audit.get_messages("s")) == ["after 0: one", "after 1: two"]
        assert await LuminoraHistoryProvider(storage, source_id="other").get_messages("s") == []
        assert await history.get_messages(None) == []


@pytest.mark.parametrize("session_id", HOSTILE_IDS, ids=ascii)
async def test_any_string_is_an_id(session_id: str, sqlite: StorageConfig) -> None:
    async with create_storage(sqlite) as storage:
        history, sessions = LuminoraHistoryProvider(storage), LuminoraSessionStore(storage)
        await history.save_messages(session_id, MESSAGES[:1])
        assert len(await history.get_messages(session_id)) == 1
        assert await history.get_messages(f"{session_id}2") == []
        await sessions.set(session_id, AgentSession(session_id=session_id))
        found = await sessions.get(session_id)
        assert found is not None
        assert found.session_id == session_id
        assert await sessions.get(f"{session_id}2") is None


async def test_snapshots_come_back_equal(sessions: LuminoraSessionStore) -> None:
    session = AgentSession(session_id="s", service_session_id="remote")
    session.state["x"] = {"values": [1, None, {"z": 1, "a": 2}], "message": MESSAGES[1], "n": float("nan")}
    assert await sessions.get("key") is None
    await sessions.set("key", session)
    found = await sessions.get("key")
    assert found is not None
    assert same(found.to_dict(), session.to_dict())
    assert found.state["x"]["message"].text == "Hi"
    found.state.clear()
    await sessions.set("key", found)
    again = await sessions.get("key")
    assert again is not None
    assert again.state == {}
    await sessions.delete("key")
    await sessions.delete("key")
    assert await sessions.get("key") is None


async def test_an_empty_key_is_refused() -> None:
    sessions = LuminoraSessionStore("memory://")
    for call in (sessions.get(""), sessions.set("", AgentSession()), sessions.delete("")):
        with pytest.raises(ValueError, match="non-empty"):
            await call


async def test_messages_of_a_session_manager_are_read(sqlite: StorageConfig) -> None:
    async with create_storage(sqlite) as storage, SessionManager(storage) as manager:
        session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"})
        await manager.send_message(session_id, "Good morning!")
        agent = agent_of(LuminoraHistoryProvider(storage))
        answer = await agent.run("Again", session=agent.create_session(session_id=session_id))
        assert answer.text == "after 1: Again"
        assert (await manager.send_message(session_id, "And?")).content == "You said: And?"
        stored = await manager.conversation_manager.get_messages(session_id)
        assert [one.content for one in stored][2:] == ["Again", "after 1: Again", "And?", "You said: And?"]
