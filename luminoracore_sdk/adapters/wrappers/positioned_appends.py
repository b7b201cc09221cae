"""Appends that have to know their position beforehand."""

import asyncio
from collections.abc import Callable, Sequence
from random import SystemRandom

from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.session_access import SessionLocks
from luminoracore_sdk.domain.errors import ConflictError, StorageBusyError, ValidationError

__all__ = ["PositionedAppends"]

_REMEMBERED = 10_000
_FIRST_WAIT = 0.001
_LONGEST_WAIT = 0.1
_NOWHERE = 2**31 - 1
"""A newest position that no session has: an append that expects it writes nothing, and finds known ids."""

Prepare = Callable[[str, Sequence[MessageRecord], int], Sequence[MessageRecord]]
"""Makes of messages what is stored in a session behind a position."""


class PositionedAppends:
    """Appends messages whose stored form depends on where they come to lie.

    The position is assumed, and the append made on the condition that it is right. Appends of this object
    to one session take turns, so that they do not meet. When another process was first, the position is
    looked up and the messages are made again, until it succeeds: in each round somebody does.

    Args:
        base: The storage below.
        prepare: Makes the stored form.
        time_limit: Seconds after which an append that others always forestall is given up.
    """

    def __init__(self, base: SessionStorage, prepare: Prepare, *, time_limit: float) -> None:
        self._base = base
        self._prepare = prepare
        self._time_limit = time_limit
        self._locks = SessionLocks()
        self._last: dict[str, int] = {}
        self._random = SystemRandom()

    def forget(self, session_id: str) -> None:
        """Look the position of a session up before the next append."""
        self._last.pop(session_id, None)

    async def append(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None
    ) -> AppendReceipt:
        """Append; see ``SessionStorage.append_messages``.

        Raises:
            StorageBusyError: Others wrote before each attempt for longer than the time limit; nothing was
                changed.
            ValidationError: ``expected_last`` is no whole number.
        """
        if not isinstance(expected_last, int | None):
            raise ValidationError(f"expected_last is a whole number, not {expected_last!a:.40}")
        async with self._locks.of(session_id).hold():
            if expected_last is not None:
                return await self._attempt(session_id, messages, expected_last)
            return await self._until_it_fits(session_id, messages)

    async def _until_it_fits(self, session_id: str, messages: Sequence[MessageRecord]) -> AppendReceipt:
        loop = asyncio.get_running_loop()
        end, wait = loop.time() + self._time_limit, 0.0
        last = self._last.get(session_id)
        while True:
            tried = await self._look_up(session_id) if last is None else last
            try:
                return await self._attempt(session_id, messages, tried)
            except ConflictError as exc:
                if loop.time() >= end:
                    reason = f"session {session_id!a}: others appended first for {self._time_limit:g} s"
                    raise StorageBusyError(self._base.backend, reason) from exc
            await asyncio.sleep(self._random.uniform(0, wait))
            wait = min(max(2 * wait, _FIRST_WAIT), _LONGEST_WAIT)
            last = await self._look_up(session_id)
            if last == tried and await self._is_known(session_id, messages):
                return await self._attempt(session_id, messages, last)  # or the conflict that it is

    async def _look_up(self, session_id: str) -> int:
        header = await self._base.find_session(session_id)
        return header.last_position if header else 0  # the append says best that there is no session

    async def _is_known(self, session_id: str, messages: Sequence[MessageRecord]) -> bool:
        """Tell whether some of the messages are stored already; nothing is written.

        Of one message alone the store itself answers with the first receipt.
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

    async def _attempt(self, session_id: str, messages: Sequence[MessageRecord], last: int) -> AppendReceipt:
        self.forget(session_id)  # whatever happens now, only an answer tells
        prepared = self._prepare(session_id, messages, last)
        receipt = await self._base.append_messages(session_id, prepared, expected_last=last)
        if not receipt.replayed:
            self._remember(session_id, receipt.last_position)
        return receipt

    def _remember(self, session_id: str, last: int) -> None:
        self._last[session_id] = last
        while len(self._last) > _REMEMBERED:
            self._last.pop(next(iter(self._last)), None)
