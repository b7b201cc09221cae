"""The summary of a session in its log: every line has the counters, and says where the briefs are."""

from collections.abc import Mapping, Sequence
from typing import Self

import attrs

from luminoracore_sdk.application.ports.records import (
    HistoryChange,
    MessageRecord,
    Payload,
    SessionSummary,
    without_zeros,
)

__all__ = ["Base", "Tally"]


@attrs.frozen
class Base:
    """The first line of a log that was rewritten, or that began with a summary.

    Attributes:
        summary: The summary when it was written. Its briefs replace those that lines before then may have.
        changes: The latest changes of the history.
        at_us: When the log was changed, in microseconds; the newest line replaces it, as it does the counters.
    """

    summary: SessionSummary = attrs.field(factory=SessionSummary)
    changes: tuple[HistoryChange, ...] = ()
    at_us: int = 0


@attrs.frozen
class Tally:
    """The summary as of one line.

    Attributes:
        counters: Those of the summary.
        first: The position of the first brief, which the base has if it has one, and the line of the message
            otherwise; None: there is none.
        last: The position of the last brief, which the line of the message has; None: the one of the base, if any.
    """

    counters: Mapping[str, int]
    first: int | None
    last: int | None

    @classmethod
    def of(cls, summary: SessionSummary) -> Self:
        """Return that of a line that no message with a brief was appended to since the base was written."""
        return cls(summary.counters, None if summary.first is None else summary.first.position, None)

    def appended(self, messages: Sequence[MessageRecord], first_position: int) -> tuple[Self, dict[int, Payload]]:
        """Return that of a new line, and the briefs that the line is to have, by position.

        It is what ``SessionSummary.appended`` says, at a third of its time.
        """
        counters, first, last = dict(self.counters), self.first, self.last
        briefs: dict[int, Payload] = {}
        for position, message in enumerate(messages, start=first_position):
            counters[message.role] = counters.get(message.role, 0) + 1
            for name, number in message.adds.items():
                counters[name] = counters.get(name, 0) + number
            if message.brief is None:
                continue
            if last is not None and last != first:
                briefs.pop(last, None)
            last = position
            briefs[position] = message.brief
            if first is None and message.role == "user":
                first = position
        return type(self)(without_zeros(counters), first, last), briefs
