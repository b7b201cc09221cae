"""Every prompt that leaves is one that its vendor accepts, whatever the history holds."""

import json
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luminoracore_sdk.adapters.providers.anthropic_messages import prompt
from luminoracore_sdk.adapters.providers.openai_compatible import on_wire
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.outgoing import build_outgoing, mapped_id
from luminoracore_sdk.domain.vendors import rules_of
from luminoracore_sdk.domain.window import choose_window, turn_start
from tests.support.strict_vendors import VENDORS, refusals

IDS = st.one_of(
    st.sampled_from(["t1", "t2", "call_1", "functions.weather:0", "toolu_01AbC", "x" * 60, "abc123XYZ", "é", "a b"]),
    st.text(min_size=1, max_size=50),
)
TEXTS = st.one_of(st.sampled_from(["", " \n", "Hello", "\ud83d", "a\0b", "😀"]), st.text(max_size=12))
ARGUMENTS = st.sampled_from(
    ["{}", "", "   ", '{"city": "Turin"}', '{"path": "a.txt", "text": "Once', "[1]", "null", "NaN"]
)
PNG = "data:image/png;base64,iVBORw0KGgo="
PARTS = st.one_of(
    st.builds(lambda text: {"type": "text", "text": text}, TEXTS),
    st.just({"type": "image_url", "image_url": {"url": PNG}}),
    st.just({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}),
)
"""Pictures are left out for DeepSeek, which takes none: a typed error says so."""


def calls() -> st.SearchStrategy[list[dict[str, Any]]]:
    call = st.builds(
        lambda call_id, name, arguments, extra: {
            "id": call_id,
            "type": "function",
            "function": {"name": name, "arguments": arguments},
            **({"extra_content": {"google": {"thought_signature": "sig"}}} if extra else {}),
        },
        IDS,
        st.sampled_from(["weather", "clock"]),
        ARGUMENTS,
        st.booleans(),
    )
    return st.lists(call, max_size=3)


REASONING = st.sampled_from(
    [
        {},
        {"reasoning_content": "Because."},
        {"reasoning_details": [{"type": "reasoning.text", "text": "Because."}]},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Because.", "signature": "sig"}]},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "xyz"}]},
    ]
)
PROVIDERS = st.sampled_from([*VENDORS, "mine"])


@st.composite
def answers(draw: st.DrawFn) -> Message:
    metadata: dict[str, Any] = {"provider": draw(PROVIDERS), "reasoning": draw(REASONING)}
    if draw(st.integers(0, 9)) == 0:
        metadata["function_call"] = {"name": "clock", "arguments": draw(ARGUMENTS)}
    else:
        metadata["tool_calls"] = draw(calls())
    return Message("assistant", draw(TEXTS), metadata=metadata)


@st.composite
def histories(draw: st.DrawFn, *, pictures: bool) -> list[Message]:
    parts = PARTS if pictures else st.builds(lambda text: {"type": "text", "text": text}, TEXTS)
    contents = st.one_of(TEXTS, st.lists(parts, max_size=3), st.just({"temp": 22}))
    users = st.builds(lambda content: Message("user", content), contents)
    systems = st.builds(lambda text: Message("system", text), TEXTS)
    messages = draw(st.lists(st.one_of(users, users, answers(), answers(), systems, st.none()), max_size=10))
    known = [call["id"] for message in messages if message for call in message.metadata.get("tool_calls", [])]
    history: list[Message] = []
    results = st.one_of(TEXTS, st.just({"temp": 22}), st.just([1, 2]), st.just(22), st.none())
    for message in messages:
        if message is not None:
            history.append(message)
            continue
        call_id = draw(st.sampled_from(known) if known else IDS)
        metadata = {"tool_call_id": call_id} if draw(st.booleans()) else {"name": "clock"}
        history.append(Message("tool", draw(results), metadata=metadata))
    late = st.builds(
        lambda call_id, content: Message("tool", content, metadata={"tool_call_id": call_id}),
        st.sampled_from(known) if known else IDS,
        results,
    )
    some = any(message.role == "user" for message in history)
    last = draw(st.one_of(users, st.just(Message("user", "Well?")), *([late] if some else [])))
    return [*history, last]


def body(vendor: str, messages: list[Message]) -> dict[str, Any]:
    sent = build_outgoing(messages, rules_of(vendor), provider=vendor)
    if vendor == "anthropic":
        return prompt(sent)
    return {"messages": [on_wire(message) for message in sent]}


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_outgoing_prompt_is_accepted(vendor: str) -> None:
    @given(histories(pictures=vendor != "deepseek"))
    @settings(max_examples=10_000 if settings.get_current_profile_name() == "nightly" else 250)
    def check(messages: list[Message]) -> None:
        before = deepcopy(messages)
        sent = body(vendor, messages)
        assert refusals(vendor, sent) == []
        assert messages == before
        assert body(vendor, messages) == sent

    check()


@given(histories(pictures=False), st.sampled_from([*VENDORS]))
def test_no_id_names_two_calls_of_a_prompt(messages: list[Message], vendor: str) -> None:
    sent = build_outgoing(messages, rules_of(vendor), provider=vendor)
    ids = [call["id"] for message in sent for call in message.metadata.get("tool_calls", [])]
    assert len(set(ids)) == len(ids)
    assert ids == [message.metadata["tool_call_id"] for message in sent if message.role == "tool"]


@pytest.mark.parametrize("vendor", VENDORS)
def test_what_the_user_says_last_goes_out(vendor: str) -> None:
    @given(histories(pictures=False))
    def check(messages: list[Message]) -> None:
        sent = body(vendor, [*messages, Message("user", "The last question?")])
        assert "The last question?" in json.dumps(sent["messages"][-1])

    check()


@given(st.lists(IDS, unique=True, max_size=20), st.sampled_from([*VENDORS]))
def test_ids_are_mapped_one_to_one(ids: list[str], vendor: str) -> None:
    mapped = [mapped_id(call_id, rules_of(vendor)) for call_id in ids]
    assert len(set(mapped)) == len(ids)
    assert mapped == [mapped_id(call_id, rules_of(vendor)) for call_id in ids]


# -- the window --------------------------------------------------------------------------------------

COSTS = st.integers(1, 400)


@given(histories(pictures=True), st.data(), st.integers(50, 3000), st.integers(1, 20))
def test_the_window_fits_and_holds_the_turn_whole(
    messages: list[Message], data: st.DataObject, max_tokens: int, max_messages: int
) -> None:
    costs = data.draw(st.lists(COSTS, min_size=len(messages), max_size=len(messages)))
    turn = turn_start(messages)
    if sum(costs[turn:]) > max_tokens:
        return
    previous = data.draw(st.one_of(st.none(), st.integers(0, len(messages) - 1)))
    window = choose_window(messages, costs, max_tokens=max_tokens, max_messages=max_messages, previous_start=previous)
    assert window.start <= window.turn == turn
    assert window.tokens == sum(costs[window.start :]) <= max_tokens
    assert turn - window.start <= max_messages
    assert window.start == turn or messages[window.start].role == "user"


@given(st.lists(st.integers(1, 200), min_size=2, max_size=80), st.integers(200, 2000))
def test_consecutive_prompts_share_their_beginning(costs: list[int], max_tokens: int) -> None:
    messages = [Message("user" if number % 2 == 0 else "assistant", str(number)) for number in range(len(costs))]
    previous, cuts, sent = None, 0, 0
    for end in range(1, len(costs) + 1, 2):
        window = choose_window(
            messages[:end], costs[:end], max_tokens=max_tokens, max_messages=1000, previous_start=previous
        )
        if previous is not None and window.start != previous:
            cuts += 1
            assert window.tokens <= max(0.6 * max_tokens, sum(costs[window.turn : end]))
        previous, sent = window.start, sent + sum(costs[end - 2 : end])
    assert cuts <= sent / (0.4 * max_tokens - 400) + 1 if max_tokens > 1200 else True
