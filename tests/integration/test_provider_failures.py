"""Failures of a model server: which are retried, and which error is raised."""

import asyncio
import re
import time
from contextlib import aclosing

import pytest

from luminoracore_sdk.domain.errors import (
    ProviderAuthenticationError,
    ProviderConnectionError,
    ProviderError,
    ProviderRateLimitError,
    ProviderResponseError,
    ProviderStreamError,
    ProviderTimeoutError,
)
from luminoracore_sdk.providers import BaseProvider
from luminoracore_sdk.types.provider import ChatMessage
from tests.support.model_server import (
    TEXT,
    WIRES,
    Answer,
    Ending,
    ModelServer,
    begin,
    event,
    fail,
    hang,
    provider_on,
    raw,
    say,
    stream,
)

pytestmark = pytest.mark.parametrize("wire", WIRES)

PROMPT = [ChatMessage("user", "Hello")]
ERROR_EVENTS = {
    "openai": event({"error": {"message": "broken", "code": "server_error"}}),
    "anthropic": event({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}),
}
HTML = b"<html><body>Sign in to the Wi-Fi</body></html>"


async def streamed(provider: BaseProvider) -> str:
    return "".join([delta.content async for delta in provider.stream_chat(PROMPT)])


async def collect(provider: BaseProvider, into: list[str]) -> None:
    async for delta in provider.stream_chat(PROMPT):
        into.append(delta.content)  # noqa: PERF401 (what came before an error counts)


async def failure(provider: BaseProvider, *, streaming: bool) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await (streamed(provider) if streaming else provider.chat(PROMPT))
    return caught.value


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_transient_errors_are_retried(wire: str, status: int) -> None:
    script = [fail(status, retry_after_ms="1"), fail(status, retry_after_ms="1"), say()]
    async with ModelServer(*script, *script) as server, provider_on(server, wire, max_retries=2) as provider:
        assert (await provider.chat(PROMPT)).content == TEXT
        assert await streamed(provider) == TEXT
    assert len(server.requests) == 6


async def test_the_requested_wait_is_kept(wire: str) -> None:
    script = [fail(429, retry_after="0.2"), say()]
    async with ModelServer(*script) as server, provider_on(server, wire, max_retries=1) as provider:
        begun = time.monotonic()
        await provider.chat(PROMPT)
        waited = time.monotonic() - begun
    assert 0.2 <= waited < 2
    assert len(server.requests) == 2


async def test_a_failed_connection_is_retried(wire: str) -> None:
    async with (
        ModelServer(stream(ending=Ending.CUT), say()) as server,
        provider_on(server, wire, max_retries=1) as provider,
    ):
        assert (await provider.chat(PROMPT)).content == TEXT
    assert len(server.requests) == 2


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_api_key_is_not_retried(wire: str, status: int, streaming: bool) -> None:
    async with ModelServer(fail(status)) as server, provider_on(server, wire, max_retries=3) as provider:
        error = await failure(provider, streaming=streaming)
    assert type(error) is ProviderAuthenticationError
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_a_refused_request_is_not_retried(wire: str, status: int) -> None:
    body = {"error": {"type": "not_this_way", "message": "Your prompt 'Hello' is wrong"}}
    async with (
        ModelServer(fail(status, body)) as server,
        provider_on(server, wire, max_retries=3) as provider,
    ):
        error = await failure(provider, streaming=False)
    assert type(error) is ProviderError
    assert str(error) == f"{wire} answered {status} (not_this_way)"
    assert error.details == {"status": status}
    assert len(server.requests) == 1


async def test_a_rate_limit_error_has_the_wait(wire: str) -> None:
    server_says = fail(429, retry_after_ms="20")
    async with ModelServer(server_says) as server, provider_on(server, wire, max_retries=1) as provider:
        error = await failure(provider, streaming=False)
    assert isinstance(error, ProviderRateLimitError)
    assert error.retry_after == 0.02
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("-1", None), ("inf", None)],
)
async def test_the_wait_of_a_rate_limit_is_read_in_seconds(wire: str, said: str, seconds: float | None) -> None:
    async with ModelServer(fail(429, retry_after=said)) as server, provider_on(server, wire) as provider:
        error = await failure(provider, streaming=False)
    assert isinstance(error, ProviderRateLimitError)
    assert error.retry_after == seconds


async def test_a_broken_server_is_a_connection_error(wire: str) -> None:
    async with (
        ModelServer(fail(502, retry_after_ms="1")) as server,
        provider_on(server, wire, max_retries=2) as provider,
    ):
        error = await failure(provider, streaming=True)
    assert type(error) is ProviderConnectionError
    assert len(server.requests) == 3


async def test_a_missing_server_is_a_connection_error(wire: str) -> None:
    async with ModelServer() as server:
        pass
    async with provider_on(server, wire) as provider:
        for streaming in (False, True):
            error = await failure(provider, streaming=streaming)
            assert type(error) is ProviderConnectionError
            reached = f"{wire} could not be reached at {server.url}"
            assert str(error).startswith(reached)
            assert str(error).endswith(" (connection refused); is it running?")


@pytest.mark.parametrize("streaming", [False, True])
async def test_silence_past_the_timeout_is_a_timeout_error(wire: str, streaming: bool) -> None:
    async with ModelServer(hang()) as server, provider_on(server, wire, timeout=0.1) as provider:
        error = await failure(provider, streaming=streaming)
        await asyncio.wait_for(server.client_left.wait(), 5)
    assert type(error) is ProviderTimeoutError
    assert re.fullmatch(rf"{wire} at {server.url}\S* did not answer within 0\.1 seconds", str(error))


async def test_a_call_can_set_its_own_timeout(wire: str) -> None:
    async with ModelServer(hang()) as server, provider_on(server, wire, timeout=60) as provider:
        with pytest.raises(ProviderTimeoutError, match=r"within 0\.05 seconds$"):
            await provider.chat(PROMPT, timeout=0.05)


async def test_silence_during_an_answer_is_a_timeout_error(wire: str) -> None:
    async with (
        ModelServer(begin(ending=Ending.HANG)) as server,
        provider_on(server, wire, timeout=0.1) as provider,
    ):
        error = await failure(provider, streaming=True)
    assert type(error) is ProviderTimeoutError
    assert str(error) == f"{wire} stopped sending during the answer: no more data within 0.1 seconds"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(begin(), ProviderStreamError, id="no finish reason"),
        pytest.param(begin("Hi", b'data: {"choices": [{"del', ending=Ending.CUT), ProviderStreamError, id="cut"),
        pytest.param(begin("Hi", b'data: {"choices": [{"del'), ProviderStreamError, id="ends in mid-event"),
        pytest.param(stream(), ProviderStreamError, id="no event at all"),
        pytest.param(begin("Hi", b"event: message_delta\ndata: {no\n\n"), ProviderResponseError, id="bad event"),
        pytest.param(begin("Hi", b"event: x\ndata: \xff\xfe\n\n"), ProviderResponseError, id="not UTF-8"),
        pytest.param(raw(HTML, "text/html"), ProviderResponseError, id="a web page"),
        pytest.param(raw(b'{"object": "list"}'), ProviderResponseError, id="a body instead of events"),
    ],
)
async def test_a_broken_stream_raises(wire: str, answer: Answer, expected: type[ProviderError]) -> None:
    async with ModelServer(answer, say()) as server, provider_on(server, wire) as provider:
        assert type(await failure(provider, streaming=True)) is expected
        assert await streamed(provider) == TEXT  # the provider still works


async def test_text_before_a_cut_is_yielded(wire: str) -> None:
    got: list[str] = []
    answer = begin("Hello there", ending=Ending.CUT)
    async with ModelServer(answer) as server, provider_on(server, wire) as provider:
        with pytest.raises(ProviderStreamError) as caught:
            await collect(provider, got)
    assert got == ["Hello ", "there"]
    assert caught.value.__cause__ is not None


async def test_an_error_event_shows_only_its_code(wire: str) -> None:
    async with (
        ModelServer(begin("Hi", ERROR_EVENTS[wire])) as server,
        provider_on(server, wire) as provider,
    ):
        error = await failure(provider, streaming=True)
    assert type(error) is ProviderConnectionError
    code = {"openai": "server_error", "anthropic": "overloaded_error"}[wire]
    assert str(error) == f"{wire} reported an error in its answer ({code})"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"id": "a", "cho', id="half a body"),
        pytest.param(HTML, id="a web page called JSON"),
        pytest.param(b"[1, 2]", id="a list"),
        pytest.param(b'"text"', id="a text"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b'{"choices": [], "content": null}', id="no choices"),
        pytest.param(b'{"choices": "none", "content": "none"}', id="choices of the wrong type"),
        pytest.param(b'{"choices": [7], "content": [7]}', id="numbers for choices"),
        pytest.param(b'{"choices": [{"message": null}], "content": 7}', id="no message"),
        pytest.param(b'{"choices": [{"message": {"content": "x"}}], "content": [], "usage": {"a": NaN}}', id="NaN"),
    ],
)
async def test_a_malformed_body_is_a_response_error(wire: str, body: bytes) -> None:
    async with ModelServer(raw(body), say()) as server, provider_on(server, wire) as provider:
        assert type(await failure(provider, streaming=False)) is ProviderResponseError
        assert (await provider.chat(PROMPT)).content == TEXT


async def test_a_web_page_with_status_200_is_a_response_error(wire: str) -> None:
    async with ModelServer(raw(HTML, "text/html")) as server, provider_on(server, wire) as provider:
        assert type(await failure(provider, streaming=False)) is ProviderResponseError


async def test_a_redirect_is_not_followed(wire: str) -> None:
    async with (
        ModelServer() as other,
        ModelServer(fail(307, location=f"{other.url}/v1/messages")) as server,
        provider_on(server, wire) as provider,
    ):
        await failure(provider, streaming=False)
    assert other.requests == []


async def test_an_unknown_argument_is_a_provider_error(wire: str) -> None:
    async with ModelServer() as server, provider_on(server, wire) as provider:
        with pytest.raises(ProviderError, match="the client package failed with TypeError"):
            await provider.chat(PROMPT, no_such_argument=1)
    assert server.requests == []


async def test_an_abandoned_stream_closes_its_connection(wire: str) -> None:
    async with ModelServer(begin(ending=Ending.HANG)) as server, provider_on(server, wire) as provider:
        async with aclosing(provider.stream_chat(PROMPT)) as deltas:  # type: ignore[type-var]
            assert (await anext(deltas)).content == "Hello "
        await asyncio.wait_for(server.client_left.wait(), 5)


@pytest.mark.parametrize("streaming", [False, True])
async def test_cancellation_closes_the_connection(wire: str, streaming: bool) -> None:
    answer = begin(ending=Ending.HANG) if streaming else hang()
    async with ModelServer(answer) as server, provider_on(server, wire) as provider:
        turn = asyncio.ensure_future(streamed(provider) if streaming else provider.chat(PROMPT))
        await server.asked.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        await asyncio.wait_for(server.client_left.wait(), 5)
