import asyncio
import copy
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage
from luminoracore_sdk.storage import MemoryRecord, MemoryScope, SessionStorage, StorageWrapper
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES

pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")

from pydantic_ai import Agent
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.conversation import Conversation, ConversationTypeAdapter
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    BinaryContent,
    ImageUrl,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.ui.vercel_ai import VercelAIAdapter
from pydantic_ai.usage import RunUsage

from luminoracore_sdk.integrations.pydantic_ai import LuminoraConversationStore, LuminoraMessageHistory, window
from tests.integrations.workers.pydantic_ai_agent import answer

MESSAGES: list[ModelMessage] = [
    ModelRequest(parts=[SystemPromptPart("Be brief."), UserPromptPart("Hi")], instructions="Be kind."),
    ModelResponse(parts=[ThinkingPart("hm"), ToolCallPart("add", {"b": 1, "a": 2}, tool_call_id="1")]),
    ModelRequest(parts=[ToolReturnPart("add", {"sum": 3, "odd": float("nan")}, tool_call_id="1")]),
    ModelResponse(parts=[TextPart("Three."), TextPart("Or so.")], model_name="m"),
    ModelRequest(
        parts=[
            UserPromptPart(
                ["What?", ImageUrl("https://example.com/x.png"), BinaryContent(b"\x00\xff", media_type="image/png")]
            )
        ]
    ),
    ModelRequest(parts=[UserPromptPart("same")]),
    ModelRequest(parts=[UserPromptPart("same")]),
    *(ModelRequest(parts=[UserPromptPart(text)]) for text in HOSTILE_TEXTS),
    *(ModelRequest(parts=[ToolReturnPart("f", {"x": value}, tool_call_id="2")]) for value in HOSTILE_VALUES),
]


def shown(messages: list[ModelMessage]) -> str:
    """Return all fields in their order, as they are once they are validated."""
    validated = ModelMessagesTypeAdapter.validate_python(ModelMessagesTypeAdapter.dump_python(messages))
    return repr(ModelMessagesTypeAdapter.dump_python(validated)).replace("datetime.timezone.utc", "TzInfo(0)")


@pytest.fixture
async def history(store: StorageConfig) -> AsyncIterator[LuminoraMessageHistory]:
    history = LuminoraMessageHistory("conversation", storage=store)
    yield history
    await history.close()


@pytest.fixture
async def quick() -> AsyncIterator[LuminoraMessageHistory]:
    history = LuminoraMessageHistory("conversation", storage="memory://")
    yield history
    await history.close()


class TestRuns(AgentRuns):
    framework = "pydantic_ai"


async def test_messages_come_back_equal(history: LuminoraMessageHistory) -> None:
    assert await history.load() == []
    await history.save(MESSAGES)
    assert shown(await history.load()) == shown(MESSAGES)
    assert shown(await history.load(limit=2)) == shown(MESSAGES[-2:])
    await history.clear()
    assert await history.load() == []


async def test_a_run_with_tools_is_resumed(history: LuminoraMessageHistory) -> None:
    agent = Agent(TestModel())

    @agent.tool_plain
    def weather(city: str) -> dict[str, Any]:
        return {"city": city, "degrees": float("inf")}

    first = await agent.run("How is it?", message_history=await history.load())
    await history.save(first)
    second = await agent.run("And now?", message_history=await history.load())
    await history.save(second)
    assert shown(await history.load()) == shown(second.all_messages())
    assert len(await history.load()) == len(first.all_messages()) + len(second.new_messages()) == 6


async def test_what_is_saved_again_is_stored_once(history: LuminoraMessageHistory) -> None:
    agent = Agent(FunctionModel(answer))
    first = await agent.run("one")
    await history.save(first)
    await history.save(first)
    second = await agent.run("two", message_history=await history.load())
    await history.save(second.all_messages())
    await history.save(second)
    assert len(await history.load()) == 4


async def test_a_conversation_is_saved_and_goes_on(quick: LuminoraMessageHistory) -> None:
    agent = Agent(FunctionModel(answer))
    await quick.save((await agent.run("one")).conversation)
    found = Conversation(messages=await quick.load())
    conversation = (await agent.run("two", conversation=found)).conversation
    await quick.save(conversation)
    await quick.save(conversation)
    assert shown(await quick.load()) == shown(conversation.messages)
    assert len(conversation.messages) == 4


async def test_a_run_can_be_saved_after_each_step(quick: LuminoraMessageHistory) -> None:
    agent = Agent(TestModel())

    @agent.tool_plain
    def now() -> str:
        return "noon"

    seen = []
    async with agent.iter("What time is it?") as run:
        async for _ in run:
            await quick.save(run)
            seen.append(len(await quick.load()))
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert run.result is not None
    await quick.save(run.result)
    assert len(await quick.load()) == len(run.result.all_messages())


async def test_messages_of_a_run_can_be_saved_one_by_one(history: LuminoraMessageHistory) -> None:
    messages = (await Agent(FunctionModel(answer)).run("one")).all_messages()
    for message in messages:
        await history.save([message])
    assert shown(await history.load()) == shown(messages)
    await history.save(messages[1:])
    await history.save(messages)
    assert len(await history.load()) == 2


async def test_steps_are_stored_that_a_processor_drops_later(quick: LuminoraMessageHistory) -> None:
    def count(messages: list[ModelMessage], _: Any) -> ModelResponse:
        number = int(str(messages[-1].parts[0].content))  # type: ignore[union-attr,unused-ignore]
        part = ToolCallPart("add_one", {"to": number}) if number < 4 else TextPart("done")
        return ModelResponse(parts=[part])

    agent = Agent(FunctionModel(count), capabilities=[ProcessHistory(lambda messages: messages[-2:])])

    @agent.tool_plain
    def add_one(to: int) -> int:
        return to + 1

    async with agent.iter("0") as run:
        async for _ in run:
            await quick.save(run)
    parts = [part for message in await quick.load() for part in message.parts]
    shown_parts = [getattr(part, "content", "call") for part in parts]
    assert shown_parts == ["0", *("call", 1, "call", 2, "call", 3, "call", 4), "done"]


async def test_the_window_shortens_what_is_sent_only(quick: LuminoraMessageHistory) -> None:
    sent: list[int] = []

    def count(messages: list[ModelMessage], _: Any) -> ModelResponse:
        sent.append(len(messages))
        return ModelResponse(parts=[TextPart("yes")])

    agent = Agent(FunctionModel(count), capabilities=[ProcessHistory(window(3))])
    for number in range(4):
        await quick.save(await agent.run(str(number), message_history=await quick.load()))
    assert sent == [1, 3, 3, 3]
    assert len(await quick.load()) == 8


def test_the_window_begins_with_a_prompt_of_the_user() -> None:
    assert window(1)(MESSAGES[:4]) == MESSAGES[:4]
    assert window(3)(MESSAGES[:5]) == MESSAGES[4:5]
    assert window(5)(MESSAGES[:5]) == MESSAGES[:5]
    assert window(1)(MESSAGES[1:3]) == MESSAGES[1:3]


@pytest.mark.parametrize("session_id", HOSTILE_IDS, ids=ascii)
async def test_any_string_is_an_id(session_id: str, sqlite: StorageConfig) -> None:
    history, other = (LuminoraMessageHistory(name, storage=sqlite) for name in (session_id, f"{session_id}2"))
    await history.save(MESSAGES[:1])
    assert (len(await history.load()), await other.load()) == (1, [])
    await history.close()
    await other.close()


async def test_messages_of_a_session_manager_are_read(sqlite: StorageConfig) -> None:
    async with create_storage(sqlite) as storage, SessionManager(storage) as manager:
        session_id = await manager.create_session({"name": "Ada"}, {"name": "echo"})
        await manager.send_message(session_id, "Good morning!")
        history = LuminoraMessageHistory(session_id, storage=storage)
        result = await Agent(FunctionModel(answer)).run("Again", message_history=await history.load())
        await history.save(result)
        assert result.output == "after 1: Again"
        assert (await manager.send_message(session_id, "And?")).content == "You said: And?"
        assert len(await history.load()) == 6
        await history.close()


# -- LuminoraConversationStore ---------------------------------------------------------------------


@pytest.fixture
async def storage(store: StorageConfig) -> AsyncIterator[SessionStorage]:
    async with create_storage(store) as storage:
        yield storage


@pytest.fixture
def conversations(storage: SessionStorage) -> LuminoraConversationStore:
    return LuminoraConversationStore(storage)


def request(text: str) -> ModelRequest:
    return ModelRequest(parts=[UserPromptPart(text)])


def texts(messages: list[ModelMessage]) -> list[str]:
    return [str(message.parts[0].content) for message in messages]  # type: ignore[union-attr,unused-ignore]


async def say(store: LuminoraConversationStore, text: str, conversation_id: str = "c", **scope: Any) -> Conversation:
    found = await store.load(conversation_id, **scope) or Conversation(conversation_id=conversation_id)
    result = await Agent(FunctionModel(answer)).run(text, conversation=found)
    await store.save(result, **scope)
    return result.conversation


async def logs(storage: SessionStorage) -> list[str]:
    return [one for one in await storage.list_memory_owners() if one.startswith("pydantic-ai-log:")]


class TestConversationRuns(AgentRuns):
    framework = "pydantic_ai_conversations"

    async def test_a_session_manager_reads_the_conversation(self, shared_store: StorageConfig) -> None:
        """Its messages have branches, and are not those of a session."""
        self._run(shared_store, "turns", "one two")
        async with create_storage(shared_store) as storage, SessionManager(storage) as manager:
            assert (await manager.list_conversations()).conversations == []


async def test_a_conversation_comes_back_equal(conversations: LuminoraConversationStore) -> None:
    assert await conversations.load("c") is None
    assert await conversations.load_entries("c") is None
    requests = DeferredToolRequests(
        calls=[ToolCallPart("ask", {"x": float("inf")}, tool_call_id="1")],
        approvals=[ToolCallPart("rm", '{"path": "/"}', tool_call_id="2")],
        metadata={"1": {"big": 2**70, "odd": "nul \0, surrogate \ud800"}},
    )
    usage = RunUsage(requests=3, tool_calls=2, input_tokens=5, output_tokens=7, details={"cached": 1})
    given = Conversation(messages=MESSAGES, usage=usage, conversation_id="c", deferred_tool_requests=requests)
    entries = await conversations.save(given, scope="user")
    found = await conversations.load("c", scope="user")
    assert found is not None
    assert shown(found.messages) == shown(MESSAGES)
    assert (found.usage, found.deferred_tool_requests, found.revision) == (usage, requests, given.revision)
    loaded = await conversations.load_entries("c")
    assert loaded is not None
    assert [(one.id, one.parent_id) for one in loaded] == [(one.id, one.parent_id) for one in entries]
    (record,) = await conversations.list_conversations()
    assert (record.conversation_id, record.scope, record.head_id) == ("c", "user", entries[-1].id)
    assert record.updated_at.tzinfo is not None


async def test_turns_are_appended_to_a_conversation(conversations: LuminoraConversationStore) -> None:
    await say(conversations, "one")
    await say(conversations, "two")
    found = await conversations.load("c", limit=2)
    assert found is not None
    assert texts(found.messages) == ["two", "after 1: two"]
    result = await Agent(FunctionModel(answer)).run("three", conversation=found)
    assert len(await conversations.save(result)) == 2
    assert await conversations.save(result) == []
    whole = await conversations.load("c")
    assert whole is not None
    assert texts(whole.messages)[::2] == ["one", "two", "three"]
    assert whole.usage.requests == 3
    for limit, count in ((0, 0), (1, 1), (5, 5), (6, 6), (7, 6), (5000, 6)):
        part = await conversations.load("c", limit=limit)
        assert part is not None
        assert part.messages == whole.messages[6 - count :]
    with pytest.raises(UserError):
        await conversations.load("c", limit=-1)


async def test_a_serialized_conversation_goes_on(conversations: LuminoraConversationStore) -> None:
    conversation = await say(conversations, "one")
    again = ConversationTypeAdapter.validate_json(ConversationTypeAdapter.dump_json(conversation))
    result = await Agent(FunctionModel(answer)).run("two", conversation=again)
    assert len(await conversations.save(result)) == 2
    (record,) = await conversations.list_conversations()
    assert record.branches == []


async def test_of_two_saves_one_is_refused(conversations: LuminoraConversationStore) -> None:
    await say(conversations, "one")
    first, second = await conversations.load("c"), await conversations.load("c")
    assert first is not None
    assert second is not None
    first.messages.append(request("first"))
    second.messages.append(request("second"))
    results = await asyncio.gather(conversations.save(first), conversations.save(second), return_exceptions=True)
    assert [type(one) for one in results if isinstance(one, BaseException)] == [ConversationConflict]
    found = await conversations.load("c")
    assert found is not None
    assert texts(found.messages)[2:] in (["first"], ["second"])
    with pytest.raises(ConversationConflict):
        await conversations.save(Conversation(conversation_id="c"))
    with pytest.raises(ConversationConflict):
        await conversations.save(found, scope="other")


async def test_writers_at_once_lose_no_message(
    conversations: LuminoraConversationStore, storage: SessionStorage
) -> None:
    async def write(text: str) -> None:
        while True:
            found = await conversations.load("c") or Conversation(conversation_id="c")
            found.messages.append(request(text))
            try:
                await conversations.save(found)
            except ConversationConflict:
                continue
            return

    await asyncio.gather(*(write(str(number)) for number in range(8)))
    found = await conversations.load("c")
    assert found is not None
    assert sorted(texts(found.messages)) == [str(number) for number in range(8)]
    assert len(await logs(storage)) == 1


async def test_a_conflict_leaves_no_entry(conversations: LuminoraConversationStore) -> None:
    await say(conversations, "one")
    record = await conversations.read_record("c")
    assert record is not None
    entry = ConversationEntry(parent_id=record.head_id, message=request("lost"))
    with pytest.raises(ConversationConflict):
        await conversations.write_record(replace(record, head_id=entry.id), new_entries=[entry], expected_revision="x")
    with pytest.raises(ConversationConflict):
        await conversations.write_record(record, expected_revision=None)
    with pytest.raises(LookupError):
        await conversations.read_entry(entry.id)
    missing = ConversationRecord(conversation_id="d", head_id="absent")
    with pytest.raises(ConversationConflict):
        await conversations.write_record(missing, expected_revision=None)
    assert await conversations.read_record("d") is None
    with pytest.raises(LookupError):
        await conversations.read_history("absent")


async def test_a_left_branch_is_kept(conversations: LuminoraConversationStore) -> None:
    await say(conversations, "one")
    conversation = await say(conversations, "two")
    branched = await conversations.branch("c", at=2, expected_revision=conversation.revision)
    assert texts(branched.messages) == ["one", "after 0: one"]
    result = await Agent(FunctionModel(answer)).run("three", conversation=branched)
    await conversations.save(result)
    (record,) = await conversations.list_conversations()
    (tip,) = record.branches
    assert texts([entry.message for entry in await conversations.read_history(tip)])[::2] == ["one", "two"]
    with pytest.raises(ConversationConflict):
        await conversations.branch("c", from_entry=str(tip), expected_revision="x")
    with pytest.raises(UserError):
        await conversations.branch("c", from_entry="absent", expected_revision=record.revision)
    with pytest.raises(UserError):
        await conversations.branch("absent", at=0, expected_revision=None)
    back = await conversations.branch("c", from_entry=str(tip), expected_revision=record.revision)
    assert texts(back.messages)[::2] == ["one", "two"]
    for entry in await conversations.load_entries("c") or []:
        plain = "".join(entry.id)  # as an application stores it
        assert (await conversations.read_entry(plain)).message == entry.message
        assert (await conversations.read_history(plain))[-1].message == entry.message


async def test_a_fork_outlives_its_source(conversations: LuminoraConversationStore) -> None:
    await say(conversations, "one", scope="user")
    source = await say(conversations, "two", scope="user")
    fork = await conversations.fork("c", at=2, new_conversation_id="d", source_scope="user")
    whole = await conversations.fork("c")
    assert whole.usage == source.usage
    ids = [entry.id for entry in await conversations.load_entries("c") or []]
    assert [entry.id for entry in await conversations.load_entries("d") or []] == ids[:2]
    with pytest.raises(ConversationConflict):
        await conversations.fork("c", new_conversation_id="d")
    with pytest.raises(UserError):
        await conversations.fork("c", source_scope="other")
    record = await conversations.read_record("d")
    assert record is not None
    assert (record.forked_from, record.forked_at, record.scope) == ("c", ids[1], "user")
    await conversations.delete("c")
    result = await Agent(FunctionModel(answer)).run("three", conversation=fork)
    await conversations.save(result)
    found = await conversations.load("d")
    assert found is not None
    assert texts(found.messages)[::2] == ["one", "three"]


async def test_a_record_may_point_into_another_conversation(conversations: LuminoraConversationStore) -> None:
    await say(conversations, "one")
    record = await conversations.read_record("c")
    assert record is not None
    head = "".join(str(record.head_id))
    entry = ConversationEntry(parent_id=head, message=request("more"))
    other = ConversationRecord(conversation_id="d", head_id=entry.id)
    await conversations.write_record(other, new_entries=[entry], expected_revision=None)
    await conversations.delete("c")
    found = await conversations.load("d")
    assert found is not None
    assert texts(found.messages) == ["one", "after 0: one", "more"]


async def test_conversations_are_listed_by_scope(conversations: LuminoraConversationStore) -> None:
    for number in range(4):
        await say(conversations, "Hi", str(number), scope="ab"[number % 2])
    await say(conversations, "Hi", "none")
    await say(conversations, "again", "0", scope="a")

    async def listed(**query: Any) -> list[str]:
        return [record.conversation_id for record in await conversations.list_conversations(**query)]

    assert await listed() == ["0", "none", "3", "2", "1"]
    assert await listed(scope="a") == ["0", "2"]
    assert await listed(scope="a", limit=1) == ["0"]
    assert await listed(limit=0) == []
    assert await listed(scope="c") == []
    with pytest.raises(UserError):
        await listed(limit=-1)
    assert await conversations.load("0", scope="b") is None
    await conversations.delete("0", scope="b")
    await conversations.delete("2", scope="a")
    await conversations.delete("absent")
    assert await listed() == ["0", "none", "3", "1"]


async def test_a_deleted_conversation_leaves_no_message(
    conversations: LuminoraConversationStore, storage: SessionStorage
) -> None:
    old = await say(conversations, "one")
    assert len(await logs(storage)) == 1
    record = await conversations.read_record("c")
    assert record is not None
    with pytest.raises(ConversationConflict):
        await conversations.delete_record("c", expected_revision="x")
    await conversations.delete("c")
    assert await logs(storage) == []
    assert await conversations.list_conversations() == []
    with pytest.raises(ConversationConflict):
        await conversations.delete_record("c", expected_revision=record.revision)
    with pytest.raises(ConversationConflict):
        await conversations.save(old)
    with pytest.raises(LookupError):
        await conversations.read_history(record.head_id)
    new = await say(conversations, "new")
    with pytest.raises(ConversationConflict):
        await conversations.save(old)
    found = await conversations.load("c")
    assert found is not None
    assert found.messages == new.messages


async def test_a_save_does_not_replace_a_later_conversation(
    conversations: LuminoraConversationStore, storage: SessionStorage
) -> None:
    """One is deleted and made again, with as many saves, between the two steps of a save."""

    class Meanwhile(StorageWrapper):
        async def change_memories(self, scope: MemoryScope, *given: Any, **named: Any) -> list[MemoryRecord]:
            changed = await super().change_memories(scope, *given, **named)
            if scope.owner_id.startswith("pydantic-ai-log:") and not named.get("deletes"):
                await conversations.delete("c")
                await say(conversations, "new")
            return changed

    old = await say(conversations, "old")
    old.messages.append(request("late"))
    with pytest.raises(ConversationConflict):
        await LuminoraConversationStore(Meanwhile(storage)).save(old)
    found = await conversations.load("c")
    assert found is not None
    assert texts(found.messages) == ["new", "after 0: new"]
    assert len(await logs(storage)) == 1


async def test_of_two_first_saves_one_leaves_nothing(
    conversations: LuminoraConversationStore, storage: SessionStorage
) -> None:
    class Meanwhile(StorageWrapper):
        async def change_memories(self, scope: MemoryScope, *given: Any, **named: Any) -> list[MemoryRecord]:
            if scope.owner_id.startswith("pydantic-ai-log:"):
                await say(conversations, "first")
            return await super().change_memories(scope, *given, **named)

    with pytest.raises(ConversationConflict):
        await say(LuminoraConversationStore(Meanwhile(storage)), "second")
    found = await conversations.load("c")
    assert found is not None
    assert texts(found.messages) == ["first", "after 0: first"]
    assert len(await logs(storage)) == 1


async def test_of_two_later_saves_one_leaves_nothing(
    conversations: LuminoraConversationStore, storage: SessionStorage
) -> None:
    class Meanwhile(StorageWrapper):
        async def change_memories(self, scope: MemoryScope, *given: Any, **named: Any) -> list[MemoryRecord]:
            changed = await super().change_memories(scope, *given, **named)
            if scope.owner_id.startswith("pydantic-ai-log:") and not named.get("deletes"):
                await say(conversations, "second")
            return changed

    await say(conversations, "one")
    with pytest.raises(ConversationConflict):
        await say(LuminoraConversationStore(Meanwhile(storage)), "late")
    entries = await conversations.load_entries("c") or []
    assert texts([entry.message for entry in entries])[::2] == ["one", "second"]
    (log,) = await logs(storage)
    stored = await storage.list_memories(MemoryScope("user", log))
    assert {one.key for one in stored} == {entry.id for entry in entries}


async def test_a_save_whose_answer_was_lost_is_done(
    conversations: LuminoraConversationStore, storage: SessionStorage
) -> None:
    class Repeating(StorageWrapper):
        async def change_memories(self, scope: MemoryScope, *given: Any, **named: Any) -> list[MemoryRecord]:
            await super().change_memories(scope, *given, **named)
            return await super().change_memories(scope, *given, **named)

    await say(LuminoraConversationStore(Repeating(storage)), "one")
    await say(LuminoraConversationStore(Repeating(storage)), "two")
    found = await conversations.load("c")
    assert found is not None
    assert texts(found.messages)[::2] == ["one", "two"]


async def test_a_killed_deletion_is_completed(
    conversations: LuminoraConversationStore, storage: SessionStorage
) -> None:
    class KilledError(Exception):
        pass

    class Dying(StorageWrapper):
        async def clear_memories(self, scope: MemoryScope) -> int:
            raise KilledError

    await say(conversations, "one")
    with pytest.raises(KilledError):
        await LuminoraConversationStore(Dying(storage)).delete("c")
    assert len(await logs(storage)) == 1
    await conversations.delete("c")
    assert await logs(storage) == []


async def test_a_deletion_spares_a_later_conversation(
    conversations: LuminoraConversationStore, storage: SessionStorage
) -> None:
    """It is made between the two steps of the deletion."""

    class Meanwhile(StorageWrapper):
        async def clear_memories(self, scope: MemoryScope) -> int:
            await say(conversations, "new")
            return await super().clear_memories(scope)

    await say(conversations, "old")
    await LuminoraConversationStore(Meanwhile(storage)).delete("c")
    found = await conversations.load("c")
    assert found is not None
    assert texts(found.messages) == ["new", "after 0: new"]


async def test_more_bytes_than_a_batch_are_saved(conversations: LuminoraConversationStore) -> None:
    messages: list[ModelMessage] = [request(letter * 6_000_000) for letter in "abc"]
    await conversations.save(Conversation(messages=messages, conversation_id="c"))
    found = await conversations.load("c")
    assert found is not None
    assert found.messages == messages


async def test_a_cancelled_save_is_whole_or_absent(conversations: LuminoraConversationStore) -> None:
    await say(conversations, "one")
    for turns in range(0, 24, 2):
        found = await conversations.load("c")
        assert found is not None
        before = list(found.messages)
        found.messages += [request("a"), request("b")]
        task = asyncio.create_task(conversations.save(found))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        after = await conversations.load("c")
        assert after is not None
        assert after.messages in (before, found.messages)
        if not task.cancelled():
            assert after.messages == found.messages


async def test_more_messages_than_a_batch_are_saved(sqlite: StorageConfig) -> None:
    conversations = LuminoraConversationStore(sqlite)
    messages: list[ModelMessage] = [request(str(number)) for number in range(2001)]
    await conversations.save(Conversation(messages=messages, conversation_id="c"))
    await conversations.fork("c", new_conversation_id="d")
    await conversations.delete("c")
    found = await conversations.load("d")
    assert found is not None
    assert found.messages == messages
    part = await conversations.load("d", limit=1500)
    assert part is not None
    assert part.messages == messages[501:]
    await conversations.close()


@pytest.mark.parametrize("name", HOSTILE_IDS, ids=ascii)
async def test_any_string_names_a_conversation(name: str, sqlite: StorageConfig) -> None:
    conversations = LuminoraConversationStore(sqlite)
    entry = ConversationEntry(id=name, parent_id=None, message=request("Hi"))
    record = ConversationRecord(conversation_id=name, head_id=name, scope=name)
    await conversations.write_record(record, new_entries=[entry], expected_revision=None)
    assert list(await conversations.read_records(scope=name)) == [record]
    assert await conversations.read_entry(name) == entry
    fork = await conversations.fork(name, new_conversation_id=f"{name}2")
    assert texts(fork.messages) == ["Hi"]
    assert await conversations.load(f"{name}3") is None
    await conversations.delete(name)
    assert await conversations.load(name) is None
    await conversations.close()


async def test_it_does_what_the_store_in_memory_does(conversations: LuminoraConversationStore) -> None:
    """Entries of any order of ids, as another program may give them."""
    own = InMemoryConversationStore()
    entries = [
        ConversationEntry(id=one, parent_id=before, message=request(one))
        for one, before in (("z", None), ("a", "z"), ("m", "a"), ("b", "a"))
    ]
    record = ConversationRecord(conversation_id="c", head_id="m", branches=["b"])
    for store in (own, conversations):
        await store.write_record(record, new_entries=entries, expected_revision=None)
    for head in ("z", "a", "m", "b"):
        for limit in (None, 0, 1, 2, 3, 4):
            expected = await own.read_history(head, limit=limit)
            assert await conversations.read_history(head, limit=limit) == expected
    assert copy.deepcopy(await conversations.read_record("c")) == await own.read_record("c")


async def test_a_paused_conversation_is_resumed(conversations: LuminoraConversationStore) -> None:
    agent = Agent(TestModel(), output_type=[str, DeferredToolRequests])

    @agent.tool_plain(requires_approval=True)
    def remove(path: str) -> str:
        return f"removed {path}"

    await conversations.save(await agent.run("Go", conversation=Conversation(conversation_id="c")))
    found = await conversations.load("c")
    assert found is not None
    assert found.deferred_tool_requests is not None
    results = found.deferred_tool_requests.build_results(approve_all=True)
    done = await agent.run(conversation=found, deferred_tool_results=results)
    await conversations.save(done)
    ended = await conversations.load("c")
    assert ended is not None
    assert ended.deferred_tool_requests is None
    assert ended.messages == done.all_messages()


async def test_an_adapter_for_a_user_interface_uses_it(conversations: LuminoraConversationStore) -> None:
    async def streamed(messages: list[ModelMessage], info: Any) -> AsyncIterator[str]:
        yield str(answer(messages, info).parts[0].content)  # type: ignore[union-attr,unused-ignore]

    agent = Agent(FunctionModel(stream_function=streamed))
    for number, text in enumerate(("one", "two")):
        message = {"id": f"m{number}", "role": "user", "parts": [{"type": "text", "text": text}]}
        body = json.dumps({"trigger": "submit-message", "id": "chat", "messages": [message]})
        adapter = VercelAIAdapter(
            agent=agent,
            run_input=VercelAIAdapter.build_run_input(body.encode()),
            conversation_store=conversations,
            conversation_scope="ada",
        )
        events = [event async for event in adapter.encode_stream(adapter.run_stream())]
        assert "error" not in "".join(events)
    found = await conversations.load("chat", scope="ada")
    assert found is not None
    assert texts(found.messages) == ["one", "after 0: one", "two", "after 1: two"]
    assert await conversations.load("chat", scope="other") is None
