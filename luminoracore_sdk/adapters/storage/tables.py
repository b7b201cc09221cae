"""The tables of both SQL backends, defined once with SQLAlchemy Core.

``sessions`` has no index on what an append changes in PostgreSQL, so that such an update stays within its page (HOT)
and touches no index; in SQLite it has two for listings by activity, which cost an append less than sorting costs a
page. The document of a session, which may be large, is in ``documents``. Ids compare by code points.

What listings show is in ``sessions`` as well, since a page of them would have to look each session up once more: the
card, the brief of two messages, and counters. In SQLite all of it is one value, ``summary``, since a page spends half
of its time on columns; ``history`` has the latest changes of stored messages and the latest lease. Both begin with a
CRC-32; NULL: nothing. ``last_change`` is the number of the newest change.

In PostgreSQL ``active`` is ``updated_at_us`` in whole minutes: it changes, and with it the indexes of listings by
activity, at most once a minute. It has the rest of a header, the summary of its messages included, in columns of
``sessions``. Those of roles count messages; ``counters`` is an object of the other numbers by name. Card and briefs are
packed as ``index_data`` is.
``changes`` lists the latest changes, the number of the newest being ``last_change``: 2p is a cut that left the position
p as the last one, 2p - 1 an update of the message at p. Until ``watched_until``, by the server's clock, statements that
change messages notify watchers; NULL: the session was never watched.

In SQLite the key of a message is one integer, ``place``: sid × 2³² + position. So the messages of a session are beside
each other, and a row may fill its page. In a table without such a key, a row above a quarter of a page has pages of its
own, so that 400 messages of 1 KB took three times as many bytes.

``messages`` has no foreign key: checking it costs an append of 1,000 messages 35 to 60 % (PostgreSQL 18).
Deleting a session takes the lock on its row instead, as every append does first.

``index_data`` of a message, which ``read_index`` returns, stands in front of its payload, so that a large payload is
not read with it: its encoding, NUL, its bytes; in SQLite behind a CRC-32 of its own.

A payload that is text is in the text column ``payload``, readable with psql and sqlite3 (not in ``jsonb``,
which refuses NUL and rewrites numbers); any other is in ``blob``. One of the two is NULL.

The memories of users are keyed by SHA-256: two ids of 512 characters do not fit one entry of a B-tree. An index on the
id itself lists users.
"""

from collections.abc import Iterator
from typing import Any

import attrs
from sqlalchemy import (
    ARRAY,
    TIMESTAMP,
    BigInteger,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import quoted_name

from luminoracore_sdk.adapters.storage.sql import DEFAULT_PREFIX

__all__ = ["Tables", "define_tables"]

_SQLITE = "sqlite"
_POSTGRESQL = "postgresql"


@attrs.frozen
class Tables:
    """The tables under one name prefix, for one dialect."""

    metadata: MetaData
    dialect: Dialect
    prefix: str

    def names(self) -> dict[str, str]:
        """Return the quoted name of each table, by its name without the prefix."""
        preparer = self.dialect.identifier_preparer
        return {
            table.name.removeprefix(self.prefix): preparer.format_table(table) for table in self.metadata.sorted_tables
        }

    def constructs(self) -> Iterator[CreateTable | CreateIndex]:
        """Yield the constructs that create the tables and their indexes, in order."""
        for table in self.metadata.sorted_tables:
            yield CreateTable(table)
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                yield CreateIndex(index)

    def ddl(self) -> Iterator[str]:
        """Yield the statements that create the tables and their indexes, in order."""
        for construct in self.constructs():
            yield str(construct.compile(dialect=self.dialect)).strip()


def define_tables(dialect: Dialect, *, prefix: str = DEFAULT_PREFIX, schema: str | None = None) -> Tables:
    """Return the tables whose names begin with a prefix.

    Args:
        dialect: Of PostgreSQL or SQLite.
        prefix: Beginning of every name.
        schema: The PostgreSQL schema; None: where the ``search_path`` leads.
    """
    # quoted in any case, so that a name is what it is
    metadata = MetaData(schema=None if schema is None else quoted_name(schema, quote=True))
    Table(f"{prefix}version", metadata, Column("version_num", String(32), primary_key=True))
    sessions = _sessions(metadata, prefix, dialect.name)
    Table(f"{prefix}documents", metadata, _session_key(sessions), *_payload(dialect.name), sqlite_with_rowid=True)
    _messages(metadata, prefix, dialect.name)
    _memories(metadata, f"{prefix}session_memories", [_session_key(sessions)], dialect.name)
    name = f"{prefix}user_memories"
    digest: Column[Any] = Column("user_digest", LargeBinary, primary_key=True)
    user = [digest, Column("user_id", _id(), nullable=False)]
    _memories(metadata, name, user, dialect.name).append_constraint(Index(f"{name}_user", "user_id"))
    return Tables(metadata, dialect, prefix)


def _id() -> Text:
    return Text().with_variant(Text(collation="C"), _POSTGRESQL)


def _number() -> BigInteger:
    return BigInteger().with_variant(Integer(), _SQLITE)


def _payload(dialect: str) -> list[Column[Any]]:
    # SQLite has no checksums of its own pages: a CRC-32 over the row; NULL means "not checked"
    checksum: list[Column[Any]] = [Column("checksum", Integer)] if dialect == _SQLITE else []
    return [*checksum, Column("encoding", Text, nullable=False), Column("payload", Text), Column("blob", LargeBinary)]


def _sqlite_summary() -> list[Column[Any]]:
    """Return the columns of ``sessions`` in SQLite that writes of messages and leases change."""
    return [
        Column("last_change", Integer, nullable=False),
        Column("summary", LargeBinary),
        Column("history", LargeBinary),
    ]


def _session_key(sessions: Table) -> Column[int]:
    return Column("sid", ForeignKey(sessions.c.sid, ondelete="CASCADE"), primary_key=True)


def _sessions(metadata: MetaData, prefix: str, dialect: str) -> Table:
    name = f"{prefix}sessions"
    tags = ARRAY(Text(collation="C")) if dialect == _POSTGRESQL else Text()
    ttl_us: Column[int] = Column("ttl_us", _number())
    table = Table(
        name,
        metadata,
        Column("sid", _number(), Identity(always=True), primary_key=True),
        Column("session_id", _id(), nullable=False),
        Column("user_id", _id()),
        Column("tags", tags, nullable=False),
        ttl_us,
        Column("created_at_us", _number(), nullable=False),
        Column("updated_at_us", _number(), nullable=False),
        Column("version", _number(), nullable=False),
        Column("last_position", _number(), nullable=False),
        *(_sqlite_summary() if dialect == _SQLITE else _postgres_summary()),
        Index(f"{name}_id", "session_id", unique=True),
        Index(f"{name}_created", "created_at_us", "session_id"),
        Index(f"{name}_user", "user_id", "created_at_us"),
        Index(f"{name}_ttl", "ttl_us", postgresql_where=ttl_us.is_not(None), sqlite_where=ttl_us.is_not(None)),
        postgresql_with={"fillfactor": 80},
    )
    if dialect == _SQLITE:
        table.append_constraint(Index(f"{name}_active", "updated_at_us", "session_id"))
        columns, has_user = ("user_id", "updated_at_us", "session_id"), table.c.user_id.is_not(None)
        table.append_constraint(Index(f"{name}_user_active", *columns, sqlite_where=has_user))
    if dialect == _POSTGRESQL:
        table.append_constraint(Index(f"{name}_active", "active"))
        table.append_constraint(Index(f"{name}_user_active", "user_id", "active"))
        table.append_constraint(Index(f"{name}_tags", "tags", postgresql_using="gin"))
    return table


def _postgres_summary() -> list[Column[Any]]:
    """Return the columns of PostgreSQL's headers that appends and other calls change without a put, and the card.

    What an append changes is in the middle: PostgreSQL logs no more than that part of a row.
    """
    return [
        Column("active", BigInteger, nullable=False),
        *(
            Column(f"{role}_messages", BigInteger, nullable=False, server_default="0")
            for role in ("user", "assistant", "system", "tool")
        ),
        Column("counters", JSONB),
        Column("last_brief_position", BigInteger),
        Column("last_brief", LargeBinary),
        Column("first_brief_position", BigInteger),
        Column("first_brief", LargeBinary),
        Column("card", LargeBinary),
        Column("changes", ARRAY(BigInteger)),
        Column("last_change", BigInteger),
        Column("fence", BigInteger),
        Column("holder", Text),
        Column("lease_until_us", BigInteger),
        Column("watched_until", TIMESTAMP(timezone=True)),
    ]


def _messages(metadata: MetaData, prefix: str, dialect: str) -> None:
    name = f"{prefix}messages"
    has_place = dialect == _SQLITE
    place = [Column("place", Integer, primary_key=True, autoincrement=False)] if has_place else []
    Table(
        name,
        metadata,
        *place,
        Column("sid", _number(), primary_key=not has_place, autoincrement=False, nullable=False),
        Column("position", _number(), primary_key=not has_place, autoincrement=False, nullable=False),
        Column("message_id", _id(), nullable=False),
        Column("role", Text, nullable=False),
        Column("created_at_us", _number(), nullable=False),
        Column("index_data", LargeBinary),
        *_payload(dialect),
        Index(f"{name}_id", "sid", "message_id", unique=True),
    )


def _memories(metadata: MetaData, name: str, owner: list[Column[Any]], dialect: str) -> Table:
    expires_at_us: Column[int] = Column("expires_at_us", _number())
    ends = expires_at_us.is_not(None)
    return Table(
        name,
        metadata,
        *owner,
        Column("key", _id(), primary_key=True),
        expires_at_us,
        Column("retention", Float(53), nullable=False),
        Column("created_at_us", _number(), nullable=False),
        Column("updated_at_us", _number(), nullable=False),
        Column("version", _number(), nullable=False),
        *_payload(dialect),
        Index(f"{name}_expiry", "expires_at_us", postgresql_where=ends, sqlite_where=ends),
        sqlite_with_rowid=False,
    )
