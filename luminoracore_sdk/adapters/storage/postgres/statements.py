"""The statements of the PostgreSQL backend on sessions, as SQLAlchemy constructs, each compiled once."""

from functools import lru_cache
from typing import Any

import attrs
from sqlalchemy import (
    delete,
    func,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from luminoracore_sdk.adapters.storage.postgres.compiled import (
    ONE,
    ZERO,
    Statement,
    blob,
    holds_old,
    new_payload,
    number,
    text,
    texts,
)
from luminoracore_sdk.adapters.storage.postgres.memory_statements import MemoryStatements
from luminoracore_sdk.adapters.storage.postgres.message_statements import MessageStatements
from luminoracore_sdk.adapters.storage.postgres.schema import Tables
from luminoracore_sdk.adapters.storage.postgres.url import Place
from luminoracore_sdk.application.ports.records import SessionQuery

__all__ = ["Statements", "statements"]


@attrs.frozen
class _Filters:
    by_user: bool
    by_tag: bool
    since: bool
    until: bool
    resumed: bool
    newest_first: bool


class Statements:
    """Every statement over one set of tables.

    Those that depend on the time take ``now``: what has expired then counts as absent.
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        sessions = tables.sessions
        self._this = sessions.c.session_id == text("session")
        end = sessions.c.updated_at_us + sessions.c.ttl_us
        self._is_live = or_(sessions.c.ttl_us.is_(None), end > number("now"))
        self._header = (
            *(sessions.c.session_id, sessions.c.user_id, sessions.c.tags, sessions.c.ttl_us),
            *(sessions.c.created_at_us, sessions.c.updated_at_us, sessions.c.version),
            sessions.c.last_position,
        )
        self._layout()
        self._puts()
        self._sessions()
        self.messages = MessageStatements(tables.messages, sessions, this=self._this, is_live=self._is_live)
        live = select(sessions.c.sid).where(sessions.c.session_id == text("owner"), self._is_live)
        self.memories = {
            "session": MemoryStatements.of_sessions(tables.session_memories, live),
            "user": MemoryStatements.of_users(tables.user_memories),
        }
        self._compiled_listing = lru_cache(maxsize=64)(self._listing)

    def _layout(self) -> None:
        self.ping = Statement.of(select(ONE))
        self.version = Statement.of(select(self.tables.version.c.version_num))
        self.table_exists = Statement.of(select(func.to_regclass(text("name")).is_not(None)))
        namespace = func.to_regnamespace(func.quote_ident(text("name")))
        self.schema_exists = Statement.of(select(ONE).where(namespace.is_not(None)))
        self.lock_layout = Statement.of(select(func.pg_advisory_xact_lock(number("lock"))))

    # -- sessions --------------------------------------------------------------------------------

    def _puts(self) -> None:
        """Make the puts: unconditional, of a new session, of an existing one.

        Their parameters are ``session``, ``user``, ``labels``, ``ttl``, ``created``, ``now``, ``make``,
        ``data``, ``bytes`` and, for an existing one, ``expected``. They return id, time of creation, last
        change, version and last position, or nothing when they do not apply.
        """
        sessions = self.tables.sessions
        new = upsert(sessions).values(
            session_id=text("session"),
            user_id=text("user"),
            tags=texts("labels"),
            ttl_us=number("ttl"),
            created_at_us=number("created"),
            updated_at_us=number("now"),
            version=ONE,
            last_position=ZERO,
        )
        changed: dict[str, Any] = {
            "user_id": text("user"),
            "tags": texts("labels"),
            "ttl_us": number("ttl"),
            "updated_at_us": func.greatest(number("now"), sessions.c.updated_at_us),
            "version": sessions.c.version + ONE,
        }
        either = new.on_conflict_do_update(index_elements=["session_id"], set_=changed, where=self._is_live)
        only_new = new.on_conflict_do_nothing(index_elements=["session_id"])
        expected = sessions.c.version == number("expected")
        only_old = update(sessions).where(self._this, self._is_live, expected).values(changed)
        self.put = self._with_document(either)
        self.put_new = self._with_document(only_new)
        self.put_existing = self._with_document(only_old)

    def _with_document(self, put: Any) -> Statement:
        sessions, documents = self.tables.sessions, self.tables.documents
        returned = (
            *(sessions.c.sid, sessions.c.created_at_us, sessions.c.updated_at_us, sessions.c.version),
            sessions.c.last_position,
        )
        head = put.returning(*returned).cte("head")
        given = select(head.c.sid, text("make"), text("data"), blob("bytes"))
        document = upsert(documents).from_select(["sid", "tag", "payload", "blob"], given)
        new = document.excluded
        replaced = document.on_conflict_do_update(
            index_elements=["sid"], set_={"tag": new.tag, "payload": new.payload, "blob": new.blob}
        )
        return Statement.of(select(*head.c).add_cte(replaced.cte("document")))

    def _sessions(self) -> None:
        sessions, documents = self.tables.sessions, self.tables.documents
        both = sessions.outerjoin(documents, documents.c.sid == sessions.c.sid)
        self.header = Statement.of(
            select(*self._header, documents.c.tag, documents.c.payload, documents.c.blob)
            .select_from(both)
            .where(self._this, self._is_live)
        )
        self.rewrite = Statement.of(
            update(documents)
            .where(documents.c.sid == sessions.c.sid, self._this, self._is_live, holds_old(documents))
            .values(new_payload())
            .returning(ONE.label("one"))
        )
        standing = select(sessions.c.sid, sessions.c.version, sessions.c.last_position, self._is_live.label("is_live"))
        self.lock = Statement.of(standing.where(self._this).with_for_update(key_share=True))
        self.delete = Statement.of(
            delete(sessions).where(self._this).returning(sessions.c.sid, self._is_live.label("is_live"))
        )
        self.delete_sid = Statement.of(delete(sessions).where(sessions.c.sid == number("sid_")))
        end = sessions.c.updated_at_us + sessions.c.ttl_us
        gone = (
            select(sessions.c.sid)
            .where(sessions.c.ttl_us.is_not(None), end <= number("now"))
            .limit(number("count"))
            .with_for_update(skip_locked=True)  # another process is removing it, or using it
            .cte("gone")
        )
        self.purge = Statement.of(
            delete(sessions).where(sessions.c.sid.in_(select(gone.c.sid))).returning(sessions.c.sid)
        )

    def listing(self, query: SessionQuery) -> Statement:
        """Return the statement for a query's filters; it selects headers without payload.

        Its parameters, as far as the query has them, are ``now``, ``user``, ``label``, ``since``,
        ``until``, ``cursor_time``, ``cursor_id`` and ``count``.
        """
        return self._compiled_listing(
            _Filters(
                by_user=query.user_id is not None,
                by_tag=query.tag is not None,
                since=query.created_after_us is not None,
                until=query.created_before_us is not None,
                resumed=query.cursor is not None,
                newest_first=query.newest_first,
            )
        )

    def _listing(self, listing: _Filters) -> Statement:
        sessions = self.tables.sessions
        found = select(*self._header).where(self._is_live)
        if listing.by_user:
            found = found.where(sessions.c.user_id == text("user"))
        if listing.by_tag:
            found = found.where(sessions.c.tags.contains(texts("label")))
        if listing.since:
            found = found.where(sessions.c.created_at_us >= number("since"))
        if listing.until:
            found = found.where(sessions.c.created_at_us < number("until"))
        order = (sessions.c.created_at_us, sessions.c.session_id)
        if listing.resumed:
            cursor = tuple_(number("cursor_time"), text("cursor_id"))
            found = found.where(tuple_(*order) < cursor if listing.newest_first else tuple_(*order) > cursor)
        found = found.order_by(*(part.desc() if listing.newest_first else part for part in order))
        return Statement.of(found.limit(number("count")))


@lru_cache(maxsize=8)
def statements(place: Place) -> Statements:
    """Return the statements over the tables of a place."""
    return Statements(Tables.at(place))
