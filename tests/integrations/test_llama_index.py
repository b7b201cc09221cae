# pyright: reportMissingImports=false

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage, shared_storage
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES, same

pytest.importorskip("llama_index.core", reason="the extra llama-index is not installed")

from llama_index.core.chat_engine import SimpleChatEngine
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.memory import ChatMemoryBuffer, Memory
from llama_index.core.storage.chat_store import BaseChatStore
from llama_index.core.storage.chat_store.base_db import AsyncDBChatStore, MessageStatus

from luminoracore_sdk.integrations.llama_index import LuminoraChatStore
from tests.integrations.workers.llama_index_agent import FakeModel


def message(content: Any, role: Any = "user", **more: Any) -> ChatMessage:
    return ChatMessage(role=role, content=content, additional_kwargs=more)


MESSAGES = [
    message("Be brief.", "system"),
    message("Hi"),
    message("Hi"),
    message(None, "assistant", tool_calls=[{"id": "1", "function": {"name": "add", "arguments": "{}"}}]),
    message("2", "tool", tool_call_id="1"),
    ChatMessage(role="user", blocks=[TextBlock(text="?"), ImageBlock(image=b"aGVsbG8=", image_mimetype="image/png")]),
    message("Hello", "model"),
    *(message(text) for text in HOSTILE_TEXTS),
    *(message("x", value=value) for value in HOSTILE_VALUES),
]


def texts(messages: Any) -> list[str]:
    return [str(one.content) for one in messages]


@pytest.fixture
def chats(store: StorageConfig) -> Iterator[LuminoraChatStore]:
    chats = LuminoraChatStore(store)
    yield chats
    chats.close()


@pytest.fixture
def quick() -> Iterator[LuminoraChatStore]:
    chats = LuminoraChatStore("memory://")
    yield chats
    chats.close()


class TestRuns(AgentRuns):
    framework = "llama_index"


def test_it_is_of_both_kinds(quick: LuminoraChatStore) -> None:
    assert isinstance(quick, BaseChatStore)
    assert isinstance(quick, AsyncDBChatStore)
    assert quick.class_name() == "LuminoraChatStore"


def test_messages_come_back_equal(chats: LuminoraChatStore) -> None:
    chats.set_messages("k", MESSAGES)
    assert same(chats.get_messages("k"), MESSAGES)
    chats.set_messages("k", MESSAGES[:2])
    assert chats.get_messages("k") == MESSAGES[:2]


def test_messages_are_deleted_by_index(chats: LuminoraChatStore) -> None:
    for number in range(5):
        chats.add_message("k", message(str(number)))
    assert str(chats.delete_message("k", 1).content) == "1"
    assert texts(chats.get_messages("k")) == ["0", "2", "3", "4"]
    assert str(chats.delete_message("k", 1).content) == "2"
    assert str(chats.delete_message("k", -1).content) == "4"
    assert chats.delete_message("k", 2) is None
    assert chats.delete_message("none", 0) is None
    last = chats.delete_last_message("k")
    assert last is not None
    assert last.content == "3"
    assert texts(chats.get_messages("k")) == ["0"]
    chats.add_message("k", message("5"))
    assert texts(chats.get_messages("k")) == ["0", "5"]


def test_keys_are_listed(chats: LuminoraChatStore) -> None:
    keys = ["a", "b/c", *HOSTILE_IDS]
    for key in keys:
        chats.add_message(key, message(key[:10]))
    assert sorted(chats.get_keys()) == sorted(keys)
    assert texts(chats.delete_messages("a") or []) == ["a"]
    assert chats.delete_messages("none") is None
    assert sorted(chats.get_keys()) == sorted(keys[1:])
    assert chats.get_messages("a") == []
    assert all(chats.get_messages(key) == [message(key[:10])] for key in keys[1:])


async def test_the_async_methods_of_the_older_class(chats: LuminoraChatStore) -> None:
    await chats.aset_messages("k", MESSAGES[:2])
    await chats.async_add_message("k", MESSAGES[2])
    assert await chats.aget_messages("k") == MESSAGES[:3]
    assert await chats.adelete_message("k", 0) == MESSAGES[0]
    assert await chats.adelete_last_message("k") == MESSAGES[2]
    assert await chats.aget_keys() == ["k"]
    assert await chats.adelete_messages("k") == MESSAGES[1:2]
    assert await chats.aget_keys() == []


async def test_messages_are_archived_and_deleted_as_a_queue(chats: LuminoraChatStore) -> None:
    await chats.add_messages("k", [message(str(number)) for number in range(6)])
    await chats.add_message("k", message("old"), MessageStatus.ARCHIVED)
    assert texts(await chats.archive_oldest_messages("k", 2)) == ["0", "1"]
    assert texts(await chats.get_messages("k")) == ["2", "3", "4", "5"]
    assert texts(await chats.get_messages("k", MessageStatus.ARCHIVED)) == ["0", "1", "old"]
    assert texts(await chats.get_messages("k", limit=2, offset=1)) == ["3", "4"]
    assert len(await chats.get_messages("k", status=None)) == 7
    assert [await chats.count_messages("k", status) for status in (None, *MessageStatus)] == [7, 4, 3]
    assert texts(await chats.delete_oldest_messages("k", 1)) == ["2"]
    await chats.delete_messages("k", MessageStatus.ARCHIVED)
    assert texts(await chats.get_messages("k", None)) == ["3", "4", "5"]
    assert await chats.archive_oldest_messages("none", 3) == []


async def test_each_message_is_archived_by_one_caller(chats: LuminoraChatStore) -> None:
    await chats.add_messages("k", [message(str(number)) for number in range(8)])
    archived = await asyncio.gather(*(chats.archive_oldest_messages("k", 4) for _ in range(3)))
    assert sorted(text for found in archived for text in texts(found)) == texts(
        await chats.get_messages("k", MessageStatus.ARCHIVED)
    )


async def test_deletes_at_once_delete_different_messages(chats: LuminoraChatStore) -> None:
    await chats.add_messages("k", [message(str(number)) for number in range(8)])
    deleted = await asyncio.gather(*(chats.adelete_message("k", 0) for _ in range(3)))
    assert sorted(texts(deleted)) == ["0", "1", "2"]
    assert texts(await chats.aget_messages("k")) == ["3", "4", "5", "6", "7"]


async def test_a_call_that_is_not_awaited_is_done(quick: LuminoraChatStore) -> None:
    buffer = ChatMemoryBuffer.from_defaults(chat_store=quick, chat_store_key="k", token_limit=1000)
    buffer.put(message("one"))
    buffer.put(message("two"))
    assert texts(await quick.get_messages("k")) == ["one", "two"]
    await buffer.aput(message("three"))
    assert texts(await buffer.aget()) == ["one", "two", "three"]


def test_threads_may_share_a_store(chats: LuminoraChatStore) -> None:
    def add(number: int) -> None:
        if number % 2:
            chats.add_message("k", message(str(number)))
        else:
            asyncio.run(chats.async_add_message("k", message(str(number))))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(16)))
    assert sorted(int(text) for text in texts(chats.get_messages("k"))) == list(range(16))


def test_a_chat_memory_buffer_keeps_its_messages(chats: LuminoraChatStore) -> None:
    buffer = ChatMemoryBuffer.from_defaults(chat_store=chats, chat_store_key="k", token_limit=1000)
    buffer.put(message("one"))
    buffer.put(message("two", "assistant"))
    assert texts(buffer.get()) == ["one", "two"]
    buffer.set(buffer.get()[:1])
    assert texts(ChatMemoryBuffer.from_defaults(chat_store=chats, chat_store_key="k").get()) == ["one"]
    buffer.reset()
    assert buffer.get() == []


async def test_a_chat_engine_resumes_with_a_memory(chats: LuminoraChatStore) -> None:
    for number in range(3):
        memory = Memory.from_defaults(session_id="s", chat_store=chats)
        engine = SimpleChatEngine.from_defaults(llm=FakeModel(), memory=memory)
        assert str(await engine.achat("Hi")) == f"after {number}: Hi"


def test_a_memory_begins_with_a_history(chats: LuminoraChatStore) -> None:
    history = [message("one"), message("two", "assistant")]

    def begun(session_id: str) -> Memory:
        return Memory.from_defaults(session_id=session_id, chat_store=chats, chat_history=history)

    async def begun_on_a_loop() -> list[ChatMessage]:
        return list(await begun("loop").aget())

    with ThreadPoolExecutor(1) as threads:
        found = [threads.submit(lambda: begun("thread").get()).result(), asyncio.run(begun_on_a_loop())]
    assert [texts(one) for one in found] == [["one", "two"], ["one", "two"]]
    with closing(asyncio.new_event_loop()) as loop:
        asyncio.set_event_loop(loop)
        assert texts(begun("main").get()) == ["one", "two"]
        asyncio.set_event_loop(None)


async def test_a_memory_archives_what_does_not_fit(quick: LuminoraChatStore) -> None:
    memory = Memory.from_defaults(
        session_id="s", chat_store=quick, token_limit=60, chat_history_token_ratio=0.5, token_flush_size=10
    )
    for number in range(20):
        await memory.aput(message(f"This is the message of number {number}.", "assistant" if number % 2 else "user"))
    active = await memory.aget()
    assert 1 < len(active) < 20
    assert texts(active)[-1] == "This is the message of number 19."
    assert len(await memory.aget_all()) == 20


async def test_messages_of_a_session_manager_are_read() -> None:
    storage = shared_storage("memory://")
    manager = SessionManager(storage)
    session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"})
    await manager.send_message(session_id, "Good morning!")
    chats = LuminoraChatStore(storage)
    assert texts(await chats.aget_messages(session_id)) == ["Good morning!", "You said: Good morning!"]
    await chats.async_add_message(session_id, message("Again"))
    assert (await manager.send_message(session_id, "And?")).content == "You said: And?"
    await chats.adelete_message(session_id, 1)
    stored = await manager.conversation_manager.get_messages(session_id)
    assert [one.content for one in stored] == ["Good morning!", "Again", "And?", "You said: And?"]
    await manager.close()
    await storage.close()


async def test_a_given_storage_stays_open(sqlite: StorageConfig) -> None:
    async with create_storage(sqlite) as storage:
        chats = LuminoraChatStore(storage)
        await chats.async_add_message("k", MESSAGES[1])
        await chats.aclose()
        assert await chats.aget_messages("k") == MESSAGES[1:2]
