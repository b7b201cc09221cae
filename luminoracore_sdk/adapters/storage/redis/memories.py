"""Memories on Redis: those of sessions and those of users."""

from collections.abc import Sequence
from typing import Any

import attrs

from luminoracore_sdk.adapters.storage.base import is_live
from luminoracore_sdk.adapters.storage.redis.base import RedisBase
from luminoracore_sdk.adapters.storage.redis.keys import stamp, unstamp
from luminoracore_sdk.adapters.storage.redis.records import (
    HEADER,
    damaged,
    memory_record,
    memory_value,
    number_or_none,
    session_record,
)
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope

__all__ = ["RedisMemories", "place"]


class RedisMemories(RedisBase):
    """The calls on memories.

    A scope's memories are a hash. Beside it, a sorted set orders them as they have to go when the scope
    is full, and the bucket's index lists those that expire.
    """

    async def _put_memory(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        scope = record.scope
        reply = await self._run(
            "put_memory",
            self._keys.memories(scope),
            *place(scope),
            record.key.encode(),
            b"%d" % now_us,
            stamp(now_us),
            b"%d" % self.grace_ms,
            stamp(record.created_at_us or now_us),
            *memory_value(record),
            number_or_none(max_entries),
        )
        _, created = self._done(scope.owner_id, reply)
        return attrs.evolve(record, created_at_us=unstamp(created), updated_at_us=now_us)

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        name = key.encode()
        value = await self._read_memories(scope, now_us, b"HGET", name)
        found = None if value is None else memory_record(scope, name, value)
        return None if found is None or _is_over(found, now_us) else found

    async def _list_memories(self, scope: MemoryScope, now_us: int) -> list[MemoryRecord]:
        values = await self._read_memories(scope, now_us, b"HGETALL")
        if not isinstance(values, dict):  # one after the other in version 2 of the protocol
            values = dict(zip(*[iter(values or ())] * 2, strict=True))
        found = [memory_record(scope, name, value) for name, value in values.items()]
        there = [memory for memory in found if not _is_over(memory, now_us)]
        return sorted(there, key=lambda memory: (memory.created_at_us, memory.key))

    async def _read_memories(self, scope: MemoryScope, now_us: int, *command: bytes) -> Any:
        """Send a command to the hash of a scope; None if it belongs to a session that is not there."""
        *others, memories, _, _ = self._keys.memories(scope)
        asked = (memories, *command)
        if not others:
            [reply] = await self._read(asked)
            return reply
        values, reply = await self._read((others[0], b"HMGET", *HEADER), asked)
        owner = session_record(scope.owner_id, values)
        return reply if owner and is_live(owner.updated_at_us, owner.ttl_us, now_us) else None

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        arguments = (*place(scope), key.encode(), b"%d" % now_us, stamp(now_us))
        return bool(await self._run("delete_memory", self._keys.memories(scope), *arguments))

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        arguments = (*place(scope), b"%d" % now_us, stamp(now_us))
        return int(await self._run("clear_memories", self._keys.memories(scope), *arguments))

    def _done(self, session_id: str, reply: Sequence[Any]) -> Sequence[Any]:
        """Return the answer of a script that did what it should, or raise what kept it from that."""
        if reply[0] == b"absent":
            raise self._not_found(session_id)
        if reply[0] == b"damaged":
            raise damaged(f"session {session_id!a}", "its header does not fit its messages")
        return reply


def place(scope: MemoryScope) -> tuple[bytes, bytes]:
    """Return kind and owner of a scope, as the index names them."""
    return (b"s" if scope.kind == "session" else b"u"), scope.owner_id.encode()


def _is_over(memory: MemoryRecord, now_us: int) -> bool:
    return memory.expires_at_us is not None and memory.expires_at_us <= now_us
