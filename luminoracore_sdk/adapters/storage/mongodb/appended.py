"""What becomes of a batch once it is inserted, and what became of one that was inserted before."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from bson import ObjectId

from luminoracore_sdk.adapters.storage.base import replay_receipt
from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.mongodb.closing import begun, close
from luminoracore_sdk.adapters.storage.mongodb.documents import End, Header, batch_ids, cut, live
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND
from luminoracore_sdk.adapters.storage.mongodb.hints import Hint, Hints
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions, moved
from luminoracore_sdk.adapters.storage.mongodb.sweep import EMPTIED, release
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import CorruptRecordError, SessionNotFoundError, StorageUnavailableError

__all__ = ["Appended", "receipt_of"]

_LOOK: Document = {"inc": 1, "open": 1, "ttl": 1}


class Appended:
    """Finds out whether inserted batches count.

    Args:
        store: The collections.
        sessions: The headers.

    Attributes:
        hints: Where sessions go on.
    """

    def __init__(self, store: Collections, sessions: Sessions) -> None:
        self._store = store
        self._sessions = sessions
        self.hints = Hints()

    def remember(self, batch: Document, ttl_us: int | None, since: float) -> None:
        """Remember that a session ends with a batch, and since when that is certain."""
        end = End(batch["inc"], batch["h"], batch["last"])
        self.hints.put(batch["s"], Hint(end, ttl_us, since, batch["at"]))

    async def looked_after(self, batch: Document, ttl_us: int | None, now_us: int) -> AppendReceipt | None:
        """Look whether a batch is in the open history of a live session, which it prolongs.

        Args:
            batch: It is inserted.
            ttl_us: The session's time to live, as far as it is known; if there is one, the change that
                prolongs the session is the look.
            now_us: The present.

        Returns:
            None: it does not count, and was taken away.
        """
        since = time.monotonic()
        where = {"_id": batch["s"], "inc": batch["inc"], "open": batch["h"], **live(now_us)}
        seen: Document | None = {"ttl": ttl_us}
        if ttl_us is None:
            seen = await self._store.sessions.find_one(where, _LOOK)
        if seen is not None and seen["ttl"] is not None:
            seen = await self._store.sessions.find_and_update(where, moved(now_us), _LOOK)
        if seen is None:
            return await self._overtaken(batch, now_us)
        self.remember(batch, seen["ttl"], since)
        return receipt_of(batch)

    async def look_after_all(self, batches: Sequence[Document], now_us: int) -> set[str]:
        """Look after batches of several sessions that had no time to live.

        Returns:
            The sessions whose batches do not count, or whose headers are damaged: each is to be tried alone,
            which recognises a batch that is there.

        Raises:
            StorageUnavailableError: Some could not be looked after; all are in doubt.
        """
        if not batches:
            return set()
        since = time.monotonic()
        names, histories = [batch["s"] for batch in batches], [batch["h"] for batch in batches]
        where: Document = {"_id": {"$in": names}, "open": {"$in": histories}, "ttl": None}
        found = await self._store.sessions.find(where, _LOOK)
        seen = {header["_id"]: (header["inc"], header["open"]) for header in found}
        doubtful = list[Document]()
        for batch in batches:
            if seen.get(batch["s"]) == (batch["inc"], batch["h"]):
                self.remember(batch, None, since)
            else:
                doubtful.append(batch)
        outcomes = await asyncio.gather(*(self._overtaken(batch, now_us) for batch in doubtful), return_exceptions=True)
        not_counting = set[str]()
        for batch, outcome in zip(doubtful, outcomes, strict=True):
            if outcome is None or isinstance(outcome, SessionNotFoundError | CorruptRecordError):
                not_counting.add(batch["s"])
            elif isinstance(outcome, BaseException):
                raise outcome
        return not_counting

    async def _overtaken(self, batch: Document, now_us: int) -> AppendReceipt | None:
        """Find out whether a batch counts whose history was not seen open.

        A truncation may have come after it, and have kept it or its first messages: then it was appended,
        and others may follow it. Otherwise it lies in a history that nobody sees, where it keeps its
        position, or in a session that has expired, and is taken out.
        """
        inc, history, first = batch["inc"], batch["h"], batch["first"]
        while True:
            header = await self._sessions.header(batch["s"])
            if header is None or header.inc != inc or not header.shows(history, first):
                with suppress(StorageUnavailableError):
                    emptied: Document = {**EMPTIED, "at": now_us}
                    await self._store.messages.update({"inc": inc, "_id": batch["_id"]}, [{"$set": emptied}])
                return None
            if header.is_live(now_us):
                if header.session.ttl_us is not None:
                    prolonged = {"_id": batch["s"], "inc": inc}
                    if not await self._store.sessions.update(prolonged, moved(now_us)):
                        raise SessionNotFoundError(batch["s"], backend=BACKEND)  # deleted meanwhile
                return receipt_of(batch)
            if await self._taken_out(header, batch, now_us):
                return None

    async def _taken_out(self, header: Header, batch: Document, now_us: int) -> bool:
        """Take a batch out of a session that has expired; False: look again.

        By another's clock the session may be there yet: he sees the batch, and may append behind it, which
        prolongs the session. So it is done as a truncation is, and only if nothing follows.

        Raises:
            StorageUnavailableError: In doubt: others follow, and have not prolonged the session so far.
        """
        if header.open != batch["h"] or header.last != batch["last"]:
            raise StorageUnavailableError(BACKEND, "the session was about to expire", in_doubt=True)
        if not await close(self._store, header, now_us):
            return False
        before = batch["first"] - 1
        where: Document = {"_id": batch["s"], "inc": header.inc, "open": header.open}
        expired: Document = {"expires": {"$lte": now_us}}
        if not await self._store.sessions.update({**where, **expired}, [begun(cut(header.segments, before))]):
            await self._sessions.reopen(header)  # prolonged, perhaps; nobody else need wait for it
            return False
        with suppress(StorageUnavailableError):  # it is not seen any more
            await release(self._store, header.inc, header.open, after=before, now_us=now_us)
        return True

    async def before(self, append: Append, inc: ObjectId) -> AppendReceipt | None:
        """Return the first receipt of a batch that is stored already; see ``replay_receipt``.

        Ids that are found above the end of a sealed history were truncated, and are set free. The header
        is read after them: a history was in it before its first batch was there, so one that is not in it
        now is gone for good.

        Who repeats an append may do so since the first one was not confirmed by enough members. So before it
        is acknowledged, a write that changes nothing waits until all that was written so far is.
        """
        asked = {message.message_id for message in append.messages}
        where: Document = {"inc": inc, "ids": {"$in": list(asked)}}
        batches = await self._store.messages.find(where, {"_id": 0, "h": 1, "first": 1, "ids": 1})
        header = await self._sessions.existing(append.session_id, append.now_us)
        if header.inc != inc:
            return None
        stored, hidden = dict[str, int](), set[ObjectId]()
        for batch in batches:
            for position, message_id in enumerate(batch_ids(batch), start=batch["first"]):
                if message_id in asked and header.shows(batch["h"], position):
                    stored[message_id] = position
                elif message_id in asked:
                    hidden.add(batch["h"])
        receipt = replay_receipt(BACKEND, append.messages, stored)
        if receipt is None:
            for history in hidden:
                await release(self._store, inc, history, after=header.bound(history), now_us=append.now_us)
        else:
            await self._store.messages.update(where, {"$set": {"s": append.session_id}})
        return receipt


def receipt_of(batch: Document) -> AppendReceipt:
    """Return the receipt of a batch that was appended now."""
    return AppendReceipt(first_position=batch["first"], last_position=batch["last"])
