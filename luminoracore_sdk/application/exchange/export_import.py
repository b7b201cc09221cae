"""The use cases of export and import: sessions as lines of JSON."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from enum import StrEnum
from itertools import islice
from typing import Any

import attrs

from luminoracore_sdk.application.deleted_messages import find_tombstone
from luminoracore_sdk.application.exchange.formats import FORMAT, USER_FORMAT, VERSION, ParsedSession, ParsedUser
from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    MemoryRecord,
    MemoryScope,
    MessageRecord,
    SessionQuery,
    SessionRecord,
    SessionSummary,
)
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import headers
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionExistsError,
    SessionNotFoundError,
    StorageError,
    ValidationError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.message import at_position, is_deleted
from luminoracore_sdk.domain.values import from_microseconds

__all__ = ["ImportReceipt", "OnExisting", "Outcome", "SessionExchange", "json_text"]


_BATCH_BYTES = 256 * 1024
"""Payload bytes of one append, unless a single message is larger: a request is a copy in memory."""


class OnExisting(StrEnum):
    """What an import does with a session whose id exists and which is not the beginning of the imported one."""

    REFUSE = "refuse"
    SKIP = "skip"
    REPLACE = "replace"


class Outcome(StrEnum):
    """What an import did with a session."""

    ADDED = "added"
    COMPLETED = "completed"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"


@attrs.frozen(kw_only=True)
class ImportReceipt:
    """The result of the import of one session.

    Attributes:
        outcome: Completed: the store had its beginning. Unchanged: the store had all of it.
        messages: The number of messages that were written.
        memories: The number of memories that were written.
    """

    outcome: Outcome
    messages: int = 0
    memories: int = 0


class SessionExchange:
    """Exports sessions as lines of JSON and imports them.

    A line contains everything of a session that can be restored: ids, header, messages with their times and
    positions, memories. It does not contain what a store assigns (last activity, version), so that the export
    of an import is the same line, byte for byte; the ``ttl`` of a session starts anew with its import. The
    memories of users belong to no session; ``export_user`` writes them as a line of their own.

    Args:
        storage: The storage to export from or import to.
        services: The other ports.
        values: Decodes session documents.
    """

    def __init__(self, *, storage: SessionStorage, services: Services, values: ValueCodec) -> None:
        self._storage = storage
        self._codec = services.codec
        self._values = values

    async def export_session(self, session_id: str) -> AsyncGenerator[str, None]:
        """Yield one session as pieces of one line, which ends with a newline, in constant memory.

        Each message is a piece. Messages that are added meanwhile are not exported, and neither are deleted ones: the
        positions of those behind them are lower in the line.

        Raises:
            SessionNotFoundError: No such session.
            CorruptRecordError: A record of it cannot be read.
        """
        backend = self._storage.backend
        record = await self._storage.find_session(session_id)
        if record is None or record.payload is None:
            raise SessionNotFoundError(session_id, backend=backend)
        document = self._values.decode(record.payload, backend=backend, key=f"session {session_id!a}")
        memories = await self._storage.list_memories(MemoryScope("session", session_id))
        yield json_text(_head(record, document))[:-1] + ',"messages":['
        comma, position = "", 0
        end = record.last_position + 1
        async for stored in self._storage.stream_messages(session_id, before=end):
            message = self._codec.message(stored, backend=backend, session_id=session_id)
            if is_deleted(message):
                continue
            position += 1
            yield comma + json_text(at_position(message, position).to_dict())
            comma = ","
        yield f'],"memories":{json_text([self._memory(memory) for memory in memories])}}}\n'

    async def export_user(self, user_id: str) -> AsyncGenerator[str, None]:
        """Yield the sessions of a user, as ``export_session`` does, and behind them a line of the user's memories.

        Sessions that are deleted before their turn comes are omitted; without memories there is no such line.

        Raises:
            SessionNotFoundError: A session was deleted in the middle of its line.
            CorruptRecordError: A record cannot be read.
        """
        async with aclosing(headers(self._storage, SessionQuery(user_id=user_id))) as listed:
            async for header in listed:
                async with aclosing(self.export_session(header.session_id)) as pieces:
                    with suppress(SessionNotFoundError):
                        yield await anext(pieces)
                    async for piece in pieces:
                        yield piece
        memories = await self._storage.list_memories(MemoryScope("user", user_id))
        if memories:
            head = {"format": USER_FORMAT, "version": VERSION, "user_id": user_id}
            yield json_text({**head, "memories": [self._memory(memory) for memory in memories]}) + "\n"

    def _memory(self, record: MemoryRecord) -> JSONObject:
        entry = self._codec.memory(record, backend=self._storage.backend).to_dict()
        del entry["updated_at"]
        return {**entry, "retention": record.retention}

    async def import_session(self, parsed: ParsedSession, *, existing: OnExisting = OnExisting.REFUSE) -> ImportReceipt:
        """Write one session, all or nothing; expired memories count as absent.

        A stored session that is the beginning of the imported one, judged by the ids of its messages, is completed; one
        that goes on where the imported one ends is left as it is. So an import that was killed can be repeated. A
        failure removes what was written so far; a cancellation waits until the session is complete.

        Args:
            parsed: A session from a ``SessionParser``.
            existing: What to do if another session with the id exists. ``REPLACE`` deletes the stored session with its
                messages and memories before it writes the new one, and restores it if that fails.

        Raises:
            SessionExistsError: Another session with the id exists; it is unchanged.
            StorageError: The session could not be written.
        """
        work = asyncio.ensure_future(self._write(parsed, existing))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            while not work.done():  # otherwise a partial session would remain
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([work])
            work.exception()  # retrieved, since the cancellation is raised instead
            raise

    async def import_user(self, parsed: ParsedUser, *, existing: OnExisting = OnExisting.REFUSE) -> int:
        """Write the memories of a user one by one; other memories of the user stay.

        Args:
            parsed: The memories of a user from a ``SessionParser``.
            existing: What to do with those whose key exists with another value. After a failure, or a kill, the
                same import writes the rest.

        Returns:
            The number of memories that were written.

        Raises:
            ValidationError: The user has another memory of one of the keys; nothing was written.
        """
        stored = await self._storage.list_memories(MemoryScope("user", parsed.user_id))
        known = {memory.key: memory.payload for memory in stored}
        if existing is OnExisting.REFUSE and any(
            one.payload != known.get(one.key, one.payload) for one in parsed.memories
        ):
            raise ValidationError(
                f"user {parsed.user_id!a:.80} has some of these memories already; use --replace or --skip-existing"
            )
        new = [one for one in parsed.memories if existing is OnExisting.REPLACE or one.key not in known]
        for memory in new:
            await self._storage.put_memory(memory)
        return len(new)

    async def _write(self, parsed: ParsedSession, existing: OnExisting) -> ImportReceipt:
        session_id = parsed.record.session_id
        if existing is OnExisting.REPLACE:
            return await self._replace(parsed)
        try:
            return await self._create(parsed)
        except ConflictError as exc:
            if (receipt := await self._complete(parsed)) is not None:
                return receipt
            if existing is OnExisting.SKIP:
                return ImportReceipt(outcome=Outcome.SKIPPED)
            raise SessionExistsError(session_id) from exc

    async def _replace(self, parsed: ParsedSession) -> ImportReceipt:
        before = await self._remove(parsed.record.session_id)
        try:
            return await self._create(parsed)
        except ConflictError as exc:
            raise SessionExistsError(parsed.record.session_id) from exc
        except BaseException:
            if before is not None:
                await self._create(before)
            raise

    async def _complete(self, parsed: ParsedSession) -> ImportReceipt | None:
        """Write what a stored session lacks of the imported one; None: they are different sessions."""
        session_id = parsed.record.session_id
        record = await self._storage.find_session(session_id)
        if record is None or record.user_id != parsed.record.user_id:
            return None
        count = await self._common(record, [message.message_id for message in parsed.messages])
        if count is None or (not count and record.payload != parsed.record.payload):
            return None
        is_longer = count == len(parsed.messages) and record.last_position > count
        memories: list[MemoryRecord] = []
        if not is_longer:  # later, memories may have been deleted on purpose
            kept = {memory.key for memory in await self._storage.list_memories(MemoryScope("session", session_id))}
            memories = [memory for memory in parsed.memories if memory.key not in kept]
        written = record.last_position
        try:
            for batch in _batches(parsed.messages, count):
                if parsed.record.summary.counters and written == record.last_position:
                    batch[0] = attrs.evolve(batch[0], adds=record.summary.lacking(parsed.record.summary))
                receipt = await self._storage.append_messages(session_id, batch, expected_last=written)
                written = receipt.last_position
            for memory in memories:
                await self._storage.put_memory(memory)
        except ConflictError as exc:
            raise _raced(session_id) from exc
        added = len(parsed.messages) - count
        outcome = Outcome.COMPLETED if added or memories else Outcome.UNCHANGED
        return ImportReceipt(outcome=outcome, messages=added, memories=len(memories))

    async def _common(self, record: SessionRecord, wanted: list[str]) -> int | None:
        """Return how many of these messages a session begins with; None: it is another conversation.

        A deleted message is omitted, as in an export; a session that has deleted one of these is another one.
        """
        count, is_beginning, own = 0, True, set(wanted)
        session_id, backend = record.session_id, self._storage.backend
        async for stored in self._storage.stream_messages(session_id, before=record.last_position + 1):
            if find_tombstone(self._codec, stored, backend=backend, session_id=session_id):
                is_beginning &= stored.message_id not in own
            elif count < len(wanted):
                is_beginning &= stored.message_id == wanted[count]
                count += 1
        return count if is_beginning else None

    async def _remove(self, session_id: str) -> ParsedSession | None:
        record = await self._storage.find_session(session_id)
        if record is None:
            return None
        before = ParsedSession(
            record=record,
            messages=[message async for message in self._storage.stream_messages(session_id)],
            memories=await self._storage.list_memories(MemoryScope("session", session_id)),
        )
        await self._storage.delete_session(session_id)
        return before

    async def _create(self, parsed: ParsedSession) -> ImportReceipt:
        session_id, written = parsed.record.session_id, 0
        created = await self._storage.put_session(parsed.record, expected_version=0)
        try:
            for batch in _batches(parsed.messages, 0):
                receipt = await self._storage.append_messages(session_id, batch, expected_last=written)
                written = receipt.last_position
            for memory in parsed.memories:
                await self._storage.put_memory(memory)
        except BaseException as exc:
            found = await self._storage.find_session(session_id)
            unchanged = (created.version, written)
            if found is not None and (found.version, found.last_position) == unchanged:  # no other writer
                await self._storage.delete_session(session_id)
            if isinstance(exc, ConflictError):
                raise _raced(session_id) from exc
            raise
        return ImportReceipt(outcome=Outcome.ADDED, messages=written, memories=len(parsed.memories))


def _batches(messages: list[MessageRecord], start: int) -> Iterator[list[MessageRecord]]:
    """Yield messages from an index on, in batches of a bounded size."""
    batch: list[MessageRecord] = []
    size = 0
    for message in islice(messages, start, None):
        size += len(message.payload.data)
        if batch and (size > _BATCH_BYTES or len(batch) == MAX_BATCH):
            yield batch
            batch, size = [], len(message.payload.data)
        batch.append(message)
    if batch:
        yield batch


def _raced(session_id: str) -> StorageError:
    return StorageError(f"session {session_id!a} was written by another writer during its import")


def _head(record: SessionRecord, document: Any) -> JSONObject:
    return {
        "format": FORMAT,
        "version": VERSION,
        "session_id": record.session_id,
        "user_id": record.user_id,
        "tags": list(record.tags),
        "ttl_us": record.ttl_us,
        "created_at": from_microseconds(record.created_at_us).isoformat(),
        "counters": dict(sorted(SessionSummary().lacking(record.summary).items())),
        "document": document,
    }


def json_text(value: object) -> str:
    """Return compact JSON on one line, without escaping characters other than ASCII.

    Only a value with lone surrogates, which UTF-8 cannot encode, is escaped.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text
