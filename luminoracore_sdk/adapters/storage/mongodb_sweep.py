"""Removing what no header leads to any more.

A session is deleted with its header, in one command; batches and memories of it are removed afterwards. What
is left when that fails, when the client is killed in between, or when an append comes late, is invisible,
since a history or an incarnation that is in no header never comes back, and is removed by the next sweep.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb_driver import Collection, Document
from luminoracore_sdk.adapters.storage.mongodb_schema import Collections
from luminoracore_sdk.application.ports.records import Purged
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["purge", "release", "sweep_session"]

_AT_A_TIME = 200

SETTLED_US = 3600 * 1_000_000
"""Microseconds for which a sealed history keeps its hidden batches' positions taken; see ``release``."""


async def sweep_session(store: Collections, inc: ObjectId, histories: Sequence[ObjectId]) -> None:
    """Remove what a deleted session held; what cannot be removed now is left to ``purge``."""
    with suppress(StorageUnavailableError):
        await store.messages.delete({"h": {"$in": list(histories)}})
        await store.memories.delete({"owner": inc})


async def release(store: Collections, history: ObjectId, *, after: int, now_us: int) -> None:
    """Take the messages above a position out of a history that was sealed there; their ids are free again.

    Their positions stay taken for an hour. An append that read the header before the history was sealed
    may still be on its way: if a position that was given once were free again, it could be given twice.
    """
    emptied: Document = {"ids": ["$_id"], "items": [], "at": now_us}  # an ObjectId is nobody's message id
    await store.messages.update_all({"h": history, "first": {"$gt": after}}, [{"$set": emptied}])
    where: Document = {"h": history, "first": {"$lte": after}}
    straddling = await store.messages.find_one(where, {"first": 1, "last": 1}, order=[("first", -1)])
    if straddling is not None and straddling["last"] > after:
        kept = after - straddling["first"] + 1
        cut: Document = {name: {"$slice": [f"${name}", kept]} for name in ("ids", "items")}
        whole: Document = {"_id": straddling["_id"], "last": {"$gt": after}}
        await store.messages.update(whole, [{"$set": {**cut, "last": after}}])


async def purge(store: Collections, now_us: int) -> Purged:
    """Remove what has expired and what was left behind; returns how many expired ones there were."""
    sessions = await _purge_sessions(store, now_us)
    memories = await store.memories.delete({"expires": {"$lte": now_us}})
    await _sweep_batches(store, now_us)
    await _sweep_memories(store)
    return Purged(sessions=sessions, memories=memories)


async def _purge_sessions(store: Collections, now_us: int) -> int:
    count = 0
    expired: Document = {"expires": {"$lte": now_us}}
    fields: Document = {"inc": 1, "open": 1, "sealed.h": 1}
    while found := await store.sessions.find(expired, fields, limit=_AT_A_TIME):
        for header in found:
            # it may have been prolonged, or put again, meanwhile
            if await store.sessions.delete({"_id": header["_id"], "inc": header["inc"], **expired}):
                count += 1
                histories = [sealed["h"] for sealed in header["sealed"]]
                await sweep_session(store, header["inc"], [*histories, header["open"]])
    return count


async def _sweep_batches(store: Collections, now_us: int) -> None:
    """Remove hidden batches. A header is there before its first batch, so none can be taken too early."""
    settled: Document = {"at": {"$lte": now_us - SETTLED_US}}
    async for found in _distinct(store.messages, "h", {}):
        bounds = await _visible(store, found)
        for history in found:
            after = bounds.get(history, 0)
            if after is not None:
                await store.messages.delete({"h": history, "first": {"$gt": after}, **settled})


async def _visible(store: Collections, histories: dict[ObjectId, str]) -> dict[ObjectId, int | None]:
    """Return up to which position histories count; None: all of it. Those that do not are left out."""
    sessions = {"_id": {"$in": sorted(set(histories.values()))}}
    bounds: dict[ObjectId, int | None] = {}
    for header in await store.sessions.find(sessions, {"open": 1, "sealed": 1}):
        bounds[header["open"]] = None
        bounds.update({sealed["h"]: sealed["upto"] for sealed in header["sealed"]})
    return bounds


async def _sweep_memories(store: Collections) -> None:
    """Remove the memories of incarnations that are gone; a user's id is a text and stays."""
    async for found in _distinct(store.memories, "owner", {"$type": "objectId"}):
        sessions = {"_id": {"$in": sorted(set(found.values()))}}
        there = {header["inc"] for header in await store.sessions.find(sessions, {"inc": 1})}
        if gone := [inc for inc in found if inc not in there]:
            await store.memories.delete({"owner": {"$in": gone}})


async def _distinct(
    collection: Collection, field: str, where: Document
) -> AsyncIterator[dict[ObjectId, str]]:
    """Yield the values of a field with the session each belongs to; one index key each is read."""
    beyond: Document = {"$gte": ObjectId(bytes(12))}
    while True:
        found = await collection.aggregate(
            {"$match": {field: {**where, **beyond}}},
            {"$sort": {field: 1}},
            {"$group": {"_id": f"${field}", "s": {"$first": "$s"}}},
            {"$sort": {"_id": 1}},
            {"$limit": _AT_A_TIME},
        )
        if not found:
            return
        yield {document["_id"]: document["s"] for document in found}
        beyond = {"$gt": found[-1]["_id"]}
