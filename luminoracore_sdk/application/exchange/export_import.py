"""The use cases of handing sessions on: out of one store as lines of JSON, into another."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from enum import StrEnum
from typing import Any

from luminoracore_sdk.application.exchange.formats import FORMAT, VERSION, ParsedSession
from luminoracore_sdk.application.ports.codec import ValueCodec
from luminoracore_sdk.application.ports.records import MAX_BATCH, MemoryRecord, MemoryScope, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.domain.errors import (
    ConflictError,
    SessionExistsError,
    SessionNotFoundError,
    StorageError,
)
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.values import from_microseconds

__all__ = ["OnExisting", "SessionExchange", "json_text"]


class OnExisting(StrEnum):
    """What an import does with a session whose id is stored already."""

    REFUSE = "refuse"
    SKIP = "skip"
    REPLACE = "replace"


class SessionExchange:
    """Exports sessions as lines of JSON and imports them.

    A line holds everything of a session that can be restored: ids, header, messages with their times and
    positions, memory. Left out is what a store stamps itself (last activity, version), so that the export
    of an import is the same line, byte for byte; the ``ttl`` of a session runs anew from its import.
    Memory of a user's scope belongs to no session and is not in it.

    Args:
        storage: Where from, or where to.
        services: Codec.
        values: Decodes session documents.
    """

    def __init__(self, *, storage: SessionStorage, services: Services, values: ValueCodec) -> None:
        self._storage = storage
        self._codec = services.codec
        self._values = values

    async def export_session(self, session_id: str) -> AsyncIterator[str]:
        """Yield one session in pieces that make up one line, newline included; in constant memory.

        Each message is a piece. Messages that are added while this runs are not in it.

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
        comma = ""
        end = record.last_position + 1
        async for stored in self._storage.stream_messages(session_id, before=end):
            message = self._codec.message(stored, backend=backend, session_id=session_id)
            yield comma + json_text(message.to_dict())
            comma = ","
        yield f'],"memories":{json_text([self._memory(memory) for memory in memories])}}}\n'

    def _memory(self, record: MemoryRecord) -> JSONObject:
        entry = self._codec.memory(record, backend=self._storage.backend).to_dict()
        del entry["updated_at"]
        return {**entry, "retention": record.retention}

    async def import_session(self, draft: ParsedSession, *, existing: OnExisting = OnExisting.REFUSE) -> bool:
        """Write one session, all of it or nothing; memory that has expired counts as absent.

        A failure in the middle removes what was begun; a cancellation waits until the session is whole.
        (Only a process that is killed in the middle leaves a part; importing with ``REPLACE`` repairs it.)

        Args:
            draft: From a ``SessionParser``.
            existing: ``REPLACE`` takes the stored session, with all it holds, out of the store before the
                other is written, and puts it back if that fails.

        Returns:
            False: it exists and was skipped.

        Raises:
            SessionExistsError: It exists; the stored one is unchanged.
            StorageError: It could not be written.
        """
        work = asyncio.ensure_future(self._write(draft, existing))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            while not work.done():  # what is begun is finished, so that no half of a session stays
                with suppress(asyncio.CancelledError):
                    await asyncio.wait([work])
            work.exception()  # seen: the cancellation is what the caller gets
            raise

    async def _write(self, draft: ParsedSession, existing: OnExisting) -> bool:
        session_id = draft.record.session_id
        before = await self._taken_out(session_id) if existing is OnExisting.REPLACE else None
        try:
            await self._create(draft)
        except ConflictError as exc:
            if existing is OnExisting.SKIP:
                return False
            raise SessionExistsError(session_id) from exc
        except BaseException:
            if before is not None:
                await self._create(before)
            raise
        return True

    async def _taken_out(self, session_id: str) -> ParsedSession | None:
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

    async def _create(self, draft: ParsedSession) -> None:
        session_id, written = draft.record.session_id, 0
        made = await self._storage.put_session(draft.record, expected_version=0)
        try:
            for start in range(0, len(draft.messages), MAX_BATCH):
                batch = draft.messages[start : start + MAX_BATCH]
                receipt = await self._storage.append_messages(session_id, batch, expected_last=start)
                written = receipt.last_position
            for memory in draft.memories:
                await self._storage.put_memory(memory)
        except BaseException as exc:
            found = await self._storage.find_session(session_id)
            ours = (made.version, written)
            if found is not None and (found.version, found.last_position) == ours:  # nobody else's words
                await self._storage.delete_session(session_id)
            if isinstance(exc, ConflictError):
                raise StorageError(
                    f"session {session_id!a} was written by somebody else while it was imported"
                ) from exc
            raise


def _head(record: SessionRecord, document: Any) -> JSONObject:
    return {
        "format": FORMAT,
        "version": VERSION,
        "session_id": record.session_id,
        "user_id": record.user_id,
        "tags": list(record.tags),
        "ttl_us": record.ttl_us,
        "created_at": from_microseconds(record.created_at_us).isoformat(),
        "document": document,
    }


def json_text(value: object) -> str:
    """Return compact JSON on one line, with letters of every language as they are.

    Lone surrogates, which no file in UTF-8 can hold, are escaped.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text
