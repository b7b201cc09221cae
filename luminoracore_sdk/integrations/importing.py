"""What the imports of the frameworks' own stores share; ``luminora sessions import --from`` calls them.

The module of a framework has a function ``import_history(source, storage, existing)``, which stores what the
framework's own store has and yields the id and the receipt of each session, and None and a receipt for memories that
belong to no session. The source is a path, of a SQLite file, or the URL of a PostgreSQL database. It is only read. An
import that was killed can be repeated.
"""

import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager, closing
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs

from luminoracore_sdk.adapters.codec.values import JsonCodec
from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.application.exchange.export_import import SessionExchange
from luminoracore_sdk.application.exchange.foreign import time_at
from luminoracore_sdk.application.exchange.formats import ParsedSession
from luminoracore_sdk.application.ports.records import MemoryRecord, MessageRecord
from luminoracore_sdk.domain.errors import ValidationError
from luminoracore_sdk.domain.session import Session
from luminoracore_sdk.domain.values import to_microseconds
from luminoracore_sdk.integrations.item_store import ItemStore

__all__ = ["OwnStore", "exchange_of", "opened", "parsed", "time_of"]

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 3600.0
"""The time limit of one statement, which may sort a large table."""
_DRIVER = re.compile(r"^(\s*postgres(?:ql)?)\+\w+(?=://)")
"""SQLAlchemy's name of a driver."""


@attrs.frozen(kw_only=True)
class OwnStore:
    """The store of a framework, as it was when it was opened.

    Attributes:
        name: Its file, or its address without password.
        is_server: Whether it is in PostgreSQL; else it is in a SQLite file.
        rows: Yields the rows of a statement whose parameters are ``$1``, ``$2`` …; few of them are held at a time.
    """

    name: str
    is_server: bool
    rows: Callable[..., AsyncIterator[Any]]

    async def columns(self, table: str) -> set[str]:
        """Return the columns of a table; none if there is no such table."""
        statement = _COLUMNS_OF_SERVER if self.is_server else "SELECT name FROM pragma_table_info($1)"
        return {name async for (name,) in self.rows(statement, table)}

    async def check(self, store: str, tables: Mapping[str, Collection[str]]) -> None:
        """Refuse a store of something else.

        Args:
            store: The class that writes such stores, for the error.
            tables: The columns that each table must have.

        Raises:
            ValidationError: One is missing.
        """
        for table, columns in tables.items():
            if missing := set(columns) - await self.columns(table):
                lacking = ", ".join(f"{table}.{name}" for name in sorted(missing))
                raise ValidationError(f"{self.name}: is not a store of {store}: it has no {lacking}")

    def moment(self, column: str) -> str:
        """Return the expression for a time that the database has written, in the time zone of its clients."""
        return f"{column}::timestamptz" if self.is_server else column


_COLUMNS_OF_SERVER = """
SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""


@asynccontextmanager
async def opened(source: Path | str) -> AsyncIterator[OwnStore]:
    """Open a SQLite file or a PostgreSQL database for reading; what is written to it meanwhile is not read.

    Args:
        source: A path; or a URL, also one of SQLAlchemy.

    Raises:
        ValidationError: The file is none of SQLite, or is damaged.
        ConfigurationError: The URL cannot work.
        StorageUnavailableError: The server cannot be reached, or refuses the login.
    """
    async with _opened_server(source) if isinstance(source, str) else _opened_file(source) as store:
        yield store


@asynccontextmanager
async def _opened_file(file: Path) -> AsyncIterator[OwnStore]:
    async def rows(sql: str, *given: object) -> AsyncIterator[Any]:
        for row in connection.execute(sql, {str(number): value for number, value in enumerate(given, 1)}):
            yield row

    try:
        with closing(_connected(file)) as connection:
            connection.execute("BEGIN")
            yield OwnStore(name=str(file), is_server=False, rows=rows)
    except sqlite3.DatabaseError as exc:
        raise ValidationError(f"{file}: cannot be read: {exc}") from exc


def _connected(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.resolve()))}?mode=ro", uri=True, isolation_level=None)


@asynccontextmanager
async def _opened_server(given: str) -> AsyncIterator[OwnStore]:
    import_extra("asyncpg", needed_by="an import from PostgreSQL", extra="postgres")
    from luminoracore_sdk.adapters.storage.postgres import options  # noqa: PLC0415
    from luminoracore_sdk.adapters.storage.postgres.pool import PostgresPool  # noqa: PLC0415  # imports the driver

    url, seconds = options.without_connect_timeout(_DRIVER.sub(r"\1", given))
    address = options.Address.of(url)
    limits = options.Limits(pool_size=1, connect_seconds=seconds or _CONNECT_SECONDS, call_seconds=_READ_SECONDS)
    pool = PostgresPool(limits, address=address, pool=None)
    await pool.open()
    try:
        async with pool.snapshot(address.schema) as snapshot:
            yield OwnStore(name=address.shown, is_server=True, rows=snapshot.rows)
    finally:
        await pool.close()


def time_of(value: object, place: str) -> datetime:
    """Return a time in UTC that a framework has stored, also as text.

    Raises:
        ValidationError: It is none.
    """
    found = time_at(value) if isinstance(value, str) else value
    if not isinstance(found, datetime):
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
    record = attrs.evolve(record, created_at_us=to_microseconds(session.created_at))
    return ParsedSession(record=record, messages=messages, memories=memories or [])
