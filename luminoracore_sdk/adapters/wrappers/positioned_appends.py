"""Appends whose stored form depends on the position of each message."""

import asyncio
from collections.abc import Callable, Sequence
from random import SystemRandom

from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import SessionLocks
from luminoracore_sdk.domain.errors import ConflictError, LeaseLostError, StorageBusyError, ValidationError

__all__ = ["PositionedAppends"]

_CACHED_POSITIONS = 10_000
_FIRST_WAIT = 0.001
_LONGEST_WAIT = 0.1
_NOWHERE = 2**31 - 1
"""A position that no session reaches: an append that expects it writes nothing, but recognizes known ids."""

Prepare = Callable[[str, Sequence[MessageRecord], int], Sequence[MessageRecord]]
"""Returns the stored form of messages that follow a position of a session."""


class PositionedAppends:
    """Append messages whose stored form depends on their position.

    Each append assumes the last known position of the session and is made on the condition that it is right.
    Appends of this object to one session are serialized. When another process appended first, the position is
    read and the append is repeated; in each round one of the processes succeeds.

    Args:
        base: The storage below.
        prepare: Returns the stored form.
        time_limit: Seconds after which an append that always conflicts is given up.
    """

    def __init__(self, base: SessionStorage, prepare: Prepare, *, time_limit: float) -> None:
        self._base = base
        self._prepare = prepare
        self._time_limit = time_limit
        self._locks = SessionLocks()
        self._last: dict[str, int] = {}
        self._random = SystemRandom()

    def forget(self, session_id: str) -> None:
        """Read the session's position again before the next append."""
        self._last.pop(session_id, None)

    async def append(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        expected_last: int | None,
        fence: int | None = None,
    ) -> AppendReceipt:
        """Append; see ``SessionStorage.append_messages``.

        Raises:
            StorageBusyError: Other processes appended first until the time limit; nothing was changed.
            ValidationError: ``expected_last`` is not a whole number.
        """
        if not isinstance(expected_last, int | None):
            raise ValidationError(f"expected_last must be a whole number, not {expected_last!a:.40}")
        async with self._locks.of(session_id).hold():
            if expected_last is not None:
                return await self._attempt(session_id, messages, expected_last, fence)
            return await self._repeat(session_id, messages, fence)

    async def _repeat(self, session_id: str, messages: Sequence[MessageRecord], fence: int | None) -> AppendReceipt:
        loop = asyncio.get_running_loop()
        end, wait = loop.time() + self._time_limit, 0.0
        last = self._last.get(session_id)
        while True:
            assumed = await self._read_position(session_id) if last is None else last
            try:
                return await self._attempt(session_id, messages, assumed, fence)
            except LeaseLostError:
                raise
            except ConflictError as exc:
                if loop.time() >= end:
                    reason = f"session {session_id!a}: other processes appended first for {self._time_limit:g} s"
                    raise StorageBusyError(self._base.backend, reason) from exc
            await asyncio.sleep(self._random.uniform(0, wait))
            wait = min(max(2 * wait, _FIRST_WAIT), _LONGEST_WAIT)
            last = await self._read_position(session_id)
            if last == assumed and await self._is_known(session_id, messages):
                return await self._attempt(session_id, messages, last, fence)  # or raise its conflict

    async def _read_position(self, session_id: str) -> int:
        header = await self._base.find_session(session_id)
        return header.last_position if header else 0  # without a session, the append raises the error

    async def _is_known(self, session_id: str, messages: Sequence[MessageRecord]) -> bool:
        """Return whether some of several messages are stored already; nothing is written.

        For a single message the store itself returns the first receipt.
        """
        for message in messages if len(messages) > 1 else ():
            try:
                await self._base.append_messages(
                    session_id, self._prepare(session_id, [message], _NOWHERE), expected_last=_NOWHERE
                )
            except ConflictError:
                continue
            return True
        return False

    async def _attempt(
        self, session_id: str, messages: Sequence[MessageRecord], last: int, fence: int | None
    ) -> AppendReceipt:
        self.forget(session_id)  # until the append succeeds, the position is uncertain
        prepared = self._prepare(session_id, messages, last)
        receipt = await self._base.append_messages(session_id, prepared, expected_last=last, fence=fence)
        if not receipt.replayed:
            self._last[session_id] = receipt.last_position
            while len(self._last) > _CACHED_POSITIONS:
                self._last.pop(next(iter(self._last)), None)
        return receipt
