"""The appends of the PostgreSQL backend: one at once, or those that wait together in one statement."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from luminoracore_sdk.adapters.storage.base import replay_receipt
from luminoracore_sdk.adapters.storage.group_commit import Append, GroupCommit
from luminoracore_sdk.adapters.storage.postgres.append_rows import (
    batch_values,
    group_receipts,
    group_values,
    one_values,
)
from luminoracore_sdk.adapters.storage.postgres.errors import BACKEND, ContendedError, TakenError
from luminoracore_sdk.adapters.storage.postgres.memory import PostgreSQLMemory
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.domain.errors import CorruptRecordError, StorageClosedError

if TYPE_CHECKING:
    from luminoracore_sdk.adapters.storage.postgres.call import Call
    from luminoracore_sdk.adapters.storage.postgres.compiled import Statement

__all__ = ["PostgreSQLAppends"]

_MOST_REQUESTS = 2
"""More are no quicker: 64 writers with 1, 2, 3 and 4 came to 3.8-4.6, 3.2-5.5, 4.1 and 3.3-4.3 times the rate
of the bare driver (PostgreSQL 18, two shared cores). With 1, a second writer always has to wait."""


class PostgreSQLAppends(PostgreSQLMemory):
    """The primitive that appends."""

    _commits: GroupCommit | None = None

    async def _open(self) -> None:
        await super()._open()
        self._commits = GroupCommit(
            self.backend_name,
            alone=self._alone,
            together=self._together,
            most_requests=_MOST_REQUESTS,
            timeout=self._limits.call_seconds,
        )

    async def _close(self) -> None:
        commits, self._commits = self._commits, None
        try:
            if commits is not None:
                await commits.drain()
        except BaseException:
            if self._pool is not None:
                self._pool.terminate()
            raise
        await super()._close()

    def _abandon(self) -> None:
        self._commits = None
        super()._abandon()

    async def _append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        expected_last: int | None,
        now_us: int,
    ) -> AppendReceipt:
        if self._commits is None:
            raise StorageClosedError(self.backend_name)
        deadline = asyncio.get_running_loop().time() + self._limits.call_seconds
        return await self._commits.append(Append(session_id, messages, expected_last, now_us, deadline))

    # -- one -------------------------------------------------------------------------------------

    async def _alone(self, append: Append) -> AppendReceipt:
        if self._pool is None:
            raise StorageClosedError(self.backend_name)
        size = len(append.messages)
        statements = self._sql.messages.append
        statement = statements.one if size == 1 else statements.batch
        given = one_values(append) if size == 1 else batch_values(append)
        try:
            rows = await self._pool.rows(statement, given, append.deadline)
        except TakenError:
            rows = []
        if not rows:
            return await self._again(append, statement, given)
        last: int = rows[0][0]
        return AppendReceipt(first_position=last - size + 1, last_position=last)

    async def _again(self, append: Append, statement: "Statement", given: Mapping[str, Any]) -> AppendReceipt:
        """Find out why an append wrote nothing; if the reason is gone, write it."""

        async def again(call: "Call") -> AppendReceipt:
            async with call.transaction():  # under the lock, the reason cannot go away
                if receipt := await self._refused(call, append):
                    return receipt
                try:
                    row = await call.row(statement, **given)
                except TakenError as exc:  # no id of the batch is stored, so it is a position
                    key = f"session {append.session_id!a}"
                    reason = "there are messages above its last position"
                    raise CorruptRecordError(backend=BACKEND, key=key, reason=reason) from exc
            if row is None:
                raise ContendedError
            return AppendReceipt(first_position=row[0] - len(append.messages) + 1, last_position=row[0])

        return await self._run(again, append.deadline)

    async def _refused(self, call: "Call", append: Append) -> AppendReceipt | None:
        """Find out why an append wrote nothing; None: the reason is gone.

        Returns:
            The first receipt, if it was a repetition.
        """
        session_id, expected_last = append.session_id, append.expected_last
        standing = await call.row(self._sql.lock, session=session_id, now=append.now_us)
        sid, _, last, is_live = standing or (None, 0, 0, False)
        if not is_live:
            raise self._not_found(session_id)
        ids = [message.message_id for message in append.messages]
        stored = {row[0]: row[1] for row in await call.rows(self._sql.messages.known, sid_=sid, ids=ids)}
        if receipt := replay_receipt(self.backend_name, append.messages, stored):
            return receipt
        if expected_last not in (None, last):
            raise self._position_conflict(session_id, expected_last or 0, last)
        return None

    # -- several ---------------------------------------------------------------------------------

    async def _together(self, appends: Sequence[Append]) -> Sequence[AppendReceipt | None]:
        deadline = max(append.deadline for append in appends)  # who came late has his time
        try:
            rows = await self._rows(self._sql.messages.append.groups, group_values(appends), deadline)
        except TakenError:  # somebody's message is stored already: alone, each finds out whether it is his
            return [None] * len(appends)
        return group_receipts(appends, rows)
