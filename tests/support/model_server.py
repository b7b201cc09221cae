"""A local model server that speaks OpenAI's and Anthropic's wire formats.

A test passes a script, one answer per request; the last one is repeated. Without a script the server
answers ``Hello there, friend``. It records requests, and can fail as real servers do.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any, Self

import attrs

from luminoracore_sdk.providers import AnthropicProvider, OpenAIProvider
from luminoracore_sdk.types.provider import ProviderConfig

TEXT = "Hello there, friend"
KEY = "sk-loopback-5b0f2c77d1e94a"
WIRES = ("openai", "anthropic")


class Ending(Enum):
    COMPLETE = "the body ends as HTTP says"
    CUT = "the connection is closed in mid-body"
    HANG = "nothing more comes until the client goes away"


@attrs.frozen
class Request:
    path: str
    headers: dict[str, str]
    body: Any

    @property
    def wire(self) -> str:
        return "anthropic" if self.path.endswith("/v1/messages") else "openai"

    @property
    def streaming(self) -> bool:
        return bool(self.body.get("stream"))


@attrs.frozen(kw_only=True)
class Reply:
    status: int = 200
    content_type: str = "application/json"
    headers: dict[str, str] = attrs.field(factory=dict)
    pieces: Iterable[bytes] = ()
    ending: Ending = Ending.COMPLETE


Answer = Callable[[Request], Reply]


def fail(status: int, body: object = None, **headers: str) -> Answer:
    content = body if body is not None else {"error": {"message": "no", "type": "some_error"}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: Reply(status=status, headers=named, pieces=[json.dumps(content).encode()])


def raw(body: bytes, content_type: str = "application/json") -> Answer:
    return lambda _: Reply(pieces=[body], content_type=content_type)


def hang() -> Answer:
    return lambda _: Reply(ending=Ending.HANG)


def say(text: str = TEXT, *, length: bool = False) -> Answer:
    def answer(request: Request) -> Reply:
        if request.streaming:
            return stream(*spoken(request, text), *ended(request, length=length))(request)
        return Reply(pieces=[json.dumps(_whole(request.wire, text, length=length)).encode()])

    return answer


def stream(*frames: bytes, ending: Ending = Ending.COMPLETE) -> Answer:
    return lambda _: Reply(content_type="text/event-stream", pieces=frames, ending=ending)


def begin(text: str = TEXT, *more: bytes, ending: Ending = Ending.COMPLETE) -> Answer:
    """A stream with text but without an end of the answer."""
    return lambda request: stream(*spoken(request, text), *more, ending=ending)(request)


def event(data: dict[str, Any]) -> bytes:
    name = f"event: {data['type']}\n" if "type" in data else ""
    return f"{name}data: {json.dumps(data)}\n\n".encode()


def spoken(request: Request, text: str) -> list[bytes]:
    words = [f"{word} " for word in text.split(" ")]
    words[-1] = words[-1][:-1]
    if request.wire == "openai":
        return [event(_chunk({"role": "assistant", "content": word})) for word in words]
    message = {**_whole("anthropic", "", length=False), "content": [], "stop_reason": None}
    return [
        event({"type": "message_start", "message": message}),
        event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        event({"type": "ping"}),
        *(
            event(
                {
                    "type": "content_block_delta",
                    "index": 0,
                    "delta": {"type": "text_delta", "text": word},
                }
            )
            for word in words
        ),
        event({"type": "content_block_stop", "index": 0}),
    ]


def ended(request: Request, *, length: bool = False) -> list[bytes]:
    if request.wire == "openai":
        usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
        counted = "stream_options" in request.body
        return [
            event(_chunk({}, "length" if length else "stop")),
            *([event({**_chunk({}), "choices": [], "usage": usage})] if counted else []),
            b"data: [DONE]\n\n",
        ]
    delta = {"stop_reason": "max_tokens" if length else "end_turn", "stop_sequence": None}
    return [
        event({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}}),
        event({"type": "message_stop"}),
    ]


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    return {
        "id": "answer-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "model-on-the-wire",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    }


def _whole(wire: str, text: str, *, length: bool) -> dict[str, Any]:
    if wire == "openai":
        message = {"role": "assistant", "content": text}
        return {
            "id": "answer-1",
            "object": "chat.completion",
            "created": 1,
            "model": "model-on-the-wire",
            "choices": [{"index": 0, "message": message, "finish_reason": "length" if length else "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
        }
    return {
        "id": "answer-1",
        "type": "message",
        "role": "assistant",
        "model": "model-on-the-wire",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "max_tokens" if length else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 3},
    }


class ModelServer:
    """Use as an async context manager; ``url`` is its address."""

    def __init__(self, *script: Answer) -> None:
        self.script = list(script) or [say()]
        self.requests: list[Request] = []
        self.asked = asyncio.Event()
        self.client_left = asyncio.Event()
        self.connections: set[asyncio.Task[None]] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self.connections:
            connection.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                self.asked.set()
                answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                if not await self._reply(answer(request), reader, writer):
                    break
        except ConnectionError:
            self.client_left.set()
        except asyncio.CancelledError:  # the test is over
            pass
        finally:
            self.connections.discard(task)
            writer.transport.abort()

    async def _reply(self, reply: Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Send a reply; return whether the connection stays."""
        head = {"content-type": reply.content_type, "transfer-encoding": "chunked", **reply.headers}
        if reply.pieces or reply.ending is Ending.COMPLETE:
            lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
            writer.write(f"HTTP/1.1 {reply.status} Scripted\r\n{lines}\r\n".encode())
        for piece in reply.pieces:
            writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            await writer.drain()
        if reply.ending is Ending.HANG:
            await reader.read()
            self.client_left.set()
        if reply.ending is Ending.CUT:
            writer.close()
            await writer.wait_closed()
        if reply.ending is not Ending.COMPLETE:
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _read(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.split("\r\n")
    pairs: Iterable[tuple[str, str, str]] = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(path=first.split(" ")[1], headers=headers, body=json.loads(body or b"{}"))


def configured(wire: str, url: str, *, api_key: str | None = KEY, **extra: Any) -> ProviderConfig:
    base_url = f"{url}/v1" if wire == "openai" else url
    return ProviderConfig(name=wire, api_key=api_key, model="model-x", base_url=base_url, extra=extra)


@asynccontextmanager
async def provider_on(
    server: ModelServer, wire: str, **extra: Any
) -> AsyncIterator[OpenAIProvider | AnthropicProvider]:
    """Yield a provider for the server, without retries and with short timeouts by default."""
    quick: dict[str, Any] = {"timeout": 5, "max_retries": 0}
    config = configured(wire, server.url, **quick | extra)
    provider = OpenAIProvider(config) if wire == "openai" else AnthropicProvider(config)
    try:
        yield provider
    finally:
        await provider.close()
