"""Appending: one insert, at a position that a unique index gives away once."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb_documents import End, batch_document
from luminoracore_sdk.adapters.storage.mongodb_driver import Document
from luminoracore_sdk.adapters.storage.mongodb_errors import BACKEND, DuplicateKey, after_write
from luminoracore_sdk.adapters.storage.mongodb_schema import Collections
from luminoracore_sdk.adapters.storage.mongodb_sessions import Sessions, moved
from luminoracore_sdk.adapters.storage.mongodb_sweep import release
from luminoracore_sdk.adapters.storage.rules import replay_receipt
from luminoracore_sdk.application.ports.records import AppendReceipt, MessageRecord
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionNotFoundError,
    StorageBusyError,
    StorageUnavailableError,
)

__all__ = ["Appends"]

_HINTS = 10_000
_LONGEST_PAUSE = 0.05  # seconds
_POSITION = ("inc", "h", "first")


class Appends:
    """Appends to the sessions of one store; see ``SessionStorage.append_messages`` for what it does.

    Args:
        store: The collections.
        sessions: The headers.
        patience: Seconds that an append may wait for others on the same session.
    """

    def __init__(self, store: Collections, sessions: Sessions, *, patience: float) -> None:
        self._store = store
        self._sessions = sessions
        self._patience = patience
        self._hints: OrderedDict[str, End] = OrderedDict()
        self._queues: dict[str, tuple[asyncio.Lock, list[None]]] = {}

    def forget(self, session_id: str) -> None:
        """Forget where a session goes on: this process has deleted or truncated it."""
        self._hints.pop(session_id, None)

    async def append(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt:
        """Append a batch.

        The appends of this process to one session queue up, so that they do not compete with each other;
        those of other processes are noticed by a duplicate key, and tried again after a short pause.

        Raises:
            StorageBusyError: Others were faster for as long as ``patience``; nothing was written.
        """
        end = asyncio.get_running_loop().time() + self._patience
        async with self._turn(session_id, end):
            hint = self._hints.pop(session_id, None)
            if hint is not None and expected_last in (None, hint.last):
                receipt = await self._append_at_hint(session_id, hint, messages, now_us)
                if receipt is not None:
                    return receipt
            pause = 0.001
            while asyncio.get_running_loop().time() < end:
                receipt = await self._append_at_end(session_id, messages, expected_last, now_us)
                if receipt is not None:
                    return receipt
                await asyncio.sleep(pause * random.random())  # noqa: S311  # not a secret
                pause = min(2 * pause, _LONGEST_PAUSE)
        raise self._busy()

    async def _append_at_end(
        self, session_id: str, messages: Sequence[MessageRecord], expected_last: int | None, now_us: int
    ) -> AppendReceipt | None:
        """Read where the session ends and append there; None: somebody else was faster.

        If the history is sealed between the read and the insert, the batch is hidden: it was appended
        just before it was cut off. Its position is its own all the same; see ``mongodb_sweep.release``.
        """
        header = await self._sessions.existing(session_id, now_us)
        if expected_last is not None and expected_last != header.last:
            if receipt := await self._replayed(session_id, header.inc, messages, now_us):
                return receipt
            raise _position_conflict(session_id, expected_last, header.last)
        batch = batch_document(session_id, header.end, messages, now_us)
        try:
            await self._store.messages.insert(batch)
        except DuplicateKey as exc:
            if exc.fields == _POSITION:
                return None
            return await self._replayed(session_id, header.inc, messages, now_us)
        return await self._appended(session_id, header.end, batch, header.session.ttl_us, now_us)

    async def _append_at_hint(
        self, session_id: str, end: End, messages: Sequence[MessageRecord], now_us: int
    ) -> AppendReceipt | None:
        """Append where the session is believed to end, and look meanwhile whether it does.

        What counts is that the history was seen open during this call, not in which order the server did
        the two. If it was not, see ``_overtaken``.

        Returns:
            None: nothing was appended, or it was taken away.
        """
        batch = batch_document(session_id, end, messages, now_us)
        inserted, seen = await asyncio.gather(
            self._store.messages.insert(batch), self._look(session_id, end, now_us), return_exceptions=True
        )
        if isinstance(inserted, DuplicateKey):
            return None
        if inserted is not None:
            raise inserted
        with after_write():
            if isinstance(seen, BaseException):
                raise seen
            if seen is None:
                return await self._overtaken(session_id, batch, now_us)
        return await self._appended(session_id, end, batch, seen["ttl"], now_us)

    async def _overtaken(self, session_id: str, batch: Document, now_us: int) -> AppendReceipt | None:
        """Find out whether a batch counts whose history was not seen open.

        A truncation may have come after it, and have kept it or its first messages: then it was appended,
        and others may follow it. Otherwise it lies in a history that nobody sees, or in a session that has
        expired, and is taken away.
        """
        inc, history, first = batch["inc"], batch["h"], batch["first"]
        header = await self._sessions.header(session_id)
        within = header is not None and header.inc == inc and header.shows(history, first)
        if header is not None and within and header.is_live(now_us):
            receipt = await self._appended(
                session_id, End(inc, history, first - 1), batch, header.session.ttl_us, now_us
            )
            self.forget(session_id)  # the history may be sealed
            return receipt
        if header is None or not within or header.last == batch["last"]:  # nothing follows it
            with suppress(StorageUnavailableError):
                await self._store.messages.delete({"inc": inc, "_id": batch["_id"]})
        return None

    async def _look(self, session_id: str, end: End, now_us: int) -> Document | None:
        """Return the time to live of a live session in whose open history the end is, or None."""
        live: Document = {"expires": {"$not": {"$lte": now_us}}}
        where: Document = {"_id": session_id, "inc": end.inc, "open": end.history, **live}
        return await self._store.sessions.find_one(where, {"_id": 0, "ttl": 1})

    async def _appended(
        self, session_id: str, end: End, batch: Document, ttl_us: int | None, now_us: int
    ) -> AppendReceipt:
        """Let a session with a time to live begin it anew, before the append is acknowledged."""
        if ttl_us is not None:
            with after_write():
                if not await self._store.sessions.update({"_id": session_id, "inc": end.inc}, moved(now_us)):
                    raise SessionNotFoundError(session_id, backend=BACKEND)  # deleted meanwhile
        self._remember(session_id, attrs.evolve(end, last=batch["last"]))
        return AppendReceipt(first_position=batch["first"], last_position=batch["last"])

    async def _replayed(
        self, session_id: str, inc: ObjectId, messages: Sequence[MessageRecord], now_us: int
    ) -> AppendReceipt | None:
        """Return the first receipt of a batch that is stored already; see ``replay_receipt``.

        Ids that are found above the end of a sealed history were truncated, and are set free. The header
        is read after them: a history was in it before its first batch was there, so one that is not in it
        now is gone for good.
        """
        asked = {message.message_id for message in messages}
        where: Document = {"inc": inc, "ids": {"$in": list(asked)}}
        batches = await self._store.messages.find(where, {"_id": 0, "h": 1, "first": 1, "ids": 1})
        header = await self._sessions.existing(session_id, now_us)
        if header.inc != inc:
            return None
        stored, hidden = dict[str, int](), set[ObjectId]()
        for batch in batches:
            for position, message_id in enumerate(batch["ids"], start=batch["first"]):
                if message_id in asked and header.shows(batch["h"], position):
                    stored[message_id] = position
                elif message_id in asked:
                    hidden.add(batch["h"])
        receipt = replay_receipt(BACKEND, messages, stored)
        if receipt is None:
            for history in hidden:
                await release(self._store, inc, history, after=header.bound(history), now_us=now_us)
        return receipt

    def _remember(self, session_id: str, end: End) -> None:
        self._hints[session_id] = end
        if len(self._hints) > _HINTS:
            self._hints.popitem(last=False)

    @asynccontextmanager
    async def _turn(self, session_id: str, end: float) -> AsyncIterator[None]:
        """Wait for the appends to a session that came before, until a moment of the event loop's clock."""
        lock, waiting = self._queues.setdefault(session_id, (asyncio.Lock(), []))
        waiting.append(None)
        try:
            try:
                async with asyncio.timeout_at(end):
                    await lock.acquire()
            except TimeoutError as exc:
                raise self._busy() from exc
            try:
                yield
            finally:
                lock.release()
        finally:
            waiting.pop()
            if not waiting:
                del self._queues[session_id]

    def _busy(self) -> StorageBusyError:
        reason = f"other appends to the session took longer than {self._patience:g} seconds"
        return StorageBusyError(BACKEND, reason)


def _position_conflict(session_id: str, expected: int | None, actual: int) -> ConflictError:
    return ConflictError(
        backend=BACKEND,
        key=f"session {session_id!a}",
        expected=f"last position {expected}",
        actual=f"last position {actual}",
    )
