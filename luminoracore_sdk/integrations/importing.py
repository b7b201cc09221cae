"""What the imports of the frameworks' own stores share; ``luminora sessions import --from`` calls them.

The module of a framework has a function ``import_history(file, storage, existing)``, which stores what a file has and
yields the id and the receipt of each session. The file is only read. An import that was killed can be repeated.
"""

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.application.exchange.export_import import SessionExchange
from luminoracore_sdk.application.exchange.foreign import time_at
from luminoracore_sdk.application.exchange.formats import ParsedSession
from luminoracore_sdk.application.ports.records import MemoryRecord, MessageRecord
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.integrations.item_store import ItemStore

__all__ = ["columns_of", "exchange_of", "opened", "parsed", "time_of"]


@contextmanager
def opened(file: Path, store: str, tables: Mapping[str, Collection[str]]) -> Iterator[sqlite3.Connection]:
    """Open a SQLite file for reading, as it is now; what is written to it meanwhile is not read.

    Args:
        file: The file.
        store: The class that writes such files, for the error.
        tables: The columns that each table must have.

    Raises:
        ValidationError: It is no such file, or is damaged.
    """
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True, isolation_level=None)
        ) as connection:
            connection.execute("BEGIN")
            for table, columns in tables.items():
                if missing := set(columns) - columns_of(connection, table):
                    lacking = ", ".join(f"{table}.{name}" for name in sorted(missing))
                    raise ValidationError(f"{file}: is not a file of {store}: it has no {lacking}")
            yield connection
    except sqlite3.DatabaseError as exc:
        raise ValidationError(f"{file}: is not a file of {store}: {exc}") from exc


def columns_of(connection: sqlite3.Connection, table: str) -> set[str]:
    """Return the columns of a table; none if there is no such table."""
    return {name for (name,) in connection.execute("SELECT name FROM pragma_table_info(?)", (table,))}


def time_of(value: object, place: str) -> datetime:
    """Return a time in UTC that a framework has stored as text.

    Raises:
        ValidationError: It is none.
    """
    found = time_at(value) if isinstance(value, str) else None
    if found is None:
        raise ValidationError(f"{place}: has no time")
    return found


def exchange_of(items: ItemStore) -> SessionExchange:
    """Return the use cases of import for the storage of items."""
    return SessionExchange(storage=items.storage, services=items.services, values=JsonCodec())


def parsed(
    items: ItemStore, session: Session, messages: list[MessageRecord], memories: list[MemoryRecord] | None = None
) -> ParsedSession:
    """Return a session, ready to be written."""
    record = items.services.codec.session_record(session)
    return ParsedSession(record=record, messages=messages, memories=memories or [])
