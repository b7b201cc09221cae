"""The real client packages against a local server: requests and parsed answers."""

import json
from typing import Any

import pytest

from luminoracore_sdk.domain.errors import ProviderResponseError
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse
from tests.support.model_server import KEY, TEXT, WIRES, ModelServer, event, provider_on, raw, say, stream

on_both_wires = pytest.mark.parametrize("wire", WIRES)

PROMPT = [ChatMessage("system", "Be brief."), ChatMessage("user", "Hello")]
USAGE = {
    "openai": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    "anthropic": {"input_tokens": 5, "output_tokens": 3},
}
TOOL_CALLS = [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "sky"}'}}]


def metadata(wire: str) -> dict[str, Any]:
    return {"id": "answer-1"} | ({"stop_reason": "end_turn", "dropped": ["temperature"]} if wire == "anthropic" else {})


@on_both_wires
async def test_an_answer_has_reason_usage_model_and_id(wire: str) -> None:
    async with ModelServer() as server, provider_on(server, wire) as provider:
        response = await provider.chat(PROMPT)
    assert response == ChatResponse(
        content=TEXT,
        finish_reason="stop",
        usage=USAGE[wire],
        model="model-on-the-wire",
        provider_metadata=metadata(wire),
    )


@on_both_wires
async def test_a_stream_yields_deltas_and_ends_with_usage(wire: str) -> None:
    async with ModelServer() as server, provider_on(server, wire) as provider:
        deltas = [delta async for delta in provider.stream_chat(PROMPT)]
    assert [delta.content for delta in deltas] == ["Hello ", "there, ", "friend", ""]
    assert [delta.finish_reason for delta in deltas] == [None, None, None, "stop"]
    assert deltas[-1].usage == USAGE[wire]
    assert deltas[-1].model == "model-on-the-wire"
    assert deltas[-1].provider_metadata == metadata(wire)


@on_both_wires
async def test_an_answer_cut_by_the_token_limit_says_so(wire: str) -> None:
    async with ModelServer(say(length=True)) as server, provider_on(server, wire) as provider:
        whole = await provider.chat(PROMPT, max_tokens=3)
        *_, last = [delta async for delta in provider.stream_chat(PROMPT, max_tokens=3)]
    assert (whole.finish_reason, last.finish_reason) == ("length", "length")
    assert [request.body["max_tokens"] for request in server.requests] == [3, 3]


@on_both_wires
async def test_model_prompt_key_and_headers_are_sent(wire: str) -> None:
    async with (
        ModelServer() as server,
        provider_on(server, wire, headers={"X-Team": "blue"}) as provider,
    ):
        await provider.chat(PROMPT)
    (request,) = server.requests
    assert request.body["model"] == "model-x"
    assert request.headers["x-team"] == "blue"
    assert KEY in request.headers["authorization"] + request.headers.get("x-api-key", "")
    if wire == "openai":
        assert request.body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
        ]
        assert request.body["temperature"] == 0.7
    else:
        assert request.body["system"] == [{"type": "text", "text": "Be brief."}]
        assert request.body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
        assert request.body["max_tokens"] == 4096
        assert "temperature" not in request.body


@on_both_wires
async def test_further_arguments_reach_the_api_as_they_are(wire: str) -> None:
    async with ModelServer() as server, provider_on(server, wire) as provider:
        await provider.chat(PROMPT, extra_body={"seed": 7}, model="model-y")
        _ = [delta async for delta in provider.stream_chat(PROMPT, extra_body={"seed": 8})]
    assert [request.body["seed"] for request in server.requests] == [7, 8]
    assert [request.body["model"] for request in server.requests] == ["model-y", "model-x"]


@on_both_wires
async def test_the_method_decides_whether_to_stream(wire: str) -> None:
    async with ModelServer() as server, provider_on(server, wire) as provider:
        assert (await provider.chat(PROMPT, stream=True)).content == TEXT
        assert len([delta async for delta in provider.stream_chat(PROMPT, stream=False)]) > 1
    assert [request.streaming for request in server.requests] == [False, True]


@on_both_wires
async def test_a_lone_surrogate_is_replaced_in_a_request(wire: str) -> None:
    prompt = [ChatMessage("user", "a\ud800b \ud83d\ude00")]
    async with ModelServer() as server, provider_on(server, wire) as provider:
        await provider.chat(prompt)
    content = server.requests[0].body["messages"][0]["content"]
    assert (content if wire == "openai" else content[0]["text"]) == "a\ufffdb \U0001f600"


@on_both_wires
async def test_any_text_of_an_answer_arrives_unchanged(wire: str) -> None:
    text = 'NUL \x00 "quote" \\ line\n\u2028 \U0001f600 end'
    async with ModelServer(say(text)) as server, provider_on(server, wire) as provider:
        whole = await provider.chat(PROMPT)
        streamed = "".join([delta.content async for delta in provider.stream_chat(PROMPT)])
    assert (whole.content, streamed) == (text, text)


async def test_stream_options_can_be_left_out() -> None:
    async with ModelServer() as server, provider_on(server, "openai", stream_usage=False) as provider:
        *_, last = [delta async for delta in provider.stream_chat(PROMPT)]
    assert "stream_options" not in server.requests[0].body
    assert (last.finish_reason, last.usage) == ("stop", None)


@pytest.mark.parametrize("model", ["gpt-6-luna", "o3", "openai/gpt-5.4-mini"])
async def test_a_reasoning_model_gets_the_newer_token_limit(model: str) -> None:
    async with ModelServer() as server, provider_on(server, "openai") as provider:
        await provider.chat(PROMPT, max_tokens=9, model=model)
    body = server.requests[0].body
    assert body["max_completion_tokens"] == 9
    assert not {"temperature", "max_tokens"} & body.keys()


async def test_ids_of_the_environment_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-environment")
    async with ModelServer() as server, provider_on(server, "openai", organization="org-1") as provider:
        await provider.chat(PROMPT)
    assert server.requests[0].headers["openai-organization"] == "org-1"
    assert "openai-project" not in server.requests[0].headers


async def test_temperature_is_sent_to_older_api_versions() -> None:
    async with (
        ModelServer() as server,
        provider_on(server, "anthropic", api_version="2023-06-01") as provider,
    ):
        await provider.chat(PROMPT, temperature=0.2)
    assert server.requests[0].headers["anthropic-version"] == "2023-06-01"
    assert server.requests[0].body["temperature"] == 0.2


async def test_openai_tool_calls_are_sent_and_received() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": TOOL_CALLS}
    body = {"id": "a", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}]}
    history = [
        ChatMessage("user", "Look"),
        ChatMessage("assistant", "", {"tool_calls": TOOL_CALLS, "private": 1}),
        ChatMessage("tool", "blue", {"tool_call_id": "c1"}),
    ]
    async with ModelServer(raw(_json(body))) as server, provider_on(server, "openai") as provider:
        response = await provider.chat(history)
    assert server.requests[0].body["messages"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": TOOL_CALLS},
        {"role": "tool", "content": "blue", "tool_call_id": "c1"},
    ]
    assert (response.content, response.finish_reason) == ("", "tool_calls")
    assert response.provider_metadata["tool_calls"] == TOOL_CALLS


async def test_openai_tool_calls_are_joined_in_the_last_delta() -> None:
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look", "arguments": ""}}
    more = [{"index": 0, "function": {"arguments": piece}} for piece in ('{"at": ', '"sky"}')]
    frames = [event({"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}) for call in (first, *more)]
    frames.append(event({"id": "a", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}))
    async with ModelServer(stream(*frames)) as server, provider_on(server, "openai") as provider:
        (last,) = [delta async for delta in provider.stream_chat(PROMPT)]
    assert (last.content, last.finish_reason) == ("", "tool_calls")
    assert last.provider_metadata == {"id": "a", "tool_calls": TOOL_CALLS}


async def test_openai_refusals_are_joined_in_the_last_delta() -> None:
    frames = [event({"id": "a", "choices": [{"index": 0, "delta": {"refusal": piece}}]}) for piece in ("I ", "won't")]
    frames.append(event({"id": "a", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    async with ModelServer(stream(*frames)) as server, provider_on(server, "openai") as provider:
        (last,) = [delta async for delta in provider.stream_chat(PROMPT)]
    assert (last.content, last.provider_metadata) == ("", {"id": "a", "refusal": "I won't"})


async def test_a_malformed_openai_tool_call_is_a_response_error() -> None:
    frame = event({"id": "a", "choices": [{"index": 0, "delta": {"tool_calls": ["look"]}}]})
    async with ModelServer(stream(frame)) as server, provider_on(server, "openai") as provider:
        with pytest.raises(ProviderResponseError, match="openai sent a malformed tool call"):
            await anext(aiter(provider.stream_chat(PROMPT)))


async def test_anthropic_tool_calls_have_the_stored_form() -> None:
    use = {"type": "tool_use", "id": "c1", "name": "look", "input": {"at": "sky"}}
    body = {"id": "a", "type": "message", "content": [{"type": "text", "text": "Wait."}, use]}
    answer = raw(_json(body | {"stop_reason": "tool_use"}))
    async with ModelServer(answer) as server, provider_on(server, "anthropic") as provider:
        response = await provider.chat(PROMPT)
    assert (response.content, response.finish_reason) == ("Wait.", "tool_calls")
    assert response.provider_metadata == {
        "id": "a",
        "stop_reason": "tool_use",
        "tool_calls": TOOL_CALLS,
        "dropped": ["temperature"],
    }


async def test_anthropic_tool_calls_are_joined_in_the_last_delta() -> None:
    block = {"type": "tool_use", "id": "c1", "name": "look", "input": {}}
    frames = [
        event({"type": "message_start", "message": {"id": "a", "type": "message", "content": []}}),
        event({"type": "content_block_start", "index": 0, "content_block": block}),
        *(
            event(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "input_json_delta", "partial_json": piece},
                }
            )
            for piece in ('{"at": ', '"sky"}')
        ),
        event({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {}}),
        event({"type": "message_stop"}),
    ]
    async with ModelServer(stream(*frames)) as server, provider_on(server, "anthropic") as provider:
        (last,) = [delta async for delta in provider.stream_chat(PROMPT)]
    assert last.finish_reason == "tool_calls"
    assert last.provider_metadata == {
        "id": "a",
        "stop_reason": "tool_use",
        "tool_calls": TOOL_CALLS,
        "dropped": ["temperature"],
    }


def _json(body: dict[str, Any]) -> bytes:

    return json.dumps(body).encode()
