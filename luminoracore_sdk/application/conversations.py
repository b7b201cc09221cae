"""The use cases of a conversation: add, read, search, clear, and statistics."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, overload

from luminoracore_sdk.application.ports.records import MessageRange, SessionRecord
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import begin_session
from luminoracore_sdk.domain.conversation import Conversation
from luminoracore_sdk.domain.errors import SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message, MessageRole, at_position, message_text, stamped
from luminoracore_sdk.domain.values import from_microseconds

__all__ = [
    "ABSENT",
    "Conversations",
    "check_count",
    "conversation_stats",
    "conversation_summary",
    "memory_stats",
    "to_message",
]


_CHUNK = 500


ABSENT: Any = object()
"""Stands for an argument that was not given."""


_ROLES = frozenset(MessageRole)


def to_message(role: Any, content: Any, metadata: JSONObject | None) -> Message:
    """Return the message that ``add_message`` was given in one of its forms.

    Raises:
        ValidationError: None of them.
    """
    if content is not ABSENT:
        return Message(role=role, content=content, metadata={} if metadata is None else metadata)
    if isinstance(role, Message):
        return role
    if isinstance(role, Mapping):
        return Message.from_dict(role)
    if not isinstance(role, str):
        raise ValidationError(f"a message is a Message, a dict or a text, not {type(role).__name__}")
    if role in _ROLES:
        raise ValidationError(f"a message of role {str(role)!r} needs a content")
    return Message(role=MessageRole.USER, content=role)


def check_count(value: int | None, name: str) -> None:
    """Refuse what is not None or a whole number of at least 0."""
    if value is not None and (type(value) is not int or value < 0):
        raise ValidationError(f"{name} must be a whole number of at least 0, not {value!r}")


class Conversations:
    """Keeps conversations.

    Every read of an unknown session returns nothing (None, an empty list, 0, False); only a
    backend's failure raises. An id may be used without being created first: the first message
    begins its conversation.

    Args:
        storage: Where they are kept.
        services: The other ports.
        max_history: Newest messages that reads without a range return.
        whole_history: Whether ranges reach the messages before those.
    """

    def __init__(self, *, storage: SessionStorage, services: Services, max_history: int, whole_history: bool) -> None:
        if type(max_history) is not int or max_history < 1:
            raise ValidationError(f"max_history must be a whole number of at least 1, not {max_history!r}")
        self.storage = storage
        self.max_history = max_history
        self._tools = services
        self._whole = whole_history

    # -- writing ---------------------------------------------------------------------------------

    async def create_conversation(self, session_id: str) -> Conversation:
        """Begin a conversation, or return the one that is there."""
        await begin_session(session_id, self.storage, self._tools)
        found = await self.get_conversation(session_id)
        if found is None:  # deleted in between by somebody else
            raise SessionNotFoundError(session_id, backend=self.storage.backend)
        return found

    @overload
    async def add_message(self, session_id: str, role: Message | Mapping[str, Any] | str, /) -> Message: ...

    @overload
    async def add_message(
        self,
        session_id: str,
        role: MessageRole | str,
        content: JSONValue,
        metadata: JSONObject | None = None,
    ) -> Message: ...

    async def add_message(
        self,
        session_id: str,
        role: Any,
        content: Any = ABSENT,
        metadata: JSONObject | None = None,
    ) -> Message:
        """Add one message, at the next position.

        Args:
            session_id: Any id; an unknown one begins a conversation.
            role: A role, with ``content``; or, alone, a ``Message``, its dictionary, or a text (a
                user's message).
            content: Any JSON value.
            metadata: A JSON object.

        Returns:
            The message as stored: with id, time and position. Under an id that is stored already
            nothing is added.

        Raises:
            ValidationError: A wrong role, NaN, a value that is not JSON; nothing was stored.
        """
        message = to_message(role, content, metadata)
        try:
            return (await self.append(session_id, [message]))[0]
        except SessionNotFoundError:
            await begin_session(session_id, self.storage, self._tools)
            return (await self.append(session_id, [message]))[0]

    async def append(
        self, session_id: str, messages: Sequence[Message], *, expected_last: int | None = None
    ) -> list[Message]:
        """Add several messages to an existing conversation, all or none; see the storage port.

        Returns:
            The messages as stored, with ids, times and positions.

        Raises:
            SessionNotFoundError: No such session.
            ConflictError: ``expected_last`` is not the newest position.
        """
        ready = [self._stamped(message) for message in messages]
        records = [self._tools.codec.message_record(message) for message in ready]
        receipt = await self.storage.append_messages(session_id, records, expected_last=expected_last)
        if receipt.replayed:  # what is stored may differ from what was handed in under its id
            span = MessageRange(after=receipt.first_position - 1, limit=len(records))
            return await self._read(session_id, span)
        return [at_position(message, position) for position, message in enumerate(ready, start=receipt.first_position)]

    def _stamped(self, message: Message) -> Message:
        if message.id is not None and message.timestamp is not None and message.position is None:
            return message
        return stamped(
            message,
            id=message.id or self._tools.ids.new_id(),
            timestamp=message.timestamp or self._tools.clock.now(),
        )

    async def clear_conversation(self, session_id: str) -> bool:
        """Remove every message; False: no such session."""
        try:
            await self.storage.truncate_messages(session_id, after=0)
        except SessionNotFoundError:
            return False
        return True

    async def delete_conversation(self, session_id: str) -> bool:
        """Remove a conversation; False: there was none.

        A session that a Sessions made stays, without its messages: it is the manager's to delete.
        """
        record = await self.storage.find_session(session_id)
        if record is None:
            return False
        session = self._tools.codec.session(record, backend=self.storage.backend)
        if session.provider is not None:
            return await self.clear_conversation(session_id)
        return await self.storage.delete_session(session_id)

    # -- reading ---------------------------------------------------------------------------------

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

    async def get_messages(self, session_id: str, limit: int | None = None, offset: int = 0) -> list[Message]:
        """Return messages, oldest first.

        Without a storage of its own a manager counts from the oldest of the newest ``max_history``
        messages; with one, from the oldest that is stored, so that ``limit`` and ``offset`` page
        through everything.

        Args:
            session_id: Any id.
            limit: At most so many, the first ones behind ``offset``; None: the newest ``max_history``
                behind ``offset``.
            offset: Leave out so many of the oldest.
        """
        check_count(limit, "limit")
        check_count(offset, "offset")
        if limit is None:
            span = MessageRange(after=offset, limit=self.max_history, newest=True)
            if self._whole:
                return await self._read(session_id, span)
        record = await self.storage.find_session(session_id)
        if record is None:
            return []
        after = offset + self._first_visible(record)
        return await self._read(session_id, MessageRange(after=after, limit=limit))

    async def get_recent_messages(self, session_id: str, count: int) -> list[Message]:
        """Return the newest ``count`` messages, oldest first; none for 0."""
        check_count(count, "count")
        count = count if self._whole else min(count, self.max_history)
        return await self._read(session_id, MessageRange(limit=count, newest=True))

    async def stream_messages(
        self, session_id: str, *, after: int = 0, before: int | None = None
    ) -> AsyncIterator[Message]:
        """Yield the messages with positions between the two, oldest first, in constant memory.

        Raises:
            SessionNotFoundError: No such session.
        """
        decode, backend = self._tools.codec.message, self.storage.backend
        async for record in self.storage.stream_messages(session_id, after=after, before=before):
            yield decode(record, backend=backend, session_id=session_id)

    async def get_last_message(self, session_id: str) -> Message | None:
        """Return the newest message, or None."""
        messages = await self.get_recent_messages(session_id, 1)
        return messages[0] if messages else None

    async def get_message_count(self, session_id: str) -> int:
        """Return the number of messages; 0 for an unknown session."""
        record = await self.storage.find_session(session_id)
        return 0 if record is None else record.last_position - self._first_visible(record)

    async def search_messages(self, session_id: str, query: str, limit: int | None = None) -> list[Message]:
        """Return the messages whose text contains ``query``, without regard to case.

        Args:
            session_id: Any id.
            query: Not empty.
            limit: The newest so many; None: all.

        Returns:
            Oldest first.
        """
        if not isinstance(query, str) or not query:
            raise ValidationError("a search needs a text that is not empty")
        folded = query.casefold()
        return await self._newest(session_id, limit, lambda message: folded in message_text(message).casefold())

    async def get_messages_by_role(
        self, session_id: str, role: MessageRole | str, limit: int | None = None
    ) -> list[Message]:
        """Return the messages of one role, oldest first; ``limit`` keeps the newest so many."""
        wanted = Message(role=role, content="").role
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
        return await conversation_summary(record, self._visible(record))

    async def get_conversation_stats(self, session_id: str) -> JSONObject | None:
        """Return counts and lengths, or None.

        Keys: total_messages, user_messages, assistant_messages, system_messages, tool_messages,
        total_characters, average_message_length, created_at, updated_at, duration (seconds). Reads
        the whole conversation, in constant memory.
        """
        record = await self.storage.find_session(session_id)
        if record is None:
            return None
        return await conversation_stats(record, self._visible(record))

    # -- parts -----------------------------------------------------------------------------------

    def _first_visible(self, record: SessionRecord) -> int:
        return 0 if self._whole else max(0, record.last_position - self.max_history)

    def _visible(self, record: SessionRecord) -> AsyncIterator[Message]:
        return self.stream_messages(record.session_id, after=self._first_visible(record))

    async def _read(self, session_id: str, span: MessageRange) -> list[Message]:
        try:
            records = await self.storage.read_messages(session_id, span)
        except SessionNotFoundError:
            return []
        decode, backend = self._tools.codec.message, self.storage.backend
        return [decode(record, backend=backend, session_id=session_id) for record in records]

    async def _newest(self, session_id: str, limit: int | None, wanted: Any) -> list[Message]:
        """Walk back from the newest message, a chunk at a time, until ``limit`` are found."""
        check_count(limit, "limit")
        record = await self.storage.find_session(session_id)
        if record is None:
            return []
        first, before = self._first_visible(record), None
        found: list[Message] = []
        while limit is None or len(found) < limit:
            span = MessageRange(after=first, before=before, limit=_CHUNK, newest=True)
            chunk = await self._read(session_id, span)
            found.extend(message for message in reversed(chunk) if wanted(message))
            if len(chunk) < _CHUNK:
                break
            before = chunk[0].position
        return found[:limit][::-1]


async def conversation_summary(record: SessionRecord, messages: AsyncIterator[Message]) -> JSONObject:
    """Return what ``get_conversation_summary`` documents."""
    roles: Counter[str] = Counter()
    first: Message | None = None
    last: Message | None = None
    async for message in messages:
        roles[message.role.value] += 1
        first = first or message
        last = message
    return {
        "session_id": record.session_id,
        "total_messages": roles.total(),
        "user_messages": roles["user"],
        "assistant_messages": roles["assistant"],
        "created_at": from_microseconds(record.created_at_us),
        "updated_at": from_microseconds(record.updated_at_us),
        "first_message": first,
        "last_message": last,
    }


async def conversation_stats(record: SessionRecord, messages: AsyncIterator[Message]) -> JSONObject:
    """Return what ``get_conversation_stats`` documents."""
    roles: Counter[str] = Counter()
    characters = 0
    async for message in messages:
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


def memory_stats(entries: Sequence[MemoryEntry], active: int) -> JSONObject:
    """Return what ``get_memory_stats`` documents, but for Core's part."""
    categories = Counter(entry.category.value for entry in entries)
    times = [entry.created_at for entry in entries]
    return {
        "total_memories": len(entries),
        "active_memories": active,
        "categories": dict(sorted(categories.items())),
        "oldest_memory": min(times, default=None),
        "newest_memory": max(times, default=None),
    }
