"""Headers of sessions: put, find, delete and list them, and remember where their messages lie."""

from collections import OrderedDict
from collections.abc import Collection, Sequence

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.documents import (
    MINUTE_US,
    Extent,
    Header,
    given,
    live,
    minute,
    new_header,
)
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey
from luminoracore_sdk.adapters.storage.mongodb.purge import delete_contents
from luminoracore_sdk.adapters.storage.mongodb.schema import NEWEST_FIRST, Collections
from luminoracore_sdk.adapters.storage.mongodb.summaries import State
from luminoracore_sdk.application.ports.records import Page, SessionQuery, SessionRecord
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError

__all__ = ["Sessions", "created", "new_extent", "prolonged", "version_conflict"]

_LISTED: Document = {"$unset": ["payload", "encoding", "changes", "lease", "writing", "counted"]}
_OWN: Document = {"$unset": ["payload", "encoding", "card"]}
_MORE = 14
"""Sessions that a page by activity reads besides its own, for those of the minute in which it ends."""

_LARGEST = 2**63 - 1
_MOST_REMEMBERED = 10_000


def prolonged(updated_at_us: int) -> list[Document]:
    """Return the change of a header that marks a session as written at a time, which moves its expiry."""
    expires: Document = {"$cond": [{"$ne": ["$ttl", None]}, {"$add": ["$updated", "$ttl"]}, "$$REMOVE"]}
    return [
        {"$set": {"updated": {"$max": ["$updated", updated_at_us]}}},
        {"$set": {"expires": expires, "active": {"$subtract": ["$updated", {"$mod": ["$updated", MINUTE_US]}]}}},
    ]


class Sessions:
    """The headers of one store; see ``SessionStorage`` for what the calls do.

    Where messages lie is remembered for the latest 10,000 sessions. It may be out of date: a call that relies on
    it verifies it with the server afterwards, see ``appends``.
    """

    def __init__(self, store: Collections) -> None:
        self._store = store
        self._extents: OrderedDict[str, Extent] = OrderedDict()
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
            {
                "$lookup": {
                    "from": store.messages.name,
                    "localField": "places",
                    "foreignField": "_id",
                    "pipeline": [{"$project": {"briefs": 1}}],
                    "as": "texts",
                }
            },
        )
        self._after: tuple[Document, ...] = (
            {
                "$lookup": {
                    "from": store.sessions.name,
                    "localField": "_id",
                    "foreignField": "_id",
                    "pipeline": [{"$project": {"_id": 0, "inc": 1, "epoch": 1}}],
                    "as": "after",
                }
            },
        )

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
        """Return such headers of several sessions; those that do not exist are left out."""
        return await self._headers(session_ids, _OWN, *self._newest)

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
            documents = await self._store.sessions.aggregate({"$match": where}, *stages, *self._after)
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
        """Return one page; each header's newest batch is looked up by its index, and the two that have the briefs."""
        if query.by_activity:
            found = await self._by_activity(query, now_us)
            page = found[: query.limit]
            return Page(sessions=tuple(page), next_cursor=query.key(page[-1]) if len(found) > query.limit else None)
        direction = -1 if query.newest_first else 1
        order = {"created": direction, "_id": direction}
        documents = await self._listed(_filter(query), order, query.limit + 1, now_us)
        headers = await self._consistent(documents[: query.limit])
        more = len(documents) > query.limit
        cursor = (documents[query.limit - 1]["created"], documents[query.limit - 1]["_id"]) if more else None
        return Page(sessions=tuple(header.session for header in headers), next_cursor=cursor)

    async def _by_activity(self, query: SessionQuery, now_us: int) -> list[SessionRecord]:
        """Return the sessions of a page, and the one behind it.

        The index has the minute of a change only. So sessions are read by minutes and ordered here; the last minute
        counts once all its sessions are read.
        """
        direction, count = -1 if query.newest_first else 1, query.limit + 1 + _MORE
        while True:
            documents = await self._listed(_filter(query), {"active": direction}, count, now_us)
            headers = await self._consistent(documents)
            if is_whole := len(documents) < count:
                found = [header.session for header in headers]
            else:
                last = documents[-1]["active"]
                found = [header.session for header in headers if header.extent.active_us != last]
            found = [record for record in found if _is_beyond(query, record)]
            if is_whole or len(found) > query.limit:
                return sorted(found, key=query.key, reverse=query.newest_first)[: query.limit + 1]
            count *= 2

    async def _listed(self, where: Document, order: Document, limit: int, now_us: int) -> list[Document]:
        return await self._store.sessions.aggregate(
            {"$match": {**live(now_us), **where}},
            {"$sort": order},
            {"$limit": limit},
            _LISTED,
            *self._newest,
            *self._texts,
            *self._after,
        )

    async def _consistent(self, documents: Sequence[Document]) -> list[Header]:
        """Return the headers of documents; those that have changed meanwhile are read again, or left out."""
        headers = {document["_id"]: Header.of(document) for document in documents if _is_consistent(document)}
        missing = [document["_id"] for document in documents if document["_id"] not in headers]
        headers |= await self._headers(missing, _LISTED, *self._newest, *self._texts)
        return [headers[document["_id"]] for document in documents if document["_id"] in headers]


def new_extent(record: SessionRecord, state: State, now_us: int) -> Extent:
    """Return the extent of a new session."""
    return Extent(
        inc=ObjectId(),
        epoch=0,
        ttl_us=record.ttl_us,
        expires_at_us=None if record.ttl_us is None else now_us + record.ttl_us,
        state=state,
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
