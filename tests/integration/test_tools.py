"""Tools run while a model answers, every step is stored, and a run that was killed continues."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest

from luminoracore_sdk.domain.vendors import VendorRules, rules_of
from luminoracore_sdk.providers import AnthropicProvider, BaseProvider, OpenAIProvider, ProviderFactory
from luminoracore_sdk.session import SessionManager
from luminoracore_sdk.tools import Tool, run_tools, send_structured
from luminoracore_sdk.types.provider import ChatResponse
from luminoracore_sdk.types.session import Message
from luminoracore_sdk.utils.exceptions import (
    ProviderConnectionError,
    ProviderError,
    SessionNotFoundError,
    StructuredOutputError,
    ToolStepsError,
    TurnInterruptedError,
    ValidationError,
)
from tests.support.model_server import WIRES, ModelServer, configured, say
from tests.support.scripted_provider import Script
from tests.support.strict_vendors import refusals
from tests.support.tool_answers import call_on_wire, calling

ROOT = Path(__file__).parents[2]


async def begin(manager: SessionManager) -> str:
    return await manager.create_session({"name": "Ada"}, {"name": "scripted"}, {"session_id": "s"})


async def stored(manager: SessionManager) -> list[tuple[str, Any]]:
    messages = await manager.conversation_manager.get_messages("s", limit=1000)
    return [(message.role.value, message.content) for message in messages]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


async def test_tools_run_and_every_step_is_stored(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [
        calling(("c1", "add", {"a": 2, "b": 3}), text="Let me see."),
        calling(("c2", "add", {"a": 5, "b": 1})),
        "Six.",
    ]
    response = await run_tools(manager, session_id, "2 + 3 + 1?", [add], temperature=0.1, tool_choice="required")
    assert (response.content, response.position) == ("Six.", 6)
    assert await stored(manager) == [
        ("user", "2 + 3 + 1?"),
        ("assistant", "Let me see."),
        ("tool", "5"),
        ("assistant", ""),
        ("tool", "6"),
        ("assistant", "Six."),
    ]
    assert [call.parameters.get("tool_choice") for call in script.calls] == ["required", None, None]
    assert {call.parameters["temperature"] for call in script.calls} == {0.1}
    assert script.calls[2].parameters["tools"][0]["function"]["name"] == "add"
    results = await manager.conversation_manager.get_messages_by_role(session_id, "tool")
    assert [message.metadata["tool_call_id"] for message in results] == ["c1", "c2"]


async def test_parallel_calls_run_at_the_same_time(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    everyone = threading.Barrier(2, timeout=10)
    met = asyncio.Event()

    def threaded(side: str) -> str:
        everyone.wait()
        return side

    async def first() -> dict[str, bool]:
        await asyncio.wait_for(met.wait(), 10)
        return {"met": True}

    async def second() -> None:
        met.set()

    script.answers = [
        calling(
            ("a", "threaded", {"side": "l"}), ("b", "threaded", {"side": "r"}), ("c", "first", ""), ("d", "second", {})
        ),
        "Done.",
    ]
    await run_tools(manager, session_id, "Go", [threaded, first, second])
    assert (await stored(manager))[2:6] == [("tool", "l"), ("tool", "r"), ("tool", '{"met":true}'), ("tool", "null")]


async def test_failures_of_tools_are_results(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)

    def divide(a: int, b: int) -> float:
        return a / b

    def endless() -> int:
        return next(iter([]))

    script.answers = [
        calling(
            ("1", "divide", {"a": 1, "b": 0}),
            ("2", "missing", {}),
            ("3", "divide", '{"a": 1, "b"'),
            ("4", "divide", {"a": "one", "b": 2}),
            ("5", "endless", {}),
            ("6", "bad", {}),
            ("7", "bad", {"unexpected": 1}),
            ("8", "divide", {"a": 1, "b": 2}),
        ),
        "Done.",
    ]
    bad = Tool("bad", {"type": "object"}, lambda: {1, 2})
    assert (await run_tools(manager, session_id, "Go", [divide, endless, bad])).content == "Done."
    results = await manager.conversation_manager.get_messages_by_role(session_id, "tool")
    assert [message.content for message in results][:6] == [
        "ZeroDivisionError: division by zero",
        "ValidationError: no such tool; available: divide, endless, bad",
        "ValidationError: the arguments are not a JSON object",
        "ValidationError: a: Input should be a valid integer, unable to parse string as an integer",
        "RuntimeError: the tool raised StopIteration",
        "InvalidJSONError: the result of the tool bad is not JSON: type set is not a JSON type",
    ]
    assert str(results[6].content).startswith("TypeError: ")
    assert results[7].content == "0.5"
    assert [message.metadata.get("is_error", False) for message in results] == [True] * 7 + [False]


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
ANTHROPIC_PICTURE = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
}


async def screenshot(form: str) -> Any:
    """Return what the screen shows."""
    if form == "list":
        return [{"type": "bug", "title": "It fails."}]
    picture = PICTURE if form == "openai" else ANTHROPIC_PICTURE
    return [{"type": "text", "text": "The screen:"}, *([picture] if form != "text" else [])]


@pytest.mark.parametrize("form", ["openai", "anthropic"])
async def test_a_tool_may_return_a_picture(form: str) -> None:
    answers = call_on_wire("screenshot", {"form": form}), say("A cat.")
    async with ModelServer(*answers) as server, SessionManager() as manager:
        session_id = await manager.create_session({"name": "Ada"}, configured("anthropic", server.url))
        await run_tools(manager, session_id, "What is there?", [screenshot])
        stored_result = (await manager.conversation_manager.get_messages(session_id))[2]
    assert stored_result.content == await screenshot(form)
    body = server.requests[1].body
    assert refusals("anthropic", body) == []
    assert body["messages"][-1]["content"][0]["content"] == [
        {"type": "text", "text": "The screen:"},
        ANTHROPIC_PICTURE,
    ]


@pytest.mark.parametrize("vendor", ["openai", "vllm", "mistral", "deepseek"])
async def test_a_picture_is_an_error_where_results_are_text(vendor: str) -> None:
    answers = call_on_wire("screenshot", {"form": "openai"}), say("I cannot see it.")
    async with ModelServer(*answers) as server, SessionManager() as manager:
        config = attrs.evolve(configured("openai", server.url), name=vendor)
        session_id = await manager.create_session({"name": "Ada"}, config)
        assert (await run_tools(manager, session_id, "What is there?", [screenshot])).content == "I cannot see it."
        stored_result = (await manager.conversation_manager.get_messages(session_id))[2]
    assert stored_result.metadata["is_error"] is True
    assert stored_result.content == (
        f"UnsupportedContentError: {vendor} does not take a content part of type 'image_url' in a tool message; "
        "send it as text, or use a provider that does"
    )
    body = server.requests[1].body
    assert refusals(vendor, body) == []
    assert "iVBORw0KGgo=" not in str(body)


@pytest.mark.parametrize("vendor", ["openai", "vllm", "deepseek", "anthropic"])
@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("text", [{"type": "text", "text": "The screen:"}]),
        ("list", '[{"type":"bug","title":"It fails."}]'),
    ],
)
async def test_texts_and_other_lists_are_results_everywhere(vendor: str, form: str, content: Any) -> None:
    wire = "anthropic" if vendor == "anthropic" else "openai"
    answers = call_on_wire("screenshot", {"form": form}), say("Yes.")
    async with ModelServer(*answers) as server, SessionManager() as manager:
        config = attrs.evolve(configured(wire, server.url), name=vendor)
        session_id = await manager.create_session({"name": "Ada"}, config)
        assert (await run_tools(manager, session_id, "What is there?", [screenshot])).content == "Yes."
        stored_result = (await manager.conversation_manager.get_messages(session_id))[2]
    assert (stored_result.content, "is_error" in stored_result.metadata) == (content, False)
    assert refusals(vendor, server.requests[1].body) == []


async def test_deltas_of_a_run_are_awaited_and_may_stop_it(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    texts = []

    async def show(delta: ChatResponse) -> None:
        await asyncio.sleep(0)
        texts.append(delta.content)
        if delta.content == "it ":
            raise KeyError("the browser has left")

    call = attrs.evolve(calling(("c", "add", {"a": 1, "b": 1})), content="One moment")
    script.answers = [call, "Well, it is two."]
    question = Message("user", "1 + 1?", id="q")
    with pytest.raises(KeyError, match="browser"):
        await run_tools(manager, session_id, question, [add], on_delta=show, on_stop="keep_partial")
    assert texts == ["One ", "moment", "Well, ", "it "]
    assert (await stored(manager))[1:3] == [("assistant", "One moment"), ("tool", "2")]
    assert (await stored(manager))[3][1].startswith("Well, it ")
    with pytest.raises(ValidationError, match="on_delta must be callable, not str"):
        await run_tools(manager, session_id, question, [add], on_delta="show")  # type: ignore[arg-type]


async def test_a_stored_answer_of_a_run_is_one_delta(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [calling(("c", "add", {"a": 1, "b": 1})), "It is two."]
    question = Message("user", "1 + 1?", id="q")
    first = await run_tools(manager, session_id, question, [add])
    deltas: list[ChatResponse] = []
    again = await run_tools(manager, session_id, question, [add], on_delta=deltas.append)
    assert (again.id, again.content, len(script.calls)) == (first.id, "It is two.", 2)
    assert [delta.content for delta in deltas] == ["", "It is two."]


async def test_a_call_id_that_is_repeated_is_run_once(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [calling(("c", "add", {"a": 1, "b": 1}), ("c", "add", {"a": 2, "b": 2})), "Two."]
    await run_tools(manager, session_id, "Go", [add])
    assert [content for role, content in await stored(manager) if role == "tool"] == ["2"]


async def test_ids_of_calls_may_begin_anew_in_each_answer(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [*(calling(("call_0", "add", {"a": n, "b": 0})) for n in range(3)), "Done."]
    question = Message("user", "Go", id="q")
    for _ in range(2):
        assert (await run_tools(manager, session_id, question, [add])).content == "Done."
    assert [content for role, content in await stored(manager) if role == "tool"] == ["0", "1", "2"]


async def test_the_largest_number_of_steps_keeps_everything(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [*(calling((f"c{n}", "add", {"a": n, "b": 0})) for n in range(3)), "Done."]
    with pytest.raises(ToolStepsError, match="after 2 steps") as caught:
        await run_tools(manager, session_id, "Go", [add], max_steps=2)
    assert caught.value.response.tool_calls[0]["id"] == "c2"
    assert len(await stored(manager)) == 6
    assert (await run_tools(manager, session_id, None, [add])).content == "Done."
    assert len(script.calls) == 4
    assert len(await stored(manager)) == 8


async def test_a_provider_failure_keeps_the_results(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    ran = []

    def note(text: str) -> str:
        ran.append(text)
        return "noted"

    script.answers = [calling(("c", "note", {"text": "tea"})), ProviderConnectionError("gone"), "Done."]
    with pytest.raises(ProviderConnectionError):
        await run_tools(manager, session_id, "Go", [note])
    assert (await stored(manager))[-1] == ("tool", "noted")
    assert (await run_tools(manager, session_id, None, [note])).content == "Done."
    assert (await run_tools(manager, session_id, None, [note])).content == "Done."
    assert (ran, len(script.calls), len(await stored(manager))) == (["tea"], 3, 4)


async def test_a_repeated_run_asks_nothing_again(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [calling(("c", "add", {"a": 1, "b": 1})), "Two."]
    question = Message("user", "1 + 1?", id="q-1")
    first = await run_tools(manager, session_id, question, [add], max_steps=1)
    again = await run_tools(manager, session_id, question, [add])
    assert (again.id, again.content) == (first.id, "Two.")
    assert len(script.calls) == 2
    await manager.send_message(session_id, "Thanks")
    assert (await run_tools(manager, session_id, question, [add])).id == first.id
    assert len(script.calls) == 3


async def test_a_question_that_was_kept_is_asked_on_resume(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [ProviderConnectionError("gone"), calling(("c", "add", {"a": 1, "b": 1})), "Two."]
    with pytest.raises(ProviderError):
        await run_tools(manager, session_id, "1 + 1?", [add], on_failure="keep_question")
    assert (await run_tools(manager, session_id, None, [add])).content == "Two."
    assert [role for role, _ in await stored(manager)] == ["user", "assistant", "tool", "assistant"]


async def test_results_handed_in_by_hand_are_used(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [calling(("c1", "ask", {}), ("c2", "add", {"a": 1, "b": 1})), "Done."]
    with pytest.raises(ToolStepsError):
        await _stop_at_calls(manager, session_id)
    by_hand = Message("tool", "yes", metadata={"tool_call_id": "c1"})
    await manager.conversation_manager.add_message(session_id, by_hand)
    assert (await run_tools(manager, session_id, None, [add])).content == "Done."
    assert (await stored(manager))[2:] == [("tool", "yes"), ("tool", "2"), ("assistant", "Done.")]


async def _stop_at_calls(manager: SessionManager, session_id: str) -> None:
    response = await manager.send_message(session_id, "Go")
    raise ToolStepsError(session_id, max_steps=1, response=response)


@pytest.mark.parametrize("gone", ["clear_conversation", "delete_session"])
async def test_a_session_that_is_cleared_stops_the_run(manager: SessionManager, script: Script, gone: str) -> None:
    session_id = await begin(manager)

    async def clear() -> str:
        await getattr(manager, gone)(session_id)
        return "cleared"

    script.answers = [calling(("c", "clear", {})), "Never."]
    with pytest.raises(TurnInterruptedError):
        await run_tools(manager, session_id, "Go", [clear])
    assert (await stored(manager), len(script.calls)) == ([], 1)


async def test_a_tool_that_cancels_itself_has_a_result(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)

    async def give_up() -> None:
        raise asyncio.CancelledError

    script.answers = [calling(("c", "give_up", {})), "Done."]
    assert (await run_tools(manager, session_id, "Go", [give_up])).content == "Done."
    assert (await stored(manager))[2] == ("tool", "CancelledError: ")


async def test_the_same_run_at_the_same_time_asks_once(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = [calling(("c", "add", {"a": 1, "b": 1})), "Two."]
    question = Message("user", "1 + 1?", id="q-1")
    runs = [run_tools(manager, session_id, question, [add]) for _ in range(3)]
    assert [response.content for response in await asyncio.gather(*runs)] == ["Two."] * 3
    assert (len(script.calls), len(await stored(manager))) == (2, 4)


async def test_a_run_continues_behind_many_messages(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = ["First."]
    await manager.send_message(session_id, "Hello")
    notes = [Message("system", f"note {number}") for number in range(120)]
    await manager.conversation_manager.append(session_id, notes)
    assert (await run_tools(manager, session_id, None, [add])).content == "First."


async def test_results_without_an_answer_cannot_be_continued(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    orphan = Message("tool", "5", metadata={"tool_call_id": "c"})
    await manager.conversation_manager.add_message(session_id, orphan)
    with pytest.raises(ValidationError, match="no message to continue with"):
        await run_tools(manager, session_id, None, [add])


async def test_a_cancelled_run_cancels_its_tools(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    began, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    script.answers = [calling(("c", "wait", {})), "Never."]
    run = asyncio.create_task(run_tools(manager, session_id, "Go", [wait]))
    await began.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert ended.is_set()
    assert len(await stored(manager)) == 2


async def test_nothing_to_continue_with_is_an_error(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    with pytest.raises(ValidationError, match="no message to continue with"):
        await run_tools(manager, session_id, None, [add])
    with pytest.raises(SessionNotFoundError):
        await run_tools(manager, "nobody", None, [add])
    for tools, steps, reason in [
        ([add, add], 1, "two tools"),
        ([add], 0, "max_steps must be"),
        ([add], True, "max_steps"),
    ]:
        with pytest.raises(ValidationError, match=reason):
            await run_tools(manager, session_id, "Go", tools, max_steps=steps)
    assert script.calls == []


async def test_without_tools_it_is_a_send(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    assert (await run_tools(manager, session_id, "Hello", [])).content == "An answer."
    assert "tools" not in script.calls[0].parameters
    assert (await run_tools(manager, session_id, None, [])).content == "An answer."


# -- on the wire ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_tools_work_on_each_wire(wire: str) -> None:
    async with ModelServer(call_on_wire("add", {"a": 1, "b": 2}), say("Three.")) as server, SessionManager() as manager:
        session_id = await manager.create_session({"name": "Ada"}, configured(wire, server.url))
        response = await run_tools(
            manager, session_id, "1 + 2?", [add], tool_choice={"type": "function", "function": {"name": "add"}}
        )
    assert response.content == "Three."
    first, second = (request.body for request in server.requests)
    assert (refusals(wire, first), refusals(wire, second)) == ([], [])
    if wire == "openai":
        assert first["tools"][0]["function"]["parameters"]["required"] == ["a", "b"]
        assert second["messages"][-1] == {"role": "tool", "content": "3", "tool_call_id": "c1"}
    else:
        assert first["tools"][0]["input_schema"]["required"] == ["a", "b"]
        assert (first["tools"][0]["name"], first["tool_choice"]) == ("add", {"type": "tool", "name": "add"})
        result = {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "3"}]}
        assert second["messages"][-1]["content"] == [result]


@pytest.mark.parametrize("wire", WIRES)
async def test_every_answer_of_a_run_can_be_streamed(wire: str) -> None:
    deltas: list[ChatResponse] = []
    answers = call_on_wire("add", {"a": 1, "b": 2}), say("It is three.")
    async with ModelServer(*answers) as server, SessionManager() as manager:
        session_id = await manager.create_session({"name": "Ada"}, configured(wire, server.url))
        response = await run_tools(manager, session_id, "1 + 2?", [add], on_delta=deltas.append)
        messages = await manager.conversation_manager.get_messages(session_id)
    assert (response.content, response.id, response.position) == ("It is three.", messages[3].id, 4)
    assert "".join(delta.content for delta in deltas) == "Let me see.It is three."
    ends = [delta for delta in deltas if delta.finish_reason is not None]
    assert [(end.finish_reason, end.id, len(end.tool_calls)) for end in ends] == [
        ("tool_calls", messages[1].id, 1),
        ("stop", messages[3].id, 0),
    ]
    assert [message.content for message in messages] == ["1 + 2?", "Let me see.", "3", "It is three."]
    assert [(request.streaming, refusals(wire, request.body)) for request in server.requests] == [(True, [])] * 2


@attrs.frozen
class Invoice:
    total: int = attrs.field(validator=attrs.validators.gt(0))
    currency: str = "EUR"


@pytest.mark.parametrize("wire", WIRES)
async def test_structured_output_works_on_each_wire(wire: str) -> None:
    async with ModelServer(say('{"total": 5, "currency": "CHF"}')) as server, SessionManager() as manager:
        session_id = await manager.create_session({"name": "Ada"}, configured(wire, server.url))
        answer = await send_structured(manager, session_id, "How much?", Invoice)
    assert answer.value == Invoice(5, "CHF")
    body = server.requests[0].body
    form = body["response_format"]["json_schema"] if wire == "openai" else body["output_config"]["format"]
    assert form["schema"]["additionalProperties"] is False
    assert list(form["schema"]["properties"]) == ["total", "currency"]
    assert wire == "anthropic" or form["strict"] is True


async def test_a_schema_that_anthropic_does_not_take_is_refused() -> None:
    async with ModelServer(say("{}")) as server, SessionManager() as manager:
        session_id = await manager.create_session({"name": "Ada"}, configured("anthropic", server.url))
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"description": "anything"}}}
        with pytest.raises(ProviderError, match="does not take the schema of the answer"):
            await manager.send_message(session_id, "Hello", response_format=form)
    assert server.requests == []


# -- structured output ---------------------------------------------------------------------------


async def test_an_answer_that_does_not_fit_is_repaired_once(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    script.answers = ['{"total": 0}', '{"total": 7}']
    question = Message("user", "How much?", id="q")
    for _ in range(2):
        answer = await send_structured(manager, session_id, question, Invoice)
        assert (answer.value, answer.response.position) == (Invoice(7), 4)
    assert len(script.calls) == 2
    repair = (await stored(manager))[2][1]
    assert repair.startswith("Your last answer is not valid: the value: Value error, 'total' must be > 0: 0\n")


@pytest.mark.parametrize("repair", [0, 1])
async def test_an_answer_that_never_fits_is_an_error_with_its_text(
    manager: SessionManager, script: Script, repair: int
) -> None:
    session_id = await begin(manager)
    script.answers = ["It is five."]
    with pytest.raises(
        StructuredOutputError, match="the answer is not a valid Invoice: the value: Invalid JSON"
    ) as caught:
        await send_structured(manager, session_id, "How much?", Invoice, repair=repair)
    assert (caught.value.text, caught.value.response.position) == ("It is five.", 2 + 2 * repair)
    assert len(await stored(manager)) == 2 + 2 * repair


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (ChatResponse("", refusal="No."), "refused"),
        (ChatResponse('{"total": 1', finish_reason="length"), "cut off at max_tokens"),
    ],
)
async def test_refused_and_cut_off_answers_are_not_repaired(
    manager: SessionManager, script: Script, answer: ChatResponse, reason: str
) -> None:
    session_id = await begin(manager)
    script.answers = [answer]
    with pytest.raises(StructuredOutputError, match=reason):
        await send_structured(manager, session_id, "How much?", Invoice)
    assert len(script.calls) == 1


async def test_a_provider_without_schemas_is_sent_it_as_text() -> None:
    async with ModelServer(say('```json\n{"total": 5}\n```')) as server, SessionManager() as manager:
        config = attrs.evolve(configured("openai", server.url), name="deepseek")
        session_id = await manager.create_session({"name": "Ada"}, config)
        answer = await send_structured(manager, session_id, "How much?", Invoice, context="Today is Monday.")
        contents = [message.content for message in await manager.conversation_manager.get_messages(session_id)]
    assert answer.value == Invoice(5)
    body = server.requests[0].body
    assert "response_format" not in body
    assert refusals("deepseek", body) == []
    context = body["messages"][-2]["content"]
    assert context.startswith("Today is Monday.\n\nAnswer with one JSON object")
    assert '"total"' in context
    assert contents[0] == "How much?"


class OwnAnthropic(AnthropicProvider):
    """A provider of a vendor under a name of its own."""


class OwnDeepSeek(OpenAIProvider):
    """A server with OpenAI's protocol and DeepSeek's rules."""

    @property
    def rules(self) -> VendorRules:
        return rules_of("deepseek")


@pytest.mark.parametrize(
    ("kind", "form"), [(OwnAnthropic, "output_config"), (OwnDeepSeek, None), (OpenAIProvider, "response_format")]
)
async def test_structured_output_follows_the_rules_of_the_provider_class(
    kind: type[BaseProvider], form: str | None
) -> None:
    ProviderFactory.register_provider("own", kind)
    wire = "anthropic" if kind is OwnAnthropic else "openai"
    try:
        async with ModelServer(say('{"total": 5}')) as server, SessionManager() as manager:
            config = attrs.evolve(configured(wire, server.url), name="own")
            session_id = await manager.create_session({"name": "Ada"}, config)
            assert (await send_structured(manager, session_id, "How much?", Invoice)).value == Invoice(5)
    finally:
        ProviderFactory.unregister_provider("own")
    body = server.requests[0].body
    assert [name for name in ("output_config", "response_format") if name in body] == ([form] if form else [])
    assert ("Answer with one JSON object" in str(body["messages"])) is (form is None)


async def test_wrong_arguments_of_structured_output_are_refused(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    with pytest.raises(ValidationError, match="repair is 0 or 1"):
        await send_structured(manager, session_id, "How much?", Invoice, repair=2)
    with pytest.raises(SessionNotFoundError):
        await send_structured(manager, "nobody", "How much?", Invoice)
    assert script.calls == []
