"""Vendors' own APIs through pydantic-ai, against servers that refuse what the vendors refuse."""

import asyncio
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from importlib.util import find_spec
from typing import Any

import attrs
import pytest

from luminoracore_sdk.providers import ProviderFactory
from luminoracore_sdk.session import Message, SessionManager
from luminoracore_sdk.tools import run_tools, send_structured
from luminoracore_sdk.types.provider import ChatMessage
from luminoracore_sdk.utils.exceptions import (
    MissingDependencyError,
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderRateLimitError,
    ProviderResponseError,
    ProviderStreamError,
    ProviderTimeoutError,
    UnsupportedContentError,
)
from tests.integration.test_strict_vendors import SITUATIONS
from tests.support.model_server import KEY, Ending, ModelServer, Reply, Request, event, fail, hang, raw, say
from tests.support.vendor_apis import (
    bedrock,
    cohere,
    gemini,
    gemini_refuses,
    mistral,
    strict_gemini,
    strict_mistral,
)

pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")


def _needs(module: str) -> pytest.MarkDecorator:
    try:
        missing = find_spec(module) is None
    except ModuleNotFoundError:
        missing = True
    return pytest.mark.skipif(missing, reason=f"{module} is not installed")


GOOGLE, MISTRAL = _needs("google.genai"), _needs("mistralai")
VENDORS = [pytest.param("google", marks=GOOGLE), pytest.param("mistral", marks=MISTRAL)]
SIGNATURE = b64encode(b"a signature of Gemini").decode()
PNG = "data:image/png;base64,iVBORw0KGgo="
SUNNY = {"text": "It is sunny."}
MODELS = {"google": "google:gemini-3-flash-preview", "mistral": "mistral:mistral-small-latest"}


def config(vendor: str, server: ModelServer, **extra: Any) -> dict[str, Any]:
    quick = {"max_retries": 0, "timeout": 5, **extra}
    return {"name": "pydantic-ai", "model": MODELS[vendor], "api_key": KEY, "base_url": server.url, "extra": quick}


def answer(vendor: str, text: str, **options: Any) -> Any:
    """An answer with a text, by a server that is strict."""
    return (
        strict_gemini(gemini({"text": text}, **options))
        if vendor == "google"
        else strict_mistral(mistral(text, **options))
    )


def call_part(name: str = "weather", signature: str | None = SIGNATURE, **args: Any) -> dict[str, Any]:
    part: dict[str, Any] = {"functionCall": {"name": name, "args": args}}
    return {**part, "thoughtSignature": signature} if signature else part


def openai_call(call_id: str, **args: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": json.dumps(args)}}


def media_type(part: dict[str, Any]) -> str:
    """Google's JSON takes each name in camel case and in snake case; google-genai mixes them."""
    blob = part["inlineData"]
    return str(blob.get("mimeType") or blob["mime_type"])


@pytest.fixture
async def manager() -> AsyncIterator[SessionManager]:
    async with SessionManager() as opened:
        yield opened


async def send(manager: SessionManager, session_id: str, message: Any, *, streaming: bool, **options: Any) -> Any:
    if not streaming:
        return await manager.send_message(session_id, message, **options)
    deltas = [delta async for delta in manager.stream_message(session_id, message, **options)]
    return attrs.evolve(
        deltas[-1],
        content="".join(delta.content for delta in deltas),
        reasoning="".join(delta.reasoning or "" for delta in deltas) or None,
    )


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_conversation(manager: SessionManager, vendor: str, *, streaming: bool) -> None:
    async with ModelServer(answer(vendor, "Good morning to you.")) as server:
        place = config(vendor, server, headers={"X-Team": "blue"})
        session_id = await manager.create_session({"system_prompt": "Be kind."}, place)
        first = await send(manager, session_id, "Good morning!", streaming=streaming)
        await send(manager, session_id, "Again?", streaming=streaming, stop="END", seed=7, max_tokens=50)
        sent = server.requests[1].body
        assert server.requests[0].headers["x-team"] == "blue"
        key = server.requests[0].headers["x-goog-api-key" if vendor == "google" else "authorization"]
    assert (first.content, first.finish_reason) == ("Good morning to you.", "stop")
    assert (first.usage["input_tokens"], first.usage["output_tokens"]) == (11, 7)
    assert first.model == ("gemini-3-test" if vendor == "google" else "mistral-test")
    assert key.removeprefix("Bearer ") == KEY
    if vendor == "google":
        assert "Be kind." in json.dumps(sent["systemInstruction"])
        assert [content["role"] for content in sent["contents"]] == ["user", "model", "user"]
        generation = sent["generationConfig"]
        assert (generation["stopSequences"], generation["seed"], generation["maxOutputTokens"]) == (["END"], 7, 50)
        assert generation["temperature"] == 0.7
    else:
        assert [one["role"] for one in sent["messages"]] == ["system", "user", "assistant", "user"]
        assert (sent["stop"], sent["random_seed"], sent["max_tokens"]) == (["END"], 7, 50)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("vendor", VENDORS)
async def test_every_situation_is_accepted(
    manager: SessionManager, vendor: str, situation: str, *, streaming: bool
) -> None:
    history, sent = SITUATIONS[situation]
    async with ModelServer(answer(vendor, "Yes.")) as server:
        session_id = await manager.create_session({"system_prompt": "Be kind."}, config(vendor, server))
        await manager.conversation_manager.append(session_id, history)
        last = await send(manager, session_id, sent, streaming=streaming, context="It is May.")
        assert (last.content, last.finish_reason) == ("Yes.", "stop")


@pytest.mark.parametrize("streaming", [False, True])
@GOOGLE
async def test_parallel_calls_with_thoughts_go_back_as_they_came(manager: SessionManager, *, streaming: bool) -> None:
    thought = {"text": "Two cities.", "thought": True}
    script = [
        strict_gemini(gemini(thought, call_part(city="Turin"), call_part(signature=None, city="Rome"))),
        strict_gemini(gemini(SUNNY), SIGNATURE),
    ]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
    async with ModelServer(*script) as server:
        session_id = await manager.create_session({}, config("google", server))
        asked = await send(manager, session_id, "Weather?", streaming=streaming, tools=tools, tool_choice="auto")
        first, second = asked.tool_calls
        results = [
            Message("tool", "no such city", metadata={"tool_call_id": second["id"], "is_error": True}),
            Message("tool", {"temp": 22}, metadata={"tool_call_id": first["id"]}),
        ]
        said = await send(manager, session_id, results, streaming=streaming)
        sent = server.requests[1].body["contents"]
        declared = server.requests[0].body["tools"][0]["functionDeclarations"][0]["name"]
    assert (asked.reasoning, asked.finish_reason, declared) == ("Two cities.", "tool_calls", "weather")
    assert [json.loads(call["function"]["arguments"]) for call in asked.tool_calls] == [
        {"city": "Turin"},
        {"city": "Rome"},
    ]
    assert said.content == "It is sunny."
    parts = sent[1]["parts"]
    assert [part.get("thoughtSignature") for part in parts if "functionCall" in part] == [SIGNATURE, None]
    responses = [part["functionResponse"]["response"] for part in sent[2]["parts"]]
    assert responses == [{"return_value": '{"temp": 22}'}, {"error": "no such city"}]


@pytest.mark.parametrize("streaming", [False, True])
@MISTRAL
async def test_mistral_thoughts_and_calls(manager: SessionManager, *, streaming: bool) -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Which city?"}]}
    script = [
        strict_mistral(
            mistral([thinking, {"type": "text", "text": "Let me look."}], openai_call("abcdefghi", city="Turin"))
        ),
        answer("mistral", "It is sunny."),
    ]
    async with ModelServer(*script) as server:
        session_id = await manager.create_session({}, config("mistral", server))
        asked = await send(manager, session_id, "Weather?", streaming=streaming)
        await send(
            manager, session_id, Message("tool", "22", metadata={"tool_call_id": "abcdefghi"}), streaming=streaming
        )
        sent = server.requests[1].body["messages"]
    assert (asked.content, asked.reasoning, asked.finish_reason) == ("Let me look.", "Which city?", "tool_calls")
    assert sent[1]["content"][0] == thinking | {"closed": True} or sent[1]["content"][0] == thinking
    assert [call["id"] for call in sent[1]["tool_calls"]] == ["abcdefghi"]
    assert (sent[2]["role"], sent[2]["content"]) == ("tool", "22")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_pictures_and_files(manager: SessionManager, vendor: str) -> None:
    content = [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
    ]
    async with ModelServer(answer(vendor, "A picture.")) as server:
        session_id = await manager.create_session({}, config(vendor, server))
        await manager.send_message(session_id, Message("user", content))
        body = server.requests[0].body
    if vendor == "google":
        sent = [media_type(part) for part in body["contents"][0]["parts"][1:]]
        assert sent == ["image/png", "application/pdf"]
    else:
        assert [part["type"] for part in body["messages"][0]["content"]] == ["text", "image_url", "document_url"]


@pytest.mark.parametrize(
    ("vendor", "part"),
    [
        pytest.param(
            "mistral", {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}, marks=MISTRAL
        ),
        pytest.param("mistral", {"type": "file", "file": {"file_id": "file-1"}}, marks=MISTRAL),
        pytest.param(
            "mistral", {"type": "file", "file": {"file_data": "data:application/zip;base64,AAAA"}}, marks=MISTRAL
        ),
        pytest.param("mistral", {"type": "video_url", "video_url": {"url": "https://x.test/a.mp4"}}, marks=MISTRAL),
        pytest.param("google", {"type": "image_url", "image_url": {"detail": "low"}}, marks=GOOGLE),
        pytest.param("google", {"type": "hologram", "hologram": {}}, marks=GOOGLE),
    ],
)
async def test_a_part_without_a_form_is_refused_here(
    manager: SessionManager, vendor: str, part: dict[str, Any]
) -> None:
    async with ModelServer(answer(vendor, "?")) as server:
        session_id = await manager.create_session({}, config(vendor, server))
        with pytest.raises(UnsupportedContentError, match=f"pydantic-ai:{vendor}"):
            await manager.send_message(session_id, Message("user", [{"type": "text", "text": "Look"}, part]))
        assert server.requests == []


@GOOGLE
async def test_a_picture_in_the_answer(manager: SessionManager) -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}, "thoughtSignature": SIGNATURE}
    async with ModelServer(gemini({"text": "Here."}, picture), strict_gemini(gemini(SUNNY), SIGNATURE)) as server:
        session_id = await manager.create_session({}, config("google", server))
        response = await manager.send_message(session_id, "Draw.")
        await manager.send_message(session_id, "Brighter.")
        sent = server.requests[1].body["contents"][1]["parts"]
    assert response.parts == [{"type": "image_url", "image_url": {"url": PNG}}]
    assert (sent[0], media_type(sent[1])) == ({"text": "Here."}, "image/png")
    assert (sent[1]["inlineData"]["data"], sent[1]["thoughtSignature"]) == ("iVBORw0KGgo=", SIGNATURE)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_cut_stream_is_no_answer(manager: SessionManager, vendor: str) -> None:
    unfinished = {"finish": None} if vendor == "google" else {"finish": ""}
    for options in ({"ending": Ending.CUT, **unfinished}, unfinished):
        async with ModelServer(answer(vendor, "Once upon", **options)) as server:
            session_id = await manager.create_session({}, config(vendor, server))
            with pytest.raises(ProviderStreamError):
                await send(manager, session_id, "A story!", streaming=True)
            assert await manager.conversation_manager.get_messages(session_id) == []


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, ProviderAuthenticationError),
        (403, ProviderAuthenticationError),
        (404, ProviderError),
        (429, ProviderRateLimitError),
        (500, ProviderConnectionError),
        (503, ProviderConnectionError),
    ],
)
async def test_statuses(
    manager: SessionManager,
    vendor: str,
    status: int,
    error: type[ProviderError],
    caplog: pytest.LogCaptureFixture,
    *,
    streaming: bool,
) -> None:
    caplog.set_level("DEBUG")
    refused = fail(
        status, {"error": {"code": status, "status": "SOME_CODE", "message": f"not with {KEY}"}}, retry_after="7"
    )
    async with ModelServer(refused) as server:
        session_id = await manager.create_session({}, config(vendor, server))
        with pytest.raises(error) as caught:
            await send(manager, session_id, "Hi", streaming=streaming)
    assert type(caught.value) is error
    assert str(status) in str(caught.value)
    if isinstance(caught.value, ProviderRateLimitError):
        assert caught.value.retry_after == 7
    assert KEY not in caplog.text
    link: BaseException | None = caught.value
    while link is not None:
        assert KEY not in f"{link!r} {link} {vars(link)}"
        link = link.__cause__ or link.__context__


@GOOGLE
async def test_gemini_refuses_a_wrong_key_with_400(manager: SessionManager) -> None:
    # ai.google.dev/gemini-api/docs/troubleshooting: 400 INVALID_ARGUMENT, reason API_KEY_INVALID
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]
    error = {"code": 400, "status": "INVALID_ARGUMENT", "message": "API key not valid.", "details": details}
    async with ModelServer(fail(400, {"error": error})) as server:
        session_id = await manager.create_session({}, config("google", server))
        with pytest.raises(ProviderAuthenticationError):
            await manager.send_message(session_id, "Hi")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_failures_are_repeated_and_silence_ends(manager: SessionManager, vendor: str) -> None:
    busy = gemini_refuses(503, "UNAVAILABLE", "busy")
    async with ModelServer(busy, answer(vendor, "Now.")) as server:
        session_id = await manager.create_session({}, config(vendor, server, max_retries=1))
        assert (await manager.send_message(session_id, "Hi")).content == "Now."
        assert len(server.requests) == 2
    async with ModelServer(hang()) as server:
        session_id = await manager.create_session({}, config(vendor, server, timeout=0.2))
        with pytest.raises(ProviderTimeoutError, match=r"within 0\.2 seconds"):
            await manager.send_message(session_id, "Hi")
    unfinished = {"finish": None} if vendor == "google" else {"finish": ""}
    async with ModelServer(answer(vendor, "Once upon", ending=Ending.HANG, **unfinished)) as server:
        session_id = await manager.create_session({}, config(vendor, server, timeout=0.2))
        with pytest.raises(ProviderTimeoutError, match="during the answer"):
            await send(manager, session_id, "Hi", streaming=True)
    session_id = await manager.create_session({}, config(vendor, server))
    with pytest.raises(ProviderConnectionError, match="is it running"):
        await manager.send_message(session_id, "Hi")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_bodies_outside_the_protocol(manager: SessionManager, vendor: str) -> None:
    async with ModelServer(raw(b"<html>")) as server:
        session_id = await manager.create_session({}, config(vendor, server))
        with pytest.raises(ProviderResponseError):
            await manager.send_message(session_id, "Hi")
    async with ModelServer(answer(vendor, "x" * 5000)) as server:
        session_id = await manager.create_session({}, config(vendor, server, max_answer_bytes=1000))
        with pytest.raises(ProviderResponseError, match="more than 1000 bytes"):
            await manager.send_message(session_id, "Hi")


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_error_within_a_stream(manager: SessionManager, vendor: str) -> None:
    if vendor == "google":  # google.rpc.Status as an event, with the status 200 of the stream
        frames = [event({"error": {"code": 503, "status": "UNAVAILABLE", "message": "overloaded"}})]
    else:
        frames = [event({"object": "error", "message": "overloaded", "type": "service_unavailable", "code": "3505"})]
    said = gemini({"text": "Once"}, finish=None) if vendor == "google" else mistral("Once", finish="")

    def broken(request: Request) -> Reply:
        begun = said(request)
        return attrs.evolve(begun, pieces=[*begun.pieces, *frames])

    async with ModelServer(broken) as server:
        session_id = await manager.create_session({}, config(vendor, server))
        with pytest.raises(ProviderError):
            await send(manager, session_id, "A story!", streaming=True)
        assert await manager.conversation_manager.get_messages(session_id) == []


@GOOGLE
async def test_an_error_as_finish_reason_is_no_answer(manager: SessionManager) -> None:
    async with ModelServer(gemini(finish="MALFORMED_FUNCTION_CALL")) as server:
        session_id = await manager.create_session({}, config("google", server))
        with pytest.raises(ProviderResponseError, match="MALFORMED_FUNCTION_CALL"):
            await manager.send_message(session_id, "Hi")


@GOOGLE
async def test_from_openai_to_gemini_within_a_group_of_calls_and_back(manager: SessionManager) -> None:
    calls = [openai_call("call_" + "x" * 60, city="Turin"), openai_call("call:2", city="Rome")]
    message = {"role": "assistant", "content": None, "tool_calls": calls, "reasoning_content": "hidden"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    first = raw(json.dumps({**body, "choices": [choice]}).encode())
    thought = {"text": "Sunny.", "thought": True}
    async with (
        ModelServer(first, say("Welcome back.")) as openai,
        ModelServer(strict_gemini(gemini(thought, {**SUNNY, "thoughtSignature": SIGNATURE}))) as google,
    ):
        old = {"name": "openai", "api_key": KEY, "base_url": f"{openai.url}/v1", "model": "m"}
        session_id = await manager.create_session({}, old)
        asked = await manager.send_message(session_id, "Weather?")
        await manager.update_provider(session_id, config("google", google))
        results = [Message("tool", "22", metadata={"tool_call_id": call["id"]}) for call in asked.tool_calls]
        said = await manager.send_message(session_id, results)
        await manager.update_provider(session_id, old)
        back = await manager.send_message(session_id, "Thanks.")
        returned = openai.requests[1].body["messages"]
    assert (said.content, back.content) == ("It is sunny.", "Welcome back.")
    assert "hidden" not in json.dumps(google.requests[0].body)
    assert "Sunny." not in json.dumps(returned).replace("It is sunny.", "")
    assert [one["role"] for one in returned] == ["user", "assistant", "tool", "tool", "assistant", "user"]


@GOOGLE
@MISTRAL
async def test_another_vendor_for_one_send(manager: SessionManager) -> None:
    signed = gemini({"text": "Hm.", "thought": True}, call_part(city="Turin"))
    async with (
        ModelServer(strict_gemini(signed), strict_gemini(gemini(SUNNY), SIGNATURE)) as google,
        ModelServer(answer("mistral", "I say: 22.")) as other,
    ):
        session_id = await manager.create_session({}, config("google", google))
        asked = await manager.send_message(session_id, "Weather?")
        result = Message("tool", "22", metadata={"tool_call_id": asked.tool_calls[0]["id"]})
        once = {"model": MODELS["mistral"], "base_url": other.url, "api_key": "another-key"}
        said = await manager.send_message(session_id, result, provider_config=once)
        await manager.send_message(session_id, "And now?")
        contents = google.requests[1].body["contents"]
    assert said.content == "I say: 22."
    assert "Hm." not in json.dumps(other.requests[0].body)
    assert other.requests[0].headers["authorization"] == "Bearer another-key"
    assert contents[1]["parts"][-1]["thoughtSignature"] == SIGNATURE


@attrs.define
class Weather:
    city: str
    degrees: int


@pytest.mark.parametrize("vendor", VENDORS)
async def test_tools_and_structured_output(manager: SessionManager, vendor: str) -> None:
    def weather(city: str) -> str:
        """Return the weather of a city."""
        if city == "Nowhere":
            raise LookupError("no such city")
        return f"22 in {city}"

    if vendor == "google":
        asked = strict_gemini(gemini(call_part(city="Turin"), call_part(signature=None, city="Nowhere")))
        script = [
            asked,
            strict_gemini(gemini(SUNNY), SIGNATURE),
            strict_gemini(gemini({"text": '{"city": "Turin", "degrees": 22}'}), SIGNATURE),
        ]
    else:
        asked = mistral("", openai_call("aaaaaaaaa", city="Turin"), openai_call("bbbbbbbbb", city="Nowhere"))
        script = [asked, answer(vendor, "It is sunny."), answer(vendor, '{"city": "Turin", "degrees": 22}')]
    async with ModelServer(*script) as server:
        session_id = await manager.create_session({}, config(vendor, server))
        done = await run_tools(manager, session_id, "Weather?", [weather])
        structured = await send_structured(manager, session_id, "As JSON.", Weather)
        second, last = json.dumps(server.requests[1].body), server.requests[2].body
    assert done.content == "It is sunny."
    assert "22 in Turin" in second
    assert "no such city" in second
    assert structured.value == Weather("Turin", 22)
    if vendor == "google":
        assert last["generationConfig"]["responseMimeType"] == "application/json"
    else:
        assert "degrees" in last["messages"][0]["content"]


@pytest.mark.parametrize(
    ("model", "error", "text"),
    [
        ("mistral-small", ProviderError, "provider:model"),
        (None, ProviderError, "no default model"),
        ("nobody:model", ProviderError, "knows no provider 'nobody'"),
        pytest.param("mistral:m", ProviderError, "takes no 'region_name'", marks=MISTRAL),
    ],
)
def test_a_wrong_configuration(model: str | None, error: type[ProviderError], text: str) -> None:
    extra = {"provider": {"region_name": "eu"}} if "region" in text else {}
    with pytest.raises(error, match=text):
        ProviderFactory.create_provider_from_dict(
            {"name": "pydantic-ai", "model": model, "api_key": KEY, "extra": extra}
        )


@MISTRAL
async def test_parameters_that_a_vendor_does_not_take(manager: SessionManager) -> None:
    async with ModelServer(answer("mistral", "Yes.")) as server:
        session_id = await manager.create_session({}, config("mistral", server))
        response = await manager.send_message(session_id, "Hi", top_k=5, reasoning_effort="none", temperature=0.2)
        body = server.requests[0].body
        with pytest.raises(ProviderError, match="no setting 'entropy'"):
            await manager.send_message(session_id, "Hi", entropy=5)
    assert response.provider_metadata["dropped"] == ["top_k"]
    assert ("top_k" in body, body["temperature"], body["reasoning_effort"]) == (False, 0.2, "none")
    assert len(server.requests) == 1


@MISTRAL
async def test_a_stream_without_an_end_can_be_accepted(manager: SessionManager) -> None:
    async with ModelServer(answer("mistral", "Once upon", finish="")) as server:
        session_id = await manager.create_session({}, config("mistral", server, accept_unfinished=True))
        assert (await send(manager, session_id, "A story!", streaming=True)).content == "Once upon"


@MISTRAL
async def test_a_stream_is_repeated_until_it_begins(manager: SessionManager) -> None:
    busy = fail(429, {"message": "slow down"}, retry_after="0")
    async with ModelServer(busy, answer("mistral", "Now.")) as server:
        session_id = await manager.create_session({}, config("mistral", server, max_retries=1))
        assert (await send(manager, session_id, "Hi", streaming=True)).content == "Now."
        assert len(server.requests) == 2
    async with ModelServer(fail(429, {"message": "slow down"}, retry_after="3600")) as server:
        session_id = await manager.create_session({}, config("mistral", server, max_retries=5))
        with pytest.raises(ProviderRateLimitError):
            await send(manager, session_id, "Hi", streaming=True)
        assert len(server.requests) == 1  # it asks for an hour


@pytest.mark.parametrize("name", ["base_url", "api_key", "http_client", "azure_endpoint"])
def test_an_address_has_its_own_place(name: str) -> None:
    wrong = {"name": "pydantic-ai", "model": MODELS["mistral"], "extra": {"provider": {name: "http://host.test"}}}
    with pytest.raises(ProviderError, match=f"must not hold '{name}'"):
        ProviderFactory.create_provider_from_dict(wrong)


@GOOGLE
def test_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GOOGLE_API_KEY", "GEMINI_API_KEY", "PYDANTIC_AI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ProviderAuthenticationError, match="GOOGLE_API_KEY"):
        ProviderFactory.create_provider_from_dict({"name": "pydantic-ai", "model": MODELS["google"]})


def test_a_missing_package_of_the_vendor() -> None:
    if find_spec("xai_sdk") is not None:
        pytest.skip("xai-sdk is installed")
    with pytest.raises(MissingDependencyError, match=r'pip install "pydantic-ai-slim\[xai\]"'):
        ProviderFactory.create_provider_from_dict({"name": "pydantic-ai", "model": "xai:grok", "api_key": KEY})


@_needs("cohere")
async def test_cohere(manager: SessionManager, monkeypatch: pytest.MonkeyPatch) -> None:
    async with ModelServer(cohere("Hello.")) as server:
        monkeypatch.setenv("CO_BASE_URL", server.url)
        place = {"name": "pydantic-ai", "model": "cohere:command-a-03-2025", "api_key": KEY}
        session_id = await manager.create_session({"system_prompt": "Be kind."}, place)
        response = await manager.send_message(session_id, "Hi")
        assert [one["role"] for one in server.requests[0].body["messages"]] == ["system", "user"]
    assert (response.content, response.usage["input_tokens"]) == ("Hello.", 11)  # type: ignore[index]


@_needs("boto3")
async def test_bedrock(manager: SessionManager) -> None:
    keys = {"region_name": "eu-west-1", "aws_access_key_id": "AKIATEST", "aws_secret_access_key": "very-secret"}
    async with ModelServer(bedrock("Hello.")) as server:
        place = {
            **config("google", server, provider=keys),
            "api_key": None,
            "model": "bedrock:amazon.nova-lite-v1:0",
        }
        session_id = await manager.create_session({"system_prompt": "Be kind."}, place)
        response = await manager.send_message(session_id, "Hi")
        assert server.requests[0].body["system"][0]["text"] == "Be kind."
        assert server.requests[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIATEST/")
        stored = await manager.get_session_info(session_id)
        assert "very-secret" not in json.dumps(stored, default=str)
    assert (response.content, response.finish_reason) == ("Hello.", "stop")


@MISTRAL
def test_one_provider_serves_several_event_loops() -> None:
    async def both() -> list[str]:
        async with ModelServer(answer("mistral", "Yes.")) as server:
            place = config("mistral", server)
            provider = ProviderFactory.create_provider_from_dict(place)
            first = (await provider.chat([ChatMessage("user", "Hi")])).content
            await provider.close()
            second = await asyncio.to_thread(lambda: asyncio.run(provider.chat([ChatMessage("user", "Hi")])))
            await provider.close()
            return [first, second.content]

    assert asyncio.run(both()) == ["Yes.", "Yes."]
