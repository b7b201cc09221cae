"""Appends on Redis: those that wait at the same time go over one connection, one behind the other."""

import asyncio
from collections.abc import Sequence
from typing import Any

from luminoracore_sdk.adapters.storage.base import replay_receipt
from luminoracore_sdk.adapters.storage.group_commit import Append, GroupCommit, own_copy
from luminoracore_sdk.adapters.storage.redis.lua import script
from luminoracore_sdk.adapters.storage.redis.records import damaged, message_element, number_or_none
from luminoracore_sdk.adapters.storage.redis.rewriting import RedisRewriting
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.domain.errors import LuminoraCoreSDKError

__all__ = ["RedisAppends"]

_MOST_REQUESTS = 2
"""Requests under way, on each node: while the server works on one, the other is made or its answers are told.

With 64 writers on two cores, 1, 2 and 4 measured the same (15 to 17 thousand appends a second).
"""

_OF_ALL = (b"absent", b"damaged")

Outcome = AppendReceipt | LuminoraCoreSDKError | None


class RedisAppends(RedisRewriting):
    """The call that appends.

    What one session gets at a time is one call of the script; the calls for several sessions are sent
    together, and each is whole, or fails, by itself. On a cluster each node has a group of its own, so
    that a silent one keeps only its own sessions waiting.
    """

    _commits: dict[str, GroupCommit]
    _homes: dict[str, tuple[str, int]]  # of sessions with appends: their node, and how many wait

    async def _open(self) -> None:
        await super()._open()
        self._commits, self._homes = {}, {}

    async def _drain(self) -> None:
        await asyncio.gather(*(commit.drain() for commit in self._commits.values()))

    async def _append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        expected_last: int | None,
        now_us: int,
    ) -> AppendReceipt:
        append = Append(session_id, messages, expected_last, now_us)
        if not self._link.has_places:
            return await self._commit("").append(append)
        # the order in which a session's appends were asked for is kept by its group; when its slot moves
        # to another node, what still waits goes first
        home, count = self._homes.get(session_id) or (self._place(session_id), 0)
        self._homes[session_id] = home, count + 1
        try:
            return await self._commit(home).append(append)
        finally:
            home, count = self._homes.pop(session_id)
            if count > 1:
                self._homes[session_id] = home, count - 1

    def _place(self, session_id: str) -> str:
        return self._link.place(self._keys.session(session_id).session)

    def _commit(self, home: str) -> GroupCommit:
        commit = self._commits.get(home)
        if commit is None:
            commit = self._commits[home] = GroupCommit(
                self.backend_name,
                alone=self._append_alone,
                together=self._append_together,
                most_requests=_MOST_REQUESTS,
                timeout=self._limits.seconds,
            )
        return commit

    async def _append_alone(self, append: Append) -> AppendReceipt:
        [reply] = await self._link.run(script("append"), [self._append_call([append])], writes=True)
        return self._receipt(append, reply)

    async def _append_together(self, appends: Sequence[Append]) -> list[Outcome]:
        of_sessions = dict[str, list[Append]]()
        for append in appends:
            of_sessions.setdefault(append.session_id, []).append(append)
        calls = [self._append_call(some) for some in of_sessions.values()]
        replies = await self._link.outcomes(script("append"), calls)
        outcomes = {
            name: iter(self._outcomes(some, reply))
            for (name, some), reply in zip(of_sessions.items(), replies, strict=True)
        }
        return [next(outcomes[append.session_id]) for append in appends]

    def _append_call(self, appends: Sequence[Append]) -> Any:
        """Return the call of the script for appends to one session."""
        given = [b"%d" % appends[-1].now_us, b"%d" % self.grace_ms]
        for append in appends:
            given += (number_or_none(append.expected_last), b"%d" % len(append.messages))
            for message in append.messages:
                given += (message.message_id.encode(), message_element(message))
        return self._call(self._keys.session(appends[0].session_id)[:5], given)

    def _outcomes(self, appends: Sequence[Append], reply: Any) -> list[Outcome]:
        """Return what became of appends to one session, of which a call of the script told this."""
        if isinstance(reply, int):  # as nearly always
            return [self._receipt(appends[0], reply)]
        if reply is None:
            return [None] * len(appends)
        if isinstance(reply, LuminoraCoreSDKError):
            return [own_copy(reply) for _ in appends]
        if len(appends) == 1 or reply[0] in _OF_ALL:
            return [self._outcome(append, reply) for append in appends]
        return [self._outcome(append, answer) for append, answer in zip(appends, reply, strict=True)]

    def _outcome(self, append: Append, answer: Any) -> Outcome:
        try:
            return self._receipt(append, answer)
        except LuminoraCoreSDKError as exc:
            return exc

    def _receipt(self, append: Append, answer: Any) -> AppendReceipt:
        """Return the receipt for what the script answers for one append, or raise what refused it."""
        if isinstance(answer, int):
            return AppendReceipt(first_position=answer - len(append.messages) + 1, last_position=answer)
        if answer[0] == b"known":
            pairs = zip(append.messages, answer[1:], strict=True)
            stored = {message.message_id: position for message, position in pairs if position}
            if receipt := replay_receipt(self.backend_name, append.messages, stored):
                return receipt
        if answer[0] == b"moved":
            raise self._position_conflict(append.session_id, append.expected_last or 0, answer[1])
        self._done(append.session_id, answer)
        raise damaged(f"session {append.session_id!a}", "an id of its messages has no position")
