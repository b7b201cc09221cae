"""Memory storages with one fault each: one for every part of the contract, to show that the part finds it."""

import asyncio
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import attrs

from luminoracore_sdk.adapters.storage.base import Append, MemoryChange, MessageUpdate, Tail
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.records import (
    AppendReceipt,
    IndexRewrite,
    Lease,
    MemoryQuery,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Page,
    Payload,
    RewriteMessage,
    SessionQuery,
    SessionRecord,
    TailReceipt,
    TurnRecords,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.testing.contract.append import AppendContract, AppendRaceContract, AppendsAtOnceContract
from luminoracore_sdk.testing.contract.base import ContractBase
from luminoracore_sdk.testing.contract.documents import DocumentContract, IdContract
from luminoracore_sdk.testing.contract.forks import ForkContract
from luminoracore_sdk.testing.contract.indexing import IndexContract, LightListingContract
from luminoracore_sdk.testing.contract.leases import LeaseContract
from luminoracore_sdk.testing.contract.lifecycle import LifeContract, ResumeContract
from luminoracore_sdk.testing.contract.listing import ListingContract, PageContract
from luminoracore_sdk.testing.contract.memory import MemoryChangeContract, MemoryContract, MemoryPageContract
from luminoracore_sdk.testing.contract.messages import MeanwhileContract, MessageContract
from luminoracore_sdk.testing.contract.races import MemoryRaceContract, SessionRaceContract
from luminoracore_sdk.testing.contract.rewriting import (
    RewriteContract,
    RewriteRaceContract,
    RewriteRefusalContract,
)
from luminoracore_sdk.testing.contract.sessions import ExpiryContract, SessionContract
from luminoracore_sdk.testing.contract.summaries import ActivityContract, SummaryContract
from luminoracore_sdk.testing.contract.tails import TailContract, TailRaceContract, UpdateContract
from luminoracore_sdk.testing.contract.tenants import TenantContract
from luminoracore_sdk.testing.contract.turns import TurnContract
from luminoracore_sdk.testing.contract.watching import WatchContract

__all__ = ["FAULTS", "STATE_FAULTS"]


_ALL = MessageRange()


async def pause() -> None:
    """Let other tasks run for a few steps."""
    for _ in range(3):
        await asyncio.sleep(0)


# -- sessions ------------------------------------------------------------------------------------


class IgnoresTheExpectedVersion(InMemoryStorage):
    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        return await super()._put_session(record, None if expected_version else expected_version, now_us)


class ChecksTheVersionFirst(InMemoryStorage):
    async def _put_session(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        stored = await self._find_session(record.session_id, now_us)
        if expected_version == (stored.version if stored else 0):
            await pause()
            expected_version = None
        return await super()._put_session(record, expected_version, now_us)


class FindsExpiredSessions(InMemoryStorage):
    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        return await super()._find_session(session_id, 0)


class ListsTheLastOfAPageAgain(InMemoryStorage):
    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        if query.cursor is not None and query.newest_first:
            query = attrs.evolve(query, cursor=(query.cursor[0], query.cursor[1] + "x"))
        return await super()._query_sessions(query, now_us)


class PagesByNumber(InMemoryStorage):
    """A cursor says how many sessions came before it."""

    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        skipped = query.cursor[0] if query.cursor else 0
        sessions = (await super()._query_sessions(attrs.evolve(query, cursor=None, limit=10**9), now_us)).sessions
        end = min(skipped + query.limit, len(sessions))
        return Page(sessions=sessions[skipped:end], next_cursor=(end, "-") if end < len(sessions) else None)


# -- messages ------------------------------------------------------------------------------------


class ReadsTheBoundToo(InMemoryStorage):
    async def _read_messages(self, session_id: str, span: MessageRange, now_us: int) -> list[MessageRecord]:
        wider = span if span.before is None else attrs.evolve(span, before=span.before + 1)
        return await super()._read_messages(session_id, wider, now_us)


class IgnoresTheExpectedPosition(InMemoryStorage):
    async def _append_messages(self, append: Append) -> AppendReceipt:
        return await super()._append_messages(attrs.evolve(append, expected_last=None))


class ChecksThePositionFirst(InMemoryStorage):
    async def _append_messages(self, append: Append) -> AppendReceipt:
        stored = await self._find_session(append.session_id, append.now_us)
        if stored is not None and append.expected_last == stored.last_position:
            await pause()
            append = attrs.evolve(append, expected_last=None)
        return await super()._append_messages(append)


class WritesMessageByMessage(InMemoryStorage):
    async def _append_messages(self, append: Append) -> AppendReceipt:
        receipts = []
        for message in append.messages:
            receipts.append(
                await super()._append_messages(attrs.evolve(append, messages=[message], expected_last=None))
            )
            await pause()
        return AppendReceipt(first_position=receipts[0].first_position, last_position=receipts[-1].last_position)


class IgnoresTheFence(InMemoryStorage):
    async def _append_messages(self, append: Append) -> AppendReceipt:
        return await super()._append_messages(attrs.evolve(append, fence=None))


class CountsRepeatedAppends(InMemoryStorage):
    async def _append_messages(self, append: Append) -> AppendReceipt:
        receipt = await super()._append_messages(append)
        stored = self._sessions[append.session_id]
        if receipt.replayed:
            summary = stored.header.summary.appended(append.messages, receipt.first_position)
            stored.header = attrs.evolve(stored.header, summary=summary)
        return receipt


class KeepsTheBriefOfARedactedMessage(InMemoryStorage):
    async def _update_message(self, update: MessageUpdate) -> bool:
        before = self._sessions[update.session_id].header.summary
        done = await super()._update_message(update)
        stored = self._sessions[update.session_id]
        stored.header = attrs.evolve(stored.header, summary=before)
        return done


class KeepsTheIndexOfARedactedMessage(InMemoryStorage):
    async def _update_message(self, update: MessageUpdate) -> bool:
        return await super()._update_message(attrs.evolve(update, index=update.message.index))


class RewritesWhateverIndexIsStored(InMemoryStorage):
    async def _rewrite_index(self, session_id: str, changes: Sequence[IndexRewrite], now_us: int) -> int:
        stored = {record.position: record.index for record in await self._read_index(session_id, _ALL, now_us)}
        present = [attrs.evolve(change, old=stored.get(change.position)) for change in changes]
        return await super()._rewrite_index(session_id, present, now_us)


class ListsTextsAlways(InMemoryStorage):
    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        return await super()._query_sessions(attrs.evolve(query, texts=True), now_us)


class ListsByCreationAlways(InMemoryStorage):
    async def _query_sessions(self, query: SessionQuery, now_us: int) -> Page:
        return await super()._query_sessions(attrs.evolve(query, by_activity=False), now_us)


class ForksInTwoSteps(InMemoryStorage):
    async def _fork_session(
        self, source_id: str, record: SessionRecord, at: int, rewrite: RewriteMessage | None, now_us: int
    ) -> SessionRecord:
        await super()._fork_session(source_id, record, 0, rewrite, now_us)
        await pause()
        await self._delete_session(record.session_id, now_us)
        return await super()._fork_session(source_id, record, at, rewrite, now_us)


class ForgetsToNoteCuts(InMemoryStorage):
    async def _truncate_messages(self, session_id: str, after: int, now_us: int) -> int:
        count = await super()._truncate_messages(session_id, after, now_us)
        stored = self._sessions[session_id]
        stored.header = attrs.evolve(stored.header, changes=stored.header.changes[:-1])
        return count


class GivesTheLeaseToEverybody(InMemoryStorage):
    async def _acquire_lease(self, session_id: str, holder: str, ttl_us: int, now_us: int) -> Lease:
        stored = self._sessions.get(session_id)
        if stored is not None and stored.header.lease is not None:
            await self._release_lease(session_id, stored.header.lease.fence, now_us)
        return await super()._acquire_lease(session_id, holder, ttl_us, now_us)


class KeepsTheCallersList(InMemoryStorage):
    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[MessageRecord],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
    ) -> AppendReceipt:
        await pause()
        return await super().append_messages(session_id, messages, expected_last=expected_last, fence=fence)


class ReadsOneMessageMoreForATurn(InMemoryStorage):
    async def _read_turn(self, session_id: str, newest: int, now_us: int) -> TurnRecords | None:
        return await super()._read_turn(session_id, newest + 1, now_us)


class ReturnsTheTailReversed(InMemoryStorage):
    async def _replace_tail(self, tail: Tail) -> TailReceipt:
        receipt = await super()._replace_tail(tail)
        return attrs.evolve(receipt, removed=receipt.removed[::-1])


class ReadsTheTailFirst(InMemoryStorage):
    async def _replace_tail(self, tail: Tail) -> TailReceipt:
        removed = await self._read_messages(tail.session_id, MessageRange(after=tail.after), tail.now_us)
        await pause()
        receipt = await super()._replace_tail(attrs.evolve(tail, expected_last=None))
        return attrs.evolve(receipt, removed=removed)


class UpdatesWhateverIsStored(InMemoryStorage):
    async def update_message(
        self,
        session_id: str,
        position: int,
        *,
        payload: Payload,
        expected: Payload,
        brief: Payload | None = None,
        index: Payload | None = None,
    ) -> MessageRecord:
        stored = await self.read_messages(session_id, MessageRange(after=position - 1, limit=1))
        present = stored[0].payload if stored else expected
        return await super().update_message(
            session_id, position, payload=payload, expected=present, brief=brief, index=index
        )


# -- memory --------------------------------------------------------------------------------------


class IgnoresTheLimit(InMemoryStorage):
    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]:
        return await super()._change_memories(attrs.evolve(change, max_entries=None))


class ChangesMemoriesOneByOne(InMemoryStorage):
    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]:
        stored = []
        for put in change.puts:
            stored += await super()._change_memories(attrs.evolve(change, puts=[put], deletes=[]))
            await pause()
        await super()._change_memories(attrs.evolve(change, puts=[]))
        return stored


class IgnoresTheVersionOfAMemory(InMemoryStorage):
    async def _change_memories(self, change: MemoryChange) -> list[MemoryRecord]:
        puts = [attrs.evolve(put, expected_version=None) for put in change.puts]
        return await super()._change_memories(attrs.evolve(change, puts=puts))


class SkipsAMemoryOnEachPage(InMemoryStorage):
    async def _list_memories(self, scope: MemoryScope, query: MemoryQuery | None, now_us: int) -> list[MemoryRecord]:
        found = await super()._list_memories(scope, query, now_us)
        return found[1:] if query is not None and query.after is not None else found


class CountsWhatAnotherTaskDeletes(InMemoryStorage):
    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        found = await self._find_memory(scope, key, now_us) is not None
        await pause()
        await super()._delete_memory(scope, key, now_us)
        return found


# -- documents, ids, lifecycle, tenants ----------------------------------------------------------


class SortsKeys(InMemoryStorage):
    async def load_session(self, session_id: str) -> JSONObject | None:
        document = await super().load_session(session_id)
        return None if document is None else dict(sorted(document.items()))


class IgnoresCase(InMemoryStorage):
    async def _find_session(self, session_id: str, now_us: int) -> SessionRecord | None:
        return await super()._find_session(session_id.casefold(), now_us)


class AnswersAfterClose(InMemoryStorage):
    async def ping(self) -> None:
        return None


_ONE: WeakKeyDictionary[Clock, InMemoryStorage] = WeakKeyDictionary()


class SharesMemoryBetweenTenants(InMemoryStorage):
    """Storages of one test, which share its clock, read the memory of the first one."""

    def __init__(self, *, clock: Clock) -> None:
        super().__init__(clock=clock)
        self._first = _ONE.setdefault(clock, self)

    async def _list_memories(self, scope: MemoryScope, query: MemoryQuery | None, now_us: int) -> list[MemoryRecord]:
        if self._first is self:
            return await super()._list_memories(scope, query, now_us)
        return await self._first.list_memories(scope, query)


# -- rewriting -----------------------------------------------------------------------------------


class IgnoresTheOldPayload(InMemoryStorage):
    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        stored = await self._find_session(session_id, now_us)
        present = stored.payload if stored is not None and stored.payload is not None else old
        return await super()._rewrite_session(session_id, present, new, now_us)


class ComparesThePayloadFirst(IgnoresTheOldPayload):
    async def _rewrite_session(self, session_id: str, old: Payload, new: Payload, now_us: int) -> bool:
        stored = await self._find_session(session_id, now_us)
        if stored is None or stored.payload != old:
            return False
        await pause()
        return await super()._rewrite_session(session_id, old, new, now_us)


class TakesAnEmptyBatch(InMemoryStorage):
    async def rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite]) -> int:
        return await super().rewrite_messages(session_id, changes) if changes else 0


FAULTS: dict[type[ContractBase], type[InMemoryStorage]] = {
    SessionContract: IgnoresTheExpectedVersion,
    ExpiryContract: FindsExpiredSessions,
    ListingContract: ListsTheLastOfAPageAgain,
    PageContract: PagesByNumber,
    ActivityContract: ListsByCreationAlways,
    SummaryContract: CountsRepeatedAppends,
    ForkContract: ForksInTwoSteps,
    IndexContract: RewritesWhateverIndexIsStored,
    LightListingContract: ListsTextsAlways,
    LeaseContract: IgnoresTheFence,
    WatchContract: ForgetsToNoteCuts,
    MessageContract: ReadsTheBoundToo,
    MeanwhileContract: WritesMessageByMessage,
    TurnContract: ReadsOneMessageMoreForATurn,
    TailContract: ReturnsTheTailReversed,
    TailRaceContract: ReadsTheTailFirst,
    UpdateContract: UpdatesWhateverIsStored,
    AppendContract: IgnoresTheExpectedPosition,
    AppendRaceContract: ChecksThePositionFirst,
    AppendsAtOnceContract: KeepsTheCallersList,
    MemoryContract: IgnoresTheLimit,
    MemoryPageContract: SkipsAMemoryOnEachPage,
    MemoryChangeContract: ChangesMemoriesOneByOne,
    SessionRaceContract: ChecksTheVersionFirst,
    MemoryRaceContract: CountsWhatAnotherTaskDeletes,
    DocumentContract: SortsKeys,
    IdContract: IgnoresCase,
    LifeContract: AnswersAfterClose,
    ResumeContract: InMemoryStorage,  # run as a persistent storage, which it is not
    TenantContract: SharesMemoryBetweenTenants,
    RewriteContract: IgnoresTheOldPayload,
    RewriteRaceContract: ComparesThePayloadFirst,
    RewriteRefusalContract: TakesAnEmptyBatch,
}
"""Each part of the contract, and a storage that fails it."""

STATE_FAULTS = (
    IgnoresTheExpectedVersion,
    ReadsTheBoundToo,
    ListsTheLastOfAPageAgain,
    IgnoresTheLimit,
    IgnoresTheVersionOfAMemory,
    KeepsTheBriefOfARedactedMessage,
    KeepsTheIndexOfARedactedMessage,
    ListsTextsAlways,
    GivesTheLeaseToEverybody,
)
"""Storages whose faults a state machine finds."""
