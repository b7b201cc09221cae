"""Turns with large messages: what is done in a thread, and how often."""

import threading
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec
from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.off_loop import off_loop
from luminoracore_sdk.application.ports.records import Payload
from luminoracore_sdk.application.prompts import is_large_prompt
from luminoracore_sdk.bootstrap.managers import default_services
from luminoracore_sdk.domain import outgoing
from luminoracore_sdk.domain.json_value import JSONValue
from luminoracore_sdk.domain.pieces import LARGE, json_text
from luminoracore_sdk.providers import ProviderFactory
from luminoracore_sdk.session import InMemoryStorage, Message, SessionManager
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse
from tests.support.stub_provider import StubProvider

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
ROWS = {"rows": [{"id": number, "name": "a row"} for number in range(10_000)]}
PICTURE = [
    {"type": "text", "text": "What is it?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 2 * LARGE}},
]
CONFIG = {"context_window_size": 10_000_000}


class CountingCodec(JsonCodec):
    """Notes the thread of each conversion of a large message."""

    def __init__(self) -> None:
        self.encoded: list[int] = []
        self.decoded: list[int] = []

    def encode(self, value: object, *, where: str = "value") -> Payload:
        payload = super().encode(value, where=where)
        if len(payload.data) > LARGE:
            self.encoded.append(threading.get_ident())
        return payload

    def decode(self, payload: Payload, *, backend: str, key: str) -> JSONValue:
        if len(payload.data) > LARGE:
            self.decoded.append(threading.get_ident())
        return super().decode(payload, backend=backend, key=key)


class Remembering(StubProvider):
    prompts: list[list[ChatMessage]]  # set by the fixture

    async def answer(self, messages: list[ChatMessage], parameters: dict[str, Any]) -> ChatResponse:
        type(self).prompts.append(messages)
        return ChatResponse(parameters.get("say", "An answer."), finish_reason="stop")


@pytest.fixture
def codec() -> CountingCodec:
    return CountingCodec()


@pytest.fixture
def manager(codec: CountingCodec, monkeypatch: pytest.MonkeyPatch) -> Iterator[SessionManager]:
    monkeypatch.setattr(Remembering, "prompts", [], raising=False)
    ProviderFactory.register_provider("remembering", Remembering)
    services = attrs.evolve(default_services(), codec=JsonEntityCodec(codec))
    yield SessionManager(InMemoryStorage(), services=services)
    ProviderFactory.unregister_provider("remembering")


async def begun(manager: SessionManager) -> str:
    session = await manager.create_session({"name": "Ada"}, {"name": "remembering"}, CONFIG)
    said = [Message("user", "Look."), Message("assistant", "", metadata={"tool_calls": [CALL]})]
    await manager.conversation_manager.append(session, said)
    return str(session)


def here() -> int:
    return threading.get_ident()


@pytest.mark.parametrize("content", ["x" * 2 * LARGE, ROWS, PICTURE])
async def test_a_large_question_is_encoded_once(manager: SessionManager, codec: CountingCodec, content: Any) -> None:
    async with manager:
        session = await begun(manager)
        await manager.send_message(session, Message("user", content, id="question"))
        assert len(codec.encoded) == 1
        assert here() not in codec.encoded


async def test_a_large_result_is_encoded_once(manager: SessionManager, codec: CountingCodec) -> None:
    async with manager:
        session = await begun(manager)
        await manager.send_message(session, Message("tool", ROWS, metadata={"tool_call_id": "call_1"}))
        assert len(codec.encoded) == 1
        assert here() not in codec.encoded
        assert Remembering.prompts[-1][-1].content == json_text(ROWS)


async def test_a_large_history_is_decoded_once(manager: SessionManager, codec: CountingCodec) -> None:
    async with manager:
        session = await begun(manager)
        await manager.send_message(session, Message("tool", ROWS, metadata={"tool_call_id": "call_1"}))
        await manager.send_message(session, "And what else?")
        assert len(codec.decoded) == 1
        assert here() not in codec.decoded


async def test_a_large_message_of_a_stream_is_decoded_in_a_thread(
    manager: SessionManager, codec: CountingCodec
) -> None:
    async with manager:
        session = await begun(manager)
        await manager.send_message(session, Message("user", ROWS))
        read = [message.content async for message in manager.conversation_manager.stream_messages(session)]
        assert read[2:] == [ROWS, "An answer."]
        assert len(codec.decoded) == 1
        assert here() not in codec.decoded


async def test_a_large_answer_is_encoded_once(manager: SessionManager, codec: CountingCodec) -> None:
    async with manager:
        session = await begun(manager)
        await manager.send_message(session, "Tell me all.", say="x" * 2 * LARGE)
        assert len(codec.encoded) == 1
        assert here() not in codec.encoded


async def test_a_large_value_is_written_into_the_prompt_once(
    manager: SessionManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def note(value: Any) -> str:
        written.append(here())
        return json_text(value)

    monkeypatch.setattr(outgoing, "json_text", note)
    async with manager:
        session = await begun(manager)
        await manager.send_message(session, Message("tool", ROWS, metadata={"tool_call_id": "call_1"}))
    assert len(written) == 1
    assert here() not in written


async def test_what_is_stored_is_what_was_sent(manager: SessionManager) -> None:
    content = [{"type": "text", "text": "before"}]

    class Prompts(list[Any]):
        def append(self, _: Any) -> None:
            content[0]["text"] = "changed meanwhile"

    Remembering.prompts = Prompts()
    async with manager:
        session = await manager.create_session({"name": "Ada"}, {"name": "remembering"})
        await manager.send_message(session, Message("user", content))
        assert content == [{"type": "text", "text": "changed meanwhile"}]
        stored = await manager.conversation_manager.get_messages(session)
        assert stored[0].content == [{"type": "text", "text": "before"}]


@pytest.mark.parametrize("large", [True, False])
async def test_only_large_work_leaves_the_thread(large: bool) -> None:
    assert (await off_loop(here, large=large) != here()) is large


@pytest.mark.parametrize(
    ("contents", "costs", "large"),
    [
        (["short", "short"], [5, 5], False),
        (["x", "x"], [LARGE // 8, LARGE // 8 + 1], True),
        (["short", PICTURE], [5, 85], True),
        (["short", [{"type": "text", "text": "short"}]], [5, 5], False),
    ],
)
def test_a_prompt_is_large_by_tokens_or_pictures(contents: list[Any], costs: list[int], large: bool) -> None:
    assert is_large_prompt([Message("user", content) for content in contents], costs) is large
