"""``SessionManager.stop``: an answer under way ends with what has come, in this process or another one."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Literal

import pytest

from luminoracore_sdk.adapters.clock import SystemClock
from luminoracore_sdk.session import Message, SessionManager
from luminoracore_sdk.testing import StorageFactory
from luminoracore_sdk.tools import Tool, run_tools
from luminoracore_sdk.types.provider import ChatResponse
from luminoracore_sdk.utils.exceptions import SessionNotFoundError, TurnInterruptedError
from tests.support.backends import POSTGRES, SQLITE, Backend
from tests.support.scripted_provider import Script

pytestmark = pytest.mark.usefixtures("script")

PROVIDER = {"name": "scripted"}


async def read(deltas: AsyncIterator[ChatResponse], begun: asyncio.Event | None = None) -> list[ChatResponse]:
    read_ = []
    async for delta in deltas:
        read_.append(delta)
        if begun is not None:
            begun.set()
    return read_


async def stored(manager: SessionManager) -> list[Message]:
    return await manager.conversation_manager.get_messages("s")


@pytest.fixture
async def session(manager: SessionManager, script: Script) -> None:
    await manager.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s", "user_id": "u"})


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("busy", ["wait", "refuse"])
async def test_a_streamed_answer_ends_with_what_came(
    manager: SessionManager, script: Script, busy: Literal["wait", "refuse"]
) -> None:
    script.answers = ["One two three"]
    script.may_finish.clear()
    begun = asyncio.Event()
    reading = asyncio.create_task(read(manager.stream_message("s", "Hello", busy=busy), begun))
    await begun.wait()
    assert await manager.stop("s") is True
    deltas = await reading
    text = "".join(delta.content for delta in deltas)
    assert "One two three".startswith(text)
    assert (deltas[-1].finish_reason, deltas[-1].position) == ("stopped", 2)
    question, answer = await stored(manager)
    assert (question.content, answer.content, answer.metadata["finish_reason"]) == ("Hello", text, "stopped")
    script.may_finish.set()
    await manager.send_message("s", "Go on", busy=busy)
    assert await manager.stop("s") is False


@pytest.mark.usefixtures("session")
async def test_an_answer_that_is_not_streamed_leaves_nothing(manager: SessionManager, script: Script) -> None:
    script.may_answer.clear()
    sending = asyncio.create_task(manager.send_message("s", "Hello"))
    waiting = asyncio.create_task(manager.send_message("s", "And then"))
    await script.asked.wait()
    assert await manager.stop("s") is True
    with pytest.raises(TurnInterruptedError):
        await sending
    script.may_answer.set()
    await waiting
    assert [message.content for message in await stored(manager)] == ["And then", "An answer."]


@pytest.mark.usefixtures("session")
async def test_a_stream_of_which_nothing_came_leaves_nothing(manager: SessionManager, script: Script) -> None:
    script.answers = ["Word"]
    script.may_finish.clear()
    reading = asyncio.create_task(read(manager.stream_message("s", "Hello", on_stop="keep_partial")))
    await script.asked.wait()
    assert await manager.stop("s") is True
    with pytest.raises(TurnInterruptedError):
        await reading
    assert await stored(manager) == []


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("on_stop", ["discard", "keep_partial"])
@pytest.mark.parametrize("steps", range(12))
async def test_a_stop_at_any_moment_tells_the_truth(
    manager: SessionManager, script: Script, steps: int, on_stop: Literal["discard", "keep_partial"]
) -> None:
    script.answers = ["One two three"]
    reading = asyncio.create_task(read(manager.stream_message("s", "Hello", on_stop=on_stop)))
    await script.asked.wait()
    for _ in range(steps):
        await asyncio.sleep(0)
    is_stopped = await manager.stop("s")
    try:
        end = (await reading)[-1]
    except TurnInterruptedError:
        assert (is_stopped, await stored(manager)) == (True, [])
        return
    assert is_stopped is (end.finish_reason == "stopped")
    _, answer = await stored(manager)
    assert answer.metadata["finish_reason"] == end.finish_reason
    assert (answer.content == "One two three") is not is_stopped


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("steps", range(8))
async def test_a_stop_at_the_end_of_an_answer_tells_the_truth(
    manager: SessionManager, script: Script, steps: int
) -> None:
    script.may_answer.clear()
    sending = asyncio.create_task(manager.send_message("s", "Hello"))
    await script.asked.wait()
    script.may_answer.set()
    for _ in range(steps):
        await asyncio.sleep(0)
    if await manager.stop("s"):
        with pytest.raises(TurnInterruptedError):
            await sending
        assert await stored(manager) == []
    else:
        await sending
        assert len(await stored(manager)) == 2


@pytest.mark.usefixtures("session")
async def test_a_user_stops_only_what_is_theirs(manager: SessionManager, script: Script) -> None:
    script.may_answer.clear()
    sending = asyncio.create_task(manager.send_message("s", "Hello"))
    await script.asked.wait()
    with pytest.raises(SessionNotFoundError):
        await manager.for_user("v").stop("s")
    assert not sending.done()
    assert await manager.for_user("u").stop("s") is True
    with pytest.raises(TurnInterruptedError):
        await sending
    assert await manager.for_user("u").stop("s") is False
    assert await manager.stop("absent") is False


@pytest.mark.usefixtures("session")
async def test_a_run_of_tools_ends_with_the_answer_that_is_stopped(manager: SessionManager, script: Script) -> None:
    async def look() -> str:
        assert await manager.stop("s") is False  # no answer is under way
        return "rain"

    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    script.answers = [ChatResponse("", tool_calls=[call]), "It will rain all day"]
    begun = asyncio.Event()

    def told(delta: ChatResponse) -> None:
        if delta.content:
            script.may_finish.clear()
            begun.set()

    tools = [Tool("look", {"type": "object"}, look)]
    running = asyncio.create_task(run_tools(manager, "s", "Weather?", tools, on_delta=told))
    await begun.wait()
    assert await manager.stop("s") is True
    response = await running
    assert response.finish_reason == "stopped"
    assert [message.role.value for message in await stored(manager)] == ["user", "assistant", "tool", "assistant"]


@pytest.fixture(params=(SQLITE, POSTGRES), ids=lambda backend: backend.name)
def make(request: pytest.FixtureRequest) -> Iterator[StorageFactory]:
    backend: Backend = request.param
    with backend.place() as factory:
        yield factory


async def test_an_answer_of_another_process_is_stopped(make: StorageFactory, script: Script) -> None:
    script.answers = ["One two three"]
    script.may_finish.clear()
    async with make(SystemClock()) as storage, make(SystemClock()) as other:
        one, stopper = SessionManager(storage), SessionManager(other)
        await one.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s"})
        assert await stopper.stop("s") is False
        begun = asyncio.Event()
        reading = asyncio.create_task(read(one.stream_message("s", "Hello", busy="refuse"), begun))
        await begun.wait()
        async with asyncio.timeout(8):  # less than the end of a lease
            assert await stopper.stop("s") is True
            assert [message.content for message in await stored(stopper)][:1] == ["Hello"]
            deltas = await reading
        assert deltas[-1].finish_reason == "stopped"
        assert await stopper.stop("s") is False
        script.may_finish.set()
        await stopper.send_message("s", "Go on", busy="refuse")
        assert len(await stored(one)) == 4


async def test_a_lease_of_the_caller_is_left_alone(make: StorageFactory) -> None:
    async with make(SystemClock()) as storage, make(SystemClock()) as other:
        one, stopper = SessionManager(storage), SessionManager(other)
        await one.create_session({"name": "Ada"}, PROVIDER, {"session_id": "s"})
        async with one.turn_lease("s", ttl=60) as lease:
            assert await stopper.stop("s") is False
            await one.send_message("s", "Hello", fence=lease.fence)
            assert lease.is_lost is False
