"""Closing a history, so that who appends needs no look at the header.

An append that remembers where its session ends is one insert: behind the newest batch that this writer has
appended, in a history that it has seen open since. Such a hint is good for a minute, and what it relies on
is that in the meantime nothing is changed that it should have seen:

1. Before a header is changed so that such an append would be wrong (truncated, deleted, given a time to
   live), its open history is **closed**: a closing document is inserted where the next batch would go. The
   unique index of positions decides: whoever inserts there later meets a duplicate key, and reads the
   header; whoever was there before was appended before, and is what the closer met. Then the closer lets the
   server look where the history ends, and insert there, in one command: writers that are nearer the server
   than the closer could always be faster than a look and an insert. And the closer looks again.
2. The change of the header requires the closed history to be its open one, and begins a new one.
3. **A position that a hint may lead to stays taken for a day**, also when the session is gone. A writer's
   hint leads behind the last batch that it (``w``) has appended. What is there is a closing document, a
   batch of another writer, or what a truncation has emptied: these are left, without bodies, by who deletes
   a session (``sweep_session``), and removed by ``purge_expired`` a day later.
4. Every hint comes from a look at the header *after* the batch was inserted, or from an append by such a
   hint. It is a minute old at most, counted from before the command it comes from, by the monotonic clock,
   before the insert and after its answer, and by the storage's clock before it. If it is too old when the
   answer comes, the header decides, as it does after an append without a hint.
5. A session with a time to live is prolonged by each append; that change of its header names the history and
   so is the look, and what follows for such sessions holds without closing: they expire by no write.

If the closer dies between 1 and 2, the history stays closed: every reader finds it as it was. Who wants to
append waits a second for the closer, and then begins a new history in its place; a closer that was only slow
finds another open history, and begins again.

The clocks of all computers have to agree to within a day for this.
"""

from collections.abc import Sequence
from typing import Any

from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.documents import End, Header, Segment, closing_document
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import DuplicateKey
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections

__all__ = ["begun", "close", "close_damaged"]

_TRIES = 20
"""Commands after which the closer looks at the header again; a few are enough against one writer."""


async def close(store: Collections, header: Header, now_us: int) -> bool:
    """Close the open history of a session; False: it does not end any more where the header says.

    Then it is closed all the same, most probably, and the next look at the header says so.
    """
    if header.is_closed:
        return True
    session = header.session
    closing = closing_document(session.session_id, header.end, session.updated_at_us, now_us)
    if await _insert(store, closing):
        return True
    for _ in range(_TRIES):
        if await _insert_behind(store, closing):
            break
    return False


async def close_damaged(store: Collections, document: Document, now_us: int) -> None:
    """Close the open history of a header that cannot be read, as far as it says where that ends."""
    inc, history = document.get("inc"), document.get("open")
    last = _last(document)
    while isinstance(inc, ObjectId) and isinstance(history, ObjectId) and type(last) is int:
        if await _insert(store, closing_document(document["_id"], End(inc, history, last), 0, now_us)):
            return
        place: Document = {"inc": inc, "h": history}
        newest = await store.messages.find_one(place, order=(("inc", -1), ("h", -1), ("first", -1)))
        if newest is None or "closed" in newest:
            return
        last = newest.get("last")
        if type(last) is int and type(newest.get("first")) is int:
            last = max(last, newest["first"])  # a batch that says less would be met for ever


def begun(segments: Sequence[Segment]) -> Document:
    """Return the change of a header by which a new history begins behind some segments."""
    sealed = [{"h": part.history, "upto": part.last} for part in segments if part.first <= part.last]
    return {"$set": {"open": ObjectId(), "sealed": {"$literal": sealed}}}


async def _insert(store: Collections, closing: Document) -> bool:
    try:
        await store.messages.insert(closing)
    except DuplicateKey:
        return False
    return True


async def _insert_behind(store: Collections, closing: Document) -> bool:
    """Insert a closing document where its history ends now; False: somebody was faster.

    One that is closed already, or not there, is left as it is.
    """
    fixed = {name: {"$literal": value} for name, value in closing.items()}
    moving: Document = {
        "first": {"$add": [{"$max": ["$first", "$last"]}, 1]},  # a damaged batch may say less than it holds
        "last": "$last",
        "closed": {"$max": ["$at", fixed["closed"]]},
    }
    try:
        await store.messages.insert_found(
            {"$match": {"inc": closing["inc"], "h": closing["h"]}},
            {"$sort": {"inc": -1, "h": -1, "first": -1}},
            {"$limit": 1},
            {"$match": {"closed": {"$exists": False}}},
            {"$replaceWith": {**fixed, **moving}},
        )
    except DuplicateKey:
        return False
    return True


def _last(document: Document) -> Any:
    try:
        return document["newest"][0]["last"] if document["newest"] else document["sealed"][-1]["upto"]
    except (LookupError, TypeError):
        return 0
