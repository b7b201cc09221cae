"""Headers of sessions: put, find, delete, list."""

from collections.abc import Collection, Sequence
from typing import cast

import attrs
from bson import ObjectId

from luminoracore_sdk.adapters.storage.mongodb.closing import begun, close, close_damaged
from luminoracore_sdk.adapters.storage.mongodb.documents import Header, live, stored
from luminoracore_sdk.adapters.storage.mongodb.driver import Document
from luminoracore_sdk.adapters.storage.mongodb.errors import BACKEND, DuplicateKey
from luminoracore_sdk.adapters.storage.mongodb.schema import Collections
from luminoracore_sdk.adapters.storage.mongodb.sweep import sweep_session
from luminoracore_sdk.application.ports.records import Page, Payload, SessionQuery, SessionRecord
from luminoracore_sdk.domain.errors import ConflictError, CorruptRecordError, SessionNotFoundError

__all__ = ["Sessions", "clamped", "moved"]

_WITHOUT_PAYLOAD: Document = {"$unset": ["payload", "tag"]}
_LARGEST = 2**63 - 1


def clamped(number: int) -> int:
    """Return the nearest 64-bit number: a bound beyond it means the same."""
    return max(-_LARGEST, min(number, _LARGEST))


def moved(updated_at_us: int) -> list[Document]:
    """Return the change of a header by which its session lives on from a moment."""
    expires: Document = {"$cond": [{"$ne": ["$ttl", None]}, {"$add": ["$updated", "$ttl"]}, "$$REMOVE"]}
    return [
        {"$set": {"updated": {"$max": ["$updated", updated_at_us]}}},
        {"$set": {"expires": expires}},
    ]


class Sessions:
    """The headers of one store; see ``SessionStorage`` for what the calls do."""

    def __init__(self, store: Collections) -> None:
        self._store = store
        self._newest: Document = {
            "$lookup": {
                "from": store.messages.name,
                "localField": "inc",
                "foreignField": "inc",
                "let": {"open": "$open"},
                "pipeline": [
                    {"$match": {"$expr": {"$eq": ["$h", "$$open"]}}},
                    {"$sort": {"inc": -1, "h": -1, "first": -1}},
                    {"$limit": 1},
                    {"$project": {"_id": 0, "last": 1, "at": 1, "closed": 1}},
                ],
                "as": "newest",
            }
        }

    async def header(self, session_id: str, *, with_payload: bool = False) -> Header | None:
        """Return a session's header, expired or not, and where its messages end."""
        stages: list[Document] = [{"$match": {"_id": session_id}}]
        if not with_payload:
            stages.append(_WITHOUT_PAYLOAD)
        found = await self._store.sessions.aggregate(*stages, self._newest)
        return Header.of(found[0]) if found else None

    async def headers(self, session_ids: Collection[str]) -> dict[str, Header]:
        """Return the headers of sessions, expired or not; those that are not there are left out."""
        wanted: Document = {"$match": {"_id": {"$in": sorted(session_ids)}}}
        found = await self._store.sessions.aggregate(wanted, _WITHOUT_PAYLOAD, self._newest)
        return {document["_id"]: Header.of(document) for document in found}

    async def existing(self, session_id: str, now_us: int) -> Header:
        """Return a live session's header; SessionNotFoundError when there is none."""
        header = await self.header(session_id)
        if header is None or not header.is_live(now_us):
            raise SessionNotFoundError(session_id, backend=BACKEND)
        return header

    async def put(self, record: SessionRecord, expected_version: int | None, now_us: int) -> SessionRecord:
        """Create or replace a header; what is read first is checked again by the write itself."""
        while True:
            header = await self.header(record.session_id)
            live = header if header is not None and header.is_live(now_us) else None
            version = live.session.version if live else 0
            if expected_version is not None and expected_version != version:
                raise _version_conflict(record.session_id, expected_version, version)
            if live:
                written = await self._replace(live, record, expected_version, now_us)
            else:
                written = await self._begin(header, record, now_us)
            if written is not None:
                return written

    async def _replace(
        self, header: Header, record: SessionRecord, expected_version: int | None, now_us: int
    ) -> SessionRecord | None:
        """Replace what the caller says of a live session; None: it is another one by now.

        Who appends without a look at the header relies on it that the session cannot expire; so before it is
        given a time to live, the history is closed.
        """
        where: Document = {"_id": record.session_id, "inc": header.inc}
        closing = record.ttl_us is not None and header.session.ttl_us is None
        if closing:
            where["open"] = header.open
            if not await close(self._store, header, now_us):
                return None
        elif record.ttl_us is not None:
            where["ttl"] = {"$ne": None}
        if expected_version is not None:
            where["version"] = expected_version
        change: Document = {name: {"$literal": value} for name, value in _given(record).items()}
        change["version"] = {"$add": ["$version", 1]}
        changed = await self._store.sessions.find_and_update(
            where,
            [
                {"$set": change},
                *([begun(header.segments)] if closing else []),
                *moved(max(now_us, header.session.updated_at_us)),
            ],
            {"created": 1, "updated": 1, "version": 1},
        )
        if changed is None:
            return None
        return attrs.evolve(
            record,
            created_at_us=changed["created"],
            updated_at_us=changed["updated"],
            version=changed["version"],
            last_position=header.last,
        )

    async def _begin(self, expired: Header | None, record: SessionRecord, now_us: int) -> SessionRecord | None:
        """Write the header of a new session; None: another writer was faster."""
        created_at_us = record.created_at_us or now_us
        document = {
            "_id": record.session_id,
            **_given(record),
            "created": created_at_us,
            "updated": now_us,
            "version": 1,
            "inc": ObjectId(),
            "open": ObjectId(),
            "sealed": [],
        }
        if record.ttl_us is not None:
            document["expires"] = now_us + record.ttl_us
        if expired is None:
            try:
                await self._store.sessions.insert(document)
            except DuplicateKey:
                return None
        else:
            where = {"_id": record.session_id, "inc": expired.inc, "expires": {"$lte": now_us}}
            if not await self._store.sessions.replace(where, document):
                return None
            await sweep_session(self._store, expired.inc, now_us)
        return attrs.evolve(record, created_at_us=created_at_us, updated_at_us=now_us, version=1, last_position=0)

    async def find(self, session_id: str, now_us: int) -> SessionRecord | None:
        """Return a header with its payload, or None."""
        header = await self.header(session_id, with_payload=True)
        return header.session if header is not None and header.is_live(now_us) else None

    async def delete(self, session_id: str, now_us: int) -> bool:
        """Delete a session: with its header it is gone, the rest is tidied up behind it."""
        while True:
            where: Document = {"_id": session_id, **live(now_us)}
            found = await self._store.sessions.aggregate({"$match": where}, _WITHOUT_PAYLOAD, self._newest)
            if not found:
                return False
            try:
                if not await close(self._store, Header.of(found[0]), now_us):
                    continue
            except CorruptRecordError:
                await close_damaged(self._store, found[0], now_us)
            where |= {name: found[0].get(name) for name in ("inc", "open")}
            if await self._store.sessions.delete(where):
                await sweep_session(self._store, where["inc"], now_us)
                return True

    async def reopen(self, header: Header) -> None:
        """Begin a new history behind one that was closed by somebody who went no further."""
        where: Document = {"_id": header.session.session_id, "inc": header.inc, "open": header.open}
        await self._store.sessions.update(where, [begun(header.segments), *moved(header.session.updated_at_us)])

    async def query(self, query: SessionQuery, now_us: int) -> Page:
        """Return one page; each header's newest batch is looked up by its index."""
        direction = -1 if query.newest_first else 1
        documents = await self._store.sessions.aggregate(
            {"$match": {**live(now_us), **_filter(query)}},
            {"$sort": {"created": direction, "_id": direction}},
            {"$limit": query.limit + 1},
            _WITHOUT_PAYLOAD,
            self._newest,
        )
        found = [Header.of(document).session for document in documents[: query.limit]]
        more = len(documents) > query.limit
        cursor = (found[-1].created_at_us, found[-1].session_id) if more else None
        return Page(sessions=tuple(found), next_cursor=cursor)


def _given(record: SessionRecord) -> Document:
    return {
        "user": record.user_id,
        "tags": list(record.tags),
        "ttl": record.ttl_us,
        **stored(cast("Payload", record.payload)),
    }


def _filter(query: SessionQuery) -> Document:
    where: Document = {}
    if query.user_id is not None:
        where["user"] = query.user_id
    if query.tag is not None:
        where["tags"] = query.tag
    bounds: list[tuple[str, int]] = []
    if query.created_after_us is not None:
        bounds.append(("$gte", clamped(query.created_after_us)))
    if query.created_before_us is not None:
        bounds.append(("$lt", clamped(query.created_before_us)))
    if query.cursor is not None:
        created, beyond = clamped(query.cursor[0]), "$lt" if query.newest_first else "$gt"
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
