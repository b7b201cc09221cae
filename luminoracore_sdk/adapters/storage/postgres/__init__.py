"""The PostgreSQL backend."""

from luminoracore_sdk.adapters.storage.postgres.storage import PostgreSQLStorage

__all__ = ["PostgreSQLStorage"]
