"""Headers of sessions: put, find, delete and list them, and remember where their messages lie.

**Listings.** The summary that a listing shows is in the batches. For headers that have no copy of it, a second command
reads them again, then the newest batch of each session and those that have its briefs, without their messages, and then
which epochs are still open: what a cut has overtaken is read once more.

**Settled headers.** ``settled`` in a header is a copy of what the newest batch says, so that a listing reads no batch.
A new session has one. An append whose verification changes the header writes its own, if a new minute has begun or it
finds an older one there. If its verification only reads the header, as in a quick sequence, and finds one, it removes
that. So a copy has every append that was acknowledged:

- The times of batches rise with their positions, ``active`` never becomes lower, and an append is verified without a
  change of the header only if ``active`` has its minute, or a later one. So if the minute of a batch is above
  ``active`` when its copy is written, no later batch was verified before. One that is verified afterwards finds the
  copy, and removes it or replaces it by its own; the same holds for that one.
- A cut, and whatever else begins an epoch, removes it. While briefs are being changed, a mark in ``updating`` prevents
  that it is written; afterwards ``form`` is another, so that no writer copies a text that it knows from before.

If an append to a settled session is killed before it is verified, its batch counts for every call but the listing,
which shows it once the append is repeated or another one is made.
"""

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.documents import (
    MINUTE_US,
    Extent,
    Header,
    given,
    listed_record,
    live,
    minute,
    new_header,
)
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey
from luminoracore_sdk.adapters.storage.mongodb.purge import delete_contents
from luminoracore_sdk.adapters.storage.mongodb.schema import NEWEST_FIRST, Collections
from luminoracore_sdk.adapters.storage.mongodb.summaries import State, initial_briefs
from luminoracore_sdk.application.ports.records import Page, SessionQuery, SessionRecord
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError

__all__ = ["Sessions", "created", "new_extent", "prolonged", "version_conflict"]

_LISTED: Document = dict.fromkeys(("payload", "encoding", "changes", "lease", "writing", "counted"), 0)
_OF_OTHERS: Document = dict.fromkeys(("epoch", "sealed", "base", "briefs", "form", "frozen", "updating"), 0)
"""What a listing needs only of headers that are not settled."""

_LIGHT: Document = dict.fromkeys(
    (
        *("inc", "epoch", "sealed", "user", "tags", "ttl", "created", "updated", "active", "version", "noted"),
        *("settled.at", "settled.last"),
    ),
    1,
)
_TELLING = ("inc", "epoch", "version", "noted", "updated", "settled")
"""One of them changes with whatever else ``_LIGHT`` has."""

_TOLD: Document = dict.fromkeys((*_TELLING[:-1], "settled.at", "settled.last", "created"), 1)
_OPEN: Document = {"$project": {"_id": 0, "inc": 1, "epoch": 1}}
_OWN: Document = {"$unset": ["payload", "encoding", "card"]}
_MORE = 3
"""Sessions that a page by activity reads besides its own, for those of the minute in which it ends."""

_LARGEST = 2**63 - 1
_MOST_REMEMBERED = 10_000


def prolonged(updated_at_us: int) -> list[Document]:
    """Return the change of a header that marks a session as written at a time, which moves its expiry."""
    expires: Document = {"$cond": [{"$ne": ["$ttl", None]}, {"$add": ["$updated", "$ttl"]}, "$$REMOVE"]}
    minute_of: Document = {"$subtract": ["$updated", {"$mod": ["$updated", MINUTE_US]}]}
    return [
        {"$set": {"updated": {"$max": ["$updated", updated_at_us]}}},
        {"$set": {"expires": expires, "active": {"$max": ["$active", minute_of]}}},
    ]


_Read = tuple[SessionRecord, object]
"""A record, and for a listing without texts what tells whether its session has changed."""


@attrs.frozen
class _Light:
    """A page of a listing without texts, as it was last read.

    Attributes:
        page: The page.
        held: The records of its sessions with what tells whether they have changed, by id.
        incs: The incarnations of those that are not settled.
        answer: What the server sent when it was asked for these; None: the page took other commands too.
    """

    page: Page
    held: Mapping[str, _Read]
    incs: Sequence[ObjectId]
    answer: bytes | None


_NOT_READ = _Light(Page(sessions=(), next_cursor=None), {}, (), None)


class Sessions:
    """The headers of one store; see ``SessionStorage`` for what the calls do.

    Where messages lie is remembered for the latest 10,000 sessions. It may be out of date: a call that relies on
    it verifies it with the server afterwards, see ``appends``.
    """

    def __init__(self, store: Collections) -> None:
        self._store = store
        self._extents: OrderedDict[str, Extent] = OrderedDict()
        self._pages: OrderedDict[SessionQuery, _Light] = OrderedDict()
        of_this: Document = {"$match": {"$expr": {"$eq": ["$epoch", "$$epoch"]}}}
        self._newest: tuple[Document, ...] = (
            {
                "$lookup": {
                    "from": store.messages.name,
                    "localField": "inc",
                    "foreignField": "inc",
                    "let": {"epoch": "$epoch"},
                    "pipeline": [
                        of_this,
                        {"$sort": dict(NEWEST_FIRST)},
                        {"$limit": 1},
                        {"$project": {"_id": 0, "last": 1, "at": 1, "state": 1}},
                    ],
                    "as": "newest",
                }
            },
        )
        state: Document = {"$ifNull": [{"$first": "$newest.state"}, "$base"]}
        places: Document = {"$let": {"vars": {"state": state}, "in": ["$$state.first.in", "$$state.last.in"]}}
        self._texts: tuple[Document, ...] = (
            {"$set": {"places": places}},
            _lookup(store.messages.name, "places", "_id", [{"$project": {"briefs": 1}}], "texts"),
        )
        self._batches = {texts: _with_batches(store, texts=texts) for texts in (False, True)}
        self._after = _lookup(store.sessions.name, "_id", "_id", [_OPEN], "after")

    # -- where messages lie ----------------------------------------------------------------------

    def remember(self, session_id: str, extent: Extent) -> None:
        """Remember where the messages of a session lie."""
        self._extents[session_id] = extent
        self._extents.move_to_end(session_id)
        if len(self._extents) > _MOST_REMEMBERED:
            self._extents.popitem(last=False)

    def remembered(self, session_id: str, now_us: int) -> Extent | None:
        """Return where the messages of a session were last seen, unless it has expired since."""
        extent = self._extents.get(session_id)
        return extent if extent is not None and extent.is_live(now_us) else None

    def forget(self, session_id: str) -> None:
        """Forget where the messages of a session lie."""
        self._extents.pop(session_id, None)

    async def header(self, session_id: str) -> Header | None:
        """Return a session's header, expired or not, and where its messages end, without payloads and summary."""
        return (await self._headers([session_id], _OWN, *self._newest)).get(session_id)

    async def headers(self, session_ids: Collection[str]) -> dict[str, Header]:
        """Return such headers of several sessions, with their summaries; those that do not exist are left out."""
        return await self._headers(session_ids, _OWN, *self._newest, *self._texts)

    async def whole(self, session_id: str) -> Header | None:
        """Return a session's header, expired or not, with payloads and summary."""
        return (await self._headers([session_id], *self._newest, *self._texts)).get(session_id)

    async def summarized(self, session_id: str, now_us: int) -> Header:
        """Return a live session's header with its summary; SessionNotFoundError when there is none."""
        found = await self._headers([session_id], _OWN, *self._newest, *self._texts)
        return self._live(session_id, found.get(session_id), now_us)

    async def _headers(self, session_ids: Collection[str], *stages: Document) -> dict[str, Header]:
        found, missing = dict[str, Header](), list(session_ids)
        while missing:
            where: Document = {"_id": missing[0] if len(missing) == 1 else {"$in": missing}}
            documents = await self._store.sessions.aggregate({"$match": where}, *stages, self._after)
            found |= {document["_id"]: Header.of(document) for document in documents if _is_consistent(document)}
            missing = [document["_id"] for document in documents if document["_id"] not in found]
        return found

    async def existing(self, session_id: str, now_us: int) -> Header:
        """Return a live session's header; SessionNotFoundError when there is none."""
        return self._live(session_id, await self.header(session_id), now_us)

    def _live(self, session_id: str, header: Header | None, now_us: int) -> Header:
        if header is None or not header.extent.is_live(now_us):
            self.forget(session_id)
            raise SessionNotFoundError(session_id, backend=BACKEND)
        return header

    # -- calls of the port -----------------------------------------------------------------------

    async def put(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        """Create or replace a header; what is read first is checked again by the write itself."""
        while True:
            header = await self.whole(record.session_id)
            existing = header if header is not None and header.extent.is_live(now_us) else None
            version = existing.session.version if existing else 0
            if expected_version is not None and expected_version != version:
                raise version_conflict(record.session_id, expected_version, version)
            if existing:
                written = await self._replace(existing, record, expected_version, now_us)
            else:
                written = await self._create(header, record, now_us)
            if written is not None:
                return written

    async def _replace(
        self, header: Header, record: SessionRecord, expected_version: int | None, now_us: int
    ) -> SessionRecord | None:
        """Replace what the caller gives of a live session; None: it has changed since it was read."""
        where: Document = {"_id": record.session_id, "inc": header.extent.inc}
        if expected_version is not None:
            where["version"] = expected_version
        change: Document = {name: {"$literal": value} for name, value in given(record).items()}
        change["version"] = {"$add": ["$version", 1]}
        changed = await self._store.sessions.find_and_update(
            where,
            [{"$set": change}, *prolonged(max(now_us, header.extent.at_us))],
            {"created": 1, "updated": 1, "version": 1, "expires": 1, "active": 1},
        )
        if changed is None:
            return None
        extent = attrs.evolve(
            header.extent,
            ttl_us=record.ttl_us,
            expires_at_us=changed.get("expires"),
            at_us=max(header.extent.at_us, changed["updated"]),
            active_us=changed["active"],
        )
        self.remember(record.session_id, extent)
        return attrs.evolve(
            record,
            created_at_us=changed["created"],
            updated_at_us=changed["updated"],
            version=changed["version"],
            last_position=header.extent.last,
            summary=header.session.summary,
            changes=header.session.changes,
            lease=header.session.lease,
        )

    async def _create(self, expired: Header | None, record: SessionRecord, now_us: int) -> SessionRecord | None:
        """Write the header of a new session; None: another writer was faster."""
        extent = new_extent(record, State.initial(record.summary), now_us)
        record = created(record, extent)
        return record if await self.insert(expired, record, extent) else None

    async def insert(self, expired: Header | None, record: SessionRecord, extent: Extent) -> bool:
        """Insert the header of a new session, in place of an expired one; False: another writer was faster."""
        document = new_header(record, extent, extent.known)
        if expired is None:
            try:
                await self._store.sessions.insert(document)
            except DuplicateKey:
                return False
        else:
            where = {"_id": record.session_id, "inc": expired.extent.inc, "expires": {"$lte": extent.at_us}}
            if not await self._store.sessions.replace(where, document):
                return False
            await delete_contents(self._store, expired.extent.inc)
        self.remember(record.session_id, extent)
        return True

    async def find(self, session_id: str, now_us: int) -> SessionRecord | None:
        """Return a header with its payload, or None."""
        header = await self.whole(session_id)
        return header.session if header is not None and header.extent.is_live(now_us) else None

    async def delete(self, session_id: str, now_us: int) -> bool:
        """Delete a session: without its header nothing of it is found; then delete what it held."""
        self.forget(session_id)
        found = await self._store.sessions.find_and_delete({"_id": session_id, **live(now_us)}, {"inc": 1})
        if found is None:
            return False
        if isinstance(inc := found.get("inc"), ObjectId):  # not of a damaged header
            await delete_contents(self._store, inc)
        return True

    async def query(self, query: SessionQuery, now_us: int) -> Page:
        """Return one page."""
        if query.by_activity:
            found = await self._by_activity(query, now_us)
            page = found[: query.limit]
            return Page(sessions=tuple(page), next_cursor=query.key(page[-1]) if len(found) > query.limit else None)
        direction = -1 if query.newest_first else 1
        order = {"created": direction, "_id": direction}
        if not query.texts:
            return await self._light_page(query, order, now_us)
        documents = await self._listed(query, order, query.limit + 1, now_us)
        return _page(query, documents, await self._records(documents[: query.limit], texts=True))

    async def _light_page(self, query: SessionQuery, order: Document, now_us: int) -> Page:
        """Return a page without texts; if nothing has changed since it was last read, with one command.

        That brings places of the newest batches of the sessions that were on the page, for which their index is
        enough, and then fields of the headers, which so verify them, as in ``messages``. The same bytes mean the same
        page: then nothing is decoded. Otherwise only those that have changed are read.
        """
        seen = self._pages.get(query, _NOT_READ)
        headers: tuple[Document, ...] = (
            {"$match": {**live(now_us), **_filter(query)}},
            {"$sort": order},
            {"$limit": query.limit + 1},
            {"$project": _TOLD},
        )
        found = await self._store.messages.aggregate_unless(
            seen.answer,
            len(seen.incs) + query.limit + 1,
            *_newest_of(seen.incs, "epoch", "first"),
            {"$unionWith": {"coll": self._store.sessions.name, "pipeline": list(headers)}},
        )
        if found is None:
            self._pages[query] = seen  # another call may have removed it
            self._pages.move_to_end(query)
            return seen.page
        answer, documents = found
        batches, documents = _separated(documents)
        listed = documents[: query.limit]
        asked, held = set(seen.incs), dict[str, _Read]()
        for document in listed:
            known = seen.held.get(document["_id"])
            is_told = document["inc"] in asked or "settled" in document
            if known is not None and is_told and known[1] == _told(document, batches.get(document["inc"])):
                held[document["_id"]] = known
        if rest := [document["_id"] for document in listed if document["_id"] not in held]:
            held |= await self._read(rest, texts=False)
        page = _page(query, documents, held)
        incs = [document["inc"] for document in listed if "settled" not in document]
        self._pages[query] = _Light(page, held, incs, None if rest else answer)
        while sum(1 + len(one.page.sessions) for one in self._pages.values()) > _MOST_REMEMBERED:
            self._pages.popitem(last=False)
        return page

    async def _by_activity(self, query: SessionQuery, now_us: int) -> list[SessionRecord]:
        """Return the sessions of a page, and the one behind it.

        The index has the minute of a change only. So sessions are read by minutes and ordered here; the last minute
        counts once all its sessions are read.
        """
        direction, count = -1 if query.newest_first else 1, query.limit + 1 + _MORE
        # all sessions of a trial may be of the user that is asked for: then the server would keep the other plan
        hint = None if query.tag is not None else {"active": 1} if query.user_id is None else {"user": 1, "active": 1}
        while True:
            documents = await self._listed(query, {"active": direction}, count, now_us, hint)
            found = [record for record, _ in (await self._records(documents, texts=query.texts)).values()]
            is_whole = len(documents) < count
            if not is_whole:
                last = documents[-1]["active"]
                found = [record for record in found if minute(record.updated_at_us) != last]
            found = [record for record in found if _is_beyond(query, record)]
            if is_whole or len(found) > query.limit:
                return sorted(found, key=query.key, reverse=query.newest_first)[: query.limit + 1]
            count *= 2

    async def _listed(
        self, query: SessionQuery, order: Document, limit: int, now_us: int, hint: Document | None = None
    ) -> list[Document]:
        return await self._store.sessions.find(
            {**live(now_us), **_filter(query)},
            {**_LISTED, **_OF_OTHERS} if query.texts else _LIGHT,
            order=list(order.items()),
            limit=limit,
            hint=hint,
            as_they_are=True,
        )

    async def _records(self, documents: Sequence[Document], *, texts: bool) -> dict[str, _Read]:
        """Return the records of headers by id; those that are gone are left out."""
        known: dict[ObjectId, Document] | None = {} if texts else None
        found: dict[str, _Read] = {
            one["_id"]: (listed_record(one, None, known), None) for one in documents if "settled" in one
        }
        rest = [one["_id"] for one in documents if "settled" not in one]
        return found | (await self._read(rest, texts=texts) if rest else {})

    async def _read(self, session_ids: Sequence[str], *, texts: bool) -> dict[str, _Read]:
        """Return the records of sessions by id; those that change meanwhile are read again."""
        where: Document = {"$match": {"_id": {"$in": session_ids}}}
        read = await self._store.sessions.aggregate(where, *self._batches[texts], as_they_are=True)
        documents, opened = list[Document](), set[tuple[object, object]]()
        newest, briefs = dict[ObjectId, Document](), dict[ObjectId, Document]()
        for one in read:
            if "_id" not in one:
                opened.add((one.get("inc"), one.get("epoch")))
            elif type(one["_id"]) is str:
                documents.append(one)
            elif "epoch" in one:
                newest[one["_id"]] = one
                if texts:
                    briefs[one["id"]] = one["briefs"] or {}
            else:
                briefs[one["_id"]] = one.get("briefs", {})
        found, missing = dict[str, _Read](), list[str]()
        for document in documents:
            inc, epoch = document["inc"], document["epoch"]
            batch = newest.get(inc)
            if (inc, epoch) not in opened or (batch is not None and batch["epoch"] > epoch):  # see ``tails``
                missing.append(document["_id"])
                continue
            last = batch if batch is not None and batch["epoch"] == epoch else None
            record = listed_record(document, last, briefs if texts else None)
            found[document["_id"]] = record, None if texts else _told(document, batch)
        again = await self._headers(missing, {"$project": _LISTED}, *self._newest, *(self._texts if texts else ()))
        return found | {name: (one.session.listed(texts=texts), None) for name, one in again.items()}


def _separated(read: Sequence[Document]) -> tuple[dict[ObjectId, Document], list[Document]]:
    """Return newest batches, by incarnation, and headers."""
    batches = {document["_id"]: document for document in read if type(document["_id"]) is ObjectId}
    return batches, [document for document in read if type(document["_id"]) is str]


def _told(document: Document, batch: Document | None) -> object:
    """Return what tells whether a session has changed: equal, if it has not."""
    is_read = batch is not None and "settled" not in document
    return [*map(document.get, _TELLING), *((batch["epoch"], batch["first"]) if batch and is_read else ())]


def _newest_of(incs: Iterable[ObjectId], *fields: str) -> tuple[Document, ...]:
    """Return the stages that bring fields of the newest batch of each incarnation, open or not; ``_id`` as ``id``."""
    return (
        {"$match": {"inc": {"$in": list(incs)}}},
        {"$sort": dict(NEWEST_FIRST)},
        {"$group": {"_id": "$inc", **{name.lstrip("_"): {"$first": f"${name}"} for name in fields}}},
    )


def _with_batches(store: Collections, *, texts: bool) -> tuple[Document, ...]:
    """Return the stages that bring headers, then the newest batch of each, then which epochs are open.

    That is the newest one of each incarnation, open or not: so one index key and one document each are enough. With
    texts come also the other batches that have briefs; of all batches only what a listing shows.
    """
    fields = {"id": "_id", "state": "state", "briefs": "briefs"} if texts else {"first": "first"}
    fields |= {"epoch": "epoch", "last": "last", "at": "at"}
    newest: list[Document] = [
        {"$sort": dict(NEWEST_FIRST)},
        {"$group": {"_id": "$inc", **{name: {"$first": f"${field}"} for name, field in fields.items()}}},
    ]
    places = [f"${state}.{name}.in" for state in ("newest.state", "rows.base") for name in ("first", "last")]
    elsewhere: tuple[Document, ...] = (
        {"$set": {"places": {"$setDifference": [{"$concatArrays": places}, "$newest.id"]}}},
        _lookup(store.messages.name, "places", "_id", [{"$project": {"briefs": 1}}], "others"),
    )
    read = ["$rows", "$newest", "$others", "$opened"] if texts else ["$rows", "$newest", "$opened"]
    return (
        {"$project": _LISTED if texts else _LIGHT},
        {"$group": {"_id": None, "rows": {"$push": "$$ROOT"}}},
        _lookup(store.messages.name, "rows.inc", "inc", newest, "newest"),
        *(elsewhere if texts else ()),
        _lookup(store.sessions.name, "rows._id", "_id", [_OPEN], "opened"),
        {"$project": {"read": {"$concatArrays": read}}},
        {"$unwind": "$read"},
        {"$replaceRoot": {"newRoot": "$read"}},
    )


def _lookup(collection: str, local: str, foreign: str, stages: list[Document], name: str) -> Document:
    """Return the stage that adds, as a list, what stages make of the documents whose field equals a local one."""
    joined = {"from": collection, "localField": local, "foreignField": foreign}
    return {"$lookup": {**joined, "pipeline": stages, "as": name}}


def _page(query: SessionQuery, documents: Sequence[Document], found: Mapping[str, _Read]) -> Page:
    """Return a page by creation, of which one document more than its limit was read."""
    more = len(documents) > query.limit
    last = documents[query.limit - 1] if more else {}
    cursor = (int(last["created"]), last["_id"]) if more else None
    listed = documents[: query.limit]
    return Page(sessions=tuple(found[one["_id"]][0] for one in listed if one["_id"] in found), next_cursor=cursor)


def new_extent(record: SessionRecord, state: State, now_us: int) -> Extent:
    """Return the extent of a new session."""
    return Extent(
        inc=ObjectId(),
        epoch=0,
        ttl_us=record.ttl_us,
        expires_at_us=None if record.ttl_us is None else now_us + record.ttl_us,
        state=state,
        texts=initial_briefs(record.summary),
        is_settled=True,
        at_us=now_us,
        active_us=minute(now_us),
    )


def created(record: SessionRecord, extent: Extent) -> SessionRecord:
    """Return the record of a new session."""
    return attrs.evolve(
        record,
        created_at_us=record.created_at_us or extent.at_us,
        updated_at_us=extent.at_us,
        version=1,
        last_position=extent.last,
    )


def _is_consistent(document: Document) -> bool:
    """Return whether the epoch of a header was still open after its newest batch was looked up."""
    return bool(document["after"] == [{name: document[name] for name in ("inc", "epoch") if name in document}])


def _clamped(number: int) -> int:
    """Return the nearest 64-bit number: a bound beyond it means the same."""
    return max(-_LARGEST, min(number, _LARGEST))


def _filter(query: SessionQuery) -> Document:
    """Return what a page matches; by activity, the whole minute in which it begins."""
    where: Document = {}
    if query.user_id is not None:
        where["user"] = query.user_id
    clauses = list[Document]()
    if query.tag is not None:
        clauses.append({"tags": query.tag})
    if query.without_tag is not None:
        clauses.append({"tags": {"$ne": query.without_tag}})
    if query.created_after_us is not None:
        clauses.append({"created": {"$gte": _clamped(query.created_after_us)}})
    if query.created_before_us is not None:
        clauses.append({"created": {"$lt": _clamped(query.created_before_us)}})
    if query.cursor is not None and query.by_activity:
        bound = "$lte" if query.newest_first else "$gte"
        clauses.append({"active": {bound: minute(_clamped(query.cursor[0]))}})
    elif query.cursor is not None:
        created, beyond = _clamped(query.cursor[0]), "$lt" if query.newest_first else "$gt"
        clauses.append({"created": {f"{beyond}e": created}})  # lets the index begin there
        where["$or"] = [{"created": {beyond: created}}, {"_id": {beyond: query.cursor[1]}}]
    return {**where, "$and": clauses} if clauses else where


def _is_beyond(query: SessionQuery, record: SessionRecord) -> bool:
    """Return whether a session is behind the cursor of a page."""
    if query.cursor is None:
        return True
    return query.key(record) < query.cursor if query.newest_first else query.key(record) > query.cursor


def version_conflict(session_id: str, expected: int, actual: int) -> ConflictError:
    """Return the error for a session that has another version, 0 if it does not exist."""
    return ConflictError(
        backend=BACKEND,
        key=f"session {session_id!a}",
        expected=f"version {expected}" if expected else "no such session",
        actual=f"version {actual}" if actual else "no such session",
    )
