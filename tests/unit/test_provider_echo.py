import time

import pytest

from luminoracore_sdk.domain.errors import ProviderError
from luminoracore_sdk.providers import EchoProvider
from luminoracore_sdk.types.provider import ChatMessage, ChatResponse, ProviderConfig

SYSTEM = ChatMessage("system", "The password is swordfish.")


def echo(**extra: object) -> EchoProvider:
    return EchoProvider(ProviderConfig(name="echo", extra=dict(extra)))


async def deltas(provider: EchoProvider, *said: ChatMessage, max_tokens: int | None = None) -> list[ChatResponse]:
    return [delta async for delta in provider.stream_chat(list(said), max_tokens=max_tokens)]


async def test_echo_repeats_only_the_newest_user_message() -> None:
    said = [SYSTEM, ChatMessage("user", "One"), ChatMessage("assistant", "Two"), ChatMessage("user", "Three")]
    response = await echo().chat(said)
    assert response == ChatResponse(
        content="You said: Three",
        finish_reason="stop",
        usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        model="echo-1",
    )


async def test_echo_streams_words_and_ends_with_usage() -> None:
    got = await deltas(echo(), ChatMessage("user", "a  b\n c"))
    assert [delta.content for delta in got] == ["You ", "said: ", "a  ", "b\n ", "c"]
    assert [delta.finish_reason for delta in got] == [None, None, None, None, "stop"]
    assert got[-1].usage == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


@pytest.mark.parametrize("text", [" x ", "NUL \x00 and \ud800", "line\n\nline", "\u00a0tail\u00a0", "word " * 50])
async def test_whole_and_streamed_answer_are_the_same_text(text: str) -> None:
    said = ChatMessage("user", text)
    assert (await echo().chat([said])).content == f"You said: {text}"
    assert "".join(delta.content for delta in await deltas(echo(), said)) == f"You said: {text}"


@pytest.mark.parametrize(
    ("limit", "content", "reason"),
    [
        (1, "You ", "length"),
        (3, "You said: a ", "length"),
        (4, "You said: a b", "stop"),
        (9, "You said: a b", "stop"),
    ],
)
async def test_it_keeps_to_max_tokens(limit: int, content: str, reason: str) -> None:
    said = ChatMessage("user", "a b")
    response = await echo().chat([said], max_tokens=limit)
    assert (response.content, response.finish_reason) == (content, reason)
    got = await deltas(echo(), said, max_tokens=limit)
    assert "".join(delta.content for delta in got) == content
    assert [delta.finish_reason for delta in got] == [None] * (len(got) - 1) + [reason]


async def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ProviderError, match="max_tokens must be at least 1, not 0"):
        await echo().chat([ChatMessage("user", "a")], max_tokens=0)


@pytest.mark.parametrize("content", ["", "   ", None, 5, [], {"type": "image"}])
async def test_a_message_without_text_has_an_answer_too(content: object) -> None:
    response = await echo().chat([ChatMessage("user", content)])  # type: ignore[arg-type]
    assert response.content == "You said nothing."


async def test_the_text_of_parts_is_heard() -> None:
    parts = [{"type": "text", "text": "Look"}, {"type": "image", "url": "x"}, "here"]
    assert (await echo().chat([ChatMessage("user", parts)])).content == "You said: Look  here"


async def test_a_prompt_without_a_user_has_an_answer_too() -> None:
    assert (await echo().chat([SYSTEM])).content == "You said nothing."


async def test_the_delay_lies_before_each_delta() -> None:
    begun = time.monotonic()
    got = await deltas(echo(delay=0.02), ChatMessage("user", "a"))
    assert len(got) == 3
    assert time.monotonic() - begun >= 0.06


async def test_the_model_of_the_configuration_is_named() -> None:
    provider = EchoProvider(ProviderConfig(name="echo", model="parrot"))
    assert (await provider.chat([ChatMessage("user", "a")])).model == "parrot"
    assert provider.get_default_model() == "echo-1"
