"""Version 1: create the tables and their indexes."""

from alembic.operations import Operations

from luminoracore_sdk.adapters.storage.tables import Tables

__all__ = ["down_revision", "revision", "upgrade"]

revision = "1"
down_revision = None


def upgrade(operations: Operations, tables: Tables) -> None:
    """Create everything; no earlier version was released."""
    for construct in tables.constructs():
        operations.execute(construct)
