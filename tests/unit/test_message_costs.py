"""Costs of messages: counted once, whatever they hold, without blocking."""

from random import Random
from typing import Any

import pytest

from luminoracore_sdk.application.message_costs import MessageCosts, estimated_tokens
from luminoracore_sdk.application.prompts import compact_json
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.pictures import FLAT_PICTURE_TOKENS
from luminoracore_sdk.utils.prompts import BpeTokenCounter, HeuristicTokenCounter


class Counter(HeuristicTokenCounter):
    def __init__(self) -> None:
        self.characters = 0

    def count(self, text: str) -> int:
        self.characters += len(text)
        return super().count(text)


def test_a_message_is_counted_once() -> None:
    counter = Counter()
    costs = MessageCosts(counter)
    message = Message("user", "x" * 400, id="m")
    assert costs.of([message], "openai") == costs.of([message], "openai") == [104]
    assert counter.characters == 400
    assert costs.of([Message("user", "y" * 40, id="m")], "openai") == [14]  # edited under its id


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("x" * 40, 14),
        ({"temp": 22}, 7),
        (None, 5),
        ([{"type": "text", "text": "x" * 40}], 14),
        ([{"type": "image_url", "image_url": {"url": "https://host/a.png"}}], 4 + FLAT_PICTURE_TOKENS),
        ([{"type": "file", "file": {"file_data": "A" * 100_000}}], 4 + FLAT_PICTURE_TOKENS),
        (["x" * 40, {"a": [1]}], 17),
        ([{"type": "document", "source": {"type": "text", "data": "x" * 4_000}}], 1_007),
        ([{"type": "document", "source": {"type": "content", "content": "x" * 4_000}}], 1_007),
        ([{"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x" * 40}]}}], 17),
        ([{"type": "document", "source": {"type": "base64", "data": "A" * 100_000}}], 7 + FLAT_PICTURE_TOKENS),
        ([{"type": "document", "context": "x" * 4_000}], 1_007 + FLAT_PICTURE_TOKENS),
    ],
)
def test_everything_of_a_content_is_counted(content: Any, tokens: int) -> None:
    costs = MessageCosts(HeuristicTokenCounter())
    assert costs.of([Message("user", content, id="m")], "openai") == [tokens]
    assert costs.of([Message("user", content)], "openai") == [tokens]


def test_a_picture_in_a_result_is_text_for_a_vendor_that_takes_text() -> None:
    content = [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}]
    costs = MessageCosts(HeuristicTokenCounter())
    result = Message("tool", content, metadata={"tool_call_id": "t1"})
    assert costs.of([result], "anthropic")[0] < 2_000
    assert costs.of([result], "vllm")[0] > 24_000


def test_calls_and_reasoning_are_counted() -> None:
    function = {"name": "weather", "arguments": '{"city": "Turin"}'}
    call = {"id": "t1", "type": "function", "function": function}
    plain = MessageCosts(HeuristicTokenCounter()).of([Message("assistant", "")], "openai")[0]
    metadata = {"tool_calls": [call], "reasoning": {"reasoning_content": "x" * 400}}
    whole = MessageCosts(HeuristicTokenCounter()).of([Message("assistant", "", metadata=metadata)], "openai")[0]
    assert whole > plain + 100 + 10


def test_what_is_remembered_is_bounded() -> None:
    counter = Counter()
    costs = MessageCosts(counter, remembered=2)
    messages = [Message("user", "x" * 4, id=str(number)) for number in range(3)]
    costs.of(messages, "openai")
    costs.of(messages[:1], "openai")
    assert counter.characters == 16


@pytest.mark.parametrize("seed", range(20))
def test_a_long_text_is_estimated_within_10_percent(seed: int) -> None:
    random = Random(seed)  # noqa: S311 - text, not secrets
    pieces = [
        "The quick brown fox jumps over the lazy dog. ",
        '{"city":"Turin","temp":22.5},\n',
        "def f(x):\n    return x\n",
    ]
    text = "".join(random.choice(pieces) for _ in range(20_000))
    exact = BpeTokenCounter().count(text)
    assert abs(estimated_tokens(text, BpeTokenCounter()) - exact) < 0.1 * exact


def test_an_id_of_two_sessions_has_two_costs() -> None:
    costs = MessageCosts(HeuristicTokenCounter())

    def cost(**metadata: Any) -> int:
        return costs.of([Message("assistant", "", id="1", metadata=metadata)], "openai")[0]

    def calls(text: str) -> list[Any]:
        function = {"name": "f", "arguments": f'{{"x": "{text}"}}'}
        return [{"id": "c", "type": "function", "function": function}]

    assert cost(tool_calls=calls("a")) < 30
    assert cost(tool_calls=calls("a" * 12_000)) > 3_000
    assert cost(function_call={"name": "f", "arguments": "a" * 12_000}) > 3_000
    assert cost(reasoning={"reasoning_content": "a" * 12_000}) > 3_000
    assert cost() < 30


def table(rows: int) -> list[Any]:
    return [{"k": row, "city": "Turin", "said": "word " * (row % 20), "open": True} for row in range(rows)]


@pytest.mark.parametrize(
    "value",
    [
        {"rows": table(20_000)},
        {str(number): row for number, row in enumerate(table(20_000))},
        [table(3_000), "word " * 40_000],
        [["word " * 200] * 4 for _ in range(1_000)],
        ["word " * 20_000] * 50,
        table(20_000),
        list(range(100_000)),
    ],
    ids=["rows", "mapping", "rows and text", "long rows", "long texts", "many rows", "numbers"],
)
def test_a_large_structure_is_estimated_from_some_of_its_elements(value: Any) -> None:
    counter = Counter()
    exact = counter.count(compact_json(value))
    counter.characters = 0
    assert abs(MessageCosts(counter).of([Message("user", value)], "openai")[0] - exact) < 0.15 * exact
    assert counter.characters < 50_000


@pytest.mark.parametrize("parts", [1, 30, 1_000])
def test_many_parts_are_estimated_together(parts: int) -> None:
    counter = Counter()
    content = [{"type": "text", "text": "word " * 4_000}] * parts
    cost = MessageCosts(counter).of([Message("user", content)], "openai")[0]
    assert abs(cost - 5_000 * parts) < 500 * parts
    assert counter.characters < 50_000


def test_an_edited_structure_is_counted_again() -> None:
    costs = MessageCosts(HeuristicTokenCounter())
    first = costs.of([Message("tool", table(4_000), id="m")], "openai")
    assert costs.of([Message("tool", table(8_000), id="m")], "openai")[0] > 1.8 * first[0]


def test_texts_are_counted_once_and_their_number_is_bounded() -> None:
    counter = Counter()
    costs = MessageCosts(counter)
    assert {costs.text("You are Ada.") for _ in range(3)} == {7}
    assert counter.characters == 12
    for number in range(300):
        costs.text(f"You are {number}.")
    before = counter.characters
    costs.text("You are 299.")
    assert counter.characters == before
    costs.text("You are Ada.")
    assert counter.characters == before + 12


def test_a_long_text_is_not_remembered() -> None:
    counter = Counter()
    costs = MessageCosts(counter)
    assert costs.text("word " * 4_000) == costs.text("word " * 4_000)
    assert counter.characters == 2 * 16_384
