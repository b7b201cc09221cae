"""The use cases of memory: store, recall, search, delete, export, import."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Literal

import attrs

from luminoracore_sdk.application.core_mirror import Mirror
from luminoracore_sdk.application.ports.memory_system import MemorySystem
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.application.services import Services
from luminoracore_sdk.application.session_access import ensure_session
from luminoracore_sdk.application.tombstones import is_erased
from luminoracore_sdk.domain.errors import ConflictError, CorruptRecordError, SessionNotFoundError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject, JSONValue
from luminoracore_sdk.domain.memory import (
    MemoryCategory,
    MemoryEntry,
    MemorySource,
    MemoryVersion,
    importance_at,
    lifetime,
    searchable_text,
)
from luminoracore_sdk.domain.scopes import Owner
from luminoracore_sdk.domain.settings import MemoryConfig, SessionConfig
from luminoracore_sdk.domain.values import check_count, folded_query, parse_time, to_microseconds, to_utc

__all__ = ["Memories", "Scope", "ScopedMemories", "imported_entries"]

Scope = Literal["session", "agent", "user"]
"""What a memory belongs to: one session, its agent for all users of the tenant, or its user in all sessions."""


@attrs.frozen(kw_only=True)
class ScopedMemories:
    """The memories of one session, user or agent: values by key.

    Attributes:
        scope: Their owner.
        storage: The storage that holds them.
        services: The other ports.
        config: Limits and switches.
        mirror: Receives every change as well.
    """

    scope: MemoryScope
    storage: SessionStorage
    services: Services
    config: MemoryConfig
    mirror: Mirror

    # -- write -----------------------------------------------------------------------------------

    async def store_memory(
        self,
        key: str,
        value: JSONValue,
        ttl: float | None = None,
        *,
        importance: float = 1.0,
        category: MemoryCategory | str = MemoryCategory.FACT,
        source: MemorySource | None = None,
    ) -> bool:
        """Store a value under a key, superseding the previous one; see ``Memories.store_memory``."""
        entry = attrs.evolve(self._entry(key, value, ttl, importance, category), source=source)
        if not self.config.enabled or not self.config.tracks(entry.category):
            return False
        await self.put(entry)
        return True

    def _entry(self, key: str, value: JSONValue, ttl: float | None, importance: float, category: str) -> MemoryEntry:
        now = self.services.clock.now()
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

    async def put(self, entry: MemoryEntry) -> None:
        """Store an entry, which keeps the values that it supersedes; a session that does not exist is created."""
        while not await self._put(entry):
            pass  # another writer was faster: supersede what it stored
        await self.mirror.remember(self.scope.owner_id, entry)

    async def _put(self, entry: MemoryEntry) -> bool:
        version = None
        if self.config.past_values:
            self._record(entry)  # a wrong value is refused before anything is read
            stored = await self.storage.find_memory(self.scope, entry.key)
            version = 0 if stored is None else stored.version
            if stored is not None:
                with suppress(CorruptRecordError):  # nothing to keep
                    older = self.services.codec.memory(stored, backend=self.storage.backend)
                    entry = entry.superseding(older, most=self.config.past_values)
        record, most = self._record(entry), self.config.max_entries
        try:
            await self.storage.put_memory(record, max_entries=most, expected_version=version)
        except SessionNotFoundError:
            await ensure_session(self.scope.owner_id, self.storage, self.services)
            await self.storage.put_memory(record, max_entries=most)
        except ConflictError:
            return False
        return True

    def _record(self, entry: MemoryEntry) -> MemoryRecord:
        record = self.services.codec.memory_record(self.scope, entry, decay_factor=self.config.decay_factor)
        return attrs.evolve(record, created_at_us=to_microseconds(entry.created_at))

    @asynccontextmanager
    async def removing(self) -> AsyncIterator[None]:
        """Remove from the mirror, after the block, all memories that there were before it."""
        entries = await self.list_entries() if self.mirror.is_active else []
        yield
        for entry in entries:
            await self.mirror.forget(self.scope.owner_id, entry)

    async def delete_memory(self, key: str) -> bool:
        """Delete one memory; return False if there is none."""
        found = await self.find(key) if self.mirror.is_active else None
        deleted = await self.storage.delete_memory(self.scope, key)
        if found is not None:
            await self.mirror.forget(self.scope.owner_id, found)
        return deleted

    async def clear_memories(self) -> int:
        """Delete all memories; return their number."""
        async with self.removing():
            return await self.storage.clear_memories(self.scope)

    # -- read ------------------------------------------------------------------------------------

    async def find(self, key: str) -> MemoryEntry | None:
        """Return one entry, or None."""
        if not self.config.enabled:
            return None
        record = await self.storage.find_memory(self.scope, key)
        return None if record is None else self.services.codec.memory(record, backend=self.storage.backend)

    async def history(self, key: str) -> list[MemoryVersion]:
        """Return the values that a memory had, oldest first, then the present one; none if there is no such memory."""
        entry = await self.find(key)
        return [] if entry is None else list(entry.versions)

    async def get_memory(self, key: str, *, as_of: datetime | None = None) -> JSONValue:
        """Return a value, equal to what was stored, or None; see ``Memories.get_memory``."""
        entry = await self.find(key)
        if entry is None:
            return None
        if as_of is not None:
            version = entry.as_of(to_utc(as_of))
            return None if version is None else version.value
        await self.mirror.refresh(self.scope.owner_id, entry)
        return entry.value

    async def list_entries(self) -> list[MemoryEntry]:
        """Return the entries, by time of creation, then key."""
        if not self.config.enabled:
            return []
        decode, backend = self.services.codec.memory, self.storage.backend
        return [decode(record, backend=backend) for record in await self.storage.list_memories(self.scope)]

    async def list_memories(self) -> list[str]:
        """Return the keys, by time of creation, then key."""
        return [entry.key for entry in await self.list_entries()]

    async def search_memories(self, query: str, limit: int | None = None) -> list[JSONObject]:
        """Return the memories whose key or value contains ``query``; see ``Memories.search_memories``."""
        folded = folded_query(query)
        check_count(limit, "limit")
        found = [entry for entry in await self.list_entries() if folded in searchable_text(entry)]
        return [entry.to_dict() for entry in found[:limit]]


class Memories:
    """Stores the memories of sessions and of their users: values by key.

    Reads of an unknown session or key return nothing (None, an empty list, False). An id need not be created
    first. With the scope ``"user"`` a call is about the memories of the session's user, which all sessions of
    the user share, with ``"agent"`` about those of its agent (``SessionConfig.agent``), which the sessions of all users
    of the same tenant share; a read for a session without a user, or agent, returns nothing.

    The storage is the source of truth. A mirror (Core's MemorySystem) receives every change as well and is kept
    up to date on reads; its failures are logged and have no other effect. It does not receive the memories of
    users and agents.

    Args:
        storage: The storage that holds them.
        services: The other ports.
        config: Limits and switches.
        mirror: A second memory system that receives every change, or None.
    """

    def __init__(
        self, *, storage: SessionStorage, services: Services, config: MemoryConfig, mirror: MemorySystem | None
    ) -> None:
        self.storage = storage
        self.config = config
        self._services = services
        self._mirror = Mirror(mirror)

    # -- write -----------------------------------------------------------------------------------

    async def store_memory(
        self,
        session_id: str,
        key: str,
        value: JSONValue,
        ttl: float | None = None,
        *,
        importance: float = 1.0,
        category: MemoryCategory | str = MemoryCategory.FACT,
        scope: Scope = "session",
    ) -> bool:
        """Store a value under a key; it supersedes the previous one, which stays readable.

        The session and its newest message are stored as the source of the value. The newest past values are kept, see
        ``MemoryConfig.past_values``; they are deleted, and expire, with the memory.

        Args:
            session_id: Any id; an unknown one creates a session.
            key: Its name.
            value: Any JSON value.
            ttl: Lifetime in seconds; None: ``config.ttl``.
            importance: 0..1; it fades, see ``MemoryConfig.decay_factor``.
            category: fact, topic, preference, context or emotion.
            scope: ``"session"``; or ``"user"``: it is remembered for the session's user; or ``"agent"``: for its agent.

        Returns:
            True if it was stored; False if memory is switched off, for this category or altogether.

        Raises:
            ValidationError: The value is not JSON, the ttl is not above 0, or the scope is ``"user"`` or ``"agent"``
                and the session has none; nothing was stored.
            SessionNotFoundError: The session was erased with its user, less than a day ago; nothing was stored.
        """
        memories = await self._in(session_id, scope)
        if memories is None:
            if await is_erased(self.storage, session_id):
                raise SessionNotFoundError(session_id, backend=self.storage.backend)
            raise ValidationError(f"session {session_id!a:.80} has no {scope} to remember anything for")
        source = await self._source(session_id)
        stored = await memories.store_memory(key, value, ttl, importance=importance, category=category, source=source)
        if scope == "user" and stored and await is_erased(self.storage, session_id):
            await memories.delete_memory(key)
            raise SessionNotFoundError(session_id, backend=self.storage.backend)
        return stored

    async def _source(self, session_id: str) -> MemorySource:
        record = await self.storage.find_session(session_id)
        return MemorySource(session_id=session_id, position=record.last_position if record else 0)

    def of_session(self, session_id: str) -> ScopedMemories:
        """Return the memories of a session."""
        return self._scoped(MemoryScope("session", session_id), self._mirror)

    def of_user(self, user_id: str, tenant: str | None = None, app: str | None = None) -> ScopedMemories:
        """Return the memories of a user.

        Raises:
            ValidationError: An id is invalid or reserved.
        """
        return self._of(Owner.of_user(user_id, tenant, app))

    def of_agent(self, agent: str, tenant: str | None = None) -> ScopedMemories:
        """Return the memories of an agent, which the sessions of all users of a tenant share.

        Raises:
            ValidationError: A name is invalid.
        """
        return self._of(Owner(agent=agent, tenant=tenant))

    def _of(self, owner: Owner) -> ScopedMemories:
        return self._scoped(MemoryScope("user", owner.id), Mirror(None))

    def _scoped(self, scope: MemoryScope, mirror: Mirror) -> ScopedMemories:
        return ScopedMemories(
            scope=scope, storage=self.storage, services=self._services, config=self.config, mirror=mirror
        )

    async def _in(self, session_id: str, scope: Scope) -> ScopedMemories | None:
        """Return the memories of a session or of its user; None: it has no user."""
        if scope == "session":
            return self.of_session(session_id)
        if scope not in ("user", "agent"):
            raise ValidationError(f"scope is 'session', 'agent' or 'user', not {scope!r}")
        record = await self.storage.find_session(session_id)
        if record is None:
            return None
        owner = Owner.of(record.user_id)
        if scope == "agent":
            agent = self._services.codec.session(record, backend=self.storage.backend).config.agent
            owner = Owner(agent=agent, app=owner.app, tenant=owner.tenant)
        return None if owner.app is owner.user is owner.agent is None else self._of(owner)

    async def delete_memory(self, session_id: str, key: str, *, scope: Scope = "session") -> bool:
        """Delete one memory; return False if there is none."""
        memories = await self._in(session_id, scope)
        return memories is not None and await memories.delete_memory(key)

    async def clear_memory(self, session_id: str, *, scope: Scope = "session") -> bool:
        """Delete all memories of a session, of its agent, or of its user; return False if there are none."""
        memories = await self._in(session_id, scope)
        return memories is not None and await memories.clear_memories() > 0

    async def cleanup_expired_memories(self) -> int:
        """Remove what has expired from the whole store; return the number of expired memories."""
        return (await self.storage.purge_expired()).memories

    # -- read ------------------------------------------------------------------------------------

    async def get_memory(
        self, session_id: str, key: str, *, scope: Scope = "session", as_of: datetime | None = None
    ) -> JSONValue:
        """Return a value, equal to what was stored, or None.

        Args:
            session_id: Any id.
            key: Its name.
            scope: As in ``store_memory``.
            as_of: The value that it had at this time; None: the present one.
        """
        memories = await self._in(session_id, scope)
        return None if memories is None else await memories.get_memory(key, as_of=as_of)

    async def history(self, session_id: str, key: str, *, scope: Scope = "session") -> list[MemoryVersion]:
        """Return the values that a memory had, oldest first, then the present one; none if there is no such memory."""
        memories = await self._in(session_id, scope)
        return [] if memories is None else await memories.history(key)

    async def get_memory_info(self, session_id: str, key: str) -> JSONObject | None:
        """Return the attributes of a memory other than its value, or None.

        Keys: key, created_at, updated_at, expires_at, importance (the remaining one), category, is_expired
        (always False: an expired memory is not found).
        """
        entry = await self.of_session(session_id).find(key)
        if entry is None:
            return None
        return {
            "key": entry.key,
            "created_at": entry.created_at,
            "updated_at": entry.updated_at,
            "expires_at": entry.expires_at,
            "importance": self._left(entry, self._services.clock.now()),
            "category": entry.category.value,
            "is_expired": False,
        }

    async def list_memories(self, session_id: str, *, scope: Scope = "session") -> list[str]:
        """Return the keys of a session, of its agent, or of its user, by time of creation, then key."""
        memories = await self._in(session_id, scope)
        return [] if memories is None else await memories.list_memories()

    async def list_entries(self, session_id: str) -> list[MemoryEntry]:
        """Return the entries of a session, by time of creation, then key."""
        return await self.of_session(session_id).list_entries()

    async def recall(self, session_id: str, *, decay_factor: float | None = None) -> list[MemoryEntry]:
        """Return the entries whose importance suffices for the prompt, in the order of ``list_memories``.

        Args:
            session_id: Any id.
            decay_factor: Overrides ``config.decay_factor``.
        """
        if not self.config.enabled:
            return []
        return self.recalled(
            await self.storage.list_memories(MemoryScope("session", session_id)), decay_factor=decay_factor
        )

    def recalled(self, records: Iterable[MemoryRecord], *, decay_factor: float | None = None) -> list[MemoryEntry]:
        """Return those entries of records that were read from the storage whose importance suffices."""
        if not self.config.enabled:
            return []
        now, threshold = self._services.clock.now(), self.config.importance_threshold
        decode, backend = self._services.codec.memory, self.storage.backend
        entries = [decode(record, backend=backend) for record in records]
        return [entry for entry in entries if self._left(entry, now, decay_factor) >= threshold]

    async def recalled_with_wider(self, records: Iterable[MemoryRecord], config: SessionConfig) -> list[MemoryEntry]:
        """Return ``recalled``, then the memories of agent and user of other keys: narrow before wide, a key once.

        Args:
            records: The memories of a session.
            config: Its settings, which name agent and user.
        """
        decay_factor = config.memory_decay_factor
        entries = self.recalled(records, decay_factor=decay_factor)
        user = Owner.of(config.user_id)
        agent = None if config.agent is None else Owner(agent=config.agent, app=user.app, tenant=user.tenant).id
        for owner_id in (agent, config.user_id) if self.config.enabled else ():
            if owner_id is not None:
                known = {entry.key for entry in entries}
                wider = await self.storage.list_memories(MemoryScope("user", owner_id))
                entries += [one for one in self.recalled(wider, decay_factor=decay_factor) if one.key not in known]
        return entries

    async def search_memories(
        self, session_id: str, query: str, limit: int | None = None, *, scope: Scope = "session"
    ) -> list[JSONObject]:
        """Return the memories whose key or value contains ``query``, without regard to case.

        Returns:
            Dictionaries with key, value, created_at, updated_at, expires_at, importance, category; at
            most ``limit``, in the order of ``list_memories``.

        Raises:
            ValidationError: The query is empty or not a string, or the limit is invalid.
        """
        memories = await self._in(session_id, scope)
        return [] if memories is None else await memories.search_memories(query, limit)

    async def get_memory_stats(self, session_id: str) -> JSONObject | None:
        """Return statistics of one session, or None for an unknown one.

        Keys: total_memories, active_memories, categories (a count each), oldest_memory, newest_memory
        (times or None), using_core; with Core also core_stats (None if it fails).
        """
        if not await self.storage.session_exists(session_id):
            return None
        active = len(await self.recall(session_id))
        entries = await self.list_entries(session_id)
        times = [entry.created_at for entry in entries]
        stats: JSONObject = {
            "total_memories": len(entries),
            "active_memories": active,
            "categories": dict(sorted(Counter(entry.category.value for entry in entries).items())),
            "oldest_memory": min(times, default=None),
            "newest_memory": max(times, default=None),
            "using_core": self._mirror.is_active,
        }
        if self._mirror.is_active:
            stats["core_stats"] = await self._mirror.stats(session_id)
        return stats

    async def get_stats(self) -> JSONObject:
        """Return statistics of the whole store: total_sessions, total_memories, using_core.

        Reads the memories of every session.
        """
        session_ids = await self.storage.list_sessions()
        counts = [len(await self.list_entries(session_id)) for session_id in session_ids]
        return {"total_sessions": len(session_ids), "total_memories": sum(counts), "using_core": self._mirror.is_active}

    # -- export, import --------------------------------------------------------------------------

    async def export_memories(self, session_id: str) -> JSONObject | None:
        """Return all memories of a session as one JSON object, or None for an unknown session."""
        if not await self.storage.session_exists(session_id):
            return None
        return {
            "session_id": session_id,
            "exported_at": self._services.clock.now().isoformat(),
            "memories": {entry.key: entry.to_dict() for entry in await self.list_entries(session_id)},
        }

    async def import_memories(self, session_id: str, blob: JSONObject | str | bytes) -> bool:
        """Store the memories of an export, or of its JSON text; existing keys are replaced.

        All entries are checked before the first is stored; they are then stored one by one. Expired entries
        and those of a category that is switched off are skipped.

        Returns:
            True; False if memory is switched off.

        Raises:
            ValidationError: The value is not an export; nothing was stored.
        """
        now = self._services.clock.now()
        entries = imported_entries(blob)
        memories = self.of_session(session_id)
        for entry in entries:  # encoding checks the values
            self._services.codec.memory_record(memories.scope, entry, decay_factor=self.config.decay_factor)
        if not self.config.enabled:
            return False
        for entry in entries:
            is_expired = entry.expires_at is not None and entry.expires_at <= now
            if self.config.tracks(entry.category) and not is_expired:
                await memories.put(entry)
        return True

    # -- helpers ---------------------------------------------------------------------------------

    def _left(self, entry: MemoryEntry, now: datetime, decay_factor: float | None = None) -> float:
        factor = self.config.decay_factor if decay_factor is None else decay_factor
        return importance_at(entry, now, decay_factor=factor)


def imported_entries(blob: JSONObject | str | bytes) -> list[MemoryEntry]:
    """Return the entries of an export of memories, or of its JSON text.

    Raises:
        ValidationError: The value is not an export.
    """
    if isinstance(blob, str | bytes):
        try:
            blob = json.loads(blob)
        except ValueError as exc:
            raise ValidationError("an export of memories is a JSON object") from exc
    memories = blob.get("memories") if isinstance(blob, Mapping) else None
    if not isinstance(memories, Mapping):
        raise ValidationError("an export of memories has an object 'memories'")
    return [_imported(key, data) for key, data in memories.items()]


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
        since=parse_time(data["since"]) if data.get("since") is not None else None,
        source=_source_of(data.get("source")),
        past=tuple(_version_of(key, one) for one in data.get("past") or ()),
    )


def _source_of(data: Any) -> MemorySource | None:
    if data is None:
        return None
    if not isinstance(data, Mapping) or not isinstance(data.get("session_id"), str):
        raise ValidationError("the source of an exported memory has a session_id")
    check_count(data.get("position", 0), "position")
    return MemorySource(session_id=data["session_id"], position=data.get("position", 0))


def _version_of(key: str, data: Any) -> MemoryVersion:
    if not isinstance(data, Mapping) or not {"value", "since", "until"} <= data.keys():
        raise ValidationError(f"a past value of exported memory {key[:40]!a} needs 'value', 'since' and 'until'")
    return MemoryVersion(
        value=data["value"],
        since=parse_time(data["since"]),
        until=parse_time(data["until"]),
        source=_source_of(data.get("source")),
    )
