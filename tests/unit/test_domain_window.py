"""The window: where the turn in progress begins, and what is cut."""

from typing import Any

import pytest

from luminoracore_sdk.domain.errors import ContextWindowError
from luminoracore_sdk.domain.message import Message
from luminoracore_sdk.domain.window import Window, choose_window, turn_start


def answer(*call_ids: str) -> Message:
    calls = [{"id": one, "type": "function", "function": {"name": "look", "arguments": "{}"}} for one in call_ids]
    return Message("assistant", "", metadata={"tool_calls": calls})


def result(call_id: str) -> Message:
    return Message("tool", "sun", metadata={"tool_call_id": call_id})


USER = Message("user", "?")


@pytest.mark.parametrize(
    ("messages", "start"),
    [
        ([USER], 0),
        ([USER, Message("assistant", "!"), USER], 2),
        ([USER, answer("a"), result("a")], 0),
        ([USER, Message("assistant", "!"), USER, answer("a", "b"), result("b"), result("a")], 2),
        ([USER, answer("a"), USER, result("a")], 0),
        ([USER, answer("a"), USER, answer("b"), result("b")], 2),
        ([answer("a"), result("a")], 0),
        ([USER, result("of no call")], 0),
    ],
)
def test_the_turn_begins_at_its_question(messages: list[Message], start: int) -> None:
    assert turn_start(messages) == start


def window(costs: list[int], **options: Any) -> Window:
    messages = [USER if index % 2 == 0 else Message("assistant", "!") for index in range(len(costs))]
    return choose_window(messages, costs, **{"max_tokens": 100, "max_messages": 50, **options})


def test_a_history_that_fits_goes_out_whole() -> None:
    assert window([10] * 9) == Window(start=0, turn=8, left_out=0, tokens=90)


def test_the_first_cut_goes_to_the_low_mark() -> None:
    assert window([10] * 13) == Window(start=8, turn=12, left_out=8, tokens=50)
    assert window([10] * 13, low_mark=0.9).start == 4


def test_a_start_stays_while_it_fits() -> None:
    assert window([10] * 13, previous_start=4).start == 4
    assert window([10] * 13, previous_start=2).start == 8
    assert window([10] * 13, previous_start=-1).start == 8
    assert window([10] * 13, previous_start=12).start == 12


def test_messages_are_limited_too() -> None:
    assert window([1] * 21, max_messages=10).start == 14
    assert window([1] * 21, max_messages=10, previous_start=10).start == 10
    assert window([1] * 3, max_messages=0).start == 2


def test_large_results_share_the_room_equally() -> None:
    messages = [USER, answer("a", "b", "c"), result("a"), result("b"), result("c")]
    chosen = choose_window(messages, [10, 10, 30, 5000, 900], max_tokens=1000, max_messages=50)
    assert (chosen.result_limit, chosen.tokens) == (475, 1000)


def test_a_turn_that_cannot_fit_is_refused_with_figures() -> None:
    messages = [USER, answer("a"), result("a")]
    with pytest.raises(ContextWindowError) as caught:
        choose_window(messages, [100, 10, 5000], max_tokens=150, max_messages=50)
    assert (caught.value.needed_tokens, caught.value.max_tokens) == (174, 150)
    with pytest.raises(ContextWindowError):
        choose_window([USER], [11], max_tokens=10, max_messages=50)


def test_a_result_without_a_call_belongs_to_the_turn_of_the_question_before() -> None:
    assert turn_start([USER, answer("a"), USER, result("gone")]) == 2
    assert turn_start([result("gone")]) == 0
