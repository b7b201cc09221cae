"""Whole conversations against servers that refuse what their vendors refuse."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from luminoracore_sdk.session import Message, SessionManager
from luminoracore_sdk.types.provider import ChatMessage
from luminoracore_sdk.utils.exceptions import ProviderError
from tests.support.model_server import KEY, Answer, ModelServer, Reply, Request, fail, provider_on, say
from tests.support.strict_vendors import VENDORS, refusals

PNG = "data:image/png;base64,iVBORw0KGgo="


def strict(vendor: str, answer: Answer) -> Answer:
    """Return an answer for requests that the vendor accepts; others are refused with 400."""

    def checked(request: Request) -> Reply:
        found = refusals(vendor, request.body)
        if found:
            return fail(400, {"error": {"message": "; ".join(found), "type": "invalid_request_error"}})(request)
        return answer(request)

    return checked


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def manager() -> AsyncIterator[SessionManager]:
    async with SessionManager() as opened:
        yield opened


def config(vendor: str, server: ModelServer) -> dict[str, Any]:
    base_url = server.url if vendor == "anthropic" else f"{server.url}/v1"
    return {"name": vendor, "api_key": KEY, "base_url": base_url, "model": "model-x", "extra": {"max_retries": 0}}


def call(call_id: str, arguments: str = '{"city": "Turin"}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": arguments}}


def calls(*ids: str, text: str = "", arguments: str = '{"city": "Turin"}') -> Message:
    return Message("assistant", text, metadata={"tool_calls": [call(one, arguments) for one in ids]})


def result(call_id: str, content: Any = "22") -> Message:
    return Message("tool", content, metadata={"tool_call_id": call_id})


SITUATIONS: dict[str, tuple[list[Message], Message | list[Message]]] = {
    "the process died before the result": (
        [Message("user", "Weather?"), calls("t1")],
        Message("user", "Never mind, tell me a joke."),
    ),
    "one result of two": ([Message("user", "Both?"), calls("t1", "t2"), result("t1")], Message("user", "Well?")),
    "results in another order": ([Message("user", "Both?"), calls("t1", "t2")], [result("t2"), result("t1")]),
    "a result far behind its call": (
        [
            Message("user", "Weather?"),
            calls("t1"),
            Message("user", "Hello?"),
            Message("assistant", "Yes?"),
            result("t1"),
        ],
        Message("user", "Well?"),
    ),
    "a result behind the answer to another": (
        [Message("user", "Both?"), calls("t1", "t2"), result("t1"), Message("assistant", "The first is 22.")],
        result("t2"),
    ),
    "a result before its call": ([Message("user", "Weather?"), result("t1"), calls("t1")], Message("user", "Well?")),
    "a result without a call": (
        [Message("user", "Hi"), result("gone"), Message("assistant", "?")],
        Message("user", "Go"),
    ),
    "a call that was cut off": (
        [Message("user", "Write."), calls("t1", arguments='{"path": "a.txt", "text": "Once upon')],
        result("t1", "error: arguments were cut off"),
    ),
    "a blank answer before a call": (
        [Message("user", "Hi"), calls("t1", text=" \n"), result("t1")],
        Message("user", "Go on."),
    ),
    "an empty text part": (
        [Message("user", [{"type": "text", "text": ""}, {"type": "text", "text": "Hi"}]), Message("assistant", "?")],
        Message("user", "Go on."),
    ),
    "an empty answer": ([Message("user", "Hi"), Message("assistant", "")], Message("user", "Again.")),
    "a blank question": ([Message("user", "Hi"), Message("assistant", "Yes?")], Message("user", "  ")),
    "the id of another vendor": (
        [Message("user", "?"), calls("functions.weather:0" + "x" * 40), result("functions.weather:0" + "x" * 40)],
        Message("user", "Thanks."),
    ),
    "an object as a result": ([Message("user", "Weather?"), calls("t1")], result("t1", {"temp": 22})),
    "the older form of a call": (
        [
            Message("user", "?"),
            Message("assistant", "", metadata={"function_call": {"name": "clock", "arguments": "{}"}}),
            Message("tool", "noon", metadata={"name": "clock"}),
        ],
        Message("user", "Thanks."),
    ),
    "two questions in a row": ([Message("user", "One?"), Message("user", "Two?")], Message("user", "Three?")),
    "an answer at the beginning": ([Message("assistant", "Welcome!")], Message("user", "Hi")),
    "a system message in the middle": (
        [Message("user", "Hi"), Message("assistant", "Yes?"), Message("system", "Be brief.")],
        Message("user", "Go on."),
    ),
    "a question behind a result": ([Message("user", "?"), calls("t1"), result("t1")], Message("user", "And Rome?")),
}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("situation", SITUATIONS)
async def test_every_situation_is_accepted(
    manager: SessionManager, vendor: str, situation: str, *, streaming: bool
) -> None:
    history, sent = SITUATIONS[situation]
    async with ModelServer(strict(vendor, say())) as server:
        session_id = await manager.create_session({"system_prompt": "Be kind."}, config(vendor, server))
        await manager.conversation_manager.append(session_id, history)
        if streaming:
            *_, last = [delta async for delta in manager.stream_message(session_id, sent, context="It is May.")]
        else:
            last = await manager.send_message(session_id, sent, context="It is May.")
        assert last.finish_reason == "stop"
        stored = await manager.conversation_manager.get_messages(session_id)
    kept = [*history, *(sent if isinstance(sent, list) else [sent])]
    assert [(one.role, one.content) for one in stored[:-1]] == [(one.role, one.content) for one in kept]


@pytest.mark.parametrize("vendor", sorted(set(VENDORS) - {"deepseek"}), indirect=True)
async def test_pictures_are_accepted_in_either_form(manager: SessionManager, vendor: str) -> None:
    openai = {"type": "image_url", "image_url": {"url": PNG}}
    anthropic = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    async with ModelServer(strict(vendor, say())) as server:
        session_id = await manager.create_session({}, config(vendor, server))
        for picture in (openai, anthropic):
            await manager.send_message(session_id, Message("user", [{"type": "text", "text": "And this?"}, picture]))
        assert len(server.requests) == 2


async def test_a_provider_can_be_changed_within_a_tool_group(manager: SessionManager, vendor: str) -> None:
    others = [name for name in VENDORS if name != vendor]
    for other in others:
        async with ModelServer(strict(vendor, say())) as first, ModelServer(strict(other, say())) as second:
            session_id = await manager.create_session({}, config(vendor, first))
            answer = calls("call_" + "7" * 30)
            reasoning = {
                "reasoning_content": "Because.",
                "reasoning_details": [{"type": "reasoning.text", "text": "Because."}],
                "thinking_blocks": [{"type": "thinking", "thinking": "Because.", "signature": "sig"}],
            }
            answer = Message("assistant", "", metadata={**answer.metadata, "provider": vendor, "reasoning": reasoning})
            await manager.conversation_manager.append(session_id, [Message("user", "Weather?"), answer])
            await manager.update_provider(session_id, config(other, second))
            await manager.send_message(session_id, result("call_" + "7" * 30))
            assert "Because." not in json.dumps(second.requests[0].body)
            await manager.update_provider(session_id, config(vendor, first))
            await manager.send_message(session_id, "Thanks.")


async def test_the_strict_servers_refuse_a_result_without_its_call(vendor: str) -> None:
    prompt = [ChatMessage("user", "Hi"), ChatMessage("tool", "22", {"tool_call_id": "gone"})]
    wire = "anthropic" if vendor == "anthropic" else "openai"
    async with ModelServer(strict(vendor, say())) as server, provider_on(server, wire) as provider:
        with pytest.raises(ProviderError, match="400"):
            await provider.chat(prompt)
