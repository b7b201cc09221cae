"""Memories of sessions and users."""

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.documents import live, memory_record
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey, after_write
from luminoracore_sdk.adapters.storage.mongodb.schema import BY_CREATION, Collections
from luminoracore_sdk.adapters.storage.mongodb.summaries import stored
from luminoracore_sdk.application.ports.records import MemoryRecord, MemoryScope
from luminoracore_sdk.domain.errors import SessionNotFoundError

__all__ = ["Memories"]

_BEST_FIRST = (("retention", -1), ("updated", -1), ("key", -1))


class Memories:
    """The memories of one store; see ``SessionStorage`` for what the calls do."""

    def __init__(self, store: Collections) -> None:
        self._store = store

    async def put(self, record: MemoryRecord, max_entries: int | None, now_us: int) -> MemoryRecord:
        """Create or replace a memory, then delete those above the limit."""
        owner = await self.owner(record.scope, now_us)
        if owner is None:
            raise SessionNotFoundError(record.scope.owner_id, backend=BACKEND)
        place: Document = {"owner": owner, "key": record.key}
        while True:
            try:
                changed = await self._store.memories.find_and_update(
                    place, _change(record, now_us), {"_id": 0, "created": 1}, upsert=True
                )
            except DuplicateKey:  # another writer created it at the same time: now there is one to change
                continue
            break
        if record.scope.kind == "session":
            with after_write():
                await self._verify(place, record.scope, now_us)
        if max_entries is not None:
            with after_write():
                await self._evict(place, max_entries, now_us)
        created_at_us = changed["created"] if changed else now_us
        return attrs.evolve(record, created_at_us=created_at_us, updated_at_us=now_us)

    async def find(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        """Return one memory, or None."""
        owner = await self.owner(scope, now_us)
        if owner is None:
            return None
        found = await self._store.memories.find_one({"owner": owner, "key": key, **live(now_us)})
        return memory_record(scope, found) if found else None

    async def list_scope(self, scope: MemoryScope, now_us: int) -> list[MemoryRecord]:
        """Return the memories of a scope, by time of creation, then key."""
        owner = await self.owner(scope, now_us)
        if owner is None:
            return []
        found = await self._store.memories.find({"owner": owner, **live(now_us)}, order=BY_CREATION)
        return [memory_record(scope, document) for document in found]

    async def owners(self, after: str | None, limit: int, now_us: int) -> list[str]:
        """Return the ids of users that have a live memory, in the order of their UTF-8 bytes.

        The server reads one index key for each user, then one memory or a few of those on the page.
        """
        while True:
            above: Document = {"$gte": ""} if after is None else {"$gt": after}  # matches strings only
            found = await self._store.memories.aggregate(
                {"$match": {"owner": above}},
                {"$sort": {"owner": 1}},
                {"$group": {"_id": "$owner"}},
                {"$sort": {"_id": 1}},
                {"$limit": limit},
                {
                    "$lookup": {
                        "from": self._store.memories.name,
                        "localField": "_id",
                        "foreignField": "owner",
                        "pipeline": [{"$match": live(now_us)}, {"$limit": 1}, {"$project": {"_id": 1}}],
                        "as": "live",
                    }
                },
            )
            owners = [document["_id"] for document in found if document["live"]]
            if owners or len(found) < limit:
                return owners
            after = found[-1]["_id"]

    async def delete(self, scope: MemoryScope, key: str, now_us: int) -> bool:
        """Delete one memory; False: there was none."""
        owner = await self.owner(scope, now_us)
        if owner is None:
            return False
        return await self._store.memories.delete({"owner": owner, "key": key, **live(now_us)}) > 0

    async def clear(self, scope: MemoryScope, now_us: int) -> int:
        """Delete every memory of a scope; returns how many were there."""
        owner = await self.owner(scope, now_us)
        if owner is None:
            return 0
        return await self._store.memories.delete({"owner": owner, **live(now_us)})

    async def owner(self, scope: MemoryScope, now_us: int) -> str | ObjectId | None:
        """Return the owner that the memories of a scope are stored under; None: no such session."""
        if scope.kind == "user":
            return scope.owner_id
        where: Document = {"_id": scope.owner_id, **live(now_us)}
        header = await self._store.sessions.find_one(where, {"inc": 1})
        return header["inc"] if header else None

    async def _verify(self, place: Document, scope: MemoryScope, now_us: int) -> None:
        """Take a memory back if its session was deleted before it was written: nothing else would delete it soon."""
        if await self.owner(scope, now_us) != place["owner"]:
            await self._store.memories.delete(place)
            raise SessionNotFoundError(scope.owner_id, backend=BACKEND)

    async def _evict(self, place: Document, max_entries: int, now_us: int) -> None:
        owner = {"owner": place["owner"]}
        await self._store.memories.delete({**owner, "expires": {"$lte": now_us}})
        others = {**owner, "key": {"$ne": place["key"]}}
        fields: Document = {"retention": 1, "updated": 1, "key": 1}
        too_many = await self._store.memories.find(others, fields, order=_BEST_FIRST, skip=max_entries - 1, limit=1)
        for best in too_many:  # by rank, not by id: another writer may put one of them meanwhile
            retention, updated = {"retention": best["retention"]}, {"updated": best["updated"]}
            worse: list[Document] = [
                {"retention": {"$lt": best["retention"]}},
                {**retention, "updated": {"$lt": best["updated"]}},
                {**retention, **updated, "key": {"$lte": best["key"]}},
            ]
            await self._store.memories.delete({"$and": [others, {"$or": worse}]})


def _change(record: MemoryRecord, now_us: int) -> list[Document]:
    """Return the change of a memory, or of nothing, that a put makes."""
    kept: Document = {"$and": [{"$gt": ["$created", None]}, {"$gt": [{"$ifNull": ["$expires", now_us + 1]}, now_us]}]}
    given: Document = {"retention": record.retention, "updated": now_us, **stored(record.payload)}
    if record.scope.kind == "session":
        given["s"] = record.scope.owner_id  # for people, and for the purge
    change: Document = {name: {"$literal": value} for name, value in given.items()}
    change["form"] = {"$add": [{"$ifNull": ["$form", 0]}, 1]}  # see rewriting
    change["created"] = {"$cond": [kept, "$created", record.created_at_us or now_us]}
    change["expires"] = "$$REMOVE" if record.expires_at_us is None else record.expires_at_us
    return [{"$set": change}]
