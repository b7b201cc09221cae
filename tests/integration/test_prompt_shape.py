"""The prompt: one system message with memories, the window in order, the new message."""

from collections.abc import Sequence
from itertools import pairwise, takewhile
from typing import Any

import pytest

from luminoracore_sdk.application.message_costs import MessageCosts
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.errors import ContextWindowError
from luminoracore_sdk.session import SessionManager, SessionStorage
from luminoracore_sdk.testing import ManualClock
from luminoracore_sdk.types.provider import ChatResponse
from luminoracore_sdk.types.session import Message
from luminoracore_sdk.utils.prompts import HeuristicTokenCounter
from tests.support.scripted_provider import Script

ADA = {"name": "Ada", "system_prompt": "You are Ada."}
SYSTEM = ("system", "You are Ada.")


async def begin(manager: SessionManager, personality: dict[str, Any] | None = None, **config: Any) -> str:
    if personality is None:
        personality = ADA
    return await manager.create_session(personality, {"name": "scripted"}, config)


async def fill(manager: SessionManager, session_id: str, messages: Sequence[tuple[str, Any]]) -> None:
    await manager.conversation_manager.append(session_id, [Message(role, said) for role, said in messages])


async def test_the_first_prompt_has_system_and_question(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    await manager.send_message(session_id, "Hello")
    assert script.prompts == [[SYSTEM, ("user", "Hello")]]


async def test_the_next_prompt_holds_the_history_in_order(manager: SessionManager, script: Script) -> None:
    script.answers = ["One.", "Two.", "Three."]
    session_id = await begin(manager)
    await manager.send_message(session_id, "First")
    _ = [delta async for delta in manager.stream_message(session_id, "Second")]
    await manager.send_message(session_id, "Third")
    assert script.prompts[-1] == [
        SYSTEM,
        ("user", "First"),
        ("assistant", "One."),
        ("user", "Second"),
        ("assistant", "Two."),
        ("user", "Third"),
    ]


async def test_a_personality_becomes_a_system_message(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, {"name": "Ada", "description": "Dry.", "core_traits": ["calm", "exact"]})
    await manager.send_message(session_id, "Hello")
    assert script.prompts[0][0] == ("system", "You are Ada.\nDry.\nTraits: calm; exact")


async def test_an_empty_personality_makes_no_system_message(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, {})
    await manager.send_message(session_id, "Hello")
    assert script.prompts == [[("user", "Hello")]]


async def test_memories_are_part_of_the_system_message(
    manager: SessionManager, script: Script, clock: ManualClock
) -> None:
    session_id = await begin(manager)
    await manager.memory_manager.store_memory(session_id, "city", "Turin")
    clock.advance(1)
    await manager.memory_manager.store_memory(session_id, "pets", ["cat"])
    await manager.memory_manager.store_memory(session_id, "trifle", "x", importance=0.1)
    await manager.send_message(session_id, "Hello")
    [(role, text), question] = script.prompts[0]
    assert (role, question) == ("system", ("user", "Hello"))
    assert text == 'You are Ada.\n\nWhat you remember:\ncity: Turin\npets: ["cat"]'


async def test_memories_alone_are_a_system_message(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, {})
    await manager.memory_manager.store_memory(session_id, "tea", "green", category="preference")
    await manager.send_message(session_id, "Hello")
    assert script.prompts == [[("system", "Preferences you remember:\ntea: green"), ("user", "Hello")]]


async def test_similar_memories_become_a_table(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    for number in range(3):
        fact = {"source": "user", "said": f"on day {number}", "confidence": 0.5}
        await manager.memory_manager.store_memory(session_id, f"fact {number}", fact)
    await manager.send_message(session_id, "Hello")
    role, text = script.prompts[0][0]
    assert role == "system"
    assert text == (
        "You are Ada.\n\nWhat you remember (table):\n"
        'each: {"source":"user","confidence":0.5}\n'
        "|said\nfact 0|on day 0\nfact 1|on day 1\nfact 2|on day 2"
    )


async def test_the_counter_of_the_manager_chooses_the_notation(
    storage: SessionStorage, services: Services, script: Script
) -> None:
    class Upside:
        def count(self, text: str) -> int:
            return -len(text)

    async with SessionManager(storage, services=services, token_counter=Upside()) as manager:
        session_id = await begin(manager)
        await manager.memory_manager.store_memory(session_id, "city", "Turin")
        await manager.send_message(session_id, "Hello")
    assert script.prompts[0][0] == ("system", 'You are Ada.\n\nWhat you remember (JSON):\n{"city":"Turin"}')


@pytest.mark.parametrize("config", [{"include_context_in_prompt": False}, {"memory_enabled": False}])
async def test_memories_can_be_left_out_of_the_prompt(
    manager: SessionManager, script: Script, config: dict[str, Any]
) -> None:
    session_id = await begin(manager, **config)
    await manager.memory_manager.store_memory(session_id, "city", "Turin")
    await manager.send_message(session_id, "Hello")
    assert script.prompts == [[SYSTEM, ("user", "Hello")]]


async def test_a_sessions_decay_factor_limits_its_memories(
    manager: SessionManager, script: Script, clock: ManualClock
) -> None:
    slow, quick = await begin(manager), await begin(manager, memory_decay_factor=0.9)
    for session_id in (slow, quick):
        await manager.memory_manager.store_memory(session_id, "city", "Turin")
    clock.advance(30 * 24 * 3600)
    for session_id in (slow, quick):
        await manager.send_message(session_id, "Hello")
    assert ["Turin" in prompt[0][1] for prompt in script.prompts] == [True, False]


@pytest.mark.parametrize(
    ("config", "seen"),
    [
        ({"max_history_length": 3}, ["3", "4", "5"]),
        ({"max_history_length": 0}, []),
        ({"max_history": 2}, ["4", "5"]),
        ({"session_type": "stateless"}, []),
    ],
)
async def test_the_window_is_limited_in_messages(
    manager: SessionManager, script: Script, config: dict[str, Any], seen: list[str]
) -> None:
    session_id = await begin(manager, **config)
    await fill(manager, session_id, [("user", str(number)) for number in range(6)])
    await manager.send_message(session_id, "New")
    assert script.prompts == [[SYSTEM, *(("user", text) for text in seen), ("user", "New")]]


@pytest.mark.parametrize(("tokens", "seen"), [(19, []), (60, ["c"]), (61, ["a", "b", "c"])])
async def test_the_window_is_cut_to_its_low_mark(
    storage: SessionStorage, services: Services, script: Script, tokens: int, seen: list[str]
) -> None:
    # 4 bytes are a token, and a message costs 4 more: 7 for the system message, 12 for the
    # question, 14 for each message of the history. What does not fit is cut to 60 %.
    question = "q" * 32
    async with SessionManager(storage, services=services, token_counter=HeuristicTokenCounter()) as manager:
        session_id = await begin(manager, context_window_size=tokens)
        await fill(manager, session_id, [("user", letter * 40) for letter in "abc"])
        await manager.send_message(session_id, question)
    assert script.prompts == [[SYSTEM, *(("user", letter * 40) for letter in seen), ("user", question)]]


@pytest.mark.parametrize(("tokens", "seen"), [(13, []), (42, ["c " * 5]), (43, [f"{letter} " * 5 for letter in "abc"])])
async def test_the_default_counter_counts_exactly(
    manager: SessionManager, script: Script, tokens: int, seen: list[str]
) -> None:
    # "You are Ada." is 4 tokens and "Hello" is 1, "c c c c c " is 6; 4 more for each message.
    session_id = await begin(manager, context_window_size=tokens)
    await fill(manager, session_id, [("user", f"{letter} " * 5) for letter in "abc"])
    await manager.send_message(session_id, "Hello")
    assert script.prompts[0][1:-1] == [("user", text) for text in seen]


async def test_a_turn_that_does_not_fit_is_refused(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, context_window_size=12)
    with pytest.raises(ContextWindowError, match="5 tokens and 4 are left"):
        await manager.send_message(session_id, "Hello")
    assert script.calls == []


async def test_the_window_stays_where_it_is_until_it_is_full(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, max_history_length=10)
    starts: list[int] = []
    for number in range(12):
        response = await manager.send_message(session_id, str(number))
        starts.append(response.provider_metadata["prompt"]["first_position"])
    # ten messages of history at most, six after a cut
    assert starts == [1, 1, 1, 1, 1, 1, 7, 7, 7, 13, 13, 13]
    for before, after in pairwise(script.prompts):
        shared = takewhile(lambda pair: pair[0] == pair[1], zip(before, after, strict=False))
        assert len(list(shared)) in (len(before), 1)


@pytest.mark.parametrize(("length", "sent"), [(0, 0), (1, 1), (2, 1), (5, 1), (6, 6)])
async def test_the_window_begins_with_a_user_message(
    manager: SessionManager, script: Script, length: int, sent: int
) -> None:
    session_id = await begin(manager, max_history_length=length)
    history = [
        Message("user", "Weather?"),
        Message("assistant", "Two calls.", metadata={"tool_calls": [call("1"), call("2")]}),
        Message("tool", "sun", metadata={"tool_call_id": "1"}),
        Message("tool", "wind", metadata={"tool_call_id": "2"}),
        Message("assistant", "Fine."),
        Message("user", "Thanks"),
    ]
    await manager.conversation_manager.append(session_id, history)
    await manager.send_message(session_id, "Bye")
    window = script.prompts[0][1:-1]
    assert window == [(one.role, one.content) for one in history[len(history) - sent :]]


def call(call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": "{}"}}


async def test_tool_results_can_be_sent_in_any_order(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    calls = Message("assistant", "", metadata={"tool_calls": [call("1"), call("2")]})
    await manager.conversation_manager.append(session_id, [Message("user", "Weather?"), calls])
    results = [Message("tool", f"result {number}", metadata={"tool_call_id": str(number)}) for number in (2, 1)]
    await manager.send_message(session_id, results)
    assert script.prompts[0][1:] == [
        ("user", "Weather?"),
        ("assistant", ""),
        ("tool", "result 1"),
        ("tool", "result 2"),
    ]
    stored = await manager.conversation_manager.get_messages(session_id)
    assert [(said.role, said.content) for said in stored[2:]] == [
        ("tool", "result 2"),
        ("tool", "result 1"),
        ("assistant", "An answer."),
    ]


async def test_a_turn_reaches_back_over_many_tool_steps(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, max_history_length=4, context_window_size=100_000)
    history = [Message("user", "Count to 150.")]
    for number in range(150):
        history.append(Message("assistant", "", metadata={"tool_calls": [call(f"c{number}")]}))
        if number < 149:
            history.append(Message("tool", str(number), metadata={"tool_call_id": f"c{number}"}))
    await manager.conversation_manager.append(session_id, history)
    await manager.send_message(session_id, Message("tool", "149", metadata={"tool_call_id": "c149"}))
    assert script.prompts[0][1] == ("user", "Count to 150.")
    assert len(script.prompts[0]) == 1 + 1 + 300


async def test_a_large_tool_result_is_shortened_in_the_copy(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    calls = Message("assistant", "", metadata={"tool_calls": [call("1")]})
    await manager.conversation_manager.append(session_id, [Message("user", "Read the file."), calls])
    text = "begin " + "x y " * 10_000 + "end"
    await manager.send_message(session_id, Message("tool", text, metadata={"tool_call_id": "1"}))
    role, sent = script.prompts[0][-1]
    assert (role, sent[:6], sent[-3:]) == ("tool", "begin ", "end")
    assert "characters left out" in sent
    assert len(sent) < 20_000
    stored = await manager.conversation_manager.get_messages(session_id)
    assert stored[2].content == text


@pytest.mark.parametrize(
    ("texts", "begins"),
    [(["see: " + "x y " * 4_000], "see: x y"), (["short", "too"], "short\ntoo\n("), ([], "(content")],
)
async def test_a_picture_is_left_out_of_a_shortened_result(
    manager: SessionManager, script: Script, texts: list[str], begins: str
) -> None:
    session_id = await begin(manager, context_window_size=1_000)
    calls = Message("assistant", "", metadata={"tool_calls": [call("1")]})
    await manager.conversation_manager.append(session_id, [Message("user", "Take a screenshot."), calls])
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    parts = [*({"type": "text", "text": text} for text in texts), picture]
    await manager.send_message(session_id, Message("tool", parts, metadata={"tool_call_id": "1"}))
    sent = script.prompts[0][-1][1]
    assert sent.startswith(begins)
    assert sent.endswith("(content parts that are not text were left out: 1)")
    assert HeuristicTokenCounter().count(sent) < 1_000


async def test_a_large_structure_is_shortened_as_json(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, context_window_size=1_000)
    calls = Message("assistant", "", metadata={"tool_calls": [call("1")]})
    await manager.conversation_manager.append(session_id, [Message("user", "List."), calls])
    rows = [{"row": number} for number in range(2_000)]
    await manager.send_message(session_id, Message("tool", rows, metadata={"tool_call_id": "1"}))
    assert script.prompts[0][-1][1].startswith('[{"row":0},{"row":1}')
    assert len(script.prompts[0][-1][1]) < 4_000


async def test_a_document_of_text_takes_room_in_the_window(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, context_window_size=4_000)
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "word " * 80_000}}
    with pytest.raises(ContextWindowError):
        await manager.send_message(session_id, Message("user", [document]))
    assert script.prompts == []


async def test_pictures_leave_the_history_in_place(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    await fill(manager, session_id, [("user", "Hi"), ("assistant", "Hello"), ("user", "And?"), ("assistant", "A cat.")])
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 60_000}}
    await manager.send_message(session_id, Message("user", [{"type": "text", "text": "And this?"}, picture]))
    await manager.send_message(session_id, "Sure?")
    assert [len(prompt) for prompt in script.prompts] == [6, 8]
    assert script.prompts[1][5][1][1] == picture


async def test_counted_tokens_correct_the_next_window(manager: SessionManager, script: Script) -> None:
    counted = ChatResponse("An answer.", usage={"prompt_tokens": 60, "completion_tokens": 3})
    script.answers = [counted, "An answer."]
    session_id = await begin(manager, context_window_size=60)
    first = await manager.send_message(session_id, "One")
    assert first.provider_metadata["prompt"]["tokens"] < 30
    second = await manager.send_message(session_id, "Two")  # estimated to fit, and known not to
    assert second.provider_metadata["prompt"]["left_out"] == 2


async def test_a_stateless_session_sends_the_turn_of_its_results(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager, session_type="stateless")
    calls = Message("assistant", "", metadata={"tool_calls": [call("1")]})
    history = [Message("user", "Old"), Message("assistant", "Older"), Message("user", "Weather?"), calls]
    await manager.conversation_manager.append(session_id, history)
    await manager.send_message(session_id, Message("tool", "sun", metadata={"tool_call_id": "1"}))
    assert script.prompts[0][1:] == [("user", "Weather?"), ("assistant", ""), ("tool", "sun")]


async def test_schemas_of_tools_take_room_in_the_window(manager: SessionManager, script: Script) -> None:
    session_id = await begin(manager)
    tools = [{"type": "function", "function": {"name": "look", "description": "word " * 100}}]
    plain = await manager.send_message(session_id, "One")
    with_tools = await manager.send_message(session_id, "Two", tools=tools)
    added = with_tools.provider_metadata["prompt"]["tokens"] - plain.provider_metadata["prompt"]["tokens"]
    assert added > 100
    assert script.calls[1].parameters["tools"] == tools


async def test_usage_that_says_nothing_changes_nothing(manager: SessionManager, script: Script) -> None:
    script.answers = [ChatResponse("An answer.", usage={"total": "many"}), "An answer."]
    session_id = await begin(manager)
    await manager.send_message(session_id, "One")
    second = await manager.send_message(session_id, "Two")
    assert second.provider_metadata["prompt"]["left_out"] == 0


async def test_an_estimate_follows_a_provider_that_counts_otherwise(
    manager: SessionManager, script: Script, services: Services
) -> None:
    costs = MessageCosts(services.tokens)

    class Counting(list[str | ChatResponse | BaseException]):
        """One answer, with twice the tokens that the prompt is estimated at without a correction."""

        def __getitem__(self, _: Any) -> Any:
            sent = [Message(role, content) for role, content in script.prompts[-1]]
            return ChatResponse("Fine. " * 50, usage={"prompt_tokens": 2 * sum(costs.of(sent, "scripted"))})

    script.answers = Counting([""])
    session_id = await begin(manager, {}, context_window_size=100_000)
    turns = [await manager.send_message(session_id, f"{number} word " * 200) for number in range(8)]
    estimated = [turn.provider_metadata["prompt"]["tokens"] for turn in turns]
    counted = [(turn.usage or {})["prompt_tokens"] for turn in turns]
    assert estimated[0] * 2 == counted[0]
    assert estimated[1:] == counted[1:]
