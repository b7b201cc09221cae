"""The outgoing copy: parts, calls and reasoning in the form of each vendor."""

from typing import Any

import pytest

from luminoracore_sdk.domain.chat import ChatMessage
from luminoracore_sdk.domain.errors import UnsupportedContentError
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.outgoing import CUT_OFF, MISSING_RESULT, build_outgoing, shortened
from luminoracore_sdk.domain.vendors import SKIP_SIGNATURE, rules_of

PDF = "data:application/pdf;base64,JVBERg=="


def outgoing(messages: list[Message], vendor: str) -> list[ChatMessage]:
    return build_outgoing(messages, rules_of(vendor), provider=vendor)


def content(part: Any, vendor: str, role: str = "user") -> Any:
    if role == "user":
        return outgoing([Message("user", [part])], vendor)[0].content
    answer = Message("assistant", "", metadata={"tool_calls": [call("t1")]})
    result = Message("tool", [part], metadata={"tool_call_id": "t1"})
    return outgoing([Message("user", "?"), answer, result], vendor)[2].content


def call(call_id: str, arguments: Any = "{}", **more: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "look", "arguments": arguments}, **more}


PARTS = [
    (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ),
    (
        {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}},
        {"type": "image_url", "image_url": {"url": "https://host/a.png"}},
    ),
    (
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
            "title": "a.pdf",
        },
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
    ),
]


@pytest.mark.parametrize(("anthropic", "openai"), PARTS)
def test_parts_are_converted_both_ways(anthropic: dict[str, Any], openai: dict[str, Any]) -> None:
    assert content(anthropic, "openai") == [openai]
    assert content(openai, "anthropic") == [anthropic]
    assert content(openai, "openai") == [openai]
    assert content(anthropic, "anthropic") == [anthropic]


def test_parts_without_a_twin_are_converted_as_far_as_they_go() -> None:
    document = {"type": "document", "source": {"type": "text", "data": "Words."}}
    assert content(document, "openai") == [{"type": "text", "text": "Words."}]
    linked = {"type": "document", "source": {"type": "url", "url": "https://host/a.pdf"}}
    assert content(linked, "mistral") == [{"type": "document_url", "document_url": "https://host/a.pdf"}]
    assert content({"type": "document_url", "document_url": "https://host/a.pdf"}, "anthropic") == [linked]
    untitled = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}}
    assert content(untitled, "openai") == [{"type": "file", "file": {"file_data": PDF}}]
    assert content({"type": "file", "file": {"file_data": PDF}}, "anthropic") == [untitled]
    plain = {"type": "image_url", "image_url": "https://host/a.png"}
    assert content(plain, "anthropic") == [{"type": "image", "source": {"type": "url", "url": "https://host/a.png"}}]


@pytest.mark.parametrize(
    ("vendor", "part", "role"),
    [
        ("anthropic", {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}, "user"),
        ("anthropic", {"type": "file", "file": {"file_id": "file-1"}}, "user"),
        ("anthropic", {"type": "file", "file": "file-1"}, "user"),
        ("openai", {"type": "image_url", "image_url": {"url": "https://host/a.png"}}, "tool"),
        ("deepseek", {"type": "image_url", "image_url": {"url": "https://host/a.png"}}, "user"),
    ],
)
def test_a_part_the_vendor_does_not_take_is_named(vendor: str, part: dict[str, Any], role: str) -> None:
    with pytest.raises(UnsupportedContentError) as caught:
        content(part, vendor, role)
    error = caught.value
    assert (error.provider, error.part, error.role) == (vendor, part["type"], role)


def test_a_provider_of_ones_own_gets_parts_as_they_are() -> None:
    assert content({"type": "hologram", "data": 1}, "mine") == [{"type": "hologram", "data": 1}]


def test_a_result_of_parts_is_text_where_the_vendor_wants_text() -> None:
    assert content({"type": "text", "text": "sun"}, "vllm", "tool") == "sun"
    assert content({"type": "text", "text": "sun"}, "openai", "tool") == [{"type": "text", "text": "sun"}]
    assert content({"type": "text", "text": " "}, "openai", "tool") == "(empty result)"
    picture = {"type": "image_url", "image_url": {"url": "https://host/a.png"}}
    assert "https://host/a.png" in content(picture, "vllm", "tool")


@pytest.mark.parametrize(
    ("vendor", "reasoning"),
    [
        ("deepseek", {"reasoning_content": "Because."}),
        ("vllm", {"reasoning_content": "Because."}),
        ("openrouter", {"reasoning_details": [{"type": "reasoning.text", "text": "Because."}]}),
        ("gemini", {"extra_content": {"google": {"thought_signature": "sig"}}}),
        ("anthropic", {"thinking_blocks": [{"type": "thinking", "thinking": "Because.", "signature": "sig"}]}),
    ],
)
def test_reasoning_goes_to_its_own_provider_alone(vendor: str, reasoning: dict[str, Any]) -> None:
    answer = Message("assistant", "Yes.", metadata={"provider": vendor, "reasoning": reasoning})
    history = [Message("user", "?"), answer, Message("user", "Sure?")]
    sent = outgoing(history, vendor)
    assert sent[1].metadata == reasoning
    for other in {"openai", "deepseek", "vllm", "openrouter", "gemini", "anthropic"} - {vendor}:
        assert outgoing(history, other)[1].metadata == {}


def test_a_kept_message_goes_to_its_own_vendor_alone() -> None:
    reasoning = {"vendor": "pydantic-ai:google", "message": {"kind": "response"}}
    answer = Message("assistant", "Yes.", metadata={"provider": "pydantic-ai", "reasoning": reasoning})
    history = [Message("user", "?"), answer, Message("assistant", "Really."), Message("user", "Sure?")]

    def sent(vendor: str, provider: str = "pydantic-ai") -> list[ChatMessage]:
        return build_outgoing(history, rules_of(vendor), provider=provider)

    own = sent("pydantic-ai:google")
    assert [message.metadata for message in own] == [{}, {"vendor_message": {"kind": "response"}}, {}, {}]
    for vendor, provider in (("pydantic-ai:mistral", "pydantic-ai"), ("pydantic-ai:google", "other")):
        assert [message.content for message in sent(vendor, provider)] == ["?", "Yes.\n\nReally.", "Sure?"]
        assert [message.metadata for message in sent(vendor, provider)] == [{}, {}, {}]


def test_a_result_that_is_an_error_says_so() -> None:
    answer = Message("assistant", "", metadata={"tool_calls": [call("t1")]})
    result = Message("tool", "no such city", metadata={"tool_call_id": "t1", "is_error": True})
    sent = outgoing([Message("user", "?"), answer, result], "openai")
    assert sent[2].metadata == {"tool_call_id": "t1", "name": "look", "is_error": True}


@pytest.mark.parametrize(
    ("vendor", "call_id", "audio"),
    [("google", "call-1", True), ("mistral", None, False), ("bedrock", "call-1", False), ("unknown", "call-1", True)],
)
def test_rules_of_pydantic_ai_depend_on_its_vendor(vendor: str, call_id: str | None, *, audio: bool) -> None:
    rules = rules_of(f"pydantic-ai:{vendor}")
    assert (rules.name, bool(rules.call_id.fullmatch("call-1"))) == (f"pydantic-ai:{vendor}", call_id is not None)
    assert ("input_audio" in (rules.parts or ())) is audio


def test_signatures_of_calls_go_back_or_are_stood_in_for() -> None:
    signed = call("t1", extra_content={"google": {"thought_signature": "sig"}})
    result = Message("tool", "sun", metadata={"tool_call_id": "t1"})

    def sent(provider: str, vendor: str) -> Any:
        answer = Message("assistant", "", metadata={"provider": provider, "tool_calls": [signed]})
        return outgoing([Message("user", "?"), answer, result], vendor)[1].metadata["tool_calls"][0]

    assert sent("gemini", "gemini")["extra_content"] == {"google": {"thought_signature": "sig"}}
    assert sent("openai", "gemini")["extra_content"] == {"google": {"thought_signature": SKIP_SIGNATURE}}
    assert "extra_content" not in sent("gemini", "openai")


def test_only_the_first_of_parallel_calls_has_its_signature_stood_in_for() -> None:
    calls = [call("t1"), call("t2")]
    results = [Message("tool", "sun", metadata={"tool_call_id": one["id"]}) for one in calls]
    answer = Message("assistant", "", metadata={"provider": "openai", "tool_calls": calls})
    first, second = outgoing([Message("user", "?"), answer, *results], "gemini")[1].metadata["tool_calls"]
    assert first["extra_content"] == {"google": {"thought_signature": SKIP_SIGNATURE}}
    assert "extra_content" not in second


def test_merged_answers_keep_both_reasonings() -> None:
    answers = [
        Message("assistant", text, metadata={"provider": "vllm", "reasoning": {"reasoning_content": thought}})
        for text, thought in (("One.", "First."), ("Two.", "Second."))
    ]
    sent = outgoing([Message("user", "?"), *answers, Message("user", "Go on.")], "vllm")
    assert [(one.role, one.content) for one in sent] == [
        ("user", "?"),
        ("assistant", "One.\n\nTwo."),
        ("user", "Go on."),
    ]
    assert sent[1].metadata == {"reasoning_content": "First.\n\nSecond."}


def test_merged_questions_keep_their_parts() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://host/a.png"}}
    sent = outgoing([Message("user", [picture]), Message("user", "What is it?")], "mistral")
    assert sent == [ChatMessage("user", [picture, {"type": "text", "text": "What is it?"}])]


def test_cut_off_calls_and_missing_results_are_said() -> None:
    answer = Message("assistant", "", metadata={"tool_calls": [call("t1", '{"path": "a'), call("t2")]})
    late = Message("tool", [{"type": "text", "text": "error"}], metadata={"tool_call_id": "t1"})
    sent = outgoing([Message("user", "?"), answer, Message("user", "Never mind."), late], "openai")
    assert sent[1].metadata["tool_calls"][0]["function"]["arguments"] == "{}"
    assert [one.content for one in sent[2:]] == [
        [{"type": "text", "text": CUT_OFF}, {"type": "text", "text": "error"}],
        MISSING_RESULT,
        "Never mind.",
    ]


def test_arguments_that_are_an_object_go_out_as_text() -> None:
    answer = Message("assistant", "", metadata={"tool_calls": [call("t1", {"city": "Turin"}), "broken", {"id": 1}]})
    sent = outgoing([Message("user", "?"), answer, Message("user", "!")], "openai")
    (only,) = sent[1].metadata["tool_calls"]
    assert only["function"]["arguments"] == '{"city": "Turin"}'


def test_the_middle_of_a_long_text_is_left_out() -> None:
    assert shortened("short", 10) == "short"
    text = shortened("a" * 600 + "b" * 400, 300)
    assert text.startswith("a" * 200)
    assert text.endswith("b" * 100)
    assert "700 characters left out" in text


def test_the_older_form_of_calls_is_sent_as_todays() -> None:
    answer = Message("assistant", "", metadata={"function_call": {"name": "clock", "arguments": "{}"}}, id="m")
    result = Message("tool", "noon", metadata={"name": "clock"})
    sent = outgoing([Message("user", "?"), answer, result], "openai")
    (only,) = sent[1].metadata["tool_calls"]
    assert only["function"] == {"name": "clock", "arguments": "{}"}
    assert (sent[2].content, sent[2].metadata["tool_call_id"]) == ("noon", only["id"])
    assert [one.role for one in outgoing([Message("assistant", "", metadata={"function_call": 1})], "openai")] == []


@pytest.mark.parametrize("facts", [[{}, {}], [{"id": "m1"}, {"id": "m2"}], [{"position": 2}, {"position": 6}]])
@pytest.mark.parametrize("vendor", ["anthropic", "mistral", "openai"])
def test_an_id_of_an_earlier_answer_is_replaced_with_that_of_its_result(vendor: str, facts: list[Any]) -> None:
    history = [Message("user", "?")]
    for number, fact in enumerate(facts):
        calls = [call("call_0"), call("call_0"), call("call_1")]
        history.append(Message("assistant", "", metadata={"tool_calls": calls}, **fact))
        history += [Message("tool", f"{one} {number}", metadata={"tool_call_id": one}) for one in ("call_1", "call_0")]
    sent = outgoing([*history, Message("user", "Well?")], vendor)
    calls_sent = [one["id"] for message in sent for one in message.metadata.get("tool_calls", [])]
    results = {message.metadata["tool_call_id"]: message.content for message in sent if message.role == "tool"}
    assert list(results) == calls_sent
    assert list(results.values()) == ["call_0 0", "call_1 0", "call_0 1", "call_1 1"]
    assert vendor == "mistral" or calls_sent[:2] == ["call_0", "call_1"]


def test_a_replaced_id_stays_as_the_conversation_grows() -> None:
    answers = [Message("assistant", "", metadata={"tool_calls": [call("call_0")]}, id=f"m{n}") for n in range(3)]
    history = [one for answer in answers for one in (Message("user", "?"), answer)]

    def ids(messages: list[Message]) -> list[str]:
        return [one.metadata["tool_call_id"] for one in outgoing(messages, "openai") if one.role == "tool"]

    assert ids(history)[:2] == ids(history[:4])
    assert ids(history[2:])[1] == ids(history)[2]


def test_a_result_may_stand_before_its_call() -> None:
    answer = Message("assistant", "", metadata={"tool_calls": [call("t1")]})
    result = Message("tool", "sun", metadata={"tool_call_id": "t1"})
    sent = outgoing([Message("user", "?"), result, answer, Message("user", "Well?")], "openai")
    assert [(one.role, one.content) for one in sent[2:]] == [("tool", "sun"), ("user", "Well?")]


def test_a_late_result_does_not_end_the_prompt_with_an_answer() -> None:
    calls = Message("assistant", "", metadata={"tool_calls": [call("t1"), call("t2")]})
    results = [Message("tool", text, metadata={"tool_call_id": f"t{text}"}) for text in "12"]
    history = [Message("user", "?"), calls, results[0], Message("assistant", "The first says 1."), results[1]]
    sent = outgoing(history, "mistral")
    assert [(one.role, one.content) for one in sent[2:]] == [
        ("tool", "1"),
        ("tool", "2"),
        ("assistant", "The first says 1."),
        ("user", "(A tool result has arrived. Go on.)"),
    ]
    assert outgoing(history[:-1], "mistral")[-1].role == "assistant"  # an answer that is to be continued
    assert [one.role for one in outgoing([results[0]], "mistral")] == ["user"]
    assert outgoing([], "mistral") == []
