"""Selection of the part of a history that fits a model's context window."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from luminoracore_sdk.domain.message import Message, MessageRole

__all__ = ["select_window"]


def select_window(
    history: Sequence[Message], cost: Callable[[int], int], *, max_messages: int, max_tokens: int
) -> list[Message]:
    """Return the newest messages that fit, in order, without separating a tool call from its results.

    A message with a tool call and the tool messages after it are a group, which is kept or omitted as a whole;
    a tool message whose call is not in ``history`` is omitted. The selection ends at the first group that does
    not fit, so that the window has no gap.

    Args:
        history: The messages, oldest first.
        cost: Returns the tokens of the message at an index of ``history``. Called from the newest group
            backwards, and not beyond the first group that does not fit: counting is the larger part of the
            cost of a prompt.
        max_messages: Largest number of messages.
        max_tokens: Largest sum of their costs.
    """
    starts = [index for index, message in enumerate(history) if message.role is not MessageRole.TOOL]
    groups = list(pairwise([*starts, len(history)]))
    first, tokens = len(history), 0
    for start, end in reversed(groups):
        if len(history) - start > max_messages:
            break
        tokens += sum(map(cost, range(start, end)))
        if tokens > max_tokens:
            break
        first = start
    return list(history[first:])
