"""Memories of sessions and users.

A memory is one document, and a put of one is one command. A change of several is made around another document of their
scope, its *head*, whose key is empty:

1. *Announce*: a head that has no ``pending`` gets it, and a new ``lock``. So one change of a scope is made at a time.
2. *Lock*: every document of the change gets the same ``lock``, if it has none. For a memory that is to be put and does
   not exist, a document is inserted that counts as expired. No other call changes a document with a lock.
3. *Commit*: the documents are read and the versions compared. Then one command puts into the head what is to be
   stored, as ``change``, if this change is still the announced one. From then on it is made.
4. *Apply*: the documents are changed and unlocked, then ``pending`` and ``change`` are removed.

A call that meets a change waits for it, and completes it itself once it is committed. After a quarter of a second it
withdraws one that is not: no call waits long for a process that was killed, and a slow one begins again. A lock that is
not that of an announced change is dead, because no change is announced twice; whoever meets it removes it.

A listing reads the head before and after the memories. If it is another one then, or a change is committed, the listing
is made again.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.base import MemoryChange, key_bounds, memory_conflict
from luminoracore_sdk.adapters.storage.mongodb.documents import live, memory_record
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey, after_write
from luminoracore_sdk.adapters.storage.mongodb.schema import BY_CREATION, Collections
from luminoracore_sdk.adapters.storage.mongodb.summaries import stored
from luminoracore_sdk.application.ports.records import NEVER_EVICTED, MemoryPut, MemoryQuery, MemoryRecord, MemoryScope
from luminoracore_sdk.domain.errors import SessionNotFoundError, StorageUnavailableError

__all__ = ["Memories", "at_one_moment", "between_equal_heads"]

T = TypeVar("T")

Owner = str | ObjectId

_BEST_FIRST = (("retention", -1), ("updated", -1), ("key", -1))

_HEAD = ""
"""The key of a head; no memory has it."""

_GONE = -(2**62)
"""When heads, and documents for memories that do not exist yet, have expired."""

_FREE: Document = {"lock": {"$exists": False}}

_PAUSE = 0.005  # seconds, on average, for a change in progress
_PAUSES = 50  # then it is withdrawn


class Memories:
    """The memories of one store; see ``SessionStorage`` for what the calls do."""

    def __init__(self, store: Collections) -> None:
        self._store = store

    async def change(self, change: MemoryChange) -> list[MemoryRecord]:
        """Put and delete memories, then delete those above the limit."""
        scope, now_us = change.scope, change.now_us
        if len(change.keys) == len(change.puts) == 1:
            owner = await self._existing(scope, now_us)
            made = [await self._put(owner, change.puts[0], now_us)]
            with after_write():
                await self._verify(owner, scope, now_us)
        else:

            def decide(live_ones: dict[str, MemoryRecord]) -> tuple[list[MemoryRecord], Document]:
                records = change.stored(BACKEND, live_ones)
                return records, {"puts": list(map(_applied, records)), "deletes": list(change.deletes)}

            puts = [put.record.key for put in change.puts]
            owner, made = await self._together(scope, puts, change.deletes, decide, now_us)
        if change.max_entries is not None:
            with after_write():
                await self._evict(owner, change, change.max_entries)
        return made

    async def _put(self, owner: Owner, put: MemoryPut, now_us: int) -> MemoryRecord:
        """Create or replace one memory."""
        record, expected = put.record, put.expected_version
        place: Document = {"owner": owner, "key": record.key}
        where = {**place, **_FREE}
        if expected:
            where |= {"version": expected, **live(now_us)}
        elif expected == 0:
            where["expires"] = {"$lte": now_us}
        while True:
            changed = None
            with suppress(DuplicateKey):  # there is one, but not as expected, or locked, or just created
                changed = await self._store.memories.find_and_update(
                    where, _change(record, now_us), {"_id": 0, "created": 1, "version": 1}, upsert=not expected
                )
            if changed is not None:
                return attrs.evolve(
                    record, created_at_us=changed["created"], updated_at_us=now_us, version=changed["version"]
                )
            found = await self._store.memories.find_one(place, {"lock": 1, "version": 1, "expires": 1})
            if found is not None and "lock" in found:
                await self._settle(owner, found["lock"])
                continue
            version = found["version"] if found is not None and _is_live(found, now_us) else 0
            if expected not in (None, version):
                raise memory_conflict(BACKEND, put, version)

    async def touch(self, scope: MemoryScope, keys: Sequence[str], expires_at_us: int | None, now_us: int) -> int:
        """Change when memories expire; returns how many there were."""
        if await self.owner(scope, now_us) is None:
            return 0

        def decide(live_ones: dict[str, MemoryRecord]) -> tuple[int, Document]:
            return len(live_ones), {"puts": [_changed(key, {}, expires_at_us) for key in live_ones], "deletes": []}

        try:
            _, count = await self._together(scope, [], keys, decide, now_us)
        except SessionNotFoundError:  # deleted meanwhile
            return 0
        return count

    async def _together(
        self,
        scope: MemoryScope,
        puts: Sequence[str],
        others: Sequence[str],
        decide: Callable[[dict[str, MemoryRecord]], tuple[T, Document]],
        now_us: int,
    ) -> tuple[Owner, T]:
        """Make a change of several memories; return their owner and the result.

        Args:
            scope: The scope.
            puts: Keys of memories that may be created.
            others: Keys of memories that are changed or deleted if they exist.
            decide: Returns, of the memories as they are, the result and the ``change`` of the head; or raises.
            now_us: The time.
        """
        while True:
            owner, mark, is_made = await self._existing(scope, now_us), ObjectId(), False
            await self._announce(owner, scope, mark)
            try:
                live_ones = await self._locked(owner, scope, mark, puts, others, now_us)
                if live_ones is None:
                    continue
                result, change = decide(live_ones)
                is_made = await self._store.memories.update(
                    {**_announced(owner, mark), "change": {"$exists": False}}, {"$set": {"change": change}}
                )
            finally:
                if not is_made:
                    with suppress(StorageUnavailableError):  # later a call that meets it
                        await self._withdraw(owner, mark)
            if is_made:
                with after_write():
                    await self._complete(owner, mark, change)
                    await self._verify(owner, scope, now_us)
                return owner, result

    async def _announce(self, owner: Owner, scope: MemoryScope, mark: ObjectId) -> None:
        """Announce a change, when no other one is in progress."""
        head: Document = {"lock": mark, "pending": True, "expires": _GONE, **_session_of(scope)}
        while True:
            try:
                await self._store.memories.update(
                    {"owner": owner, "key": _HEAD, "pending": {"$exists": False}}, {"$set": head}, upsert=True
                )
            except DuplicateKey:
                found = await self._store.memories.find_one({"owner": owner, "key": _HEAD}, {"lock": 1, "pending": 1})
                if found is not None and "pending" in found:
                    await self._settle(owner, found["lock"])
            else:
                return

    async def _locked(
        self,
        owner: Owner,
        scope: MemoryScope,
        mark: ObjectId,
        puts: Sequence[str],
        others: Sequence[str],
        now_us: int,
    ) -> dict[str, MemoryRecord] | None:
        """Lock memories and return those that have not expired, by key; None: another change was in the way."""
        new: Document = {"expires": _GONE, **_session_of(scope)}
        lock: Document = {"$set": {"lock": mark}}
        for keys, change in ((puts, {**lock, "$setOnInsert": new}), (others, lock)):
            updates = [({"owner": owner, "key": key, **_FREE}, change) for key in keys]
            if updates:
                await self._store.memories.update_all(updates, upsert=keys is puts)
        where: Document = {"owner": owner, "key": {"$in": [*puts, *others]}}
        found = {document["key"]: document for document in await self._store.memories.find(where)}
        foreign = {document.get("lock") for document in found.values()} - {mark}
        for other in foreign:
            if other is not None:
                await self._settle(owner, other)
        if any(document.get("lock") != mark for document in found.values()) or any(key not in found for key in puts):
            return None
        return {key: memory_record(scope, document) for key, document in found.items() if _is_live(document, now_us)}

    async def _withdraw(self, owner: Owner, mark: ObjectId) -> None:
        """Give up a change that is not committed."""
        where = {**_announced(owner, mark), "change": {"$exists": False}}
        if await self._store.memories.update(where, {"$unset": {"pending": 1}}):
            await self._unlock(owner, mark)

    async def _unlock(self, owner: Owner, lock: ObjectId) -> None:
        where: Document = {"owner": owner, "key": {"$ne": _HEAD}, "lock": lock}
        await self._store.memories.delete({**where, "expires": _GONE})
        await self._store.memories.update_many(where, {"$unset": {"lock": 1}})

    async def _complete(self, owner: Owner, lock: ObjectId, change: Document) -> None:
        """Apply a change that is committed."""
        ours: Document = {"owner": owner, "lock": lock}
        updates = [({**ours, "key": put["key"]}, {**put["change"], "$inc": {"form": 1}}) for put in change["puts"]]
        if updates and await self._store.memories.update_all(updates):
            raise StorageUnavailableError(BACKEND, "the server refused to write a memory", in_doubt=True)
        if change["deletes"]:
            await self._store.memories.delete({**ours, "key": {"$in": change["deletes"]}})
        await self._unlock(owner, lock)
        await self._store.memories.update(_announced(owner, lock), {"$unset": {"pending": 1, "change": 1}})

    async def _settle(self, owner: Owner, lock: ObjectId) -> None:
        """Wait until a lock that was seen is gone."""
        for _ in range(_PAUSES):
            head = await self._store.memories.find_one(_announced(owner, lock), {"change": 1})
            if head is None:  # ended meanwhile, or dead
                await self._unlock(owner, lock)
                return
            if "change" in head:
                await self._complete(owner, lock, head["change"])
                return
            await asyncio.sleep(_PAUSE * random.uniform(0.5, 1.5))  # noqa: S311  # not a secret
        await self._withdraw(owner, lock)

    async def find(self, scope: MemoryScope, key: str, now_us: int) -> MemoryRecord | None:
        """Return one memory, or None."""
        owner = await self.owner(scope, now_us)
        if owner is None:
            return None
        dead = None
        while True:
            found = await self._store.memories.find_one({"owner": owner, "key": key})
            lock: ObjectId | None = found.get("lock") if found else None
            if lock is not None and lock != dead:
                head = await self._store.memories.find_one(_announced(owner, lock), {"change": 1})
                if head is None:
                    dead = lock  # if it is still there
                    continue
                if "change" in head:
                    await self._complete(owner, lock, head["change"])
                    continue
            return memory_record(scope, found) if found and _is_live(found, now_us) else None

    async def list_scope(self, scope: MemoryScope, query: MemoryQuery | None, now_us: int) -> list[MemoryRecord]:
        """Return all memories of a scope, by time of creation, then key; or a page by key."""
        whole = query is None or query.with_payload
        stages: list[Document] = [{"$match": {**live(now_us)}}, {"$sort": dict(BY_CREATION)}]
        if query is not None:
            stages[0]["$match"]["key"] = _between(query.prefix, query.after, descending=query.descending)
            stages[1]["$sort"] = {"key": -1 if query.descending else 1}
            stages += [] if query.limit is None else [{"$limit": query.limit}]
        if not whole:
            stages.append({"$project": {"payload": 0}})
        while True:
            owner = await self.owner(scope, now_us)
            if owner is None:
                return []
            memories = self._store.memories
            found = await memories.aggregate(*at_one_moment(memories.name, owner, stages))
            documents = between_equal_heads(found)
            if documents is not None:
                read = partial(memory_record, scope, whole=whole)
                return (query or MemoryQuery()).intact(read, documents)
            for head in found:
                if "change" in head:
                    await self._complete(owner, head["lock"], head["change"])

    async def owners(self, prefix: str, after: str | None, limit: int, now_us: int) -> list[str]:
        """Return the ids of users that have a live memory, in the order of their UTF-8 bytes.

        The server reads one index key for each user, then one memory or a few of those on the page.
        """
        while True:
            found = await self._store.memories.aggregate(
                {"$match": {"owner": _between(prefix, after)}},
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
        place: Document = {"owner": owner, "key": key}
        while True:
            if await self._store.memories.delete({**place, **_FREE, **live(now_us)}):
                return True
            found = await self._store.memories.find_one(place, {"lock": 1})
            if found is None or "lock" not in found:
                return False
            await self._settle(owner, found["lock"])

    async def clear(self, scope: MemoryScope, now_us: int) -> int:
        """Delete every memory of a scope, and its head; returns how many were there."""
        owner, mark = await self.owner(scope, now_us), ObjectId()
        if owner is None:
            return 0
        await self._announce(owner, scope, mark)
        count = await self._store.memories.delete({"owner": owner, **live(now_us)})
        with after_write():
            await self._store.memories.delete({"owner": owner, "key": {"$ne": _HEAD}})
            await self._store.memories.delete({"owner": owner, "key": _HEAD, "lock": mark})
        return count

    async def owner(self, scope: MemoryScope, now_us: int) -> Owner | None:
        """Return the owner that the memories of a scope are stored under; None: no such session."""
        if scope.kind == "user":
            return scope.owner_id
        where: Document = {"_id": scope.owner_id, **live(now_us)}
        header = await self._store.sessions.find_one(where, {"inc": 1})
        return header["inc"] if header else None

    async def _existing(self, scope: MemoryScope, now_us: int) -> Owner:
        owner = await self.owner(scope, now_us)
        if owner is None:
            raise SessionNotFoundError(scope.owner_id, backend=BACKEND)
        return owner

    async def _verify(self, owner: Owner, scope: MemoryScope, now_us: int) -> None:
        """Take memories back if their session was deleted before they were written: nothing else would do so soon."""
        if scope.kind == "session" and await self.owner(scope, now_us) != owner:
            await self._store.memories.delete({"owner": owner})
            raise SessionNotFoundError(scope.owner_id, backend=BACKEND)

    async def _evict(self, owner: Owner, change: MemoryChange, max_entries: int) -> None:
        free: Document = {"owner": owner, **_FREE}
        await self._store.memories.delete({**free, "expires": {"$lte": change.now_us}})
        put = [one.record.key for one in change.puts]
        others: Document = {**free, "key": {"$nin": put}, "retention": {"$lt": NEVER_EVICTED}}
        fields: Document = {"retention": 1, "updated": 1, "key": 1}
        kept = change.places(max_entries)
        if not kept:
            await self._store.memories.delete(others)
            return
        too_many = await self._store.memories.find(others, fields, order=_BEST_FIRST, skip=kept, limit=1)
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
    change["version"] = {"$cond": [kept, {"$add": ["$version", 1]}, 1]}
    change["expires"] = "$$REMOVE" if record.expires_at_us is None else record.expires_at_us
    return [{"$set": change}]


def _applied(record: MemoryRecord) -> Document:
    """Return a memory as the ``change`` of a head holds it."""
    fields: Document = {"retention": record.retention, "created": record.created_at_us, "updated": record.updated_at_us}
    fields |= {"version": record.version, **stored(record.payload)}
    return _changed(record.key, fields, record.expires_at_us)


def _changed(key: str, fields: Document, expires_at_us: int | None) -> Document:
    if expires_at_us is None:
        return {"key": key, "change": {"$set": fields, "$unset": {"lock": 1, "expires": 1}}}
    return {"key": key, "change": {"$set": {**fields, "expires": expires_at_us}, "$unset": {"lock": 1}}}


def _announced(owner: Owner, mark: ObjectId) -> Document:
    """Match the head of a scope while a change is in progress."""
    return {"owner": owner, "key": _HEAD, "lock": mark, "pending": True}


def _between(prefix: str, after: str | None, *, descending: bool = False) -> Document:
    """Match the strings of a page, and no value of another type."""
    low, high = key_bounds(prefix, after, descending=descending)
    has_end = bool(prefix) or (descending and after is not None)
    return {"$gte": low, "$ne": after, **({"$lt": high} if has_end else {})}


def _session_of(scope: MemoryScope) -> Document:
    return {"s": scope.owner_id} if scope.kind == "session" else {}  # for people, and for the purge


def _is_live(document: Document, now_us: int) -> bool:
    expires_at_us = document.get("expires")
    return expires_at_us is None or expires_at_us > now_us


def at_one_moment(collection: str, owner: Owner, stages: Sequence[Document]) -> list[Document]:
    """Return a pipeline that reads memories of a scope between its head and its head.

    The server reads them one after the other; see ``Messages``.

    Args:
        collection: The collection.
        owner: The owner of the memories.
        stages: A pipeline that begins with a match of memories.
    """
    head: list[Document] = [{"$match": {"owner": owner, "key": _HEAD}}, {"$project": {"_id": 0}}]
    match, *others = stages
    memories = [{"$match": {"owner": owner, **match["$match"]}}, *others, {"$project": {"_id": 0}}]
    parts = [{"$unionWith": {"coll": collection, "pipeline": pipeline}} for pipeline in (memories, head)]
    return [*head, *parts]


def between_equal_heads(documents: Sequence[Document]) -> list[Document] | None:
    """Return the memories that ``at_one_moment`` has read; None: a change was made meanwhile."""
    heads = [document for document in documents if document["key"] == _HEAD]
    if not heads:
        return list(documents)
    first, last = heads[0], heads[-1]
    if len(heads) < 2 or first["lock"] != last["lock"] or "change" in last:
        return None
    return [document for document in documents if document["key"] != _HEAD]
