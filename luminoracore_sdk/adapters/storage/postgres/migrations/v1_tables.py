"""The first layout; postgres_schema.py says why it is so."""

from typing import Any

import sqlalchemy as sa
from alembic.operations import Operations

__all__ = ["down_revision", "revision", "upgrade"]

Columns = tuple[sa.Column[Any], ...]

revision = "1"
down_revision = None


def upgrade(operations: Operations, schema: str | None, prefix: str) -> None:
    """Make the tables and their indexes."""
    sessions = _sessions(operations, schema, prefix)
    operations.create_table(
        f"{prefix}documents",
        sa.Column("sid", sa.ForeignKey(sessions.c.sid, ondelete="CASCADE"), primary_key=True),
        *_payload(),
        schema=schema,
    )
    operations.create_table(
        f"{prefix}messages",
        sa.Column("sid", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("message_id", sa.Text(collation="C"), nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        *_payload(),
        schema=schema,
    )
    operations.create_index(
        f"{prefix}messages_id", f"{prefix}messages", ["sid", "message_id"], unique=True, schema=schema
    )
    session = sa.ForeignKey(sessions.c.sid, ondelete="CASCADE")
    of_session: Columns = (sa.Column("sid", session, primary_key=True),)
    _memories(operations, schema, f"{prefix}session_memories", of_session)
    of_user: Columns = (
        sa.Column("user_digest", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", sa.Text(collation="C"), nullable=False),
    )
    _memories(operations, schema, f"{prefix}user_memories", of_user)


def _sessions(operations: Operations, schema: str | None, prefix: str) -> sa.Table:
    name = f"{prefix}sessions"
    sessions = operations.create_table(
        name,
        sa.Column("sid", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("session_id", sa.Text(collation="C"), nullable=False),
        sa.Column("user_id", sa.Text(collation="C")),
        sa.Column("tags", sa.ARRAY(sa.Text(collation="C")), nullable=False),
        sa.Column("ttl_us", sa.BigInteger),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("updated_at_us", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("last_position", sa.BigInteger, nullable=False),
        schema=schema,
        postgresql_with={"fillfactor": 80},
    )
    operations.create_index(f"{name}_id", name, ["session_id"], unique=True, schema=schema)
    operations.create_index(f"{name}_created", name, ["created_at_us", "session_id"], schema=schema)
    operations.create_index(f"{name}_user", name, ["user_id", "created_at_us"], schema=schema)
    operations.create_index(f"{name}_tags", name, ["tags"], postgresql_using="gin", schema=schema)
    with_ttl = sa.text("ttl_us IS NOT NULL")
    operations.create_index(f"{name}_ttl", name, ["ttl_us"], postgresql_where=with_ttl, schema=schema)
    return sessions


def _memories(operations: Operations, schema: str | None, name: str, owner: Columns) -> None:
    operations.create_table(
        name,
        *owner,
        sa.Column("key", sa.Text(collation="C"), primary_key=True),
        sa.Column("expires_at_us", sa.BigInteger),
        sa.Column("retention", sa.Float(53), nullable=False),
        sa.Column("created_at_us", sa.BigInteger, nullable=False),
        sa.Column("updated_at_us", sa.BigInteger, nullable=False),
        *_payload(),
        schema=schema,
    )
    that_end = sa.text("expires_at_us IS NOT NULL")
    operations.create_index(f"{name}_expiry", name, ["expires_at_us"], postgresql_where=that_end, schema=schema)


def _payload() -> Columns:
    return (
        sa.Column("tag", sa.Text, nullable=False),
        sa.Column("payload", sa.Text),
        sa.Column("blob", sa.LargeBinary),
    )
