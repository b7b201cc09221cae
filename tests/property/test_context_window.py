"""For any history and bounds, the window consists of whole, contiguous groups within the bounds."""

from hypothesis import given
from hypothesis import strategies as st

from luminoracore_sdk.domain.context import select_window
from luminoracore_sdk.domain.message import Message, MessageRole

costed = st.lists(st.tuples(st.sampled_from(list(MessageRole)), st.integers(0, 20)), max_size=15)
bounds = st.tuples(st.integers(0, 12), st.integers(0, 60))


def made_of(pairs: list[tuple[MessageRole, int]]) -> tuple[list[Message], list[int]]:
    history = [Message(role, f"message {number}") for number, (role, _) in enumerate(pairs)]
    return history, [cost for _, cost in pairs]


@given(costed, bounds)
def test_the_window_is_a_suffix_of_the_history(pairs: list[tuple[MessageRole, int]], limits: tuple[int, int]) -> None:
    history, costs = made_of(pairs)
    window = select_window(history, costs.__getitem__, max_messages=limits[0], max_tokens=limits[1])
    assert window == history[len(history) - len(window) :]


@given(costed, bounds)
def test_the_window_keeps_both_bounds(pairs: list[tuple[MessageRole, int]], limits: tuple[int, int]) -> None:
    history, costs = made_of(pairs)
    window = select_window(history, costs.__getitem__, max_messages=limits[0], max_tokens=limits[1])
    assert len(window) <= limits[0]
    assert sum(costs[len(costs) - len(window) :]) <= limits[1]


@given(costed, bounds)
def test_every_tool_result_follows_its_call(pairs: list[tuple[MessageRole, int]], limits: tuple[int, int]) -> None:
    history, costs = made_of(pairs)
    window = select_window(history, costs.__getitem__, max_messages=limits[0], max_tokens=limits[1])
    assert [message.role for message in window[:1]] != [MessageRole.TOOL]


@given(costed, bounds)
def test_one_more_group_would_break_a_bound(pairs: list[tuple[MessageRole, int]], limits: tuple[int, int]) -> None:
    history, costs = made_of(pairs)
    window = select_window(history, costs.__getitem__, max_messages=limits[0], max_tokens=limits[1])
    start = len(history) - len(window)
    older = [place for place in range(start) if history[place].role is not MessageRole.TOOL]
    if older:
        assert len(history) - older[-1] > limits[0] or sum(costs[older[-1] :]) > limits[1]


@given(costed)
def test_only_orphaned_tool_results_stay_out(
    pairs: list[tuple[MessageRole, int]],
) -> None:
    history, costs = made_of(pairs)
    orphans = next((n for n, (role, _) in enumerate(pairs) if role is not MessageRole.TOOL), len(pairs))
    assert select_window(history, costs.__getitem__, max_messages=99, max_tokens=999) == history[orphans:]
