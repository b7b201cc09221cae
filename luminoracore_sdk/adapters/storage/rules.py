"""The rules that every backend keeps, apart from any backend."""

from collections.abc import Mapping, Sequence

from luminoracore_sdk.application.ports.records import MAX_BATCH, MAX_PAGE, AppendReceipt, MessageRecord
from luminoracore_sdk.domain.errors import ConflictError, ValidationError
from luminoracore_sdk.domain.message import MessageRole

__all__ = ["MAX_BATCH", "MAX_PAGE", "ROLES", "check_times", "is_live", "replay_receipt"]

MAX_MICROSECONDS = 2**62
"""Largest time or duration: the sum of two still fits the 64-bit integers of every backend."""

ROLES = frozenset(role.value for role in MessageRole)


def is_live(updated_at_us: int, ttl_us: int | None, now_us: int) -> bool:
    """Tell whether a session of that age still counts as there."""
    return ttl_us is None or updated_at_us + ttl_us > now_us


def replay_receipt(
    backend: str, messages: Sequence[MessageRecord], stored: Mapping[str, int]
) -> AppendReceipt | None:
    """Decide what a batch is whose ids may be stored already.

    Args:
        backend: For the error.
        messages: The batch.
        stored: Positions of those of its ids that are stored.
    Returns:
        The first receipt, if the whole batch is stored as it is; None, if none of it is.
    Raises:
        ConflictError: Part of it is stored, or in another order.
    """
    if not stored:
        return None
    positions = [stored.get(message.message_id, 0) for message in messages]
    first = positions[0]
    if first and positions == list(range(first, first + len(messages))):
        return AppendReceipt(first_position=first, last_position=positions[-1], replayed=True)
    known = next(iter(stored))
    raise ConflictError(
        backend=backend,
        key=f"message id {known!a}",
        expected="a batch that is wholly new or wholly stored",
        actual=f"that id at position {stored[known]}",
    )


def check_times(*microseconds: int | None) -> None:
    """Refuse times and durations that not every backend can keep."""
    for value in microseconds:
        if value is not None and abs(value) > MAX_MICROSECONDS:
            raise ValidationError(f"{value} microseconds are beyond what every backend can keep")
