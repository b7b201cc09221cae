"""Removing what no header leads to any more.

A session is deleted with its header, in one command; batches and memories of it are removed afterwards. What
is left when that fails, when the client is killed in between, or when an append comes late, is invisible,
since a history or an incarnation that is in no header never comes back, and is removed by the next sweep.
So is what has to keep a position taken, a day later; see ``mongodb_closing``.
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from math import inf

from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.driver import Collection, Document
from luminoracore_sdk.adapters.storage.mongodb.schema import IN_ORDER, NEWEST_FIRST, Collections
from luminoracore_sdk.application.ports.records import Purged
from luminoracore_sdk.domain.errors import StorageUnavailableError

__all__ = ["EMPTIED", "purge", "release", "sweep_session"]

_AT_A_TIME = 200
_CLAUSES = 100
"""Conditions in one query."""

SETTLED_US = 24 * 3600 * 1_000_000
"""Microseconds for which positions that no header leads to stay taken; see ``mongodb_closing``."""

EMPTIED: Document = {
    **dict.fromkeys(("role", "created", "tag", "payload"), "$$REMOVE"),
    "ids": ["$_id"],
    "items": [],
}
"""What is left of a batch that only keeps its position; an ObjectId is nobody's message id."""


async def sweep_session(store: Collections, inc: ObjectId, now_us: int) -> None:
    """Remove what a deleted session held, and leave what keeps a position taken that hints may lead to.

    What cannot be removed now is left to ``purge``.
    """
    with suppress(StorageUnavailableError):
        await store.memories.delete({"owner": inc})
    with suppress(StorageUnavailableError):
        await _sweep_messages(store, inc, now_us)


async def _sweep_messages(store: Collections, inc: ObjectId, now_us: int) -> None:
    """Remove the batches of a deleted session, or what they hold.

    With a condition for each of many writers the server compares each batch with each: 5,000 took 3 s. So
    those of before yesterday are left out, whose hints are too old; and if there are many all the same, all
    batches keep their positions.
    """
    settled: Document = {"at": {"$lte": now_us - SETTLED_US}}
    ends = await store.messages.aggregate(
        {"$match": {"inc": inc, "items": {"$ne": []}, "at": {"$gt": now_us - SETTLED_US}}},
        {"$group": {"_id": {"h": "$h", "w": "$w"}, "last": {"$max": "$last"}}},
        {"$project": {"_id": 0, "h": "$_id.h", "first": {"$add": ["$last", 1]}}},
    )
    taken = _behind(ends)
    unwanted = [{"$nor": [{"items": []}, *taken]}] if len(taken) < _CLAUSES else []
    await store.messages.delete({"inc": inc, "$or": [settled, *unwanted]})
    if taken:
        emptied = {**EMPTIED, "at": now_us}
        await store.messages.update_all({"inc": inc, "items": {"$ne": []}}, [{"$set": emptied}])


def _behind(ends: Sequence[Document]) -> list[Document]:
    """Return where the batches of writers end whom others have followed: they may not know."""
    newest = dict[ObjectId, int]()
    for end in ends:
        newest[end["h"]] = max(end["first"], newest.get(end["h"], 0))
    return [end for end in ends if end["first"] < newest[end["h"]]]


async def release(store: Collections, inc: ObjectId, history: ObjectId, *, after: int, now_us: int) -> None:
    """Take the messages above a position out of a history that was sealed there; their ids are free again.

    Their positions stay taken for a day. An append that does not know yet that the history was sealed may
    be on its way: if a position that was given once were free again, it could be given twice.
    """
    emptied: Document = {**EMPTIED, "at": now_us}
    place: Document = {"inc": inc, "h": history}
    await store.messages.update_all({**place, "first": {"$gt": after}}, [{"$set": emptied}])
    where: Document = {**place, "first": {"$lte": after}}
    straddling = await store.messages.find_one(where, {"first": 1, "last": 1}, order=NEWEST_FIRST)
    if straddling is not None and straddling["last"] > after:
        kept = after - straddling["first"] + 1
        cut: Document = {name: {"$slice": [f"${name}", kept]} for name in ("ids", "items")}
        whole: Document = {"inc": inc, "_id": straddling["_id"], "last": {"$gt": after}}
        await store.messages.update(whole, [{"$set": {**cut, "last": after}}])


async def purge(store: Collections, now_us: int) -> AsyncIterator[Purged]:
    """Remove what has expired and what was left behind, a little at a time.

    Yields:
        How many expired ones a step has removed.
    """
    async for sessions in _purge_sessions(store, now_us):
        yield Purged(sessions=sessions, memories=0)
    memories = await store.memories.delete({"expires": {"$lte": now_us}})
    yield Purged(sessions=0, memories=memories)
    for sweeping in (_sweep_batches(store, now_us), _sweep_memories(store)):
        async for _ in sweeping:
            yield Purged(sessions=0, memories=0)


async def _purge_sessions(store: Collections, now_us: int) -> AsyncIterator[int]:
    expired: Document = {"expires": {"$lte": now_us}}
    while found := await store.sessions.find(expired, {"inc": 1}, limit=_AT_A_TIME):
        count = 0
        for header in found:
            # it may have been prolonged, or put again, meanwhile
            if await store.sessions.delete({"_id": header["_id"], "inc": header["inc"], **expired}):
                count += 1
                await sweep_session(store, header["inc"], now_us)
        yield count


async def _sweep_batches(store: Collections, now_us: int) -> AsyncIterator[None]:
    """Remove hidden batches, both of sessions that are gone and of those that are there.

    A header is there before its first batch, and names a history before the history's first batch. So what
    was found first, and is not shown by a header that was read later, is hidden for good.
    """
    settled: Document = {"at": {"$lte": now_us - SETTLED_US}}
    async for found in _distinct(store.messages, "inc", {}):
        there = {header["inc"]: header for header in await _headers(store, found)}
        if gone := [inc for inc in found if inc not in there]:
            await store.messages.delete({"inc": {"$in": gone}, **settled})
        clauses = [{**clause, **settled} for header in there.values() for clause in _hidden(header)]
        for place in range(0, len(clauses), _CLAUSES):
            await _sweep_hidden(store, {"$or": clauses[place : place + _CLAUSES]}, found)
        yield


async def _sweep_hidden(store: Collections, where: Document, sessions: Mapping[ObjectId, str]) -> None:
    """Remove what matches, a little at a time, after another look at the headers."""
    fields: Document = {"inc": 1, "h": 1, "first": 1}
    while batches := await store.messages.find(where, fields, hint=IN_ORDER, limit=_AT_A_TIME):
        incs = {batch["inc"] for batch in batches}
        headers = await _headers(store, {inc: sessions[inc] for inc in incs})
        bounds = {header["inc"]: _bounds(header) for header in headers}
        hidden = [batch["_id"] for batch in batches if batch["first"] > bounds.get(batch["inc"], {}).get(batch["h"], 0)]
        gone = await store.messages.delete({"inc": {"$in": list(incs)}, "_id": {"$in": hidden}})
        if gone < _AT_A_TIME:
            return


async def _headers(store: Collections, sessions: Mapping[ObjectId, str]) -> list[Document]:
    """Return what the headers say of incarnations; those that are gone are left out."""
    where: Document = {"_id": {"$in": sorted(set(sessions.values()))}}
    found = await store.sessions.find(where, {"inc": 1, "open": 1, "sealed": 1})
    return [header for header in found if header["inc"] in sessions]


def _hidden(header: Document) -> Iterator[Document]:
    """Yield what matches the batches of a session that do not count."""
    histories = [sealed["h"] for sealed in header["sealed"]]
    yield {"inc": header["inc"], "h": {"$nin": [*histories, header["open"]]}}
    for sealed in header["sealed"]:
        yield {"inc": header["inc"], "h": sealed["h"], "first": {"$gt": sealed["upto"]}}


def _bounds(header: Document) -> dict[ObjectId, float]:
    """Return up to which position histories count."""
    return {sealed["h"]: sealed["upto"] for sealed in header["sealed"]} | {header["open"]: inf}


async def _sweep_memories(store: Collections) -> AsyncIterator[None]:
    """Remove the memories of incarnations that are gone; a user's id is a text and stays."""
    async for found in _distinct(store.memories, "owner", {"$type": "objectId"}):
        sessions = {"_id": {"$in": sorted(set(found.values()))}}
        there = {header["inc"] for header in await store.sessions.find(sessions, {"inc": 1})}
        if gone := [inc for inc in found if inc not in there]:
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
