"""Makes the tables of a new database, and checks the version of an existing one."""

import sqlite3
from collections.abc import Sequence

from luminoracore_sdk.adapters.storage.sqlite.errors import BACKEND
from luminoracore_sdk.adapters.storage.sqlite.file import SQLiteFile, transaction
from luminoracore_sdk.adapters.storage.sqlite.schema import SCHEMA_VERSION
from luminoracore_sdk.adapters.storage.sqlite.statements import Statements
from luminoracore_sdk.domain.errors import CorruptRecordError, SchemaVersionError

__all__ = ["open_file", "stored_version"]


def open_file(file: SQLiteFile, sql: Statements, *, auto_create: bool) -> sqlite3.Connection:
    """Connect for writing to a database that has the tables.

    Any number of processes may do this to a new file at once: one of them makes the tables, the others
    wait for it.

    Args:
        file: Which database.
        sql: The statements, which know the tables.
        auto_create: Whether to make the file and the tables where there are none.

    Raises:
        SchemaVersionError: Tables of another version, of somebody else, or none and not to be made.
        sqlite3.Error: As SQLite gives it.
    """
    if auto_create:
        file.create()
    elif not file.path.exists():
        raise _refused("no database file", _HINT_CREATE)
    connection = file.connect()
    try:
        _make_or_check(connection, file, sql, auto_create=auto_create)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_or_check(connection: sqlite3.Connection, file: SQLiteFile, sql: Statements, *, auto_create: bool) -> None:
    there = _has_tables(connection, sql)
    if there:
        _check_version(connection, sql)
    elif not auto_create:
        raise _refused("no tables", _HINT_CREATE)
    file.switch_to_wal(connection)  # stays in the file, so not before the checks
    if not there:
        _create(connection, sql)
        _check_version(connection, sql)


def _check_version(connection: sqlite3.Connection, sql: Statements) -> None:
    found = stored_version(connection, sql)
    if found != SCHEMA_VERSION:
        raise _refused(found, "use the package version that made it, or export and import the sessions")


def stored_version(connection: sqlite3.Connection, sql: Statements) -> int:
    """Return the schema version that the database says it has.

    Raises:
        CorruptRecordError: It does not say.
    """
    row = sql.version.row(connection)
    if row is None or type(row[0]) is not int:
        raise CorruptRecordError(backend=BACKEND, key=f"table {sql.tables.meta.name!a}", reason="it has no version")
    version: int = row[0]
    return version


_HINT_CREATE = "create it by opening the storage once with auto_create=True"


def _create(connection: sqlite3.Connection, sql: Statements) -> None:
    with transaction(connection):
        if _has_tables(connection, sql):  # another process made them while this one waited for the lock
            return
        for statement in sql.tables.ddl():
            connection.execute(statement)
        sql.set_version.change(connection, schema_version=SCHEMA_VERSION)


def _has_tables(connection: sqlite3.Connection, sql: Statements) -> bool:
    """Tell whether our tables are there.

    Raises:
        SchemaVersionError: Some of the names are taken by tables of another make.
    """
    expected = sql.tables.names()
    marks = ", ".join("?" * len(expected))
    found = connection.execute(
        f"SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ({marks})",  # noqa: S608 - marks only
        expected,
    ).fetchall()
    if not found:
        return False
    if len(found) < len(expected) or not _is_meta(connection, sql.tables.meta.name):
        raise _refused(f"foreign tables ({_listed(found)})", "give the storage a table_prefix of its own")
    return True


def _is_meta(connection: sqlite3.Connection, table: str) -> bool:
    columns = connection.execute("SELECT name FROM pragma_table_info(?)", (table,)).fetchall()
    return columns == [(b"schema_version",)]


def _listed(rows: Sequence[tuple[bytes]]) -> str:
    return ", ".join(sorted(row[0].decode() for row in rows))


def _refused(found: object, hint: str) -> SchemaVersionError:
    return SchemaVersionError(backend=BACKEND, found=found, supported=SCHEMA_VERSION, hint=hint)
