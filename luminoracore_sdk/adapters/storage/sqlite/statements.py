"""The statements of the SQLite backend, as SQLAlchemy constructs, each compiled once."""

from functools import lru_cache
from typing import Any

import attrs
from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    update,
    values,
)
from sqlalchemy.dialects.sqlite import insert as upsert

from luminoracore_sdk.adapters.storage.sqlite.compiled import (
    ONE,
    SESSION,
    ZERO,
    Statement,
    at_most_count,
    number,
    text,
)
from luminoracore_sdk.adapters.storage.sqlite.schema import Tables
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
        self.version = Statement.of(select(tables.meta.c.schema_version))
        self.set_version = Statement.of(insert(tables.meta))
        self._sessions()
        self._messages()
        self._memories()
        self._compiled_append = lru_cache(maxsize=32)(self._append)
        self._compiled_listing = lru_cache(maxsize=64)(self._listing)
        for size in (1, 2):  # a message, a turn
            self.append(size, conditional=False)
            self.append(size, conditional=True)

    # -- sessions --------------------------------------------------------------------------------

    def _sessions(self) -> None:
        sessions = self.tables.sessions
        self._last = self.tables.messages.alias("last")
        self._with_last = _with_newest(sessions, self.tables.messages, self._last)
        self._last_position = func.coalesce(self._last.c.position, ZERO)
        activity = func.max(sessions.c.updated_at_us, func.coalesce(self._last.c.appended_at_us, ZERO))
        end = activity + sessions.c.ttl_us
        self._is_live = or_(sessions.c.ttl_us.is_(None), end > number("now"))
        self._columns = (
            *(sessions.c.session_id, sessions.c.user_id, sessions.c.tags, sessions.c.ttl_us),
            *(sessions.c.created_at_us, activity, sessions.c.version, self._last_position),
        )
        this = sessions.c.session_id == text("session")
        header = select(*self._columns, sessions.c.checksum, sessions.c.tag, sessions.c.payload)
        self.header = Statement.of(header.select_from(self._with_last).where(this, self._is_live))
        self.standing = Statement.of(self._live(sessions.c.created_at_us, sessions.c.version, activity).where(this))
        self._session_writes(this)
        expired = select(sessions.c.session_id).select_from(self._with_last)
        self.expired = Statement.of(expired.where(sessions.c.ttl_us.is_not(None), end <= number("now")))

    def _session_writes(self, this: ColumnElement[bool]) -> None:
        sessions = self.tables.sessions
        written: dict[str, ColumnElement[Any]] = {
            "user_id": text("user"),
            "tags": text("labels"),
            "ttl_us": number("ttl"),
            "updated_at_us": func.max(number("now"), sessions.c.updated_at_us),
            "checksum": number("crc"),
            "tag": text("make"),
            "payload": text("data"),
        }
        self.insert_session = Statement.of(
            insert(sessions).values(
                **{
                    **written,
                    "session_id": text("session"),
                    "created_at_us": number("created"),
                    "updated_at_us": number("now"),
                    "version": ONE,
                }
            )
        )
        self.update_session = Statement.of(
            update(sessions).where(this).values(version=sessions.c.version + ONE, **written)
        )
        self.touch = Statement.of(update(sessions).where(this).values(updated_at_us=written["updated_at_us"]))
        self.delete_session = Statement.of(delete(sessions).where(this))

    def _live(self, *columns: ColumnElement[Any]) -> Select[Any]:
        """Select columns and the last position of the sessions that are live."""
        return select(*columns, self._last_position).select_from(self._with_last).where(self._is_live)

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
        found = select(*self._columns).select_from(self._with_last).where(self._is_live)
        if listing.by_user:
            found = found.where(sessions.c.user_id == text("user"))
        if listing.by_tag:
            labels = func.json_each(sessions.c.tags).table_valued("value")
            found = found.where(exists().select_from(labels).where(labels.c.value == text("label")))
        if listing.since:
            found = found.where(sessions.c.created_at_us >= number("since"))
        if listing.until:
            found = found.where(sessions.c.created_at_us < number("until"))
        place = tuple_(sessions.c.created_at_us, sessions.c.session_id)
        cursor = tuple_(number("cursor_time"), text("cursor_id"))
        if listing.resumed:
            found = found.where(place < cursor if listing.newest_first else place > cursor)
        order = (sessions.c.created_at_us, sessions.c.session_id)
        found = found.order_by(*(part.desc() if listing.newest_first else part for part in order))
        return Statement.of(at_most_count(found))

    # -- messages --------------------------------------------------------------------------------

    def append(self, size: int, *, conditional: bool) -> Statement:
        """Return the append of a batch, as one statement; it returns the new positions.

        Its parameters are ``session``, ``now``, with a condition ``expected``, and, numbered from 0,
        ``id_``, ``role_``, ``time_``, ``crc_``, ``make_`` and ``data_``.
        """
        return self._compiled_append(size, conditional)

    def _append(self, size: int, conditional: bool) -> Statement:  # noqa: FBT001 - the key of a cache
        messages = self.tables.messages
        names = ("message_id", "role", "created_at_us", "checksum", "tag", "payload")
        batch = (
            values(column("number", Integer), *(column(name) for name in names), name="batch")
            .data([(literal_column(str(index + 1)), *_message(index)) for index in range(size)])
            .cte("batch")
        )
        position = self._last_position + batch.c.number
        appended_at = func.max(number("now"), func.coalesce(self._last.c.appended_at_us, ZERO))
        found = (
            select(self.tables.sessions.c.session_id, position, appended_at, *list(batch.c)[1:])
            .select_from(self._with_last.join(batch, true()))
            .where(self.tables.sessions.c.session_id == text("session"), self._is_live)
        )
        if conditional:
            found = found.where(self._last_position == number("expected"))
        target = ["session_id", "position", "appended_at_us", *names]
        return Statement.of(insert(messages).from_select(target, found).returning(messages.c.position))

    def _messages(self) -> None:
        messages, sessions = self.tables.messages, self.tables.sessions
        ids = func.json_each(text("ids")).table_valued("value")
        is_one = and_(messages.c.session_id == text("session"), messages.c.message_id == ids.c.value)
        # a lookup for each id: as a join, SQLite would go through the whole session
        self.known = Statement.of(select(ids.c.value, select(messages.c.position).where(is_one).scalar_subquery()))
        within = and_(
            messages.c.session_id == sessions.c.session_id,
            messages.c.position > number("after"),
            messages.c.position < number("before"),
        )
        read = select(
            *(messages.c.position, messages.c.message_id, messages.c.role, messages.c.created_at_us),
            *(messages.c.checksum, messages.c.tag, messages.c.payload),
        )
        read = read.select_from(self._with_last.outerjoin(messages, within)).where(
            sessions.c.session_id == text("session"), self._is_live
        )
        self.read_oldest = Statement.of(at_most_count(read.order_by(messages.c.position)))
        self.read_newest = Statement.of(at_most_count(read.order_by(messages.c.position.desc())))
        self.truncate = Statement.of(
            delete(messages).where(messages.c.session_id == text("session"), messages.c.position > number("after"))
        )

    # -- memory ----------------------------------------------------------------------------------

    def _memories(self) -> None:
        memories = self.tables.memories
        within = and_(memories.c.scope_kind == text("kind"), memories.c.scope_id == text("owner"))
        ends = memories.c.expires_at_us
        there = and_(
            within,
            or_(ends.is_(None), ends > number("now")),
            or_(
                text("kind") != SESSION,
                exists(self._live().where(self.tables.sessions.c.session_id == text("owner"))),
            ),
        )
        this = memories.c.key == text("name")
        found = select(
            *(memories.c.key, ends, memories.c.retention, memories.c.created_at_us),
            *(memories.c.updated_at_us, memories.c.checksum, memories.c.tag, memories.c.payload),
        )
        self.memory = Statement.of(found.where(there, this))
        self.list_memories = Statement.of(found.where(there).order_by(memories.c.created_at_us, memories.c.key))
        self.put_memory = Statement.of(_replacing(memories))
        self.delete_memory = Statement.of(delete(memories).where(there, this))
        self.clear_memories = Statement.of(delete(memories).where(there))
        self.drop_memories = Statement.of(delete(memories).where(within))
        self.drop_expired = Statement.of(delete(memories).where(ends <= number("now")))
        others = select(memories.c.key).where(within, memories.c.key != text("name"))
        ranked = others.order_by(memories.c.retention.desc(), memories.c.updated_at_us.desc(), memories.c.key.desc())
        surplus = ranked.limit(literal_column("-1")).offset(number("others"))
        self.evict = Statement.of(delete(memories).where(within, memories.c.key.in_(surplus)))
        gone = and_(within, ends <= number("now"), memories.c.key != text("name"))
        self.drop_gone = Statement.of(delete(memories).where(gone))


@lru_cache(maxsize=8)
def statements(prefix: str) -> Statements:
    """Return the statements over the tables with that prefix."""
    return Statements(Tables.named(prefix))


def _with_newest(sessions: Table, messages: Table, last: FromClause) -> FromClause:
    """Join each session with its newest message, found through the primary key."""
    any_message = messages.alias("any_message")
    newest = select(func.max(any_message.c.position)).where(any_message.c.session_id == sessions.c.session_id)
    is_newest = and_(last.c.session_id == sessions.c.session_id, last.c.position == newest.scalar_subquery())
    return sessions.outerjoin(last, is_newest)


def _replacing(memories: Table) -> ClauseElement:
    """Put a memory; what it replaces hands on its time of creation, unless that had expired."""
    put = upsert(memories)
    before_ends = memories.c.expires_at_us
    new = put.excluded
    kept = {name: new[name] for name in ("expires_at_us", "retention", "updated_at_us", "checksum", "tag", "payload")}
    created = func.iif(before_ends <= new.updated_at_us, new.created_at_us, memories.c.created_at_us)
    return put.on_conflict_do_update(
        index_elements=["scope_kind", "scope_id", "key"], set_={**kept, "created_at_us": created}
    ).returning(memories.c.created_at_us)


def _message(index: int) -> tuple[ColumnElement[Any], ...]:
    """Return the parameters of one message of a batch."""
    kinds = {"id_": Text, "role_": Text, "time_": Integer, "crc_": Integer, "make_": Text, "data_": Text}
    return tuple(bindparam(f"{name}{index}", type_=kind()) for name, kind in kinds.items())
