from collections.abc import AsyncIterator
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import StorageConfig
from luminoracore_sdk.session import SessionManager, create_storage
from tests.integrations.agent_runs import AgentRuns
from tests.integrations.values import HOSTILE_IDS, HOSTILE_TEXTS, HOSTILE_VALUES

pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")

from pydantic_ai import Agent
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.conversation import Conversation
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

from luminoracore_sdk.integrations.pydantic_ai import LuminoraMessageHistory, window
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
