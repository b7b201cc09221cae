"""Appending: insert a batch, then verify the header. Two round trips, and no assumption about clocks.

**State.** A session is its header and the batches that the header shows: of the incarnation ``inc``, all batches
of the open ``epoch``, and those of the ``sealed`` epochs up to the position that each was sealed at. What no
header shows does not exist for any call. Three rules hold:

1. An incarnation and an epoch that a header no longer has as its own never come back: a new session draws a new
   ``inc``, and a truncation raises ``epoch`` in the same command that seals the old one (a compare-and-set on
   ``inc`` and ``epoch``). The bounds of sealed epochs only ever become lower.
2. A batch is inserted at the position behind the newest one that its writer has seen in that epoch, and the
   unique index (``inc``, ``epoch``, ``first``) admits one batch at a position. Nothing is deleted from an epoch
   that is open. So an open epoch has no gap and no fork, whatever its writers have seen.
3. A batch that its epoch was sealed below, or whose incarnation is gone, is hidden for good (by 1), and may be
   deleted by anyone.

**Append.** Insert the batch; then read the header. If it still has ``inc`` and ``epoch``, it had them at the
insert (by 1): the batch became visible with the insert, as a whole, and is durable. If it seals the epoch at or
behind the batch, a truncation has seen the batch: it was appended, then perhaps cut. Otherwise the batch is
hidden; it is deleted, and the append starts again. A session with a time to live is prolonged by the command
that verifies, which finds the header by the same ``inc`` and ``epoch``; in any session, that command sets the minute
of the latest change, if a new one has begun, and settles the header, see ``sessions``. Until then the time of the
batch counts up to the end of the minute that the header has, so a listing finds every session where the header says,
also if the writer is killed.

A batch carries the summary of the session, see ``summaries``. What a hidden batch adds to its sums is in them if the
cut that has hidden it had seen it (``counted``): then the append starts again without it. A conditional one could not
start again: it was appended where it was expected to be, then cut, and is acknowledged.

**What this gives.**
- *Concurrent appends*: one insert wins a position; the others get a duplicate key, read where the session ends
  now, and insert behind it. An acknowledged batch stays visible until a truncation or deletion that comes after
  its insert.
- *Truncation, deletion, expiry* are one change of the header each, so they are atomic for readers. A reader
  verifies the epoch after it has read the batches, as an append does; see ``messages``.
- *Delete and create again*: the new session has another ``inc``. What a late writer inserts under the old one
  is hidden.
- *Replay*: the unique index (``inc``, ``ids``) refuses an id that is stored. If the header shows it, the call is
  a replay, and its first positions are the receipt; if it is hidden, it is taken out of the way. An append that
  a truncation hides before it is verified is appended again behind what is left, once.
- *Replacing a tail* (see ``tails``) marks the header first. An append whose batch lies in the open epoch of a marked
  header waits until the mark is gone: then it is visible, or hidden and appended again.
- *Fences*: an append with a fence marks the header before the insert, see ``leases``: one more command.
- *A writer killed between the two steps*: its batch was appended, or is hidden, as for any append whose answer
  is lost. No other writer has to wait for it or to complete it.
- *Expiry is judged by the caller's clock at the start of the call*, before the insert. If another storage has
  shortened the session's life since this one last saw the header, and the session turns out to have expired, the
  batch lies in an expired session and the call fails in doubt; a retry raises ``SessionNotFoundError``.

The remembered end of a session (``Sessions.remembered``) saves a read before the insert and needs no protection:
it was true once, so rules 1 to 3 hold for a batch that is inserted by it.
"""

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.base import Append, check_fence, replay_receipt
from luminoracore_sdk.adapters.storage.group_commit import own_copy
from luminoracore_sdk.adapters.storage.mongodb.documents import Extent, batch_document, live, minute, settled
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey, after_write
from luminoracore_sdk.adapters.storage.mongodb.leases import Leases, unmarked
from luminoracore_sdk.adapters.storage.mongodb.purge import take_out
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions, prolonged
from luminoracore_sdk.adapters.storage.mongodb.summaries import State
from luminoracore_sdk.adapters.storage.mongodb.tails import Marks, find_stored, release, sorted_out
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import (
    ConflictError,
    LuminoraCoreSDKError,
    StorageBusyError,
    StorageUnavailableError,
)

__all__ = ["Appends"]

_LONGEST_PAUSE = 0.05  # seconds
_REFUSED = "the server refused to change the header"

_PAUSE_US = 5_000_000
"""How long a session is unchanged before an append settles its header again: those of a quick sequence only read it."""

_SEEN: Document = dict.fromkeys(("inc", "epoch", "ttl", "expires", "frozen", "active", "form", "settled.last"), 1)


@attrs.frozen
class _Inserted:
    """A batch that was inserted behind the end of a session, and the state behind it."""

    extent: Extent
    batch: Document
    state: State

    @property
    def settles(self) -> bool:
        """Whether the command that verifies it changes the header also for listings, see ``sessions``."""
        extent, batch = self.extent, self.batch
        is_paused = batch["first"] == 1 or batch["at"] >= extent.at_us + _PAUSE_US
        return is_paused or extent.ttl_us is not None or extent.active_us < minute(batch["at"])

    @property
    def texts(self) -> Document:
        """The texts that are known of the briefs there."""
        return {**self.extent.texts, **self.batch.get("briefs", {})}

    def change(self, mark: ObjectId | None = None) -> list[Document]:
        """Return the change of the header that verifies it.

        Args:
            mark: The mark of an append with a fence, which is removed.
        """
        unmarking = [] if mark is None else [unmarked(mark)]
        settling = self._settling() if self.settles or mark is not None else {"$unset": "settled"}
        return [settling, *prolonged(self.batch["at"]), *unmarking]

    def _settling(self) -> Document:
        """Return the stage that settles the header, or removes a copy, as ``sessions`` explains."""
        places = {"first": self.state.first, "last": self.state.last}
        briefs = {name: self.texts.get(name, {}) for name, place in places.items() if place is not None}
        if any(place is not None and briefs[name].get("at") != place.position for name, place in places.items()):
            return {"$unset": "settled"}
        last, at = self.batch["last"], self.batch["at"]
        copy = {"$literal": settled(last, at, self.state, briefs)}
        has_older: Document = {"$and": [{"$gte": ["$settled.last", 0]}, {"$lt": ["$settled.last", last]}]}
        is_latest: Document = {"$or": [{"$lt": ["$active", minute(at)]}, has_older]}
        is_known: Document = {"$eq": [{"$ifNull": ["$form", 0]}, self.extent.form]}
        is_free: Document = {"$eq": [{"$ifNull": ["$updating", []]}, []]}
        return {"$set": {"settled": {"$cond": [{"$and": [is_latest, is_known, is_free]}, copy, "$$REMOVE"]}}}


class Appends:
    """Appends to the sessions of one store; see ``SessionStorage.append_messages`` for what it does.

    Args:
        store: The collections.
        sessions: The headers.
        leases: The leases.
        patience: Seconds that an append may wait for others on the same session.
    """

    def __init__(self, store: Collections, sessions: Sessions, leases: Leases, *, patience: float) -> None:
        self._store = store
        self._sessions = sessions
        self._leases = leases
        self._patience = patience

    # -- one append ------------------------------------------------------------------------------

    async def alone(self, append: Append) -> AppendReceipt:
        """Append a batch; try again, after a short pause, when another writer takes the position.

        Raises:
            StorageBusyError: Others were faster for as long as ``patience``; nothing was written.
        """
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self._patience, 0.0
        extent = self._sessions.remembered(append.session_id, append.now_us)
        if extent is not None and (extent.state is None or append.expected_last not in (None, extent.last)):
            extent = None
        while loop.time() < end:
            if extent is None:
                extent = (await self._sessions.summarized(append.session_id, append.now_us)).extent
            attempt = self._behind if append.fence is None else self._fenced
            if receipt := await attempt(extent, append):
                return receipt
            extent = None
            await asyncio.sleep(pause * random.random())  # noqa: S311  # not a secret
            pause = min(2 * pause + 0.001, _LONGEST_PAUSE)
        reason = f"other appends to the session took longer than {self._patience:g} seconds"
        raise StorageBusyError(BACKEND, reason)

    async def _fenced(self, extent: Extent, append: Append) -> AppendReceipt | None:
        """Append with a fence behind the end that was seen, see ``leases``; None: nothing was appended.

        A call that fails, or is cancelled, leaves its mark, because the insert may still be done.
        """
        session_id, fence = append.session_id, append.fence or 0
        mark = await self._leases.mark(session_id, extent.inc, fence)
        if mark is None:
            header = await self._sessions.existing(session_id, append.now_us)
            if receipt := await self._replayed(append, header.extent.inc):
                return receipt
            lease = header.session.lease
            check_fence(BACKEND, session_id, fence, lease.fence if lease else 0)
            return None
        try:
            receipt = await self._behind(extent, append, mark)
        except ConflictError:
            await self._leases.unmark(session_id, mark)
            raise
        if receipt is None or receipt.replayed:
            await self._leases.unmark(session_id, mark)
        return receipt

    async def _behind(self, extent: Extent, append: Append, mark: ObjectId | None = None) -> AppendReceipt | None:
        """Append behind the end that was seen; None: nothing was appended."""
        if append.expected_last is not None and append.expected_last != extent.last:
            if receipt := await self._replayed(append, extent.inc):
                return receipt
            raise _position_conflict(append.session_id, append.expected_last, extent.last)
        inserted = _Inserted(extent, *batch_document(append.session_id, extent, append.messages, append.now_us))
        try:
            await self._store.messages.insert(inserted.batch)
        except DuplicateKey as exc:
            return await self._replayed(append, extent.inc) if "ids" in exc.fields else None
        return await self._settled([append], inserted, mark)

    async def _settled(
        self, appends: Sequence[Append], inserted: _Inserted, mark: ObjectId | None = None
    ) -> AppendReceipt | None:
        """Return the receipt of an inserted batch; None: it was hidden, and is deleted.

        One that was cut is appended again here, without what it adds to the sums: these have it. A conditional one
        is acknowledged: its position is taken, and a conflict would let its caller add to the sums once more.
        """
        now_us = max(append.now_us for append in appends)
        verified = await self._verified(inserted, now_us, mark)
        if isinstance(verified, AppendReceipt):
            return verified
        if not verified:
            return None
        if appends[0].expected_last is not None:
            return _receipt(inserted.batch)
        messages = [attrs.evolve(message, adds={}) for append in appends for message in append.messages]
        return await self.alone(attrs.evolve(appends[0], messages=messages))

    async def _verified(self, inserted: _Inserted, now_us: int, mark: ObjectId | None) -> AppendReceipt | bool:
        """Return the receipt of an inserted batch; otherwise it was hidden, and is deleted.

        The header is changed if the batch settles it, or if it may have a copy of an older one, or a mark.

        Returns:
            True: the command that hid it has seen it, so that the sums have what it adds. False: it has not.
        """
        batch = inserted.batch
        is_changed = inserted.settles or inserted.extent.is_settled or mark is not None
        with after_write():
            seen = None if is_changed else await self._store.sessions.find_by_id(batch["s"], _SEEN)
            if is_changed or (seen is not None and (seen.get("ttl") is not None or "settled" in seen)):
                where = {"_id": batch["s"], "inc": batch["inc"], "epoch": batch["epoch"], **live(now_us)}
                seen = await self._store.sessions.find_and_update(where, inserted.change(mark), _SEEN)
            if seen is None or not _is_open(seen, batch):
                return await self._overtaken(batch, now_us)
        self._remember(inserted, seen)
        return _receipt(batch)

    def _remember(self, inserted: _Inserted, seen: Document) -> None:
        """Remember that a session ends with a batch, which the header has shown since."""
        extent, batch = inserted.extent, inserted.batch
        if seen.get("form", 0) != extent.form:  # texts that are known may have changed
            self._sessions.forget(batch["s"])
            return
        ends = Extent(
            inc=extent.inc,
            epoch=extent.epoch,
            sealed=extent.sealed,
            last=batch["last"],
            ttl_us=seen["ttl"],
            expires_at_us=seen.get("expires"),
            state=inserted.state,
            texts=inserted.texts,
            form=extent.form,
            is_settled="settled" in seen,
            at_us=batch["at"],
            active_us=seen["active"],
        )
        self._sessions.remember(batch["s"], ends)

    async def _overtaken(self, batch: Document, now_us: int) -> AppendReceipt | bool:
        """Find out whether a batch counts whose epoch was not seen open, or whose session was not seen alive."""
        self._sessions.forget(batch["s"])
        marks = Marks(self._store, batch["s"])
        while True:
            header = await self._sessions.header(batch["s"])
            extent = header.extent if header is not None and header.extent.inc == batch["inc"] else None
            if extent is not None and extent.frozen is not None and extent.epoch == batch["epoch"]:
                await marks.wait(extent.frozen)
                continue
            if header is None or extent is None or not extent.shows(batch["epoch"], batch["first"]):
                with suppress(StorageUnavailableError):  # the purge deletes it otherwise
                    await self._store.messages.delete({"inc": batch["inc"], "_id": batch["_id"]})
                return header is not None and extent is not None and header.has_counted(batch)
            if not extent.is_live(now_us):
                raise StorageUnavailableError(BACKEND, "the session expired during the append", in_doubt=True)
            where: Document = {"_id": batch["s"], "inc": extent.inc, "epoch": extent.epoch}
            is_done = extent.ttl_us is None and extent.active_us >= minute(batch["at"]) and not extent.is_settled
            change = [{"$unset": "settled"}, *prolonged(batch["at"])]
            if is_done or await self._store.sessions.update(where, change):
                return _receipt(batch)

    async def _replayed(self, append: Append, inc: ObjectId) -> AppendReceipt | None:
        """Return the first receipt of a batch that is stored already; see ``replay_receipt``.

        The header is read after the batches, so a batch that it does not show is hidden for good: its ids are
        released.

        A caller may repeat an append because too few members had confirmed the first one. So before a replay is
        acknowledged, a change of the header waits until everything written so far is confirmed. It verifies the first
        one, if that was not done.
        """
        asked = {message.message_id for message in append.messages}
        where: Document = {"inc": inc, "ids": {"$in": list(asked)}}
        batches = await find_stored(self._store, where)
        extent = (await self._sessions.existing(append.session_id, append.now_us)).extent
        if extent.inc != inc:
            return None
        known, hidden = sorted_out(batches, asked, extent)
        receipt = replay_receipt(BACKEND, append.messages, known)
        if receipt is None and any(batch["epoch"] > extent.epoch for batch in hidden):
            await release(self._store, append.session_id)
            extent = (await self._sessions.existing(append.session_id, append.now_us)).extent
            if extent.inc != inc:
                return None
            known, hidden = sorted_out(batches, asked, extent)  # it may have been opened before
            receipt = replay_receipt(BACKEND, append.messages, known)
        if receipt is None:
            for batch in hidden:
                await take_out(self._store, inc, batch, extent.bound(batch["epoch"]))
        else:
            change = [{"$unset": "settled"}, *prolonged(max(batch["at"] for batch in batches))]
            await self._store.sessions.update({"_id": append.session_id, "inc": inc}, change)
        return receipt

    # -- several ---------------------------------------------------------------------------------

    async def together(self, appends: Sequence[Append]) -> list[AppendReceipt | LuminoraCoreSDKError | None]:
        """Append batches to several sessions in one command, and verify them in another; see ``GroupCommit``.

        The appends to one session become one batch. None, to be tried alone, are appends that expect another
        position, to sessions that do not exist, batches that hold an id twice, and whatever the server refuses.
        """
        groups = dict[str, list[Append]]()
        for append in appends:
            groups.setdefault(append.session_id, []).append(append)
        now_us = max(append.now_us for append in appends)
        extents = await self._extents(groups, now_us)
        merged = {name: _merged(groups[name], extent, now_us) for name, extent in extents.items()}
        found = [inserted for inserted in merged.values() if inserted]
        batches = [inserted.batch for inserted in found]
        if not batches:
            return [None] * len(appends)
        refused = await self._store.messages.insert_all(batches)
        written = [inserted for number, inserted in enumerate(found) if number not in refused]
        for number in refused:
            self._sessions.forget(batches[number]["s"])
        with after_write():
            outcomes = await self._all_verified(groups, written)
        return list(_receipts(appends, outcomes))

    async def _extents(self, groups: Mapping[str, Sequence[Append]], now_us: int) -> dict[str, Extent]:
        """Return where sessions end; those that do not exist are left out."""
        remembered = {name: self._sessions.remembered(name, now_us) for name in groups}
        extents = {name: extent for name, extent in remembered.items() if extent and extent.state is not None}
        if missing := [name for name in groups if name not in extents]:
            headers = await self._sessions.headers(missing)
            extents |= {name: header.extent for name, header in headers.items() if header.extent.is_live(now_us)}
        return extents

    async def _all_verified(
        self, groups: Mapping[str, Sequence[Append]], written: Sequence[_Inserted]
    ) -> dict[str, int | LuminoraCoreSDKError]:
        """Verify inserted batches of several sessions.

        Returns:
            For each session, the first position of its batch, or the error that its callers get; those whose
            batches were hidden are left out.
        """
        where: Document = {"_id": {"$in": [inserted.batch["s"] for inserted in written]}}
        found = await self._store.sessions.find(where, _SEEN, as_they_are=True) if written else []
        headers = {header["_id"]: header for header in found if header.get("ttl") is None}
        outcomes = dict[str, int | LuminoraCoreSDKError]()
        rest, changed = list[_Inserted](), list[_Inserted]()
        for inserted in written:
            batch = inserted.batch
            seen = headers.get(batch["s"])
            if not seen or not _is_open(seen, batch):
                rest.append(inserted)
                continue
            if seen["active"] < minute(batch["at"]) or "settled" in seen:
                changed.append(inserted)
                seen = {**seen, "active": max(seen["active"], minute(batch["at"])), "settled": {}}
            self._remember(inserted, seen)
            outcomes[batch["s"]] = batch["first"]
        for number in await self._change_all(changed):
            outcomes[changed[number].batch["s"]] = StorageUnavailableError(BACKEND, _REFUSED, in_doubt=True)
            self._sessions.forget(changed[number].batch["s"])
        verified = await asyncio.gather(
            *(self._settled(groups[inserted.batch["s"]], inserted) for inserted in rest), return_exceptions=True
        )
        for inserted, outcome in zip(rest, verified, strict=True):
            name = inserted.batch["s"]
            if isinstance(outcome, LuminoraCoreSDKError):
                outcomes[name] = outcome
            elif isinstance(outcome, BaseException):
                raise outcome
            elif outcome is not None:
                outcomes[name] = outcome.first_position
        return outcomes

    async def _change_all(self, verified: Sequence[_Inserted]) -> set[int]:
        """Change the headers of batches whose epochs were seen open; return the numbers of those that were refused."""
        updates = [
            ({"_id": one.batch["s"], "inc": one.batch["inc"], "epoch": one.batch["epoch"]}, one.change())
            for one in verified
        ]
        return await self._store.sessions.update_all(updates, confirmed=True) if updates else set()


def _merged(appends: Sequence[Append], extent: Extent, now_us: int) -> _Inserted | None:
    """Return one batch of the appends to a session; None: they cannot be one."""
    if appends[0].expected_last not in (None, extent.last) or any(append.fence is not None for append in appends):
        return None
    messages = [message for append in appends for message in append.messages]
    # the index admits an id that is twice in one document
    if len(appends) > 1 and len({message.message_id for message in messages}) < len(messages):
        return None
    return _Inserted(extent, *batch_document(appends[0].session_id, extent, messages, now_us))


def _receipts(
    appends: Sequence[Append], outcomes: Mapping[str, int | LuminoraCoreSDKError]
) -> Iterator[AppendReceipt | LuminoraCoreSDKError | None]:
    """Yield what each append gets, given what became of the batch of its session."""
    following = dict(outcomes)
    for append in appends:
        first = following.get(append.session_id)
        if isinstance(first, int):
            following[append.session_id] = first + len(append.messages)
            yield AppendReceipt(first_position=first, last_position=first + len(append.messages) - 1)
        else:
            yield None if first is None else own_copy(first)


def _is_open(header: Document, batch: Document) -> bool:
    """Return whether the epoch of a batch is the open one of its session, and no tail is being replaced."""
    is_open = (header.get("inc"), header.get("epoch")) == (batch["inc"], batch["epoch"])
    return is_open and "ttl" in header and "active" in header and "frozen" not in header


def _receipt(batch: Document) -> AppendReceipt:
    return AppendReceipt(first_position=batch["first"], last_position=batch["last"])


def _position_conflict(session_id: str, expected: int, actual: int) -> ConflictError:
    return ConflictError(
        backend=BACKEND,
        key=f"session {session_id!a}",
        expected=f"last position {expected}",
        actual=f"last position {actual}",
    )
