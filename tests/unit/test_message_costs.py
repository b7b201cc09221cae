"""Costs of messages: counted once, whatever they hold, without blocking."""

from random import Random
from typing import Any

import pytest

from luminoracore_sdk.application.message_costs import MessageCosts, estimated_tokens
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
    ],
)
def test_everything_of_a_content_is_counted(content: Any, tokens: int) -> None:
    costs = MessageCosts(HeuristicTokenCounter())
    assert costs.of([Message("user", content, id="m")], "openai") == [tokens]
    assert costs.of([Message("user", content)], "openai") == [tokens]


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
