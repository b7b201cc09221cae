"""Rewrite every record of a live store with the current settings; a stopped run can be resumed."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

import attrs

from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import (
    IndexRecord,
    IndexRewrite,
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
from luminoracore_sdk.application.session_access import headers, memory_owners
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    CorruptRecordError,
    PayloadTooLargeError,
    SessionNotFoundError,
)
from luminoracore_sdk.domain.values import STORE_OWNER

__all__ = ["CHUNK", "Cursor", "RewriteMark", "Rewritten", "StoreRewrite"]

R = TypeVar("R", MessageRecord, IndexRecord)

Cursor = tuple[int, str]
"""A position in a listing of sessions: creation time and id of the last one listed."""

_ATTEMPTS = 5
"""How often the texts of a header are tried, which other writers may change each time."""

CHUNK = 200
"""Number of messages that are read, rewritten and written together."""


@attrs.define(kw_only=True)
class Rewritten:
    """The result of rewriting the records of one owner.

    Attributes:
        kind: ``session``, or ``user`` for the memories of a user.
        owner_id: The id of the session or user.
        cursor: The position of a session in the listing, from which a later run can continue.
        records: The number of records.
        changed: The number of records that were replaced.
        left: The number of records that another writer replaced meanwhile.
        unreadable: The number of records that are damaged, or need a key or an optimizer that is not
            configured. They stay as they are.
        too_large: The number of records whose new payload exceeds the backend's limit. They stay as they are.
        reason: The first error among the records that stay as they are.
        bytes_before: The size of all readable payloads before.
        bytes_after: Their size now.
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

    async def wanted(self, stored: Payload, wanted: Awaitable[Payload]) -> Payload:
        """Count a record; return the payload that it should have, or its own if it cannot be read."""
        self.records += 1
        try:
            return await wanted
        except CorruptRecordError as exc:
            self.refuse(exc)
            return stored

    def refuse(self, error: CorruptRecordError | PayloadTooLargeError) -> None:
        """Count a record that cannot be read or replaced."""
        if isinstance(error, CorruptRecordError):
            self.unreadable += 1
        else:
            self.too_large += 1
        self.reason = self.reason or str(error)

    def count(self, payloads: Sequence[tuple[Payload, Payload]], changed: int) -> None:
        """Count replaced records and bytes, given the stored and the wanted payload of each record."""
        wanted = sum(new is not old for old, new in payloads)
        self.changed += changed
        self.bytes_before += sum(len(old.data) for old, _ in payloads)
        # a batch that was replaced in part does not say which of its records were
        self.bytes_after += sum(len(new.data if changed == wanted else old.data) for old, new in payloads)


class StoreRewrite:
    """Replaces payloads by those that the current settings would write, while the store is in use.

    Nothing else of a record changes, and a record that another writer replaces meanwhile is left alone. A
    run can be stopped at any point and repeated: records that are up to date are only read.

    Args:
        backend: The storage below all wrappers.
        forms: Gives the payload that each record should have.

    Raises:
        ConfigurationError: The backend cannot replace payloads.
    """

    def __init__(self, backend: SessionStorage, forms: RecordForms) -> None:
        if not isinstance(backend, RewritingStorage):
            raise ConfigurationError(f"a {backend.backend} storage cannot replace what it has stored")
        self._backend = backend
        self._rewriter: RewritingStorage = backend
        self._forms = forms

    async def run(self, *, after: Cursor | None = None) -> AsyncGenerator[Rewritten, None]:
        """Rewrite the store's own records, the memories of every user, then every session.

        Args:
            after: Skip the sessions up to this one; a resumed run passes the cursor of the last result.
        """
        yield await self._user(STORE_OWNER)
        async for user_id in memory_owners(self._backend):
            yield await self._user(user_id)
        async for header in headers(self._backend, SessionQuery(cursor=after)):
            yield await self._session(header)

    async def _user(self, user_id: str) -> Rewritten:
        done = Rewritten(kind="user", owner_id=user_id)
        try:
            await self._memories(MemoryScope("user", user_id), done)
        except CorruptRecordError as exc:
            done.refuse(exc)
        return done

    async def _session(self, listed: SessionRecord) -> Rewritten:
        session_id = listed.session_id
        done = Rewritten(kind="session", owner_id=session_id, cursor=(listed.created_at_us, session_id))
        for part in (
            partial(self._header, session_id),
            partial(self._messages, listed),
            partial(self._indexes, listed),
            partial(self._memories, MemoryScope("session", session_id)),
        ):
            try:
                await part(done)
            except SessionNotFoundError:  # deleted meanwhile
                return done
            except CorruptRecordError as exc:
                done.refuse(exc)
        return done

    async def _header(self, session_id: str, done: Rewritten) -> None:
        record = await self._backend.find_session(session_id)
        if record is None or record.payload is None:
            raise SessionNotFoundError(session_id, backend=self._backend.backend)
        old = record.payload
        new = await done.wanted(old, self._forms.session(record))
        await self._replace(old, new, partial(self._rewriter.rewrite_session, session_id, old=old, new=new), done)
        for _ in range(_ATTEMPTS):  # every append changes them
            texts = await self._forms.texts(record)
            if texts == record.texts:
                return
            if await self._rewriter.rewrite_texts(session_id, old=record.texts, new=texts):
                return
            record = await self._backend.find_session(session_id)
            if record is None:
                raise SessionNotFoundError(session_id, backend=self._backend.backend)
        done.left += 1

    async def _memories(self, scope: MemoryScope, done: Rewritten) -> None:
        for record in await self._backend.list_memories(scope):
            old = record.payload
            new = await done.wanted(old, self._forms.memory(record))
            await self._replace(
                old, new, partial(self._rewriter.rewrite_memory, scope, record.key, old=old, new=new), done
            )

    async def _replace(
        self, old: Payload, new: Payload, rewrite: Callable[[], Awaitable[bool]], done: Rewritten
    ) -> None:
        changed = False
        if new is not old:
            try:
                changed = await rewrite()
                done.left += not changed
            except PayloadTooLargeError as exc:
                done.refuse(exc)
        done.count([(old, new)], int(changed))

    async def _messages(self, listed: SessionRecord, done: Rewritten) -> None:
        session_id, after = listed.session_id, 0
        while True:
            chunk, end = await self._read_chunk(self._backend.read_messages, listed, after, done)
            if end == after:
                return
            payloads = [
                (message.payload, await done.wanted(message.payload, self._forms.message(session_id, message)))
                for message in chunk
            ]
            changes = [
                PayloadRewrite(position=message.position, message_id=message.message_id, old=old, new=new)
                for message, (old, new) in zip(chunk, payloads, strict=True)
                if new is not old
            ]
            done.count(payloads, await self._rewrite_messages(session_id, changes, done))
            after = end

    async def _indexes(self, listed: SessionRecord, done: Rewritten) -> None:
        """Replace the indexes of messages; these are not counted, unless they cannot be replaced."""
        session_id, after = listed.session_id, 0
        while True:
            chunk, end = await self._read_chunk(self._backend.read_index, listed, after, done)
            if end == after:
                return
            changes: list[IndexRewrite] = []
            for record in chunk:
                try:
                    new = await self._forms.index(session_id, record)
                except CorruptRecordError as exc:
                    done.refuse(exc)
                    continue
                if new is not record.index:
                    changes.append(
                        IndexRewrite(position=record.position, message_id=record.message_id, old=record.index, new=new)
                    )
            if changes:
                try:
                    done.left += len(changes) - await self._backend.rewrite_index(session_id, changes)
                except PayloadTooLargeError as exc:
                    done.refuse(exc)
            after = end

    async def _read_chunk(
        self,
        read: Callable[[str, MessageRange], Awaitable[list[R]]],
        listed: SessionRecord,
        after: int,
        done: Rewritten,
    ) -> tuple[list[R], int]:
        """Return the readable messages or indexes of the next chunk, and the position at which it ends."""
        session_id, found = listed.session_id, list[R]()
        try:
            found = await read(session_id, MessageRange(after=after, limit=CHUNK))
        except CorruptRecordError:
            end = min(after + CHUNK, listed.last_position)
            for position in range(after + 1, end + 1):
                span = MessageRange(after=position - 1, before=position + 1)
                try:
                    found += await read(session_id, span)
                except CorruptRecordError as exc:
                    done.refuse(exc)
            return found, end
        return found, found[-1].position if found else after

    async def _rewrite_messages(self, session_id: str, changes: Sequence[PayloadRewrite], done: Rewritten) -> int:
        """Replace payloads together, or one by one if one of them is too large; return how many were."""
        if not changes:
            return 0
        try:
            changed = await self._rewriter.rewrite_messages(session_id, changes)
        except PayloadTooLargeError as exc:
            if len(changes) > 1:
                return sum([await self._rewrite_messages(session_id, [change], done) for change in changes])
            done.refuse(exc)
            return 0
        done.left += len(changes) - changed
        return changed


_SCOPE = MemoryScope("user", STORE_OWNER)
_KEY = "rewriting"


class RewriteMark:
    """Stores the cursor at which a run was stopped.

    Args:
        storage: The store.
        values: Encodes the mark.
        aim: What the run rewrites records to. A mark of another aim is ignored: what it skips has not been
            rewritten to this one.
    """

    def __init__(self, storage: SessionStorage, values: ValueCodec, aim: str) -> None:
        self._storage = storage
        self._values = values
        self._aim = aim

    async def find(self) -> Cursor | None:
        """Return the cursor to continue from; None: start from the beginning.

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
        """Store the cursor of the last result."""
        payload = self._values.encode({"aim": self._aim, "time_us": cursor[0], "session": cursor[1]})
        await self._storage.put_memory(MemoryRecord(scope=_SCOPE, key=_KEY, payload=payload))

    async def clear(self) -> None:
        """Delete the mark, after a run that was not stopped."""
        await self._storage.delete_memory(_SCOPE, _KEY)
