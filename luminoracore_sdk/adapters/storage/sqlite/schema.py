"""The tables of the SQLite backend, as SQLAlchemy Core constructs.

The last position and the last activity of a session are no columns: they are read from its newest
message through the primary key, in O(log n), so that an append writes nothing but its messages.

Payload columns are declared TEXT and hold TEXT where the payload is text (readable with the sqlite3
shell), BLOB otherwise; SQLite keeps either as it is.

``checksum`` is a CRC-32 over what the caller wrote into the row. NULL means "not checked": set it so after
editing a row by hand.
"""

from collections.abc import Iterator

import attrs
from sqlalchemy import (
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.schema import CreateIndex, CreateTable

__all__ = ["DIALECT", "SCHEMA_VERSION", "Tables"]

SCHEMA_VERSION = 1

DIALECT = sqlite.dialect(paramstyle="qmark")


@attrs.frozen
class Tables:
    """The tables under one name prefix."""

    metadata: MetaData
    meta: Table
    sessions: Table
    messages: Table
    memories: Table

    @classmethod
    def named(cls, prefix: str) -> "Tables":
        """Return the tables whose names begin with the prefix."""
        metadata = MetaData()
        sessions = _sessions(metadata, prefix)
        return cls(
            metadata=metadata,
            meta=Table(f"{prefix}meta", metadata, Column("schema_version", Integer, nullable=False)),
            sessions=sessions,
            messages=_messages(metadata, prefix, sessions),
            memories=_memories(metadata, prefix),
        )

    def names(self) -> list[str]:
        """Return the names of the tables."""
        return [table.name for table in self.metadata.sorted_tables]

    def ddl(self) -> Iterator[str]:
        """Yield the statements that make the tables and their indexes, in order."""
        for table in self.metadata.sorted_tables:
            yield str(CreateTable(table).compile(dialect=DIALECT))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                yield str(CreateIndex(index).compile(dialect=DIALECT))


def _sessions(metadata: MetaData, prefix: str) -> Table:
    ttl_us: Column[int] = Column("ttl_us", Integer)
    return Table(
        f"{prefix}sessions",
        metadata,
        Column("session_id", Text, primary_key=True),
        Column("user_id", Text),
        Column("tags", Text, nullable=False),
        ttl_us,
        Column("created_at_us", Integer, nullable=False),
        Column("updated_at_us", Integer, nullable=False),
        Column("version", Integer, nullable=False),
        Column("checksum", Integer),
        Column("tag", Text, nullable=False),
        Column("payload", Text, nullable=False),
        Index(f"{prefix}sessions_created", "created_at_us", "session_id"),
        Index(f"{prefix}sessions_user", "user_id", "created_at_us", "session_id"),
        Index(f"{prefix}sessions_ttl", "ttl_us", sqlite_where=ttl_us.is_not(None)),
    )


def _messages(metadata: MetaData, prefix: str, sessions: Table) -> Table:
    return Table(
        f"{prefix}messages",
        metadata,
        Column("session_id", Text, ForeignKey(sessions.c.session_id, ondelete="CASCADE"), primary_key=True),
        Column("position", Integer, primary_key=True, autoincrement=False),
        Column("message_id", Text, nullable=False),
        Column("role", Text, nullable=False),
        Column("created_at_us", Integer, nullable=False),
        Column("appended_at_us", Integer, nullable=False),
        Column("checksum", Integer),
        Column("tag", Text, nullable=False),
        Column("payload", Text, nullable=False),
        UniqueConstraint("session_id", "message_id"),
        sqlite_with_rowid=False,
    )


def _memories(metadata: MetaData, prefix: str) -> Table:
    expires_at_us: Column[int] = Column("expires_at_us", Integer)
    return Table(
        f"{prefix}memories",
        metadata,
        Column("scope_kind", Text, primary_key=True),
        Column("scope_id", Text, primary_key=True),
        Column("key", Text, primary_key=True),
        expires_at_us,
        Column("retention", Float, nullable=False),
        Column("created_at_us", Integer, nullable=False),
        Column("updated_at_us", Integer, nullable=False),
        Column("checksum", Integer),
        Column("tag", Text, nullable=False),
        Column("payload", Text, nullable=False),
        Index(
            f"{prefix}memories_retention",
            *("scope_kind", "scope_id", "retention", "updated_at_us", "key"),
        ),
        Index(f"{prefix}memories_expiry", "expires_at_us", sqlite_where=expires_at_us.is_not(None)),
    )
