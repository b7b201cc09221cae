"""Memory storages that go wrong when two append or read at once, and which case of the contract shows it."""

import asyncio
from collections.abc import Sequence
from typing import ClassVar

import attrs

from luminoracore_sdk.adapters.storage.base import replay_receipt
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRange, MessageRecord

__all__ = ["FAULTY_APPENDS", "Faulty", "pause"]


async def pause() -> None:
    """Let others come between, whatever the rhythm in which they wait themselves."""
    for _ in range(3):
        await asyncio.sleep(0)


class Faulty(InMemoryStorage):
    """A memory storage that others come between in, as on a server; without a fault itself."""

    found_by: ClassVar[tuple[str, ...]] = ()
    """Cases of the contract that fail over it, without ``test_``."""

    async def _ready(self) -> int:
        await pause()
        return await super()._ready()


class ReadsThePositionFirst(Faulty):
    found_by = ("batches_of_50_writers_are_all_kept_and_contiguous",)

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        last = len(self._existing(session_id, now_us).messages)
        await pause()
        await super()._append_messages(session_id, messages, expected_last, now_us)
        return AppendReceipt(first_position=last + 1, last_position=last + len(messages))


class OverwritesWhatOthersAppended(Faulty):
    found_by = ("batches_of_50_writers_are_all_kept_and_contiguous",)

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        last = len(self._existing(session_id, now_us).messages)
        await pause()
        await self._truncate_messages(session_id, last, now_us)
        return await super()._append_messages(session_id, messages, expected_last, now_us)


class WritesMessageByMessage(Faulty):
    found_by = ("concurrent_large_batches_stay_contiguous",)

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        receipts = []
        for message in messages:
            receipts.append(await super()._append_messages(session_id, [message], None, now_us))
            await pause()
        return AppendReceipt(first_position=receipts[0].first_position, last_position=receipts[-1].last_position)


class ShowsHalfOfABatch(WritesMessageByMessage):
    """Writers wait for each other; readers do not wait for them."""

    found_by = ("readers_see_whole_batches_only",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._one_at_a_time = asyncio.Lock()

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        async with self._one_at_a_time:
            return await super()._append_messages(session_id, messages, expected_last, now_us)


class KnowsMessageIdsOfEverySession(Faulty):
    found_by = ("50_sessions_may_have_the_same_message_ids",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._known: dict[str, int] = {}

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        known = {m.message_id: self._known[m.message_id] for m in messages if m.message_id in self._known}
        if receipt := replay_receipt(self.backend_name, messages, known):
            return receipt
        receipt = await super()._append_messages(session_id, messages, expected_last, now_us)
        self._known |= {m.message_id: place for place, m in enumerate(messages, receipt.first_position)}
        return receipt


class ChecksTheConditionFirst(Faulty):
    found_by = (
        "one_of_50_conditional_appends_wins",
        "writers_that_retry_after_conflicts_all_succeed",
    )

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        last = len(self._existing(session_id, now_us).messages)
        if expected_last not in (None, last):
            raise self._position_conflict(session_id, expected_last or 0, last)
        await pause()
        return await super()._append_messages(session_id, messages, None, now_us)


class TellsOfAConflictWhatItExpected(Faulty):
    found_by = ("one_of_50_conditional_appends_wins",)

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        if expected_last not in (None, len(self._existing(session_id, now_us).messages)):
            raise self._position_conflict(session_id, expected_last or 0, expected_last or 0)
        return await super()._append_messages(session_id, messages, expected_last, now_us)


class LooksForTheIdsFirst(Faulty):
    """Finds no such id, and appends a moment later without looking again."""

    found_by = (
        "a_batch_sent_20_times_at_once_is_stored_once",
        "concurrent_batches_that_overlap_conflict",
        "concurrent_retries_get_the_first_receipt",
    )

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        stored = self._existing(session_id, now_us)
        known = {m.message_id: stored.positions[m.message_id] for m in messages if m.message_id in stored.positions}
        if receipt := replay_receipt(self.backend_name, messages, known):
            return receipt
        await pause()
        for message in messages:
            stored.positions.pop(message.message_id, None)
        return await super()._append_messages(session_id, messages, None, now_us)


class RefusesTheRetryOfAnAppendUnderWay(Faulty):
    """A batch that another task stores between the look for its ids and the condition is a conflict to it."""

    found_by = ("a_batch_sent_20_times_at_once_is_stored_once",)

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        stored = self._existing(session_id, now_us)
        if messages[0].message_id not in stored.positions:
            await pause()
            last = len(stored.messages)
            if expected_last not in (None, last):
                raise self._position_conflict(session_id, expected_last or 0, last)
        return await super()._append_messages(session_id, messages, expected_last, now_us)


class ReplaysOnlyTheNewest(Faulty):
    """Recognises a repeated batch while it is the last one; later it is stored again."""

    found_by = ("a_retry_among_other_appends_gets_the_first_receipt",)

    async def _append_messages(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        stored = self._existing(session_id, now_us)
        newest = {message.message_id for message in stored.messages[-len(messages) :]}
        if newest != {message.message_id for message in messages}:
            stored.positions.clear()
            expected_last = None
        return await super()._append_messages(session_id, messages, expected_last, now_us)


class CountsBeforeItReadsTheNewest(Faulty):
    found_by = ("newest_messages_end_with_a_whole_batch",)

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        if span.newest and span.limit is not None and span.before is None:
            count = len(self._existing(session_id, now_us).messages)
            await pause()
            span = MessageRange(after=max(span.after, count - span.limit))
        return await super()._read_messages(session_id, span, now_us)


class PagesByDistanceFromTheEnd(Faulty):
    found_by = (
        "backward_pages_during_appends_are_complete",
        "a_bounded_range_does_not_change_during_appends",
    )

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        if span.before is not None:
            distance = len(self._existing(session_id, now_us).messages) - span.before
            await pause()
            end = len(self._existing(session_id, now_us).messages)
            span = attrs.evolve(span, before=end - distance)
        return await super()._read_messages(session_id, span, now_us)


class RemembersWhereASessionEnded(Faulty):
    """Keeps the position of the newest message from the first read, for ever."""

    found_by = ("forward_pages_during_appends_are_complete",)

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._ends: dict[str, int] = {}

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        end = self._ends.setdefault(session_id, len(self._existing(session_id, now_us).messages))
        found = await super()._read_messages(session_id, span, now_us)
        return [message for message in found if message.position <= end]


class ReadsNoFurtherThanTheFirstChunk(Faulty):
    found_by = ("a_stream_during_appends_has_no_gap",)

    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        if span.after and span.limit == 30:
            span = attrs.evolve(span, after=span.after + 1)
        return await super()._read_messages(session_id, span, now_us)


FAULTY_APPENDS: tuple[type[Faulty], ...] = (
    ReadsThePositionFirst,
    OverwritesWhatOthersAppended,
    WritesMessageByMessage,
    ShowsHalfOfABatch,
    KnowsMessageIdsOfEverySession,
    ChecksTheConditionFirst,
    TellsOfAConflictWhatItExpected,
    LooksForTheIdsFirst,
    RefusesTheRetryOfAnAppendUnderWay,
    ReplaysOnlyTheNewest,
    CountsBeforeItReadsTheNewest,
    PagesByDistanceFromTheEnd,
    RemembersWhereASessionEnded,
    ReadsNoFurtherThanTheFirstChunk,
)
