"""The use cases of memory: store, recall, delete, export and import."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import attrs

from luminoracore_sdk.application.conversations import memory_stats
from luminoracore_sdk.application.core_mirror import Mirror
from luminoracore_sdk.application.ports.memory_system import MemorySystem
from luminoracore_sdk.application.ports.records import MemoryScope
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import begin_session
from luminoracore_sdk.domain.errors import SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.memory import (
    MemoryCategory,
    MemoryEntry,
    importance_at,
    lifetime,
    searchable_text,
)
from luminoracore_sdk.domain.settings import MemoryConfig
from luminoracore_sdk.domain.values import parse_time, to_microseconds

__all__ = [
    "Memories",
    "imported_entries",
]


def imported_entries(blob: JSONObject | str | bytes) -> list[MemoryEntry]:
    """Return the entries of an export, or of its JSON text.

    Raises:
        ValidationError: Not an export.
    """
    return [_imported(key, data) for key, data in _memories_of(blob).items()]


def _memories_of(blob: JSONObject | str | bytes) -> Mapping[str, Any]:
    if isinstance(blob, str | bytes):
        try:
            blob = json.loads(blob)
        except ValueError as exc:
            raise ValidationError("an export of memories is a JSON object") from exc
    memories = blob.get("memories") if isinstance(blob, Mapping) else None
    if not isinstance(memories, Mapping):
        raise ValidationError("an export of memories has an object 'memories'")
    return memories


def _imported(key: str, data: Any) -> MemoryEntry:
    if not isinstance(data, Mapping) or not {"value", "created_at"} <= data.keys():
        raise ValidationError(f"exported memory {key[:40]!a} needs 'value' and 'created_at'")
    created = parse_time(data["created_at"])
    expires = data.get("expires_at")
    return MemoryEntry(
        key=key,
        value=data["value"],
        created_at=created,
        updated_at=parse_time(data.get("updated_at") or created),
        expires_at=None if expires is None else parse_time(expires),
        importance=data.get("importance", 1.0),
        category=data.get("category", "fact"),
    )


class Memories:
    """Remembers values by key, for each session.

    Reads of an unknown session or key return nothing (None, an empty list, False). An id may be used
    without being created first. The storage is the truth; a mirror (Core's MemorySystem) gets every
    change as well, and is read back; its failure is logged and changes nothing.

    Args:
        storage: Where they are kept.
        services: The other ports.
        config: Limits and switches.
        mirror: A second memory that is told of every change, or None.
    """

    def __init__(
        self,
        *,
        storage: SessionStorage,
        services: Services,
        config: MemoryConfig,
        mirror: MemorySystem | None,
    ) -> None:
        self.storage = storage
        self.config = config
        self._tools = services
        self._mirror = Mirror(mirror)

    # -- writing ---------------------------------------------------------------------------------

    async def store_memory(
        self,
        session_id: str,
        key: str,
        value: JSONValue,
        ttl: float | None = None,
        *,
        importance: float = 1.0,
        category: MemoryCategory | str = MemoryCategory.FACT,
    ) -> bool:
        """Remember a value under a key, replacing the one before.

        Args:
            session_id: Any id; an unknown one begins a session of its own.
            key: Its name.
            value: Any JSON value.
            ttl: Seconds it lives; None: ``config.ttl``.
            importance: 0..1; it fades, see ``MemoryConfig.decay_factor``.
            category: fact, topic, preference, context or emotion.

        Returns:
            True: it is stored. False: memory is switched off, for this category or altogether.

        Raises:
            ValidationError: A value that is not JSON, a ttl of 0 or below; nothing was stored.
        """
        entry = self._entry(key, value, ttl, importance, category)
        if not self.config.enabled or not self.config.tracks(entry.category):
            return False
        await self._put(session_id, entry)
        return True

    def _entry(self, key: str, value: JSONValue, ttl: float | None, importance: float, category: str) -> MemoryEntry:
        now = self._tools.clock.now()
        seconds = self.config.ttl if ttl is None else ttl
        return MemoryEntry(
            key=key,
            value=value,
            created_at=now,
            updated_at=now,
            expires_at=None if seconds is None else now + lifetime(seconds),
            importance=importance,
            category=category,
        )

    async def _put(self, session_id: str, entry: MemoryEntry) -> None:
        scope = _scope(session_id)
        record = self._tools.codec.memory_record(scope, entry, decay_factor=self.config.decay_factor)
        record = attrs.evolve(record, created_at_us=to_microseconds(entry.created_at))
        try:
            await self.storage.put_memory(record, max_entries=self.config.max_entries)
        except SessionNotFoundError:
            await begin_session(session_id, self.storage, self._tools)
            await self.storage.put_memory(record, max_entries=self.config.max_entries)
        await self._mirror.remember(session_id, entry)

    @asynccontextmanager
    async def removing(self, session_id: str) -> AsyncIterator[None]:
        """Tell the mirror, after the block, to forget everything that the session remembered before it."""
        entries = await self.list_entries(session_id) if self._mirror.is_there else []
        yield
        for entry in entries:
            await self._mirror.forget(session_id, entry)

    async def delete_memory(self, session_id: str, key: str) -> bool:
        """Forget one value; False: there was none."""
        found = await self._find(session_id, key) if self._mirror.is_there else None
        deleted = await self.storage.delete_memory(_scope(session_id), key)
        if found is not None:
            await self._mirror.forget(session_id, found)
        return deleted

    async def clear_memory(self, session_id: str) -> bool:
        """Forget everything of a session; False: there was nothing."""
        async with self.removing(session_id):
            return await self.storage.clear_memories(_scope(session_id)) > 0

    async def cleanup_expired_memories(self) -> int:
        """Remove what has expired from the whole store; returns how many memories that were."""
        return (await self.storage.purge_expired()).memories

    # -- reading ---------------------------------------------------------------------------------

    async def get_memory(self, session_id: str, key: str) -> JSONValue:
        """Return a value, equal to what was stored, or None."""
        entry = await self._find(session_id, key)
        if entry is None:
            return None
        await self._mirror.refresh(session_id, entry)
        return entry.value

    async def get_memory_info(self, session_id: str, key: str) -> JSONObject | None:
        """Return what is known of a memory besides its value, or None.

        Keys: key, created_at, updated_at, expires_at, importance (what is left of it), category,
        is_expired (always False: an expired one is not found).
        """
        entry = await self._find(session_id, key)
        if entry is None:
            return None
        return {
            "key": entry.key,
            "created_at": entry.created_at,
            "updated_at": entry.updated_at,
            "expires_at": entry.expires_at,
            "importance": self._left(entry, self._tools.clock.now()),
            "category": entry.category.value,
            "is_expired": False,
        }

    async def list_memories(self, session_id: str) -> list[str]:
        """Return the keys of a session, by time of first storing, then key."""
        return [entry.key for entry in await self.list_entries(session_id)]

    async def list_entries(self, session_id: str) -> list[MemoryEntry]:
        """Return the entries of a session, by time of first storing, then key."""
        if not self.config.enabled:
            return []
        records = await self.storage.list_memories(_scope(session_id))
        return [self._tools.codec.memory(record, backend=self.storage.backend) for record in records]

    async def recall(self, session_id: str, *, decay_factor: float | None = None) -> list[MemoryEntry]:
        """Return the entries that are important enough for the prompt, in the order of ``list_memories``.

        Args:
            session_id: Any id.
            decay_factor: In place of ``config.decay_factor``.
        """
        now, threshold = self._tools.clock.now(), self.config.importance_threshold
        return [
            entry for entry in await self.list_entries(session_id) if self._left(entry, now, decay_factor) >= threshold
        ]

    async def search_memories(self, session_id: str, query: str, limit: int | None = None) -> list[JSONObject]:
        """Return the memories whose key or value contains ``query``, without regard to case.

        Returns:
            Dictionaries with key, value, created_at, updated_at, expires_at, importance, category; at
            most ``limit``, in the order of ``list_memories``.
        """
        if not isinstance(query, str) or not query:
            raise ValidationError("a search needs a text that is not empty")
        if limit is not None and (type(limit) is not int or limit < 0):
            raise ValidationError(f"limit must be a whole number of at least 0, not {limit!r}")
        folded = query.casefold()
        found = [entry for entry in await self.list_entries(session_id) if folded in searchable_text(entry)]
        return [entry.to_dict() for entry in found[:limit]]

    async def get_memory_stats(self, session_id: str) -> JSONObject | None:
        """Return figures about one session, or None for an unknown one.

        Keys: total_memories, active_memories, categories (a count each), oldest_memory, newest_memory
        (times or None), using_core; with Core also core_stats (None when it fails).
        """
        if not await self.storage.session_exists(session_id):
            return None
        active = len(await self.recall(session_id))
        stats = memory_stats(await self.list_entries(session_id), active)
        stats["using_core"] = self._mirror.is_there
        if self._mirror.is_there:
            stats["core_stats"] = await self._mirror.stats(session_id)
        return stats

    async def get_stats(self) -> JSONObject:
        """Return figures about the whole store: total_sessions, total_memories, using_core.

        Reads the memories of every session.
        """
        session_ids = await self.storage.list_sessions()
        counts = [len(await self.list_entries(session_id)) for session_id in session_ids]
        return {
            "total_sessions": len(session_ids),
            "total_memories": sum(counts),
            "using_core": self._mirror.is_there,
        }

    # -- handing on ------------------------------------------------------------------------------

    async def export_memories(self, session_id: str) -> JSONObject | None:
        """Return everything remembered of a session as one JSON object, or None for an unknown one."""
        if not await self.storage.session_exists(session_id):
            return None
        return {
            "session_id": session_id,
            "exported_at": self._tools.clock.now().isoformat(),
            "memories": {entry.key: entry.to_dict() for entry in await self.list_entries(session_id)},
        }

    async def import_memories(self, session_id: str, blob: JSONObject | str | bytes) -> bool:
        """Add what ``export_memories`` returned, or its JSON text; stored keys are replaced.

        Everything is checked before anything is stored; entries are then stored one by one. Those that
        have expired, or whose category is switched off, are left out.

        Returns:
            True; False when memory is switched off.

        Raises:
            ValidationError: Not such an export; nothing was stored.
        """
        now = self._tools.clock.now()
        entries = imported_entries(blob)
        scope = _scope(session_id)
        for entry in entries:  # encoding checks the values
            self._tools.codec.memory_record(scope, entry, decay_factor=self.config.decay_factor)
        if not self.config.enabled:
            return False
        for entry in entries:
            is_over = entry.expires_at is not None and entry.expires_at <= now
            if self.config.tracks(entry.category) and not is_over:
                await self._put(session_id, entry)
        return True

    # -- parts -----------------------------------------------------------------------------------

    def _left(self, entry: MemoryEntry, now: datetime, decay_factor: float | None = None) -> float:
        factor = self.config.decay_factor if decay_factor is None else decay_factor
        return importance_at(entry, now, decay_factor=factor)

    async def _find(self, session_id: str, key: str) -> MemoryEntry | None:
        if not self.config.enabled:
            return None
        record = await self.storage.find_memory(_scope(session_id), key)
        if record is None:
            return None
        return self._tools.codec.memory(record, backend=self.storage.backend)


def _scope(session_id: str) -> MemoryScope:
    return MemoryScope("session", session_id)
