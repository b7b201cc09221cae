"""Appends to one session that are written together: one write, one wait for the disk."""

from collections.abc import Sequence

import attrs

from luminoracore_sdk.adapters.storage.base import is_live, replay_receipt
from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.json_file.io import BACKEND, Syncing, UnsyncedError, translated
from luminoracore_sdk.adapters.storage.json_file.log import MessageLog
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord, SessionRecord
from luminoracore_sdk.domain.errors import ConflictError, LuminoraCoreSDKError, SessionNotFoundError

__all__ = ["Outcome", "append_together"]

Outcome = AppendReceipt | LuminoraCoreSDKError
"""What a caller is told: a receipt, or the error that is raised for him."""


def append_together(header: SessionRecord, log: MessageLog, appends: Sequence[Append]) -> Syncing[list[Outcome]]:
    """Write appends to one session, whose lock is held, as if one came after the other.

    Each is a line of its own, with a receipt, conflict or repeat of its own. If the lines cannot be written,
    each append is tried alone. If they were written and the disk fails, then none of them stays, and all
    appends fail that were decided upon since the first line.

    Returns:
        An outcome for each, in order.
    """
    group = _Group(header, log)
    outcomes = [group.outcome(append) for append in appends]
    if not group.batches:
        return outcomes
    try:
        yield from log.append(group.batches)
    except OSError as exc:
        errors = [_error(exc, append) for append in appends]
        alone = len(group.batches) > 1 and not isinstance(exc, UnsyncedError) and log.is_whole()
        for number in range(group.decided_before, len(appends)):
            if alone:
                (outcomes[number],) = yield from append_together(header, log, [appends[number]])
            else:
                outcomes[number] = errors[number]
    return outcomes


@attrs.define(eq=False)
class _Group:
    """What the log will be once the batches are written.

    Attributes:
        batches: What is to be written: messages, and when.
        decided_before: How many outcomes do not depend on the batches.
    """

    header: SessionRecord
    log: MessageLog
    last: int = attrs.field(init=False)
    at_us: int = attrs.field(init=False)
    batches: list[tuple[Sequence[MessageRecord], int]] = attrs.field(init=False, factory=list)
    positions: dict[str, int] = attrs.field(init=False, factory=dict)
    decided_before: int = attrs.field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.last, self.at_us = self.log.last, self.log.at_us

    def outcome(self, append: Append) -> Outcome:
        """Decide about the next one."""
        try:
            receipt = self._receipt(append)
        except LuminoraCoreSDKError as exc:
            receipt = exc
        except OSError as exc:  # reading the log
            receipt = _error(exc, append)
        self.decided_before += not self.batches
        return receipt

    def _receipt(self, append: Append) -> Outcome:
        if not is_live(max(self.header.updated_at_us, self.at_us), self.header.ttl_us, append.now_us):
            raise SessionNotFoundError(append.session_id, backend=BACKEND)
        ids = [message.message_id for message in append.messages]
        known = self.log.find(ids)
        if self.positions:
            known |= {id_: self.positions[id_] for id_ in ids if id_ in self.positions}
        if receipt := replay_receipt(BACKEND, append.messages, known):
            return receipt
        if append.expected_last is not None and append.expected_last != self.last:
            raise _conflict(append.session_id, append.expected_last, self.last)
        first = self.last + 1
        self.batches.append((append.messages, append.now_us))
        self.positions.update(zip(ids, range(first, first + len(ids)), strict=True))
        self.last, self.at_us = first + len(ids) - 1, max(self.at_us, append.now_us)
        return AppendReceipt(first_position=first, last_position=self.last)


def _error(exc: OSError, append: Append) -> LuminoraCoreSDKError:
    error = translated(exc, f"append to session {append.session_id!a}", writing=True)
    error.__cause__ = exc
    return error


def _conflict(session_id: str, expected: int, actual: int) -> ConflictError:
    return ConflictError(
        backend=BACKEND,
        key=f"session {session_id!a}",
        expected=f"last position {expected}",
        actual=f"last position {actual}",
    )
