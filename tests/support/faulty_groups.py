"""Memory storages that go wrong when they write several appends together; see ``Faulty``."""

import asyncio
from collections.abc import Sequence

from luminoracore_sdk.adapters.storage.group_commit import Append, GroupCommit
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.domain.errors import (
    ConflictError,
    LuminoraCoreSDKError,
    SessionNotFoundError,
    StorageUnavailableError,
)
from tests.support.faulty_appends import Faulty, pause

__all__ = ["FAULTY_GROUPS", "Grouping"]


class Grouping(Faulty):
    """Writes together what waits at the same time; without a fault itself."""

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._groups = GroupCommit("memory", alone=self._alone, together=self._together, most_requests=1, timeout=30)

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        return await self._groups.append(Append(session_id, messages, expected_last, now_us))

    async def _alone(self, append: Append) -> AppendReceipt:
        await pause()
        return await super()._append_messages(append.session_id, append.messages, append.expected_last, append.now_us)

    async def _together(self, appends: Sequence[Append]) -> Sequence[AppendReceipt | None]:
        await pause()
        return [await self._or_none(append) for append in appends]

    async def _or_none(self, append: Append) -> AppendReceipt | None:
        try:
            return await self._alone(append)
        except (ConflictError, SessionNotFoundError):
            return None

    async def _close(self) -> None:
        await self._groups.drain()
        await super()._close()


class SwapsReceipts(Grouping):
    found_by = ("each_concurrent_append_gets_its_own_receipt",)

    async def _together(self, appends: Sequence[Append]) -> Sequence[AppendReceipt | None]:
        return list(await super()._together(appends))[::-1]


class FailsAllForOne(Grouping):
    found_by = ("a_failing_append_does_not_affect_concurrent_ones",)

    async def _together(self, appends: Sequence[Append]) -> Sequence[AppendReceipt | None]:
        try:
            return [await self._alone(append) for append in appends]
        except LuminoraCoreSDKError as exc:
            raise StorageUnavailableError("memory", "one of them failed") from exc


class WritesTheNewestFirst(Grouping):
    found_by = ("concurrent_appends_of_one_task_keep_their_order",)

    async def _together(self, appends: Sequence[Append]) -> Sequence[AppendReceipt | None]:
        return list(await super()._together(appends[::-1]))[::-1]


class IsStoppedByOneWhoGoes(Grouping):
    """The callers of a group wait for one task, and none protects it."""

    found_by = ("cancelled_appends_do_not_affect_concurrent_ones",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._next: tuple[list[Append], asyncio.Task[list[AppendReceipt]]] | None = None

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        if self._next is None:
            appends = list[Append]()
            self._next = (appends, asyncio.create_task(self._all(appends)))
        appends, task = self._next
        number = len(appends)
        appends.append(Append(session_id, messages, expected_last, now_us))
        return (await task)[number]

    async def _all(self, appends: Sequence[Append]) -> list[AppendReceipt]:
        await pause()
        self._next = None
        return [await self._alone(append) for append in appends]


class AcknowledgesFirst(Grouping):
    """Gives receipts for what it writes a moment later."""

    found_by = ("an_acknowledged_append_can_be_read_at_once",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._later = set[asyncio.Task[AppendReceipt]]()

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        stored = self._existing(session_id, now_us).messages
        append = Append(session_id, messages, expected_last, now_us)
        task = asyncio.create_task(self._alone(append))
        self._later.add(task)
        task.add_done_callback(self._later.discard)
        return AppendReceipt(first_position=len(stored) + 1, last_position=len(stored) + len(messages))


class KeepsTheCallersList(Grouping):
    found_by = ("changing_a_batch_during_its_append_has_no_effect",)

    async def append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], *, expected_last: int | None = None
    ) -> AppendReceipt:
        await pause()
        return await super().append_messages(session_id, messages, expected_last=expected_last)


FAULTY_GROUPS: tuple[type[Faulty], ...] = (
    Grouping,
    SwapsReceipts,
    FailsAllForOne,
    WritesTheNewestFirst,
    IsStoppedByOneWhoGoes,
    AcknowledgesFirst,
    KeepsTheCallersList,
)
