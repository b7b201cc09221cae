"""The use cases of conversations: add messages, read, search, clear, summarize."""

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast, overload
from zlib import crc32

import attrs

from luminoracore_sdk.application.off_loop import off_loop
from luminoracore_sdk.application.ports.records import MessageRange, MessageRecord, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import ensure_session, message_records
from luminoracore_sdk.domain.conversation import Conversation
from luminoracore_sdk.domain.errors import ConflictError, CorruptRecordError, SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.message import (
    Message,
    MessageRole,
    at_position,
    ends_history,
    is_deleted,
    message_text,
    not_deleted,
    stamped,
    to_role,
)
from luminoracore_sdk.domain.pieces import LARGE
from luminoracore_sdk.domain.usage import folding
from luminoracore_sdk.domain.values import check_count, check_whole, folded_query, from_microseconds

__all__ = ["ABSENT", "Conversations", "to_message"]

_CHUNK = 500

_LONGEST_CHUNK = 4000
"""Most messages of one read past deleted ones, of which each takes some 50 bytes."""

_FOLDED_EVERY = 64
"""An append that counts tokens reads and folds the counters of its session, one time in so many."""

ABSENT: Any = object()
"""Marks an argument that was not given."""


class Conversations:
    """Stores the messages of conversations and reads them.

    Every read of an unknown session returns nothing (None, an empty list, 0, False); only a failure of the
    backend raises an error. An id need not be created first: the first message creates its conversation. Deleted
    messages are read by no call and do not count: a call returns as many messages as it is asked for, if there are.

    Args:
        storage: The storage that holds them.
        services: The other ports.
        max_history: How many of the newest messages are returned by reads without a range.
        whole_history: Whether older messages can be read by range.
    """

    def __init__(self, *, storage: SessionStorage, services: Services, max_history: int, whole_history: bool) -> None:
        if type(max_history) is not int or max_history < 1:
            raise ValidationError(f"max_history must be a whole number of at least 1, not {max_history!r}")
        self.storage = storage
        self.max_history = max_history
        self._services = services
        self._whole = whole_history

    # -- write -----------------------------------------------------------------------------------

    async def create_conversation(self, session_id: str) -> Conversation:
        """Create a conversation, or return the existing one.

        Raises:
            SessionNotFoundError: It was erased with its user, less than a day ago; see ``SessionManager.erase_user``.
        """
        found = await self.get_conversation(session_id)
        if found is None:
            await ensure_session(session_id, self.storage, self._services)
            found = await self.get_conversation(session_id)
        if found is None:  # deleted meanwhile
            raise SessionNotFoundError(session_id, backend=self.storage.backend)
        return found

    @overload
    async def add_message(self, session_id: str, role: Message | Mapping[str, Any] | str, /) -> Message: ...

    @overload
    async def add_message(
        self, session_id: str, role: MessageRole | str, content: JSONValue, metadata: JSONObject | None = None
    ) -> Message: ...

    async def add_message(
        self, session_id: str, role: Any, content: Any = ABSENT, metadata: JSONObject | None = None
    ) -> Message:
        """Add one message at the next position.

        Args:
            session_id: Any id; an unknown one creates a conversation.
            role: A role, with ``content``; or, alone, a ``Message``, its dictionary, or a string (the
                message of a user).
            content: Any JSON value.
            metadata: A JSON object.

        Returns:
            The stored message, with id, time and position. If its id is stored already, nothing is added
            and the message of that id is returned, also if it was deleted (``metadata == {"deleted": True}``).

        Raises:
            ValidationError: An unknown role, or a value that is not JSON, such as NaN; nothing was stored.
            SessionNotFoundError: The session was erased with its user, less than a day ago; see
                ``SessionManager.erase_user``.
        """
        message = to_message(role, content, metadata)
        try:
            return (await self.append(session_id, [message]))[0]
        except SessionNotFoundError:
            await ensure_session(session_id, self.storage, self._services)
            return (await self.append(session_id, [message]))[0]

    async def append(
        self,
        session_id: str,
        messages: Sequence[Message],
        *,
        expected_last: int | None = None,
        fence: int | None = None,
        encoded: Sequence[MessageRecord] = (),
    ) -> list[Message]:
        """Add several messages to an existing conversation, all or none.

        Args:
            session_id: An existing session.
            messages: The messages, oldest first.
            expected_last: Append only if this is the newest position.
            fence: Append only if this is the fence of the latest lease.
            encoded: The records of the first of them, if ``encode`` was called already.

        Returns:
            The stored messages, with ids, times and positions.

        Raises:
            SessionNotFoundError: No such session.
            ConflictError: ``expected_last`` is not the newest position.
        """
        if not isinstance(messages, Iterable):
            raise ValidationError(f"messages must be a list of messages, not {type(messages).__name__}")
        ready = [self._stamped(message) for message in messages]
        records = [*encoded, *await self.encode(ready[len(encoded) :])]
        if _folds_counters(records):
            records[-1] = await self._folding(session_id, records[-1])
        while (
            receipt := await self.storage.append_messages(session_id, records, expected_last=expected_last, fence=fence)
        ).replayed:  # the stored messages may differ from those passed in under the same ids
            span = MessageRange(after=receipt.first_position - 1, limit=len(records))
            stored = await self._read_stored(session_id, span)
            if [message.id for message in stored] == [record.message_id for record in records]:
                return stored
            # cleared between the append and the reading: append again
        return [at_position(message, position) for position, message in enumerate(ready, start=receipt.first_position)]

    async def _folding(self, session_id: str, record: MessageRecord) -> MessageRecord:
        """Return a record that folds the counters of its session, too; see ``domain.usage.folding``."""
        header = await self.storage.find_session(session_id)
        if header is None:
            return record
        adds = dict(record.adds)
        for name, number in folding(header.summary.counters, self._services.clock.now().date()).items():
            adds[name] = adds.get(name, 0) + number
        return attrs.evolve(record, adds=adds)

    async def encode(self, messages: Sequence[Message]) -> list[MessageRecord]:
        """Return the records of messages that have an id and a time.

        Raises:
            ValidationError: A value is not JSON.
        """
        return await message_records(self.storage, self._services.codec, messages)

    def _stamped(self, message: Message) -> Message:
        if not isinstance(message, Message):
            raise ValidationError(f"a message to append must be a Message, not {type(message).__name__}")
        if message.id is not None and message.timestamp is not None and message.position is None:
            return message
        return stamped(
            message,
            id=message.id or self._services.ids.new_id(),
            timestamp=message.timestamp or self._services.clock.now(),
        )

    async def clear_conversation(self, session_id: str) -> bool:
        """Remove every message; return False if there is no such session."""
        try:
            await self.storage.truncate_messages(session_id, after=0)
        except SessionNotFoundError:
            return False
        return True

    async def delete_conversation(self, session_id: str) -> bool:
        """Remove a conversation; return False if there is none.

        A session that was created by a SessionManager remains, without messages.
        """
        record = await self.storage.find_session(session_id)
        if record is None:
            return False
        session = self._services.codec.session(record, backend=self.storage.backend)
        if session.provider is not None:
            return await self.clear_conversation(session_id)
        return await self.storage.delete_session(session_id)

    # -- read ------------------------------------------------------------------------------------

    async def get_conversation(self, session_id: str, *, limit: int | None = None) -> Conversation | None:
        """Return a snapshot with the newest ``limit`` (``max_history`` when None) messages, or None."""
        record = await self.storage.find_session(session_id)
        if record is None:
            return None
        return Conversation(
            session_id=session_id,
            messages=await self.get_recent_messages(session_id, limit or self.max_history),
            created_at=from_microseconds(record.created_at_us),
            updated_at=from_microseconds(record.updated_at_us),
        )

    async def get_messages(
        self,
        session_id: str,
        limit: int | None = None,
        offset: int = 0,
        *,
        before: int | None = None,
        after: int | None = None,
    ) -> list[Message]:
        """Return messages, oldest first.

        Positions do not change while others append, so ``before`` and ``after`` page through a conversation that
        grows: ``before`` the first position of the page that is shown goes back, ``after`` the last one forward.

        A manager without a storage counts from the oldest of the newest ``max_history`` messages; one with
        a storage from the oldest stored message, so that ``limit`` and ``offset`` page through all of them.

        Neither ``limit`` nor ``offset`` counts deleted messages: a page is shorter than ``limit`` only if there are
        no more messages. Of a conversation from which messages were deleted, ``offset`` reads what it skips;
        ``before`` and ``after`` never do.

        Args:
            session_id: Any id.
            limit: Return at most so many, the first ones after ``offset``; None: the newest
                ``max_history`` after ``offset``.
            offset: Skip so many of the oldest messages.
            before: Only positions below this one: the newest ``limit`` of them, unless ``after`` is given too.
            after: Only positions above this one: the first ``limit`` of them.
        """
        check_count(limit, "limit")
        check_count(offset, "offset")
        check_whole(before, "before")
        check_whole(after, "after")
        if before is not None or after is not None:
            return await self._page(session_id, self.max_history if limit is None else limit, before, after)
        span = MessageRange(limit=limit)
        if limit is None:
            span = MessageRange(limit=self.max_history, newest=True)
        if self._whole and not offset:
            return await self._read(session_id, span)
        record = await self.storage.find_session(session_id)
        if record is None:
            return []
        return await self._read(session_id, attrs.evolve(span, after=await self._behind(record, offset)))

    async def _page(self, session_id: str, limit: int, before: int | None, after: int | None) -> list[Message]:
        span = MessageRange(after=after or 0, before=before, limit=limit, newest=after is None)
        if self._whole:
            return await self._read(session_id, span)
        record = await self.storage.find_session(session_id)
        if record is None:
            return []
        first = await self._first_visible(record)
        return await self._read(session_id, attrs.evolve(span, after=max(span.after, first)))

    async def get_recent_messages(self, session_id: str, count: int) -> list[Message]:
        """Return the newest ``count`` messages, oldest first."""
        if count is None:
            raise ValidationError("count must be a whole number of at least 0, not None")
        check_count(count, "count")
        count = count if self._whole else min(count, self.max_history)
        return await self._read(session_id, MessageRange(limit=count, newest=True))

    async def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None
    ) -> AsyncIterator[Message]:
        """Yield the messages with positions between ``after`` and ``before``, oldest first, in constant memory.

        Raises:
            SessionNotFoundError: No such session.
        """
        decode, backend = self._services.codec.message, self.storage.backend
        async for record in self.storage.stream_messages(session_id, after=after, before=before):
            if len(record.payload.data) > LARGE:
                yield (await self.decoded(session_id, [record]))[0]
                continue
            message = decode(record, backend=backend, session_id=session_id)
            if not is_deleted(message):
                yield message

    async def get_last_message(self, session_id: str) -> Message | None:
        """Return the newest message, or None."""
        messages = await self.get_recent_messages(session_id, 1)
        return messages[0] if messages else None

    async def get_message_count(self, session_id: str) -> int:
        """Return the number of messages; 0 for an unknown session.

        A conversation from which messages were deleted is read for it, in constant memory.
        """
        record = await self.storage.find_session(session_id)
        if record is None:
            return 0
        if not await self._has_deletions(record):
            return record.last_position - await self._first_visible(record)
        count = 0
        async for _ in self._visible(record):
            count += 1
        return count

    async def search_messages(self, session_id: str, query: str, limit: int | None = None) -> list[Message]:
        """Return the messages whose text contains ``query``, without regard to case.

        Args:
            session_id: Any id.
            query: A non-empty string.
            limit: Return only so many of the newest ones; None: all.

        Returns:
            Oldest first.
        """
        folded = folded_query(query)
        return await self._newest(session_id, limit, lambda message: folded in message_text(message).casefold())

    async def get_messages_by_role(
        self, session_id: str, role: MessageRole | str, limit: int | None = None
    ) -> list[Message]:
        """Return the messages of one role, oldest first; only the newest ``limit`` of them if given."""
        wanted = to_role(role)
        return await self._newest(session_id, limit, lambda message: message.role is wanted)

    async def list_conversations(self) -> list[str]:
        """Return the ids of all conversations, by time of creation, then id."""
        return await self.storage.list_sessions()

    async def get_conversation_summary(self, session_id: str) -> JSONObject | None:
        """Return counts by role, times, first and last message, or None.

        Keys: session_id, total_messages, user_messages, assistant_messages, created_at, updated_at,
        first_message, last_message. Reads the whole conversation, in constant memory.
        """
        record = await self.storage.find_session(session_id)
        if record is None:
            return None
        roles: Counter[str] = Counter()
        first = last = None
        async for message in self._visible(record):
            roles[message.role.value] += 1
            first, last = first or message, message
        return {
            "session_id": session_id,
            "total_messages": roles.total(),
            "user_messages": roles["user"],
            "assistant_messages": roles["assistant"],
            "created_at": from_microseconds(record.created_at_us),
            "updated_at": from_microseconds(record.updated_at_us),
            "first_message": first,
            "last_message": last,
        }

    async def get_conversation_stats(self, session_id: str) -> JSONObject | None:
        """Return counts and lengths, or None.

        Keys: total_messages, user_messages, assistant_messages, system_messages, tool_messages,
        total_characters, average_message_length, created_at, updated_at, duration (seconds). Reads
        the whole conversation, in constant memory.
        """
        record = await self.storage.find_session(session_id)
        if record is None:
            return None
        roles, characters = Counter[str](), 0
        async for message in self._visible(record):
            roles[message.role.value] += 1
            characters += len(message_text(message))
        total = roles.total()
        created, updated = from_microseconds(record.created_at_us), from_microseconds(record.updated_at_us)
        return {
            "total_messages": total,
            **{f"{role.value}_messages": roles[role.value] for role in MessageRole},
            "total_characters": characters,
            "average_message_length": characters / total if total else 0,
            "created_at": created,
            "updated_at": updated,
            "duration": (updated - created).total_seconds(),
        }

    async def find_position(self, session_id: str, records: Sequence[MessageRecord]) -> int | None:
        """Return the last position of records that are stored under their ids; None: they are not.

        The probe is an append that cannot succeed: a repeated batch is recognised before its condition is checked,
        on every backend, in one round trip and at a cost that does not depend on the length of the history.

        Raises:
            SessionNotFoundError: No such session.
            ConflictError: Some of them are stored, or all in another order.
        """
        try:
            receipt = await self.storage.append_messages(session_id, records, expected_last=-1)
        except ConflictError:
            if len(records) > 1:
                for record in records:
                    if await self.find_position(session_id, [record]) is not None:
                        raise
            return None
        return receipt.last_position

    async def read_after(self, session_id: str, position: int, limit: int) -> list[Message]:
        """Return the first ``limit`` messages behind a position, oldest first."""
        return await self._read(session_id, MessageRange(after=position, limit=limit))

    async def read_before(self, session_id: str, position: int, limit: int) -> list[Message]:
        """Return the newest ``limit`` messages before a position, oldest first."""
        return await self._read(session_id, MessageRange(before=position, limit=limit, newest=True))

    async def before_newest(self, record: SessionRecord, count: int) -> int:
        """Return the position behind which the newest ``count`` messages of a session stand."""
        if not self._has_gaps(record):
            return max(0, record.last_position - count)
        position = record.last_position
        while count and (found := await self.read_before(record.session_id, position + 1, min(count, _CHUNK))):
            position = (found[0].position or 1) - 1
            count -= len(found)
        return 0 if count else position

    async def read_stored(self, session_id: str, position: int, limit: int) -> list[Message]:
        """Return what stands at the first ``limit`` positions behind one, deleted messages included."""
        return await self._read_stored(session_id, MessageRange(after=position, limit=limit))

    # -- helpers ---------------------------------------------------------------------------------

    async def _first_visible(self, record: SessionRecord) -> int:
        """Return the position behind which the messages that can be read stand."""
        return 0 if self._whole else await self.before_newest(record, self.max_history)

    async def _visible(self, record: SessionRecord) -> AsyncGenerator[Message, None]:
        after = await self._first_visible(record)
        async for message in self.stream_messages(record.session_id, after=after):
            yield message

    async def _has_deletions(self, record: SessionRecord) -> bool:
        """Return whether some messages of a session may be deleted.

        ``delete_messages`` notes it in the header; ``apply_retention``, which is no activity, deletes the first one.
        """
        if self._has_gaps(record):
            return True
        return any(map(is_deleted, await self.read_stored(record.session_id, 0, 1)))

    def _has_gaps(self, record: SessionRecord) -> bool:
        """Return whether messages may be deleted between others."""
        try:
            return self._services.codec.session(record, backend=self.storage.backend).has_deletions
        except CorruptRecordError:  # a document of the caller's
            return False

    async def _behind(self, record: SessionRecord, count: int) -> int:
        """Return the position behind the first ``count`` messages that can be read."""
        if not count or not await self._has_deletions(record):
            return count + await self._first_visible(record)
        async with aclosing(self._visible(record)) as messages:
            async for message in messages:
                count -= 1
                if not count:
                    return message.position or 0
        return record.last_position

    async def _read(self, session_id: str, span: MessageRange) -> list[Message]:
        """Return the messages of a range that were not deleted; as many as its limit, which it has, if there are."""
        limit = asked = cast("int", span.limit)
        found = await self._read_stored(session_id, span)
        kept = not_deleted(found)
        while len(kept) < limit and len(found) == asked:
            if span.newest:
                if any(map(ends_history, found)):
                    break
                rest = attrs.evolve(span, before=found[0].position)
            else:
                rest = attrs.evolve(span, after=found[-1].position or 0)
            asked = max(_CHUNK, limit - len(kept), 0 if not_deleted(found) else min(2 * asked, _LONGEST_CHUNK))
            found = await self._read_stored(session_id, attrs.evolve(rest, limit=asked))
            more = not_deleted(found)
            kept = [*more, *kept][-limit:] if span.newest else [*kept, *more][:limit]
        return kept

    async def _read_stored(self, session_id: str, span: MessageRange) -> list[Message]:
        try:
            records = await self.storage.read_messages(session_id, span)
        except SessionNotFoundError:
            return []
        return await self.decoded(session_id, records)

    async def decoded(self, session_id: str, records: Sequence[MessageRecord]) -> list[Message]:
        """Return the messages of records that were read from the storage."""
        decode, backend = self._services.codec.message, self.storage.backend
        large = sum(len(record.payload.data) for record in records) > LARGE
        return await off_loop(
            lambda: [decode(record, backend=backend, session_id=session_id) for record in records], large=large
        )

    async def _newest(self, session_id: str, limit: int | None, matches: Callable[[Message], bool]) -> list[Message]:
        """Read backwards in chunks until ``limit`` messages match."""
        check_count(limit, "limit")
        record = await self.storage.find_session(session_id)
        if record is None:
            return []
        first, before = await self._first_visible(record), None
        found: list[Message] = []
        while limit is None or len(found) < limit:
            span = MessageRange(after=first, before=before, limit=_CHUNK, newest=True)
            chunk = await self._read(session_id, span)
            found.extend(message for message in reversed(chunk) if matches(message))
            if len(chunk) < _CHUNK:
                break
            before = chunk[0].position
        return found[:limit][::-1]


def _folds_counters(records: Sequence[MessageRecord]) -> bool:
    """Return whether an append of records folds the counters of its session: the same when it is repeated."""
    if not records or not records[-1].adds:
        return False
    return crc32(records[-1].message_id.encode()) % _FOLDED_EVERY == 0


def to_message(role: Any, content: Any, metadata: JSONObject | None) -> Message:
    """Return the message for the arguments of ``add_message``.

    Raises:
        ValidationError: The arguments are in none of its forms.
    """
    if content is not ABSENT:
        return Message(role=role, content=content, metadata={} if metadata is None else metadata)
    if isinstance(role, Message):
        return role
    if isinstance(role, Mapping):
        return Message.from_dict(role)
    if not isinstance(role, str):
        raise ValidationError(f"a message is a Message, a dict or a string, not {type(role).__name__}")
    if role in tuple(MessageRole):
        raise ValidationError(f"a message of role {str(role)!r} needs a content")
    return Message(role=MessageRole.USER, content=role)
