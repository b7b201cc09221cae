"""Appending: one insert, at a position that a unique index gives away once; see ``mongodb_closing``."""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping, Sequence

from bson import ObjectId

from luminoracore_sdk.adapters.storage.group_commit import Append
from luminoracore_sdk.adapters.storage.mongodb.appended import Appended, receipt_of
from luminoracore_sdk.adapters.storage.mongodb.documents import End, Header, batch_document
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey, after_write
from luminoracore_sdk.adapters.storage.mongodb.hints import Hint
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.adapters.storage.mongodb.sessions import Sessions
from luminoracore_sdk.application.ports.records import AppendReceipt
from luminoracore_sdk.domain.errors import ConflictError, StorageBusyError

__all__ = ["Appends"]

_LONGEST_PAUSE = 0.05  # seconds
_CLOSING_SECONDS = 1.0
"""For how long somebody who closed a history is expected to go on."""
_MOST_CLOSED = 1_000
"""Closed histories whose closers are waited for."""
_POSITION = ("inc", "h", "first")


class Appends:
    """Appends to the sessions of one store; see ``SessionStorage.append_messages`` for what it does.

    No two appends of one storage to the same session may be under way at once: ``GroupCommit`` sees to it.

    Args:
        store: The collections.
        sessions: The headers.
        patience: Seconds that an append may wait for others on the same session.
    """

    def __init__(self, store: Collections, sessions: Sessions, *, patience: float) -> None:
        self._store = store
        self._sessions = sessions
        self._appended = Appended(store, sessions)
        self._hints = self._appended.hints
        self._patience = patience
        self._writer = ObjectId()
        self._closed: OrderedDict[ObjectId, float] = OrderedDict()  # histories, and when that was seen first

    def forget(self, session_id: str) -> None:
        """Forget where a session goes on: this process has deleted or truncated it."""
        self._hints.forget(session_id)

    # -- one append ------------------------------------------------------------------------------

    async def alone(self, append: Append) -> AppendReceipt:
        """Append a batch.

        Appends of other processes are noticed by a duplicate key, and tried again after a short pause.

        Raises:
            StorageBusyError: Others were faster for as long as ``patience``; nothing was written.
        """
        hint = self._hints.take(append.session_id, append.now_us)
        if hint is not None and append.expected_last in (None, hint.end.last):
            receipt = await self._at_hint(append, hint)
            if receipt is not None:
                return receipt
        return await self._at_end(append)

    async def _at_hint(self, append: Append, hint: Hint) -> AppendReceipt | None:
        """Append where the session is believed to end; None: nothing was appended, or it was taken away."""
        began = time.monotonic()
        batch = batch_document(append.session_id, hint.end, append.messages, append.now_us, self._writer)
        try:
            await self._store.messages.insert(batch)
        except DuplicateKey:
            return None
        if hint.ttl_us is None and hint.is_fresh:
            self._appended.remember(batch, None, began)
            return receipt_of(batch)
        with after_write():
            return await self._appended.looked_after(batch, hint.ttl_us, append.now_us)

    async def _at_end(self, append: Append) -> AppendReceipt:
        """Look where the session ends and append there, until nobody else is faster."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self._patience, 0.001
        while loop.time() < end:
            header = await self._sessions.existing(append.session_id, append.now_us)
            if header.is_closed:
                if self._is_long_closed(header.open):
                    await self._sessions.reopen(header)
            elif receipt := await self._behind(header, append):
                return receipt
            await asyncio.sleep(pause * random.random())  # noqa: S311  # not a secret
            pause = min(2 * pause, _LONGEST_PAUSE)
        reason = f"other appends to the session took longer than {self._patience:g} seconds"
        raise StorageBusyError(BACKEND, reason)

    def _is_long_closed(self, history: ObjectId) -> bool:
        """Tell whether who closed a history had his time; appends that wait for less than that share it."""
        now = time.monotonic()
        since = self._closed.setdefault(history, now)
        if len(self._closed) > _MOST_CLOSED:
            self._closed.popitem(last=False)
        return now - since >= _CLOSING_SECONDS

    async def _behind(self, header: Header, append: Append) -> AppendReceipt | None:
        """Append behind the end that was read; None: somebody else was faster."""
        if append.expected_last is not None and append.expected_last != header.last:
            if receipt := await self._appended.before(append, header.inc):
                return receipt
            raise _position_conflict(append.session_id, append.expected_last, header.last)
        batch = batch_document(append.session_id, header.end, append.messages, append.now_us, self._writer)
        try:
            await self._store.messages.insert(batch)
        except DuplicateKey as exc:
            return None if exc.fields == _POSITION else await self._appended.before(append, header.inc)
        with after_write():
            return await self._appended.looked_after(batch, header.session.ttl_us, append.now_us)

    # -- several ---------------------------------------------------------------------------------

    async def together(self, appends: Sequence[Append]) -> list[AppendReceipt | None]:
        """Append batches to several sessions in one command; see ``GroupCommit``.

        Those of one session become one batch. None, to be tried alone, are appends to another position than
        the one where the session is believed to end, to sessions that are not there, have a time to live or
        are closed, batches that hold an id twice, and whatever the server refuses.
        """
        groups = dict[str, list[Append]]()
        for append in appends:
            groups.setdefault(append.session_id, []).append(append)
        now_us, began = max(append.now_us for append in appends), time.monotonic()
        hints = self._known(groups, now_us)
        ends = {name: hint.end for name, hint in hints.items() if hint.ttl_us is None}
        ends |= await self._ends([name for name in groups if name not in hints], now_us)
        batches = [
            batch
            for name, end in ends.items()
            if (batch := _merged(groups[name], end, now_us, self._writer)) is not None
        ]
        if not batches:
            return [None] * len(appends)
        refused = await self._store.messages.insert_all(batches)
        written = [batch for place, batch in enumerate(batches) if place not in refused]
        unsure = list[Document]()
        for batch in written:
            hint = hints.get(batch["s"])
            if hint is not None and hint.is_fresh:
                self._appended.remember(batch, None, began)
            else:
                unsure.append(batch)
        with after_write():
            gone = await self._appended.look_after_all(unsure, now_us)
        counting = {batch["s"]: batch["first"] for batch in written if batch["s"] not in gone}
        return list(_receipts(appends, counting))

    def _known(self, names: Collection[str], now_us: int) -> dict[str, Hint]:
        """Return the fresh hints of sessions; those of sessions with a time to live stay remembered."""
        known = dict[str, Hint]()
        for name in names:
            if hint := self._hints.take(name, now_us):
                known[name] = hint
                if hint.ttl_us is not None:
                    self._hints.put(name, hint)
        return known

    async def _ends(self, names: Sequence[str], now_us: int) -> dict[str, End]:
        """Look where sessions end; left out are those that are tried alone."""
        headers = await self._sessions.headers(names) if names else {}
        return {
            name: header.end
            for name, header in headers.items()
            if header.session.ttl_us is None and header.is_live(now_us) and not header.is_closed
        }


def _merged(appends: Sequence[Append], end: End, now_us: int, writer: ObjectId) -> Document | None:
    """Return one batch of appends to a session; None: they cannot be one."""
    if appends[0].expected_last not in (None, end.last):
        return None
    messages = [message for append in appends for message in append.messages]
    batch = batch_document(appends[0].session_id, end, messages, now_us, writer)
    # the index does not refuse what is twice in one document
    return batch if len(appends) == 1 or len(set(batch["ids"])) == len(messages) else None


def _receipts(appends: Sequence[Append], counting: Mapping[str, int]) -> Iterator[AppendReceipt | None]:
    """Yield the receipt of each append to a session whose batch begins at a position; None: no such batch."""
    following = dict(counting)
    for append in appends:
        first = following.get(append.session_id)
        if first is None:
            yield None
            continue
        following[append.session_id] = first + len(append.messages)
        yield AppendReceipt(first_position=first, last_position=first + len(append.messages) - 1)


def _position_conflict(session_id: str, expected: int | None, actual: int) -> ConflictError:
    return ConflictError(
        backend=BACKEND,
        key=f"session {session_id!a}",
        expected=f"last position {expected}",
        actual=f"last position {actual}",
    )
