# pyright: reportMissingImports=false

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage, shared_storage
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES, same

pytest.importorskip("langchain_core", reason="the extra langchain is not installed")

from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from luminoracore_sdk.integrations.langchain import LuminoraChatMessageHistory
from tests.integrations.workers.langchain_agent import chain_of

MESSAGES: list[BaseMessage] = [
    SystemMessage("Be brief."),
    HumanMessage("Hi", name="ann", id="same"),
    HumanMessage("Hi", name="ann", id="same"),
    AIMessage(
        "",
        tool_calls=[{"name": "add", "args": {"b": 1, "a": [None]}, "id": "call_1"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        response_metadata={"model": "x"},
    ),
    ToolMessage("2", tool_call_id="call_1", artifact={"x": [1, 2]}, status="error"),
    AIMessage([{"type": "text", "text": "Hello", "annotations": []}]),
    HumanMessage([{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": "data:"}}]),
    HumanMessage([{"type": "image", "data": b"\x00\xff"}]),
    AIMessage("", tool_calls=[{"name": "show", "args": {"image": b"\x00\xff"}, "id": "call_2"}]),
    AIMessageChunk("streamed"),
    ChatMessage(role="critic", content="No."),
    FunctionMessage("3", name="old"),
    RemoveMessage(id="x"),
    *(HumanMessage(text) for text in HOSTILE_TEXTS),
    *(AIMessage("x", additional_kwargs={"value": value, "bytes": b"\x80"}) for value in HOSTILE_VALUES),
]


@pytest.fixture
def history(store: StorageConfig) -> Iterator[LuminoraChatMessageHistory]:
    history = LuminoraChatMessageHistory("conversation", storage=store)
    yield history
    history.close()


class TestRuns(AgentRuns):
    framework = "langchain"


def test_messages_come_back_equal(history: LuminoraChatMessageHistory) -> None:
    assert history.messages == []
    history.add_messages(MESSAGES)
    assert same(history.messages, MESSAGES)
    assert [type(message) for message in history.messages] == [type(message) for message in MESSAGES]
    history.clear()
    assert history.messages == []


async def test_calls_with_and_without_await_see_the_same(history: LuminoraChatMessageHistory) -> None:
    await history.aadd_messages(MESSAGES[:2])
    history.add_user_message("three")
    history.add_ai_message("four")
    assert await history.aget_messages() == history.messages
    assert [message.content for message in history.messages] == ["Be brief.", "Hi", "three", "four"]
    assert str(history).endswith("AI: four")
    await history.aclear()
    assert history.messages == []


def test_threads_and_loops_may_share_a_history(history: LuminoraChatMessageHistory) -> None:
    def add(number: int) -> None:
        if number % 2:
            history.add_messages([HumanMessage(str(number))])
        else:
            asyncio.run(history.aadd_messages([HumanMessage(str(number))]))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(24)))
    assert sorted(int(str(message.content)) for message in history.messages) == list(range(24))


def test_a_chain_keeps_its_history(store: StorageConfig) -> None:
    made: list[LuminoraChatMessageHistory] = []

    def history_of(session_id: str) -> BaseChatMessageHistory:
        made.append(LuminoraChatMessageHistory(session_id, storage=store))
        return made[-1] if store.storage_type != "memory" else made[0]

    with pytest.warns(DeprecationWarning, match="RunnableWithMessageHistory"):
        chain = chain_of(history_of)
    config: Any = {"configurable": {"session_id": "s"}}
    assert chain.invoke({"input": "one"}, config).content == "after 0: one"
    assert chain.invoke({"input": "two"}, config).content == "after 1: two"
    assert [message.content for message in history_of("s").messages] == ["one", "after 0: one", "two", "after 1: two"]
    for history in made:
        history.close()


@pytest.mark.parametrize("session_id", HOSTILE_IDS, ids=ascii)
def test_any_string_is_an_id(session_id: str, sqlite: StorageConfig) -> None:
    history = LuminoraChatMessageHistory(session_id, storage=sqlite)
    history.add_user_message("Hi")
    assert LuminoraChatMessageHistory(session_id, storage=sqlite).messages == [HumanMessage("Hi")]
    assert LuminoraChatMessageHistory(f"{session_id}2", storage=sqlite).messages == []


async def test_a_given_storage_stays_open(sqlite: StorageConfig) -> None:
    async with create_storage(sqlite) as storage:
        history = LuminoraChatMessageHistory("s", storage=storage)
        await history.aadd_messages(MESSAGES[:2])
        await history.aclose()
        assert await history.aget_messages() == MESSAGES[:2]


async def test_messages_of_a_session_manager_are_read() -> None:
    storage = shared_storage("memory://")
    manager = SessionManager(storage)
    session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"})
    await manager.send_message(session_id, "Good morning!")
    history = LuminoraChatMessageHistory(session_id, storage=storage)
    assert history.messages == [HumanMessage("Good morning!"), AIMessage("You said: Good morning!")]
    history.add_messages(MESSAGES[3:5])
    assert (await manager.send_message(session_id, "And?")).content == "You said: And?"
    stored = await manager.conversation_manager.get_messages(session_id)
    assert stored[2].metadata["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"b": 1, "a": [null]}'}
    assert (stored[3].role, stored[3].content, stored[3].metadata["tool_call_id"]) == ("tool", "2", "call_1")
    await manager.close()
    await storage.close()
