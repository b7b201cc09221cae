"""Streams and bodies as servers really send them: nothing of an answer is lost, and nothing is without a bound."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from luminoracore_sdk.domain.errors import (
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderRateLimitError,
    ProviderResponseError,
    ProviderStreamError,
)
from luminoracore_sdk.providers import BaseProvider
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse
from tests.support.model_server import (
    TEXT,
    Answer,
    ModelServer,
    Reply,
    Request,
    event,
    fail,
    provider_on,
    raw,
    say,
    stream,
)

PROMPT = [ChatMessage("user", "Hello?")]
DONE = b"data: [DONE]\n\n"


def chunk(delta: dict[str, Any], finish_reason: str | None = None, **choice: Any) -> bytes:
    return event({"id": "a", "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason, **choice}]})


async def streamed(*frames: bytes, wire: str = "openai", **extra: Any) -> list[ChatResponse]:
    async with ModelServer(stream(*frames)) as server, provider_on(server, wire, **extra) as provider:
        return [delta async for delta in provider.stream_chat(PROMPT)]


def whole_stream(wire: str) -> bytes:
    request = Request("/v1/messages" if wire == "anthropic" else "/", {}, {"stream": True})
    return b"".join(say()(request).pieces)


async def asked(provider: BaseProvider, *, streaming: bool) -> None:
    if streaming:
        assert [delta async for delta in provider.stream_chat(PROMPT)]
    else:
        await provider.chat(PROMPT)


def piece(call_id: str | None = None, name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": call_id, "function": {key: item for key, item in function.items() if item is not None}, **more}


CALLS = {
    "two calls under one index": (
        [[piece("a", "weather", "{}", index=0)], [piece("b", "clock", "{}", index=0)]],
        [("a", "weather", "{}"), ("b", "clock", "{}")],
    ),
    "the name in every piece": (
        [
            [piece("a", "weather", "", index=0)],
            [piece("a", "weather", '{"city": ', index=0)],
            [piece("a", "weather", '"Turin"}', index=0)],
        ],
        [("a", "weather", '{"city": "Turin"}')],
    ),
    "the name in pieces": (
        [[piece("a", "wea", index=0)], [piece(None, "ther", index=0)], [piece(None, None, "{}", index=0)]],
        [("a", "weather", "{}")],
    ),
    "index null": ([[piece("a", "clock", "{}", index=None)]], [("a", "clock", "{}")]),
    "no index, two calls": (
        [[piece("a", "clock", '{"a"')], [piece(None, None, ": 1}")], [piece("b", "clock", "{}")]],
        [("a", "clock", '{"a": 1}'), ("b", "clock", "{}")],
    ),
    "id first, function later": (
        [[{"index": 0, "id": "a", "type": "function"}], [piece(None, "clock", "{}", index=0)]],
        [("a", "clock", "{}")],
    ),
    "function null later": (
        [[piece("a", "clock", "{}", index=0)], [{"index": 0, "id": "a", "function": None}]],
        [("a", "clock", "{}")],
    ),
    "arguments as an object": ([[piece("a", "clock", {"zone": "CET"}, index=0)]], [("a", "clock", '{"zone": "CET"}')]),
    "no arguments at all": ([[piece("a", "clock", "", index=0)]], [("a", "clock", "{}")]),
    "pieces of two calls mixed": (
        [
            [piece("a", "weather", "", index=0), piece("b", "clock", "", index=1)],
            [piece(None, None, '{"x": 1}', index=1), piece(None, None, '{"y": 2}', index=0)],
        ],
        [("a", "weather", '{"y": 2}'), ("b", "clock", '{"x": 1}')],
    ),
}


@pytest.mark.parametrize(("deltas", "expected"), CALLS.values(), ids=CALLS)
async def test_streamed_calls_are_put_together(
    deltas: list[list[dict[str, Any]]], expected: list[tuple[str, str, str]]
) -> None:
    frames = [chunk({"tool_calls": pieces}) for pieces in deltas]
    last = (await streamed(*frames, chunk({}, "tool_calls"), DONE))[-1]
    found = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in last.tool_calls]
    assert found == expected
    assert last.provider_metadata["tool_calls"] == last.tool_calls


async def test_calls_without_ids_get_distinct_ones() -> None:
    pieces = [piece(None, "clock", "{}", index=0), piece(None, "clock", "{}", index=1)]
    last = (await streamed(chunk({"tool_calls": pieces}), chunk({}, "tool_calls"), DONE))[-1]
    assert len({call["id"] for call in last.tool_calls}) == 2


async def test_a_signature_stays_with_its_call() -> None:
    signed = piece("a", "clock", "{}", index=0, extra_content={"google": {"thought_signature": "sig"}})
    last = (await streamed(chunk({"tool_calls": [signed]}), chunk({}, "tool_calls"), DONE))[-1]
    assert last.tool_calls[0]["extra_content"] == {"google": {"thought_signature": "sig"}}


# -- what a stream holds besides text ----------------------------------------------------------------


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_is_streamed_and_kept(field: str) -> None:
    deltas = await streamed(chunk({field: "Be"}), chunk({field: "cause"}), chunk({"content": "Yes"}), chunk({}, "stop"))
    assert [delta.reasoning for delta in deltas] == ["Be", "cause", None, None]
    assert "".join(delta.content for delta in deltas) == "Yes"


async def test_reasoning_details_are_kept_whole() -> None:
    details = [{"type": "reasoning.text", "text": "Be"}, {"type": "reasoning.encrypted", "data": "x"}]
    last = (await streamed(*(chunk({"reasoning_details": [one]}) for one in details), chunk({}, "stop")))[-1]
    assert last.provider_metadata["reasoning"] == {"reasoning_details": details}


async def test_pictures_of_an_answer_come_back() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    last = (await streamed(chunk({"content": "See", "images": [image]}), chunk({}, "stop")))[-1]
    assert last.parts == [image]


async def test_thinking_blocks_come_back_signed() -> None:
    frames: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "a", "model": "m", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Be"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "cause"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "xyz"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "text_delta", "text": "Yes"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    deltas = await streamed(*map(event, frames), wire="anthropic")
    blocks = [
        {"type": "thinking", "thinking": "Because", "signature": "sig"},
        {"type": "redacted_thinking", "data": "xyz"},
    ]
    assert "".join(delta.reasoning or "" for delta in deltas) == "Because"
    assert deltas[-1].provider_metadata["reasoning"] == {"thinking_blocks": blocks}


async def test_no_delta_holds_half_of_a_character() -> None:
    high, low = json.dumps("\U0001f600")[1:7], json.dumps("\U0001f600")[7:13]
    frames = [f'data: {{"choices": [{{"delta": {{"content": "{half}"}}}}]}}\n\n'.encode() for half in (high, low, high)]
    deltas = await streamed(*frames, chunk({}, "stop"))
    assert [delta.content for delta in deltas] == ["\U0001f600", "\ufffd"]


# -- lines and ends ----------------------------------------------------------------------------------


async def test_lines_that_carry_nothing_cost_nothing() -> None:
    stray = b"retry: 3000\n\nid: 7\n\ndata:\n\ndata: \n\n: comment\n\n"
    deltas = await streamed(stray, chunk({"content": "Yes"}), stray, chunk({}, "stop"), DONE)
    assert [delta.content for delta in deltas] == ["Yes", ""]


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_a_stream_cut_at_any_byte_is_never_an_answer(wire: str) -> None:
    whole = whole_stream(wire)
    ends = whole.rindex(b"message_stop" if wire == "anthropic" else b'"finish_reason": "stop"')
    step = len(whole) // 30
    for size in range(0, ends, step):
        with pytest.raises((ProviderStreamError, ProviderResponseError)):
            await streamed(whole[:size], wire=wire)


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_a_stream_in_single_bytes_is_the_same_answer(wire: str) -> None:
    whole = whole_stream(wire)
    deltas = await streamed(*(bytes([byte]) for byte in whole), wire=wire)
    assert "".join(delta.content for delta in deltas) == TEXT
    assert deltas[-1].finish_reason == "stop"


async def test_an_unfinished_stream_is_accepted_on_request() -> None:
    frames = chunk({"content": "Yes"}), DONE
    with pytest.raises(ProviderStreamError):
        await streamed(*frames)
    deltas = await streamed(*frames, accept_unfinished=True)
    assert "".join(delta.content for delta in deltas) == "Yes"
    with pytest.raises(ProviderStreamError):
        await streamed(DONE, accept_unfinished=True)


# -- ways to write the same stream -------------------------------------------------------------------


def flushed(*frames: bytes) -> list[bytes]:
    """Return gzip data that is flushed behind each event, as servers send it."""
    packer = zlib.compressobj(wbits=31)
    return [*(packer.compress(frame) + packer.flush(zlib.Z_SYNC_FLUSH) for frame in frames), packer.flush()]


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_a_stream_compressed_event_by_event_is_read(wire: str) -> None:
    frames = [frame + b"\n\n" for frame in whole_stream(wire).split(b"\n\n")]

    def answer(_: Request) -> Reply:
        return Reply(content_type="text/event-stream", headers={"content-encoding": "gzip"}, pieces=flushed(*frames))

    async with ModelServer(answer) as server, provider_on(server, wire) as provider:
        deltas = [delta async for delta in provider.stream_chat(PROMPT)]
    assert "".join(delta.content for delta in deltas) == TEXT
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
@pytest.mark.parametrize("end", [b"\r", b"\r\n"])
@pytest.mark.parametrize("begin", [b"", b": comment\n\n", b"event: ping\ndata:\n\n", b"event: x\n\n", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("single", [False, True])
async def test_a_stream_may_be_written_in_another_way(wire: str, end: bytes, begin: bytes, *, single: bool) -> None:
    whole = (begin + whole_stream(wire)).replace(b"\n", end)
    deltas = await streamed(*((bytes([byte]) for byte in whole) if single else (whole,)), wire=wire)
    assert "".join(delta.content for delta in deltas) == TEXT
    assert deltas[-1].finish_reason == "stop"


# -- errors in an answer that says 200 ---------------------------------------------------------------

ERRORS: list[tuple[dict[str, Any], type[ProviderError]]] = [
    ({"code": 401, "message": "no"}, ProviderAuthenticationError),
    ({"code": "429", "message": "no"}, ProviderRateLimitError),
    ({"code": "rate_limit_exceeded"}, ProviderRateLimitError),
    ({"code": 502, "message": "no"}, ProviderConnectionError),
    ({"type": "overloaded_error"}, ProviderConnectionError),
    ({"message": "no"}, ProviderError),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
@pytest.mark.parametrize("streaming", [False, True])
async def test_an_error_in_a_200_is_what_its_code_says(
    error: dict[str, Any], kind: type[ProviderError], *, streaming: bool
) -> None:
    await assert_error({"error": error}, kind, streaming=streaming)
    await assert_error(
        {"choices": [{"index": 0, "error": error, "message": {"content": ""}}]}, kind, streaming=streaming
    )


async def assert_error(body: dict[str, Any], kind: type[ProviderError], *, streaming: bool) -> None:
    answer: Answer = stream(event(body)) if streaming else raw(json.dumps(body).encode())
    async with ModelServer(answer) as server, provider_on(server, "openai") as provider:
        with pytest.raises(kind) as caught:
            await asked(provider, streaming=streaming)
    assert type(caught.value) is kind


# -- limits ------------------------------------------------------------------------------------------


def packed(body: bytes, content_type: str) -> Answer:
    data = gzip.compress(body)
    return lambda _: Reply(content_type=content_type, headers={"content-encoding": "gzip"}, pieces=[data])


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


COMPRESSED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "two members": ("gzip", lambda body: gzip.compress(body[:9]) + gzip.compress(body[9:])),
    "zeros behind": ("gzip", lambda body: gzip.compress(body) + bytes(300)),
    "zlib": ("deflate", zlib.compress),
    "no header": ("deflate", raw_deflate),
    "gzip as deflate": ("deflate", gzip.compress),
}


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("form", COMPRESSED)
async def test_a_compressed_answer_is_read(form: str, *, single: bool) -> None:
    encoding, compress = COMPRESSED[form]
    data = compress(b"".join(say()(Request("/", {}, {})).pieces))
    pieces = [bytes([byte]) for byte in data] if single else [data]
    reply = Reply(headers={"content-encoding": encoding}, pieces=pieces)
    async with ModelServer(lambda _: reply) as server, provider_on(server, "openai") as provider:
        assert (await provider.chat(PROMPT)).content == TEXT


@pytest.mark.parametrize(
    "data", [b"x", b"no", gzip.compress(b"{}", mtime=0) + b"junk"], ids=["short", "text", "junk behind"]
)
async def test_a_body_that_cannot_be_decompressed_is_refused(data: bytes) -> None:
    reply = Reply(headers={"content-encoding": "gzip"}, pieces=[data])
    async with ModelServer(lambda _: reply) as server, provider_on(server, "openai") as provider:
        with pytest.raises(ProviderResponseError):
            await provider.chat(PROMPT)


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_decompression_bomb_is_refused_at_the_limit(*, streaming: bool) -> None:
    kind = "text/event-stream" if streaming else "application/json"
    answer = packed(b"0" * 50_000_000, content_type=kind)
    async with ModelServer(answer) as server, provider_on(server, "openai", max_answer_bytes=1_000_000) as provider:
        with pytest.raises(ProviderResponseError, match="more than 1000000 bytes"):
            await asked(provider, streaming=streaming)


async def test_an_endless_line_is_refused_at_the_limit() -> None:
    with pytest.raises(ProviderResponseError, match="more than 100000 bytes"):
        await streamed(*[b"data: " + b"x" * 10_000] * 20, max_answer_bytes=100_000)


async def test_an_encoding_that_was_not_asked_for_is_refused() -> None:
    def answer(_: Request) -> Reply:
        return Reply(headers={"content-encoding": "br"}, pieces=[b"\x0b\x02\x80{}\x03"])

    async with ModelServer(answer) as server, provider_on(server, "openai") as provider:
        with pytest.raises(ProviderResponseError, match="'br'"):
            await provider.chat(PROMPT)


# -- parameters that a model refuses -----------------------------------------------------------------


async def test_a_model_that_refuses_temperature_is_asked_without_it() -> None:
    refusal = {"error": {"message": "Unsupported parameter", "param": "temperature", "code": "unsupported_parameter"}}
    async with ModelServer(fail(400, refusal), say()) as server, provider_on(server, "openai") as provider:
        first = await provider.chat(PROMPT, temperature=0.3)
        await provider.chat(PROMPT, temperature=0.3)
    assert first.provider_metadata["dropped"] == ["temperature"]
    assert [request.body.get("temperature") for request in server.requests] == [0.3, None, None]
