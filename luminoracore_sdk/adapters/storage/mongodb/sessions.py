"""Headers of sessions: put, find, delete and list them, and remember where their messages lie."""

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import cast

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.documents import Extent, Header, live, stored
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey
from luminoracore_sdk.adapters.storage.mongodb.purge import delete_contents
from luminoracore_sdk.adapters.storage.mongodb.schema import NEWEST_FIRST, Collections
from luminoracore_sdk.application.ports.records import Page, Payload, SessionQuery, SessionRecord
from luminoracore_sdk.domain.errors import ConflictError, SessionNotFoundError

__all__ = ["Sessions", "prolonged"]

_WITHOUT_PAYLOAD: Document = {"$unset": ["payload", "encoding"]}
_LARGEST = 2**63 - 1
_MOST_REMEMBERED = 10_000


def prolonged(updated_at_us: int) -> list[Document]:
    """Return the change of a header that marks a session as written at a time, which moves its expiry."""
    expires: Document = {"$cond": [{"$ne": ["$ttl", None]}, {"$add": ["$updated", "$ttl"]}, "$$REMOVE"]}
    return [
        {"$set": {"updated": {"$max": ["$updated", updated_at_us]}}},
        {"$set": {"expires": expires}},
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
                        {"$project": {"_id": 0, "last": 1, "at": 1}},
                    ],
                    "as": "newest",
                }
            },
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

    async def header(self, session_id: str, *, with_payload: bool = False) -> Header | None:
        """Return a session's header, expired or not, and where its messages end."""
        return (await self.headers([session_id], with_payload=with_payload)).get(session_id)

    async def headers(self, session_ids: Collection[str], *, with_payload: bool = False) -> dict[str, Header]:
        """Return the headers of sessions, expired or not; those that do not exist are left out."""
        found, missing = dict[str, Header](), list(session_ids)
        while missing:
            where: Document = {"_id": missing[0] if len(missing) == 1 else {"$in": missing}}
            stages = [{"$match": where}, *(() if with_payload else (_WITHOUT_PAYLOAD,)), *self._newest]
            documents = await self._store.sessions.aggregate(*stages)
            found |= {document["_id"]: Header.of(document) for document in documents if _is_consistent(document)}
            missing = [document["_id"] for document in documents if document["_id"] not in found]
        return found

    async def existing(self, session_id: str, now_us: int) -> Header:
        """Return a live session's header; SessionNotFoundError when there is none."""
        header = await self.header(session_id)
        if header is None or not header.extent.is_live(now_us):
            self.forget(session_id)
            raise SessionNotFoundError(session_id, backend=BACKEND)
        return header

    # -- calls of the port -----------------------------------------------------------------------

    async def put(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        """Create or replace a header; what is read first is checked again by the write itself."""
        while True:
            header = await self.header(record.session_id)
            existing = header if header is not None and header.extent.is_live(now_us) else None
            version = existing.session.version if existing else 0
            if expected_version is not None and expected_version != version:
                raise _version_conflict(record.session_id, expected_version, version)
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
        change: Document = {name: {"$literal": value} for name, value in _given(record).items()}
        change["version"] = {"$add": ["$version", 1]}
        changed = await self._store.sessions.find_and_update(
            where,
            [{"$set": change}, *prolonged(max(now_us, header.session.updated_at_us))],
            {"created": 1, "updated": 1, "version": 1, "expires": 1},
        )
        if changed is None:
            return None
        expires_at_us = changed.get("expires")
        extent = attrs.evolve(header.extent, ttl_us=record.ttl_us, expires_at_us=expires_at_us)
        self.remember(record.session_id, extent)
        return attrs.evolve(
            record,
            created_at_us=changed["created"],
            updated_at_us=changed["updated"],
            version=changed["version"],
            last_position=header.extent.last,
        )

    async def _create(self, expired: Header | None, record: SessionRecord, now_us: int) -> SessionRecord | None:
        """Write the header of a new session; None: another writer was faster."""
        created_at_us = record.created_at_us or now_us
        expires_at_us = None if record.ttl_us is None else now_us + record.ttl_us
        extent = Extent(inc=ObjectId(), epoch=0, ttl_us=record.ttl_us, expires_at_us=expires_at_us)
        document = {
            "_id": record.session_id,
            **_given(record),
            "created": created_at_us,
            "updated": now_us,
            "version": 1,
            "inc": extent.inc,
            "epoch": extent.epoch,
            "sealed": [],
        }
        if expires_at_us is not None:
            document["expires"] = expires_at_us
        if expired is None:
            try:
                await self._store.sessions.insert(document)
            except DuplicateKey:
                return None
        else:
            where = {"_id": record.session_id, "inc": expired.extent.inc, "expires": {"$lte": now_us}}
            if not await self._store.sessions.replace(where, document):
                return None
            await delete_contents(self._store, expired.extent.inc)
        self.remember(record.session_id, extent)
        return attrs.evolve(record, created_at_us=created_at_us, updated_at_us=now_us, version=1, last_position=0)

    async def find(self, session_id: str, now_us: int) -> SessionRecord | None:
        """Return a header with its payload, or None."""
        header = await self.header(session_id, with_payload=True)
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
        """Return one page; each header's newest batch is looked up by its index."""
        direction = -1 if query.newest_first else 1
        documents = await self._store.sessions.aggregate(
            {"$match": {**live(now_us), **_filter(query)}},
            {"$sort": {"created": direction, "_id": direction}},
            {"$limit": query.limit + 1},
            _WITHOUT_PAYLOAD,
            *self._newest,
        )
        page = documents[: query.limit]
        headers = {document["_id"]: Header.of(document) for document in page if _is_consistent(document)}
        headers |= await self.headers([document["_id"] for document in page if document["_id"] not in headers])
        found = tuple(headers[document["_id"]].session for document in page if document["_id"] in headers)
        more = len(documents) > query.limit
        cursor = (page[-1]["created"], page[-1]["_id"]) if more else None
        return Page(sessions=found, next_cursor=cursor)


def _is_consistent(document: Document) -> bool:
    """Return whether the epoch of a header was still open after its newest batch was looked up."""
    return bool(document["after"] == [{name: document[name] for name in ("inc", "epoch") if name in document}])


def _given(record: SessionRecord) -> Document:
    return {
        "user": record.user_id,
        "tags": list(record.tags),
        "ttl": record.ttl_us,
        **stored(cast("Payload", record.payload)),
    }


def _clamped(number: int) -> int:
    """Return the nearest 64-bit number: a bound beyond it means the same."""
    return max(-_LARGEST, min(number, _LARGEST))


def _filter(query: SessionQuery) -> Document:
    where: Document = {}
    if query.user_id is not None:
        where["user"] = query.user_id
    if query.tag is not None:
        where["tags"] = query.tag
    bounds: list[tuple[str, int]] = []
    if query.created_after_us is not None:
        bounds.append(("$gte", _clamped(query.created_after_us)))
    if query.created_before_us is not None:
        bounds.append(("$lt", _clamped(query.created_before_us)))
    if query.cursor is not None:
        created, beyond = _clamped(query.cursor[0]), "$lt" if query.newest_first else "$gt"
        bounds.append(("$lte" if query.newest_first else "$gte", created))  # lets the index begin there
        where["$or"] = [{"created": {beyond: created}}, {"_id": {beyond: query.cursor[1]}}]
    where.update(_conjunction("created", bounds))
    return where


def _conjunction(field: str, bounds: Sequence[tuple[str, int]]) -> Document:
    return {"$and": [{field: {operator: value}} for operator, value in bounds]} if bounds else {}


def _version_conflict(session_id: str, expected: int, actual: int) -> ConflictError:
    return ConflictError(
        backend=BACKEND,
        key=f"session {session_id!a}",
        expected=f"version {expected}" if expected else "no such session",
        actual=f"version {actual}" if actual else "no such session",
    )
