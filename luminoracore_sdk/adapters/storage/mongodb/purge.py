"""Delete what no header leads to any more.

Deleting a session is one command, which deletes its header; what it held is deleted afterwards. What is left when
that fails, when the client is killed in between, or when an append comes late, cannot be found, because an
incarnation or an epoch that is gone never comes back. The next purge deletes it.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.driver import Collection, Document
from luminoracore_sdk.adapters.storage.mongodb.schema import NEWEST_FIRST, Collections
from luminoracore_sdk.application.ports.records import Purged
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["FORK_US", "delete_above", "delete_contents", "purge", "take_out"]

_AT_A_TIME = 200
_CLAUSES = 100
"""Conditions in one query."""

FORK_US = 3_600_000_000
"""How long a fork may take for one of its parts; then it counts as killed."""


async def delete_contents(store: Collections, inc: ObjectId) -> None:
    """Delete what a deleted session held; what cannot be deleted now is left to ``purge``."""
    with suppress(StorageUnavailableError):
        await store.memories.delete({"owner": inc})
    with suppress(StorageUnavailableError):
        await store.messages.delete({"inc": inc})


async def delete_above(store: Collections, inc: ObjectId, epoch: int, after: int) -> None:
    """Delete the messages above a position from an epoch that was sealed there, and from those before it."""
    until: Document = {"inc": inc, "epoch": {"$lte": epoch}}
    await store.messages.delete({**until, "first": {"$gt": after}})
    straddling = await store.messages.find_one(
        {**until, "first": {"$lte": after}}, {"first": 1, "last": 1}, order=NEWEST_FIRST
    )
    if straddling is not None and straddling["last"] > after:
        await take_out(store, inc, straddling, after)


async def take_out(store: Collections, inc: ObjectId, batch: Document, after: int) -> None:
    """Delete the messages of a batch above a position, in an epoch that was sealed there or below."""
    this: Document = {"inc": inc, "_id": batch["_id"]}
    if batch["first"] > after:
        await store.messages.delete(this)
        return
    kept = after - batch["first"] + 1
    cut: Document = {name: {"$slice": [f"${name}", kept]} for name in ("ids", "items")}
    cut["index"] = {"$cond": [{"$isArray": "$index"}, {"$slice": ["$index", kept]}, "$$REMOVE"]}
    for name in ("first", "last"):  # a missing position is below every number
        cut[f"briefs.{name}"] = {"$cond": [{"$gt": [f"$briefs.{name}.at", after]}, "$$REMOVE", f"$briefs.{name}"]}
    await store.messages.update({**this, "last": {"$gt": after}}, [{"$set": {**cut, "last": after}}])


async def purge(store: Collections, now_us: int) -> AsyncIterator[Purged]:
    """Delete what has expired and what was left behind, a little at a time.

    Yields:
        How many expired records a step has deleted.
    """
    async for sessions in _purge_sessions(store, now_us):
        yield Purged(sessions=sessions, memories=0)
    memories = await store.memories.delete({"expires": {"$lte": now_us}, "lock": {"$exists": False}})
    yield Purged(sessions=0, memories=memories)
    for orphans in (_purge_batches(store, now_us), _purge_memories(store)):
        async for _ in orphans:
            yield Purged(sessions=0, memories=0)
    await store.meta.delete({"_id": {"$type": "objectId"}, "at": {"$lte": now_us - FORK_US}})


async def _purge_sessions(store: Collections, now_us: int) -> AsyncIterator[int]:
    expired: Document = {"expires": {"$lte": now_us}}
    while found := await store.sessions.find(expired, {"inc": 1}, limit=_AT_A_TIME):
        count = 0
        for header in found:
            # it may have been prolonged, or put again, meanwhile
            if await store.sessions.delete({"_id": header["_id"], "inc": header["inc"], **expired}):
                count += 1
                await delete_contents(store, header["inc"])
        yield count


async def _is_abandoned(store: Collections, fork: Document, now_us: int) -> bool:
    """Return whether a fork that was in progress before the headers were read will never get its header."""
    if fork["at"] > now_us - FORK_US:
        return False
    # it fails if it still goes on, unless it has its header already
    await store.meta.delete({"_id": fork["_id"], "at": fork["at"]})
    return not await store.sessions.find_one({"_id": fork["s"], "inc": fork["_id"]}, {"_id": 1})


async def _purge_batches(store: Collections, now_us: int) -> AsyncIterator[None]:
    """Delete batches of incarnations that are gone, and those that a truncation hid.

    A header is stored before its first batch, and counts an epoch before the first batch of that epoch. So a
    batch that was there before the header was read, and that the header does not show, is hidden for good.
    """
    async for found in _distinct(store.messages, "inc", {}):
        forks = await store.meta.find({"_id": {"$in": list(found)}})  # before the headers: see ``forks``
        where: Document = {"_id": {"$in": sorted(set(found.values()))}}
        headers = await store.sessions.find(where, {"inc": 1, "epoch": 1, "sealed": 1})
        existing = {header["inc"]: header for header in headers if header["inc"] in found}
        kept = {fork["_id"] for fork in forks if not await _is_abandoned(store, fork, now_us)}
        if gone := [inc for inc in found if inc not in existing and inc not in kept]:
            await store.messages.delete({"inc": {"$in": gone}})
        clauses = [clause for header in existing.values() for clause in _hidden(header)]
        for begin in range(0, len(clauses), _CLAUSES):
            await store.messages.delete({"$or": clauses[begin : begin + _CLAUSES]})
        yield


def _hidden(header: Document) -> Iterator[Document]:
    """Yield what matches the batches of a session that do not count."""
    if header["epoch"]:
        sealed = [part["epoch"] for part in header["sealed"]]
        yield {"inc": header["inc"], "epoch": {"$lt": header["epoch"], "$nin": sealed}}
    for part in header["sealed"]:
        yield {"inc": header["inc"], "epoch": part["epoch"], "first": {"$gt": part["upto"]}}


async def _purge_memories(store: Collections) -> AsyncIterator[None]:
    """Delete the memories of incarnations that are gone; those of users have a string as their owner."""
    async for found in _distinct(store.memories, "owner", {"$type": "objectId"}):
        sessions = {"_id": {"$in": sorted(set(found.values()))}}
        existing = {header["inc"] for header in await store.sessions.find(sessions, {"inc": 1})}
        if gone := [inc for inc in found if inc not in existing]:
            await store.memories.delete({"owner": {"$in": gone}})
        yield


async def _distinct(collection: Collection, field: str, where: Document) -> AsyncIterator[dict[ObjectId, str]]:
    """Yield the values of a field with the session each belongs to; one index key each is read."""
    stages: list[Document] = [
        {"$match": {field: {**where, "$gte": ObjectId(bytes(12))}}},
        {"$sort": {field: 1}},
        {"$group": {"_id": f"${field}", "s": {"$first": "$s"}}},
    ]
    async for part in collection.aggregate_in_parts(_AT_A_TIME, *stages):
        yield {document["_id"]: document["s"] for document in part}
