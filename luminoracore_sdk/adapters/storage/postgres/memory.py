"""The memory of the PostgreSQL backend."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import attrs

from luminoracore_sdk.adapters.storage.postgres.base import PostgreSQLBase
from luminoracore_sdk.adapters.storage.postgres.rows import (
    clamped,
    memory_record,
    memory_values,
    rewrite_values,
)
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope, Payload

if TYPE_CHECKING:
    from luminoracore_sdk.adapters.storage.postgres.call import Call
    from luminoracore_sdk.adapters.storage.postgres.driver import Row
    from luminoracore_sdk.adapters.storage.postgres.memory_statements import MemoryStatements

__all__ = ["PURGED_AT_ONCE", "PostgreSQLMemory"]

PURGED_AT_ONCE = 1000


class PostgreSQLMemory(PostgreSQLBase):
    """The primitives that concern memory."""

    async def _put_memory(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        scope = record.scope
        sql = self._sql.memories[scope.kind]
        given = memory_values(record)
        given.update(now=now_us, created=record.created_at_us or now_us)

        async def put(call: "Call") -> "Row | None":
            return await call.row(sql.put, **given)

        async def put_and_evict(call: "Call") -> "Row | None":
            given["lock"] = self._layout.lock_number(f"user {scope.owner_id}", self._sql)
            async with call.transaction():
                row = await call.row(sql.put_locked, **given)
                others = clamped((max_entries or 1) - 1)
                # a statement of its own: it sees what was put while the first one waited for the lock
                await call.rows(sql.evict, others=others, **given)
            return row

        row = await self._run(put if max_entries is None else put_and_evict)
        if row is None:
            raise self._not_found(scope.owner_id)
        return attrs.evolve(record, created_at_us=row[0], updated_at_us=now_us)

    async def _find_memory(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        find = self._sql.memories[scope.kind].find
        row = await self._run(lambda call: call.row(find, owner=scope.owner_id, name=key, now=now_us))
        return memory_record(scope, row) if row else None

    async def _list_memories(self, scope: MemoryScope, now_us: int) -> list[MemoryRecord]:
        listing = self._sql.memories[scope.kind].list
        rows = await self._run(lambda call: call.rows(listing, owner=scope.owner_id, now=now_us))
        return [memory_record(scope, row) for row in rows]

    async def _rewrite_memory(self, scope: MemoryScope, key: str, old: Payload, new: Payload, now_us: int) -> bool:
        rewrite = self._sql.memories[scope.kind].rewrite
        given = {"owner": scope.owner_id, "name": key, "now": now_us, **rewrite_values(old, new)}
        return await self._run(lambda call: call.row(rewrite, **given)) is not None

    async def _delete_memory(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        delete = self._sql.memories[scope.kind].delete
        row = await self._run(lambda call: call.row(delete, owner=scope.owner_id, name=key, now=now_us))
        return row is not None

    async def _clear_memories(self, scope: MemoryScope, now_us: int) -> int:
        clear = self._sql.memories[scope.kind].clear
        (cleared,) = await self._run(lambda call: call.one(clear, owner=scope.owner_id, now=now_us))
        return int(cleared)

    async def _purge_memories(self, now_us: int) -> int:
        total = 0
        for sql in self._sql.memories.values():

            async def purge(call: "Call", sql: "MemoryStatements" = sql) -> int:
                (removed,) = await call.one(sql.purge, now=now_us, count=PURGED_AT_ONCE)
                return int(removed)

            total += await self._repeated(purge)
        return total

    async def _repeated(self, purge: "Callable[[Call], Awaitable[int]]") -> int:
        """Purge in steps, each a transaction of its own, until one is not full."""
        total = 0
        while True:
            removed = await self._run(purge)
            total += removed
            if removed < PURGED_AT_ONCE:
                return total
