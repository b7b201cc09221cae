import pytest

from luminoracore_sdk.domain.context import select_window
from luminoracore_sdk.domain.message import Message

ROLES = {"u": "user", "a": "assistant", "t": "tool", "s": "system"}


def window(pattern: str, *, costs: list[int] | None = None, messages: int = 99, tokens: int = 99) -> str:
    """Select from a history given by initials; returns the numbers of what is left."""
    history = [Message(ROLES[initial], str(number)) for number, initial in enumerate(pattern)]
    each = costs or [1] * len(history)
    chosen = select_window(history, each.__getitem__, max_messages=messages, max_tokens=tokens)
    return "".join(str(message.content) for message in chosen)


def test_everything_is_kept_when_it_fits() -> None:
    assert window("uaua") == "0123"
    assert window("") == ""


@pytest.mark.parametrize(("messages", "left"), [(0, ""), (1, "3"), (3, "123"), (4, "0123")])
def test_the_newest_messages_are_kept(messages: int, left: str) -> None:
    assert window("uaua", messages=messages) == left


@pytest.mark.parametrize(("tokens", "left"), [(0, ""), (4, "3"), (5, "3"), (7, "23"), (10, "0123")])
def test_tokens_bound_the_sum(tokens: int, left: str) -> None:
    assert window("uaua", costs=[1, 2, 3, 4], tokens=tokens) == left


def test_the_first_message_that_does_not_fit_ends_the_window() -> None:
    assert window("uau", costs=[1, 50, 1], tokens=10) == "2"


def test_a_tool_call_and_its_results_stay_together() -> None:
    assert window("uattu", messages=4) == "1234"
    assert window("uattu", messages=3) == "4"
    assert window("uattu", messages=2) == "4"


def test_a_tool_result_without_its_call_is_left_out() -> None:
    assert window("ttua") == "23"
    assert window("tt") == ""


def test_messages_without_cost_always_fit() -> None:
    assert window("uau", costs=[0, 0, 0], tokens=0) == "012"


def test_messages_before_the_window_are_not_counted() -> None:
    history = [Message("user", str(number)) for number in range(9)]
    asked: list[int] = []

    def cost(index: int) -> int:
        asked.append(index)
        return 10

    assert select_window(history, cost, max_messages=9, max_tokens=25) == history[7:]
    assert asked == [8, 7, 6]
    assert select_window(history, cost, max_messages=1, max_tokens=25) == history[8:]
    assert asked == [8, 7, 6, 8]
