"""Figures about one conversation (in one pass and constant memory) and about one memory."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence

from luminoracore_sdk.application.ports.records import SessionRecord
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.memory import MemoryEntry
from luminoracore_sdk.domain.message import Message, MessageRole, message_text
from luminoracore_sdk.domain.values import from_microseconds

__all__ = ["conversation_stats", "conversation_summary", "memory_stats"]


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
