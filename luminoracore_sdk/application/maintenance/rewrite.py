"""Rewrite every record of a live store with the current settings, resumable where it stopped."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from functools import partial
from typing import Protocol

import attrs

from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import (
    MAX_PAGE,
    MemoryRecord,
    MemoryScope,
    MessageRange,
    MessageRecord,
    Payload,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.application.ports.rewriting import PayloadRewrite, RecordForms, RewritingStorage
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    PayloadTooLargeError,
    SessionNotFoundError,
)
from luminoracore_sdk.domain.values import STORE_OWNER

__all__ = [
    "CHUNK",
    "Cursor",
    "RewriteMark",
    "Rewritten",
    "StoreRewrite",
]

Cursor = tuple[int, str]
"""Position in a listing of sessions: creation time and id of the last one listed."""


_SCOPE = MemoryScope("user", STORE_OWNER)
_KEY = "rewriting"


class RewriteMark:
    """The place where a rewriting to one aim was stopped.

    Args:
        storage: The store.
        values: Writes the mark.
        aim: What records are rewritten to. A mark for another aim does not count: its first part has not
            the form that is wanted now.
    """

    def __init__(self, storage: SessionStorage, values: ValueCodec, aim: str) -> None:
        self._storage = storage
        self._values = values
        self._aim = aim

    async def find(self) -> Cursor | None:
        """Return where to go on; None: from the beginning.

        Raises:
            CorruptRecordError: The mark cannot be read.
        """
        record = await self._storage.find_memory(_SCOPE, _KEY)
        if record is None:
            return None
        mark = self._values.decode(record.payload, backend=self._storage.backend, key=f"the mark {_KEY!a}")
        match mark:
            case {"aim": self._aim, "time_us": int(time_us), "session": str(session_id)}:
                return time_us, session_id
        return None

    async def set(self, cursor: Cursor) -> None:
        """Keep how far the rewriting has come."""
        payload = self._values.encode({"aim": self._aim, "time_us": cursor[0], "session": cursor[1]})
        await self._storage.put_memory(MemoryRecord(scope=_SCOPE, key=_KEY, payload=payload))

    async def clear(self) -> None:
        """Forget it: the rewriting has come to its end."""
        await self._storage.delete_memory(_SCOPE, _KEY)


CHUNK = 200
"""Messages that are read, changed and written together."""


class Replace(Protocol):
    """Replaces one payload, or tells that it has changed."""

    async def __call__(self, *, old: Payload, new: Payload) -> bool:
        """Return whether it was replaced."""
        ...


@attrs.define(kw_only=True)
class Rewritten:
    """What was done with the records of one owner.

    Attributes:
        kind: session, or user for what is remembered about a user.
        owner_id: The id of the session or user.
        cursor: Of a session: a later run that begins here goes on behind it.
        records: How many there are.
        changed: How many were replaced.
        left: How many should have been, and were written by somebody else meanwhile.
        unreadable: How many are damaged, or need a key or an optimizer that is not there. They stay.
        too_large: How many would be larger in their new form than the backend takes. They stay.
        reason: Of the first of those.
        bytes_before: Of all readable payloads, as they were found.
        bytes_after: As they are now.
    """

    kind: str
    owner_id: str
    cursor: Cursor | None = None
    records: int = 0
    changed: int = 0
    left: int = 0
    unreadable: int = 0
    too_large: int = 0
    reason: str | None = None
    bytes_before: int = 0
    bytes_after: int = 0

    async def form(self, stored: Payload, wanted: Awaitable[Payload]) -> Payload:
        """Count a record, and return the form that it should have; an unreadable one stays as it is."""
        self.records += 1
        try:
            return await wanted
        except CorruptRecordError as exc:
            self.refuse(exc)
            return stored

    def refuse(self, error: CorruptRecordError | PayloadTooLargeError) -> None:
        """Count a record that cannot be read, or not be replaced."""
        if isinstance(error, CorruptRecordError):
            self.unreadable += 1
        else:
            self.too_large += 1
        self.reason = self.reason or str(error)

    def count(self, forms: Sequence[tuple[Payload, Payload]], changed: int) -> None:
        """Count what was done to records with their stored and their wanted payloads."""
        wanted = sum(new is not old for old, new in forms)
        self.changed += changed
        self.bytes_before += sum(len(old.data) for old, _ in forms)
        # of a batch in which somebody else was quicker it is not known which ones
        self.bytes_after += sum(len(new.data if changed == wanted else old.data) for old, new in forms)


class StoreRewrite:
    """Replaces payloads by the forms they should have, while others read and write the store.

    Nothing else of a record changes, and a record that somebody writes meanwhile is left to them. It can
    be stopped anywhere; run again, it only reads what has its form already.

    Args:
        backend: The storage below all wrappers.
        forms: The forms.

    Raises:
        ConfigurationError: The backend cannot replace payloads.
    """

    def __init__(self, backend: SessionStorage, forms: RecordForms) -> None:
        if not isinstance(backend, RewritingStorage):
            raise ConfigurationError(f"a {backend.backend} storage cannot replace what it has stored")
        self._backend = backend
        self._rewriter: RewritingStorage = backend
        self._forms = forms

    async def run(
        self, query: SessionQuery | None = None, *, users: Sequence[str] = ()
    ) -> AsyncGenerator[Rewritten, None]:
        """Yield what was done, an owner at a time: what the store keeps for itself, users, their sessions.

        A user comes before the first session, so that behind a session's cursor nothing is forgotten.

        Args:
            query: Which sessions, from which cursor; None: all.
            users: Users without a session, about whom something is remembered.
        """
        seen: set[str] = set()
        for user in (STORE_OWNER, *users):
            seen.add(user)
            yield await self._owner(user)
        async for record in self._headers(query or SessionQuery()):
            if record.user_id is not None and record.user_id not in seen:
                seen.add(record.user_id)
                yield await self._owner(record.user_id)
            yield await self._session(record)

    async def _headers(self, query: SessionQuery) -> AsyncIterator[SessionRecord]:
        query = attrs.evolve(query, limit=MAX_PAGE)
        while True:
            page = await self._backend.query_sessions(query)
            for record in page.sessions:
                yield record
            if page.next_cursor is None:
                return
            query = attrs.evolve(query, cursor=page.next_cursor)

    async def _session(self, listed: SessionRecord) -> Rewritten:
        session_id = listed.session_id
        done = Rewritten(kind="session", owner_id=session_id, cursor=(listed.created_at_us, session_id))
        parts = (
            partial(self._header, session_id),
            partial(self._messages, listed),
            partial(self._memories, MemoryScope("session", session_id)),
        )
        for part in parts:  # one that cannot be read keeps nobody from the others
            try:
                await part(done)
            except SessionNotFoundError:  # deleted meanwhile
                return done
            except CorruptRecordError as exc:
                done.refuse(exc)
        return done

    async def _owner(self, user: str) -> Rewritten:
        done = Rewritten(kind="user", owner_id=user)
        try:
            await self._memories(MemoryScope("user", user), done)
        except CorruptRecordError as exc:
            done.refuse(exc)
        return done

    async def _header(self, session_id: str, done: Rewritten) -> None:
        record = await self._backend.find_session(session_id)
        if record is None or record.payload is None:
            raise SessionNotFoundError(session_id, backend=self._backend.backend)
        old = record.payload
        new = await done.form(old, self._forms.session(record))
        await self._replace(old, new, partial(self._rewriter.rewrite_session, session_id), done)

    async def _memories(self, scope: MemoryScope, done: Rewritten) -> None:
        for record in await self._backend.list_memories(scope):
            old = record.payload
            new = await done.form(old, self._forms.memory(record))
            await self._replace(old, new, partial(self._rewriter.rewrite_memory, scope, record.key), done)

    async def _replace(self, old: Payload, new: Payload, replace: Replace, done: Rewritten) -> None:
        changed = False
        if new is not old:
            try:
                changed = await replace(old=old, new=new)
                done.left += not changed
            except PayloadTooLargeError as exc:
                done.refuse(exc)
        done.count([(old, new)], int(changed))

    # -- messages --------------------------------------------------------------------------------

    async def _messages(self, listed: SessionRecord, done: Rewritten) -> None:
        session_id, after = listed.session_id, 0
        while True:
            chunk, end = await self._chunk(listed, after, done)
            if end == after:
                return
            forms = [await self._message(session_id, message, done) for message in chunk]
            changes = [
                PayloadRewrite(position=message.position, message_id=message.message_id, old=old, new=new)
                for message, (old, new) in zip(chunk, forms, strict=True)
                if new is not old
            ]
            done.count(forms, await self._rewrite(session_id, changes, done))
            after = end

    async def _chunk(self, listed: SessionRecord, after: int, done: Rewritten) -> tuple[list[MessageRecord], int]:
        """Return the next messages, or those of them that can be read, and the position where they end."""
        session_id, found = listed.session_id, []
        try:
            found = await self._backend.read_messages(session_id, MessageRange(after=after, limit=CHUNK))
        except CorruptRecordError:
            end = min(after + CHUNK, listed.last_position)
            for position in range(after + 1, end + 1):
                span = MessageRange(after=position - 1, before=position + 1)
                try:
                    found += await self._backend.read_messages(session_id, span)
                except CorruptRecordError as exc:
                    done.refuse(exc)
            return found, end
        return found, found[-1].position if found else after

    async def _message(self, session_id: str, message: MessageRecord, done: Rewritten) -> tuple[Payload, Payload]:
        return message.payload, await done.form(message.payload, self._forms.message(session_id, message))

    async def _rewrite(self, session_id: str, changes: Sequence[PayloadRewrite], done: Rewritten) -> int:
        """Replace payloads together, or one by one where some are too large; returns how many were."""
        if not changes:
            return 0
        try:
            changed = await self._rewriter.rewrite_messages(session_id, changes)
        except PayloadTooLargeError as exc:
            if len(changes) > 1:
                return sum([await self._rewrite(session_id, [change], done) for change in changes])
            done.refuse(exc)
            return 0
        done.left += len(changes) - changed
        return changed
