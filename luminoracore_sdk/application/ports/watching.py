"""Watching a session: its changes, and how a storage wakes those that watch it."""

from typing import Literal, Protocol

import attrs

from luminoracore_sdk.application.ports.records import MessageRecord

__all__ = ["Change", "Wakeup"]


@attrs.frozen
class Change:
    """A change of a session's messages, in the order in which a copy of them has to follow.

    Attributes:
        kind: ``appended``: a message is behind all others; ``updated``: a message has another payload; ``cut``: all
            messages above the position were removed; ``deleted``: there is no session any more, the last change.
        position: That of the message, the last that stayed, or 0.
        message: The message that was appended or updated; None for the others.
        number: That of the latest change of what was stored before, see ``HistoryChange``, that a copy has which has
            followed so far; a watcher that comes back passes it as ``seen``.
    """

    kind: Literal["appended", "updated", "cut", "deleted"]
    position: int
    message: MessageRecord | None = None
    number: int = 0


class Wakeup(Protocol):
    """Wakes a watcher when its session may have changed."""

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109  # not an error if nothing happens
        """Return when the session may have changed since the last wait, or after a number of seconds."""
        ...
