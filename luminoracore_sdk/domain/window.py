"""The window: which part of a history goes out with the next question.

The window begins with a user message, holds the turn in progress whole, and moves in steps: its start stays
where it was until the high mark is crossed, then it is cut to the low mark. Consecutive prompts therefore share
their beginning, which keeps the provider's prompt cache warm.
"""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.domain.errors import ContextWindowError
from luminoracore_sdk.domain.message import Message, MessageRole
from luminoracore_sdk.domain.tool_calls import call_ids, result_id

__all__ = ["DEFAULT_LOW_MARK", "Window", "choose_window", "turn_start"]

DEFAULT_LOW_MARK = 0.6
"""Share of the limits that a cut window may fill."""

_SMALLEST_RESULT = 64
"""Tokens that a shortened tool result keeps at least; below that it says nothing."""


@attrs.frozen(kw_only=True)
class Window:
    """The chosen messages, as indices into the history.

    Attributes:
        start: First message of the window.
        turn: First message of the turn in progress; never below ``start``.
        left_out: Messages of the given history that the window does not hold.
        tokens: Cost of the window, after shortening.
        result_limit: Tokens to which each tool result of the turn in progress is shortened; None: none is.
    """

    start: int
    turn: int
    left_out: int
    tokens: int
    result_limit: int | None = None


def turn_start(messages: Sequence[Message]) -> int:
    """Return the index at which the turn in progress begins.

    It is the last user message or, when the newest messages are results of calls made before it, the user
    message before the earliest of those calls. Without a user message it is the call, else 0.

    Args:
        messages: History and new messages, oldest first.
    """
    start = _user_message_at_or_before(messages, len(messages) - 1)
    answered = set()
    for message in reversed(messages):
        if message.role is not MessageRole.TOOL:
            break
        answered.add(result_id(message))
    if answered:
        for index in range(len(messages) - 1, -1, -1):
            found = answered & set(call_ids(messages[index]))
            if found:
                answered -= found
                start = min(start, _user_message_at_or_before(messages, index))
            if not answered:
                break
    return start


def _user_message_at_or_before(messages: Sequence[Message], index: int) -> int:
    for place in range(index, -1, -1):
        if messages[place].role is MessageRole.USER:
            return place
    return 0


def choose_window(
    messages: Sequence[Message],
    costs: Sequence[int],
    *,
    max_tokens: int,
    max_messages: int,
    previous_start: int | None = None,
    low_mark: float = DEFAULT_LOW_MARK,
) -> Window:
    """Return the window of the next prompt.

    Args:
        messages: History and new messages, oldest first; at least one.
        costs: Tokens of each of them.
        max_tokens: High mark: tokens left for the window.
        max_messages: High mark: messages of the window that lie before the turn in progress.
        previous_start: Index at which the window of the prompt before began; -1: before ``messages``; None: there
            was none.
        low_mark: Share of both limits that remains filled after a cut.

    Raises:
        ContextWindowError: The turn in progress does not fit, however far its tool results are shortened.
    """
    turn = turn_start(messages)
    result_limit, turn_tokens = _fit_turn(messages, costs, turn, max_tokens)
    starts = [index for index in range(turn) if messages[index].role is MessageRole.USER]

    def first_that_fits(tokens: float, count: float) -> int:
        left = tokens - turn_tokens
        first = turn
        for start in reversed(starts):
            left -= sum(costs[start:first])
            if left < 0 or turn - start > count:
                break
            first = start
        return first

    whole = first_that_fits(max_tokens, max_messages)
    if previous_start is not None and previous_start in {*starts, turn} and previous_start >= whole:
        start = previous_start
    elif previous_start is None and whole == next(iter(starts), turn):
        start = whole
    else:
        start = first_that_fits(max_tokens * low_mark, max_messages * low_mark)
    return Window(
        start=start,
        turn=turn,
        left_out=start,
        tokens=sum(costs[start:turn]) + turn_tokens,
        result_limit=result_limit,
    )


def _fit_turn(messages: Sequence[Message], costs: Sequence[int], turn: int, max_tokens: int) -> tuple[int | None, int]:
    """Return the limit for tool results and the tokens of the turn in progress under it."""
    whole = sum(costs[turn:])
    if whole <= max_tokens:
        return None, whole
    results = sorted(costs[index] for index in range(turn, len(messages)) if messages[index].role is MessageRole.TOOL)
    rest = whole - sum(results)
    room, limit = max_tokens - rest, 0
    for number, cost in enumerate(results):  # the largest equal share that all results fit into
        limit = room // (len(results) - number)
        if cost > limit:
            break
        room -= cost
    if not results or limit < _SMALLEST_RESULT:
        least = rest + sum(min(cost, _SMALLEST_RESULT) for cost in results)
        raise ContextWindowError(needed_tokens=least, max_tokens=max_tokens)
    return limit, rest + sum(min(cost, limit) for cost in results)
