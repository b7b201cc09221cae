"""Messages, tools and answers in pydantic-ai's form."""

from typing import Any

import pytest

from luminoracore_sdk.domain.chat import ChatMessage
from luminoracore_sdk.domain.errors import ProviderError, ProviderResponseError, UnsupportedContentError

pytest.importorskip("pydantic_ai", reason="the extra pydantic-ai is not installed")

from pydantic_ai import messages as ai

from luminoracore_sdk.adapters.providers.vendor_messages import (
    history,
    request_parameters,
    whole_answer,
)

CALL = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
SIGNED = {
    "kind": "response",
    "parts": [
        {"part_kind": "thinking", "content": "Hm.", "signature": "c2ln", "provider_name": "google"},
        {"part_kind": "tool-call", "tool_name": "look", "args": {}, "tool_call_id": "old"},
    ],
    "provider_name": "google",
}


def parts(*messages: ChatMessage) -> list[list[tuple[str, Any]]]:
    return [
        [(part.part_kind, getattr(part, "content", getattr(part, "args", None))) for part in message.parts]
        for message in history(messages, "vendor")
    ]


def test_requests_and_responses_alternate() -> None:
    sent = parts(
        ChatMessage("system", "Be kind."),
        ChatMessage("user", "Look"),
        ChatMessage("assistant", "Yes."),
        ChatMessage("assistant", "", {"tool_calls": [CALL]}),
        ChatMessage("tool", "sun", {"tool_call_id": "t1", "name": "look"}),
        ChatMessage("user", [{"type": "text", "text": "half \ud800"}]),
    )
    assert sent == [
        [("system-prompt", "Be kind."), ("user-prompt", "Look")],
        [("text", "Yes."), ("tool-call", "{}")],
        [("tool-return", "sun"), ("user-prompt", ["half \ufffd"])],
    ]


def test_a_kept_answer_gets_the_ids_that_are_sent() -> None:
    plain = ChatMessage("assistant", "Before.")
    signed = ChatMessage("assistant", "", {"tool_calls": [CALL], "vendor_message": SIGNED})
    (sent,) = history([plain, signed], "vendor")
    assert isinstance(sent, ai.ModelResponse)
    text, thought, call = sent.parts
    assert (sent.provider_name, getattr(thought, "signature", None)) == ("google", "c2ln")
    assert isinstance(text, ai.TextPart)
    assert isinstance(call, ai.ToolCallPart)
    assert call.tool_call_id == "t1"


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param({"kind": "response", "parts": [{"part_kind": "of a later version"}]}, id="not readable"),
        pytest.param({"kind": "request", "parts": []}, id="no answer"),
        pytest.param({**SIGNED, "parts": SIGNED["parts"][:1]}, id="other calls"),
    ],
)
def test_a_kept_answer_that_does_not_fit_is_sent_as_it_reads(stored: dict[str, Any]) -> None:
    sent = parts(ChatMessage("assistant", "Yes.", {"tool_calls": [CALL], "vendor_message": stored}))
    assert sent == [[("text", "Yes."), ("tool-call", "{}")]]


@pytest.mark.parametrize(
    ("part", "kind", "media_type"),
    [
        ({"type": "image_url", "image_url": {"url": "https://host.test/a.png"}}, "image-url", "image/png"),
        ({"type": "image_url", "image_url": "data:image/gif;base64,AAAA"}, "binary", "image/gif"),
        ({"type": "document_url", "document_url": "https://host.test/a.pdf"}, "document-url", "application/pdf"),
        ({"type": "file", "file": {"file_data": "data:text/plain;base64,AAAA"}}, "binary", "text/plain"),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "binary", "audio/wav"),
    ],
)
def test_parts(part: dict[str, Any], kind: str, media_type: str) -> None:
    ((_, content),) = parts(ChatMessage("user", [part]))[0]
    assert (content[0].kind, content[0].media_type) == (kind, media_type)


@pytest.mark.parametrize("role", ["user", "assistant", "system"])
@pytest.mark.parametrize(
    "part",
    [
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "image_url", "image_url": {"url": "data:no commas"}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "aiff"}},
        {"type": "hologram"},
        {"type": "text", "text": None},
    ],
)
def test_a_part_without_a_form_is_named(part: dict[str, Any], role: str) -> None:
    with pytest.raises(UnsupportedContentError) as caught:
        history([ChatMessage(role, [part])], "vendor")
    assert (caught.value.provider, caught.value.part, caught.value.role) == ("vendor", part["type"], role)


def test_pictures_of_an_answer_are_files_of_it() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/gif;base64,AAAA"}}
    ((text, file),) = parts(ChatMessage("assistant", [{"type": "text", "text": "Here."}, picture]))
    assert (text, file[0], file[1].media_type) == (("text", "Here."), "file", "image/gif")
    elsewhere = {"type": "image_url", "image_url": {"url": "https://host.test/a.png"}}
    with pytest.raises(UnsupportedContentError):
        history([ChatMessage("assistant", [elsewhere])], "vendor")


SCHEMA = {"type": "json_schema", "json_schema": {"name": "Place", "schema": {"type": "object"}, "strict": True}}
TOOL = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("tools", "response_format", "native", "mode"),
    [
        (None, None, True, "text"),
        (None, {"type": "text"}, True, "text"),
        (None, SCHEMA, True, "native"),
        (None, SCHEMA, False, "prompted"),
        ([TOOL], SCHEMA, True, "prompted"),
        (None, {"type": "json_object"}, True, "prompted"),
    ],
)
def test_the_form_of_the_answer(tools: Any, response_format: Any, mode: str, *, native: bool) -> None:
    parameters, _ = request_parameters(tools, None, response_format, native=native)
    assert parameters.output_mode == mode
    assert [tool.name for tool in parameters.function_tools] == (["look"] if tools else [])


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, {}),
        ("required", {"tool_choice": "required"}),
        ({"type": "function", "function": {"name": "look"}}, {"tool_choice": ["look"]}),
    ],
)
def test_the_choice_of_a_tool(choice: Any, sent: dict[str, Any]) -> None:
    assert request_parameters([TOOL], choice, None, native=True)[1] == sent


@pytest.mark.parametrize(
    ("tools", "choice", "form", "word"),
    [
        ([{"type": "web_search"}], None, None, "tools"),
        (None, {"type": "allowed_tools"}, None, "tool_choice"),
        (None, None, {"type": "grammar"}, "response_format"),
    ],
)
def test_what_has_no_form_is_refused(tools: Any, choice: Any, form: Any, word: str) -> None:
    with pytest.raises(ProviderError, match=word):
        request_parameters(tools, choice, form, native=True)


def test_an_answer_keeps_what_has_no_name_here() -> None:
    search = ai.NativeToolCallPart("web_search", {"q": "sun"}, "s1", provider_name="google")
    answer = ai.ModelResponse([search, ai.TextPart("Sun.")], finish_reason="stop", provider_details={"refusal": "No."})
    response = whole_answer(answer, "mine", "pydantic-ai:google")
    assert (response.content, response.refusal, response.usage) == ("Sun.", "No.", None)
    assert [part["type"] for part in response.parts] == ["builtin-tool-call"]
    assert response.provider_metadata["reasoning"]["vendor"] == "pydantic-ai:google"


def test_an_answer_that_says_nothing_is_none() -> None:
    with pytest.raises(ProviderResponseError, match="without content"):
        whole_answer(ai.ModelResponse([]), "mine", "vendor")


def test_only_what_content_and_calls_do_not_say_is_kept() -> None:
    answer = ai.ModelResponse([ai.TextPart("Yes."), ai.ToolCallPart("look", {"at": "sun"}, "t1")])
    response = whole_answer(answer, "mine", "vendor")
    assert response.tool_calls[0]["function"] == {"name": "look", "arguments": '{"at": "sun"}'}
    assert "reasoning" not in response.provider_metadata
