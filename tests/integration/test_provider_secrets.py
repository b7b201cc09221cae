"""The API key appears in no error, traceback, log or representation."""

import json
import logging
import traceback
from typing import Any

import pytest

from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.providers import BaseProvider, ProviderFactory
from luminoracore_sdk.types.provider import ChatMessage, ProviderConfig
from tests.support.model_server import (
    KEY,
    WIRES,
    Answer,
    ModelServer,
    Reply,
    begin,
    configured,
    event,
    fail,
    provider_on,
    raw,
    say,
    stream,
)

pytestmark = pytest.mark.parametrize("wire", WIRES)

PROMPT = [ChatMessage("user", "Hello")]
TOKEN = "tk-in-a-header-77aa31"
ECHO = f"key {KEY} and Bearer {TOKEN} are wrong"
ECHOED = {"error": {"message": ECHO, "type": KEY, "code": KEY, "details": {"error_code": ECHO, KEY: [ECHO]}}}
EVENT = event({"type": "error", "error": {"message": ECHO, "code": KEY, "type": KEY}})

HOSTILE = {
    "401": fail(401, ECHOED, x_echo=ECHO),
    "400": fail(400, ECHOED, x_echo=ECHO),
    "429": fail(429, ECHOED, retry_after_ms="1", x_echo=ECHO),
    "500": fail(500, ECHOED, retry_after_ms="1", x_echo=ECHO),
    "prose": lambda _: Reply(status=403, pieces=[ECHO.encode()], headers={"x-echo": ECHO}),
    "half JSON": raw(f'{{"a": "{ECHO}'.encode()),
    "not UTF-8": raw(ECHO.encode() + b"\xff"),
    "web page": raw(f"<p>{ECHO}</p>".encode(), "text/html"),
    "NaN under a key": raw(
        json.dumps({"choices": [{"message": {}}], "content": [], "usage": {KEY: [float("nan")]}}).encode()
    ),
    "key as type": raw(json.dumps({"choices": KEY, "content": KEY}).encode()),
}
HOSTILE_STREAMS = {
    "error event": begin("Hi", EVENT),
    "bad event": begin("Hi", f"event: x\ndata: {{{ECHO}\n\n".encode()),
    "event not UTF-8": stream(f"event: x\ndata: {ECHO}".encode() + b"\xff\n\n"),
}


def objects_of(error: BaseException) -> list[Any]:
    """Return the error, its causes, and their requests, responses and bodies as a string."""
    links: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        link = waiting.pop()
        if link is not None and link not in links:
            links.append(link)
            waiting += [link.__cause__, link.__context__]
    carried = [value for link in links for value in vars(link).values()]
    messages = [value for value in carried if hasattr(value, "headers")]
    messages += [value.request for value in messages if hasattr(value, "request")]
    bodies = [vars(value).get(name) for value in messages for name in ("_content", "_text")]
    headers = [str(list(value.headers.raw)) for value in messages]
    decoded = [link.object for link in links if isinstance(link, UnicodeDecodeError)]
    return [*links, *[link.args for link in links], *decoded, *carried, *bodies, *headers]


def shown(error: BaseException) -> str:
    texts = [text for item in objects_of(error) for text in (str(item), repr(item))]
    return "\n".join([*traceback.format_exception(error), *texts])


async def failure(provider: BaseProvider, *, streaming: bool) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await (streamed(provider) if streaming else provider.chat(PROMPT))
    return caught.value


async def streamed(provider: BaseProvider) -> list[str]:
    return [delta.content async for delta in provider.stream_chat(PROMPT)]


@pytest.mark.parametrize(
    ("answer", "streaming"),
    [
        *(pytest.param(answer, False, id=name) for name, answer in HOSTILE.items()),
        *(pytest.param(HOSTILE[name], True, id=f"{name} to a stream") for name in ("401", "500", "web page")),
        *(pytest.param(answer, True, id=name) for name, answer in HOSTILE_STREAMS.items()),
    ],
)
async def test_an_echoed_api_key_reaches_no_error_and_no_log(
    wire: str, answer: Answer, streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    extra = {"max_retries": 1, "headers": {"X-Auth-Token": f"Bearer {TOKEN}"}}
    async with ModelServer(answer) as server, provider_on(server, wire, **extra) as provider:
        error = await failure(provider, streaming=streaming)
    assert server.requests[0].headers["x-auth-token"] == f"Bearer {TOKEN}"
    for secret in (KEY, TOKEN):
        assert secret not in shown(error)
        assert secret not in caplog.text
    assert any(record.name.startswith(("httpcore", wire)) for record in caplog.records)


async def test_the_servers_words_stay_in_the_cause_redacted(wire: str) -> None:
    async with ModelServer(HOSTILE["400"]) as server, provider_on(server, wire) as provider:
        error = await failure(provider, streaming=False)
    assert "key [redacted] and" in str(error.__cause__)
    assert str(error) == f"{wire} answered 400 ([redacted])"


async def test_an_api_key_in_a_response_header_is_not_logged(wire: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def answer(request: Any) -> Reply:
        whole = say()(request)
        return Reply(pieces=whole.pieces, headers={"x-echo": KEY})

    async with ModelServer(answer) as server, provider_on(server, wire) as provider:
        assert (await provider.chat(PROMPT)).finish_reason == "stop"
    assert "[redacted]" in caplog.text
    assert KEY not in caplog.text


async def test_a_failed_connection_shows_no_key(wire: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with ModelServer() as server:
        pass
    async with provider_on(server, wire) as provider:
        error = await failure(provider, streaming=False)
    assert KEY not in shown(error) + caplog.text


async def test_representations_show_no_key(wire: str) -> None:
    provider = ProviderFactory.create_provider(configured(wire, "http://127.0.0.1:9"))
    assert KEY not in repr(provider) + str(provider) + repr(vars(provider).get("_secrets"))
    assert repr(provider).endswith(f"(name={wire!r}, model='model-x')")


@pytest.mark.parametrize("key", [f"{KEY}\n", f" {KEY}", f"{KEY}\u00e9", f"{KEY}\x00", f"{KEY} b"])
async def test_an_invalid_api_key_is_refused_and_not_shown(wire: str, key: str) -> None:
    config = ProviderConfig(name=wire, api_key=key)
    with pytest.raises(ProviderError, match="contains characters that no key has") as caught:
        ProviderFactory.create_provider(config)
    assert KEY not in shown(caught.value)
