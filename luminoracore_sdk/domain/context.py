"""Which part of a history fits into a model's context window."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from luminoracore_sdk.domain.message import Message, MessageRole

__all__ = ["select_window"]


def select_window(
    history: Sequence[Message], cost: Callable[[int], int], *, max_messages: int, max_tokens: int
) -> list[Message]:
    """Return the newest messages that fit, in order, never splitting a tool call from its results.

    A message that carries a tool call and the tool messages behind it are kept or left out
    together; a tool message whose call is not in ``history`` is left out. The walk stops at the
    first group that does not fit, so that the window has no hole.

    Args:
        history: Oldest first.
        cost: Tokens of the message at an index of ``history``. Asked from the newest group back, and not
            of what lies before the first group that does not fit: counting is most of a prompt's work.
        max_messages: Upper bound on the number of messages.
        max_tokens: Upper bound on the sum of their costs.
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
