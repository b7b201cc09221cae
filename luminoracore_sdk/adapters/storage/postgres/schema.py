r"""The tables of the PostgreSQL backend, as SQLAlchemy Core constructs. The migrations make them.

``sessions`` is narrow and has no index on what an append changes, so that such an update stays within its
page (HOT) and touches no index; the document of a session, which may be large, lies apart. Ids compare by
code points (collation C).

``messages`` has no foreign key: checking it costs an append of 1,000 messages 35 to 60 % (PostgreSQL 18).
Instead, whoever removes a session holds the lock on its row, which every append takes first.

Payloads that are text lie in a text column, for ``psql``; not in ``jsonb``, which refuses \u0000 and
rewrites numbers. Others lie in ``blob``. One of the two is NULL.

The memories of users are keyed by SHA-256: two ids of 512 characters do not fit one entry of a B-tree.
"""

import attrs
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql import quoted_name

from luminoracore_sdk.adapters.storage.postgres.compiled import DIALECT
from luminoracore_sdk.adapters.storage.postgres.url import Place

__all__ = ["Tables"]


def _id() -> Text:
    return Text(collation="C")


@attrs.frozen
class Tables:
    """The tables of one place.

    Attributes:
        version: One row: the version of the layout. Alembic's table, under a name of our own.
    """

    place: Place
    version: Table
    sessions: Table
    documents: Table
    messages: Table
    session_memories: Table
    user_memories: Table

    @classmethod
    def at(cls, place: Place) -> "Tables":
        """Return the tables of a place."""
        # quoted in any case, so that a name is what it is
        schema = None if place.schema is None else quoted_name(place.schema, quote=True)
        metadata = MetaData(schema=schema)
        prefix = place.prefix
        version = Column("version_num", String(32), primary_key=True)
        sessions = _sessions(metadata, prefix)
        return cls(
            place=place,
            version=Table(f"{prefix}luminora_version", metadata, version),
            sessions=sessions,
            documents=_documents(metadata, prefix, sessions),
            messages=_messages(metadata, prefix),
            session_memories=_memories(metadata, f"{prefix}session_memories", _session_key(sessions)),
            user_memories=_memories(metadata, f"{prefix}user_memories", _user_key()),
        )

    def quoted(self, table: Table) -> str:
        """Return the name of a table as SQL has it."""
        return DIALECT.identifier_preparer.format_table(table)


def _sessions(metadata: MetaData, prefix: str) -> Table:
    ttl_us: Column[int] = Column("ttl_us", BigInteger)
    return Table(
        f"{prefix}sessions",
        metadata,
        Column("sid", BigInteger, Identity(always=True), primary_key=True),
        Column("session_id", _id(), nullable=False),
        Column("user_id", _id()),
        Column("tags", ARRAY(_id()), nullable=False),
        ttl_us,
        Column("created_at_us", BigInteger, nullable=False),
        Column("updated_at_us", BigInteger, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("last_position", BigInteger, nullable=False),
        Index(f"{prefix}sessions_id", "session_id", unique=True),
        Index(f"{prefix}sessions_created", "created_at_us", "session_id"),
        Index(f"{prefix}sessions_user", "user_id", "created_at_us"),
        Index(f"{prefix}sessions_tags", "tags", postgresql_using="gin"),
        Index(f"{prefix}sessions_ttl", "ttl_us", postgresql_where=ttl_us.is_not(None)),
        postgresql_with={"fillfactor": 80},
    )


def _payload() -> tuple[Column[str], Column[str], Column[bytes]]:
    return (
        Column("tag", Text, nullable=False),
        Column("payload", Text),
        Column("blob", LargeBinary),
    )


def _documents(metadata: MetaData, prefix: str, sessions: Table) -> Table:
    return Table(
        f"{prefix}documents",
        metadata,
        Column("sid", ForeignKey(sessions.c.sid, ondelete="CASCADE"), primary_key=True),
        *_payload(),
    )


def _messages(metadata: MetaData, prefix: str) -> Table:
    return Table(
        f"{prefix}messages",
        metadata,
        Column("sid", BigInteger, primary_key=True, autoincrement=False),
        Column("position", BigInteger, primary_key=True, autoincrement=False),
        Column("message_id", _id(), nullable=False),
        Column("role", Text, nullable=False),
        Column("created_at_us", BigInteger, nullable=False),
        *_payload(),
        Index(f"{prefix}messages_id", "sid", "message_id", unique=True),
    )


def _session_key(sessions: Table) -> tuple[Column[int]]:
    return (Column("sid", ForeignKey(sessions.c.sid, ondelete="CASCADE"), primary_key=True),)


def _user_key() -> tuple[Column[bytes], Column[str]]:
    return Column("user_digest", LargeBinary, primary_key=True), Column("user_id", _id(), nullable=False)


def _memories(metadata: MetaData, name: str, owner: tuple[Column[int]] | tuple[Column[bytes], Column[str]]) -> Table:
    expires_at_us: Column[int] = Column("expires_at_us", BigInteger)
    return Table(
        name,
        metadata,
        *owner,
        Column("key", _id(), primary_key=True),
        expires_at_us,
        Column("retention", Float(53), nullable=False),
        Column("created_at_us", BigInteger, nullable=False),
        Column("updated_at_us", BigInteger, nullable=False),
        *_payload(),
        Index(f"{name}_expiry", "expires_at_us", postgresql_where=expires_at_us.is_not(None)),
    )
