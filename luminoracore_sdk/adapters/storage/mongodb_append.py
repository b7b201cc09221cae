"""Appending: one insert, at a position that a unique index gives away once."""

import asyncio
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb_documents import Header, batch_document
from luminoracore_sdk.adapters.storage.mongodb_driver import Document
from luminoracore_sdk.adapters.storage.mongodb_errors import BACKEND, DuplicateKey, after_write
from luminoracore_sdk.adapters.storage.mongodb_messages import known_positions
from luminoracore_sdk.adapters.storage.mongodb_schema import Collections
from luminoracore_sdk.adapters.storage.mongodb_sessions import Sessions, moved
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
_POSITIONS = ("h", "first")


@attrs.frozen
class _Hint:
    """Where this process believes that a session goes on."""

    history: ObjectId
    last: int


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
        self._hints: OrderedDict[str, _Hint] = OrderedDict()
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
        """Read where the session goes on and append there; None: somebody else was faster.

        If the history is sealed between the read and the insert, the batch is hidden: it was appended
        just before it was cut off. Its position is its own all the same; see ``mongodb_sweep.blank``.
        """
        header = await self._sessions.existing(session_id, now_us)
        if len(header.segments) > 1 and (receipt := await self._replayed(header, messages)):
            return receipt  # the unique index looks into the open history only
        if expected_last not in (None, header.last):
            if receipt := await self._replayed(header, messages):
                return receipt
            raise _position_conflict(session_id, expected_last, header.last)
        batch = batch_document(session_id, header.open, header.last + 1, messages, now_us)
        try:
            await self._store.messages.insert(batch)
        except DuplicateKey as exc:
            return None if exc.fields == _POSITIONS else await self._replayed(header, messages)
        await self._prolong(session_id, header.inc, header.session.ttl_us, now_us)
        if len(header.segments) == 1:
            self._remember(session_id, _Hint(header.open, batch["last"]))
        return AppendReceipt(first_position=batch["first"], last_position=batch["last"])

    async def _append_at_hint(
        self, session_id: str, hint: _Hint, messages: Sequence[MessageRecord], now_us: int
    ) -> AppendReceipt | None:
        """Append where the session is believed to go on, and look meanwhile whether it does.

        What counts is that the history was seen open during this call, not in which order the server did
        the two. If it was not, the batch lies in a history that nobody sees, or in an expired session,
        and is taken away.

        Returns:
            None: nothing was appended, or it was taken away.
        """
        batch = batch_document(session_id, hint.history, hint.last + 1, messages, now_us)
        inserted, header = await asyncio.gather(
            self._store.messages.insert(batch),
            self._look(session_id, hint, now_us),
            return_exceptions=True,
        )
        if isinstance(inserted, DuplicateKey):
            return None
        if inserted is not None:
            raise inserted
        if isinstance(header, BaseException):
            with after_write():
                raise header
        if header is None:
            with suppress(StorageUnavailableError):
                await self._store.messages.delete({"_id": batch["_id"]})
            return None
        await self._prolong(session_id, header["inc"], header["ttl"], now_us)
        self._remember(session_id, _Hint(hint.history, batch["last"]))
        return AppendReceipt(first_position=batch["first"], last_position=batch["last"])

    async def _look(self, session_id: str, hint: _Hint, now_us: int) -> Document | None:
        """Return the fields of a live header whose only history is the hint's, or None."""
        where: Document = {
            "_id": session_id,
            "open": hint.history,
            "sealed": [],
            "expires": {"$not": {"$lte": now_us}},
        }
        return await self._store.sessions.find_one(where, {"_id": 0, "inc": 1, "ttl": 1})

    async def _prolong(self, session_id: str, inc: ObjectId, ttl_us: int | None, now_us: int) -> None:
        """Let a session with a time to live begin it anew, before the append is acknowledged."""
        if ttl_us is None:
            return
        with after_write():
            if not await self._store.sessions.update({"_id": session_id, "inc": inc}, moved(now_us)):
                raise SessionNotFoundError(session_id, backend=BACKEND)  # deleted meanwhile

    async def _replayed(self, header: Header, messages: Sequence[MessageRecord]) -> AppendReceipt | None:
        known = await known_positions(self._store, header.segments, messages)
        return replay_receipt(BACKEND, messages, known)

    def _remember(self, session_id: str, hint: _Hint) -> None:
        self._hints[session_id] = hint
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
