"""``LuminoraSessionStore``: the transcripts of the Claude Agent SDK, on every backend."""

# pyright: reportMissingImports=false

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import attrs

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.ports.records import (
    MAX_BATCH,
    MAX_PAGE,
    MessageRange,
    MessageRecord,
    SessionQuery,
    SessionRecord,
)
from luminoracore_sdk.domain.errors import ConflictError, ValidationError
from luminoracore_sdk.domain.json_value import JSONObject
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.integrations.item_store import ItemStore, Storage, composed_id, stable_id, text_place

if TYPE_CHECKING:
    from claude_agent_sdk.types import (
        SessionKey,
        SessionListSubkeysKey,
        SessionStoreEntry,
        SessionStoreListEntry,
        SessionSummaryEntry,
    )

__all__ = ["LuminoraSessionStore"]

_ROLES = {"user": "user", "assistant": "assistant"}
_ATTRIBUTE = "claude_agent_sdk"


class LuminoraSessionStore:
    """Keeps transcripts and their summaries; implements the protocol ``claude_agent_sdk.SessionStore``.

    A transcript is a session whose id is ``project/session`` or ``project/session/subpath``, in which slashes of a part
    are escaped. The ``uuid`` of an entry is the id of its message, so that an entry is stored once. A summary folds
    each entry once, in the order in which they are stored, whichever processes append them; one that a killed process
    left behind is completed when it is listed.

    Args:
        storage: A storage, which stays open, or its configuration or URL; see ``ItemStore``.

    Raises:
        MissingDependencyError: The extra ``claude-agent-sdk`` is not installed.
    """

    def __init__(self, storage: Storage) -> None:
        sdk = import_extra("claude_agent_sdk", needed_by="LuminoraSessionStore", extra="claude-agent-sdk")
        self._fold = sdk.fold_session_summary
        self._items = ItemStore(storage, "claude-agent-sdk")
        self._storage = self._items.storage

    async def append(self, key: "SessionKey", entries: "list[SessionStoreEntry]") -> None:
        """Append entries, without those whose ``uuid`` is stored already.

        Raises:
            SessionNotFoundError: The session was erased less than a day ago.
        """
        session_id = _id_of(key)
        distinct: dict[str, MessageRecord] = {}
        for record in map(self._record, entries):
            distinct.setdefault(record.message_id, record)
        records = list(distinct.values())
        await self._items.append(session_id, records, begun=lambda session: self._begun(session, key))
        if records and not key.get("subpath"):
            await self._summarize(session_id)

    async def load(self, key: "SessionKey") -> "list[SessionStoreEntry] | None":
        """Return the entries of a transcript, or None if there is none."""
        session_id = _id_of(key)
        return await self._items.items(session_id, await self._items.read(session_id)) or None

    async def list_sessions(self, project_key: str) -> "list[SessionStoreListEntry]":
        """Return the sessions of a project, the last changed first, with the time of that change.

        The SDK sorts them by these times and keeps the order of equal ones.
        """
        listed = [one async for one in self._listed(_project_tag(project_key))]
        return [
            {"session_id": document["session"], "mtime": record.updated_at_us // 1000}
            for record, document in sorted(listed, key=_newest_first)
        ]

    async def list_session_summaries(self, project_key: str) -> "list[SessionSummaryEntry]":
        """Return the summaries of a project's sessions, the last changed first; no entry is read."""
        found: list[tuple[SessionRecord, JSONObject]] = []
        async for record, document in self._listed(_project_tag(project_key)):
            if document["folded"] == record.last_position:
                found.append((record, document))
                continue
            await self._summarize(record.session_id)  # the process that appended was killed
            if (header := await self._storage.find_session(record.session_id)) is not None:
                found.append((header, self._document_of(header)))
        return [_summary(record, document) for record, document in sorted(found, key=_newest_first)]

    async def delete(self, key: "SessionKey") -> None:
        """Delete a transcript; without a ``subpath`` those of its subagents too."""
        if not key.get("subpath"):
            async for record, _ in self._listed(_session_tag(key)):
                await self._storage.delete_session(record.session_id)
        await self._storage.delete_session(_id_of(key))

    async def list_subkeys(self, key: "SessionListSubkeysKey") -> list[str]:
        """Return the subpaths of a session."""
        return [document["subpath"] async for _, document in self._listed(_session_tag(key))]

    async def close(self) -> None:
        """Close the storage, if it was made here."""
        await self._items.close()

    def _begun(self, session: Session, key: "SessionKey") -> Session:
        """Return a session with what finds it again."""
        subpath = key.get("subpath") or None
        tag = _project_tag(key["project_key"]) if subpath is None else _session_tag(key)
        document = {"session": key["session_id"], "subpath": subpath, "folded": 0, "summary": {}}
        tagged = attrs.evolve(session, config=attrs.evolve(session.config, tags=(*session.config.tags, tag)))
        return tagged if self._items.document(session) else self._with_document(tagged, document)

    def _with_document(self, session: Session, document: JSONObject) -> Session:
        """Return a session with another document, which listings show if it is small enough."""
        try:
            config = attrs.evolve(session.config, attributes={_ATTRIBUTE: document})
        except ValidationError:
            config = attrs.evolve(session.config, attributes={})
        return self._items.with_document(attrs.evolve(session, config=config), document)

    async def _summarize(self, session_id: str) -> None:
        """Fold the entries that the summary of a session does not have yet, under compare-and-set."""
        while (header := await self._storage.find_session(session_id)) is not None:
            session = self._items.services.codec.session(header, backend=self._storage.backend)
            document = self._items.document(session)
            if document is None or document["folded"] == header.last_position:
                return
            if document["folded"] > header.last_position:  # another program has removed some
                document = {**document, "folded": 0, "summary": {}}
            records = await self._items.read(session_id, MessageRange(after=document["folded"], limit=MAX_BATCH))
            if not records:
                return
            key = {"project_key": "", "session_id": document["session"]}
            before = {"session_id": document["session"], "mtime": 0, "data": document["summary"]}
            folded = self._fold(before, key, await self._items.items(session_id, records))
            document = {**document, "folded": records[-1].position, "summary": folded["data"]}
            record = self._items.services.codec.session_record(self._with_document(session, document))
            try:
                await self._storage.put_session(record, expected_version=header.version)
            except ConflictError:
                continue
            if document["folded"] == header.last_position:
                return

    async def _listed(self, tag: str) -> AsyncIterator[tuple[SessionRecord, JSONObject]]:
        """Yield the headers that have a tag, with their documents."""
        query: SessionQuery | None = SessionQuery(tag=tag, limit=MAX_PAGE)
        while query is not None:
            page = await self._storage.query_sessions(query)
            query = None if page.next_cursor is None else attrs.evolve(query, cursor=page.next_cursor)
            for record in page.sessions:
                summary = self._items.services.codec.summary(record, backend=self._storage.backend)
                document = summary.attributes.get(_ATTRIBUTE)
                if document is None and (header := await self._storage.find_session(record.session_id)) is not None:
                    document = self._document_of(header)
                if document is not None:
                    yield record, document

    def _document_of(self, header: SessionRecord) -> Any:
        return self._items.document(self._items.services.codec.session(header, backend=self._storage.backend))

    def _record(self, entry: Any) -> MessageRecord:
        place = text_place(entry, "message", "content") or text_place(entry, "content")
        uuid = entry.get("uuid")
        return self._items.record(
            entry,
            role=_ROLES.get(str(entry.get("type")), "system"),
            place=place,
            message_id=uuid if isinstance(uuid, str) and uuid else None,
        )


def _id_of(key: "SessionKey") -> str:
    subpath = key.get("subpath")
    return composed_id(key["project_key"], key["session_id"], *([subpath] if subpath else []))


def _newest_first(listed: tuple[SessionRecord, JSONObject]) -> int:
    return -listed[0].updated_at_us


def _summary(record: SessionRecord, document: JSONObject) -> "SessionSummaryEntry":
    return {
        "session_id": document["session"],
        "mtime": record.updated_at_us // 1000,
        "data": document["summary"],
    }


def _project_tag(project_key: str) -> str:
    return stable_id(f"claude-project:{project_key}")


def _session_tag(key: "SessionKey | SessionListSubkeysKey") -> str:
    return stable_id(f"claude-session:{composed_id(key['project_key'], key['session_id'])}")
