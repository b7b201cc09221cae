"""The SQLite backend."""

from luminoracore_sdk.adapters.storage.sqlite.storage import SQLiteStorage

__all__ = ["SQLiteStorage"]
