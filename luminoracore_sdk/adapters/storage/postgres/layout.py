"""Makes the tables of a new database, brings older ones up to date, and checks their version."""

import hashlib
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.storage.postgres.call import Call
from luminoracore_sdk.adapters.storage.postgres.compiled import DIALECT
from luminoracore_sdk.adapters.storage.postgres.driver import PostgresError, Row
from luminoracore_sdk.adapters.storage.postgres.errors import BACKEND, SCHEMA_VERSION
from luminoracore_sdk.adapters.storage.postgres.schema import Tables
from luminoracore_sdk.adapters.storage.postgres.statements import Statements
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError, SchemaVersionError

__all__ = [
    "LAYOUT_LOCK",
    "check_encoding",
    "is_current",
    "lock_number",
    "migrate",
    "migration_sql",
    "refused",
    "stored_version",
]

_SCRIPTS = Path(__file__).parent / "migrations"
_NO_SUCH_TABLE = "42P01"
_TABLE_EXISTS = "42P07"


def _lock_number(*names: str) -> int:
    digest = hashlib.sha256("\0".join(("luminoracore", *names)).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


LAYOUT_LOCK = _lock_number("layout")
"""Number of the advisory lock on migrations, one for the database: two places may need the same new schema,
and one place has two names, by ``schema`` and by ``search_path``."""


async def stored_version(call: Call, sql: Statements) -> int | None:
    """Return the version of the layout; None: there are no tables. Not for use in a transaction."""
    try:
        return _number(await call.rows(sql.version), sql)
    except PostgresError as exc:  # one round trip where there are tables, which is nearly always
        if getattr(exc, "sqlstate", None) != _NO_SUCH_TABLE:
            raise
        return None


async def _locked_version(call: Call, sql: Statements) -> int | None:
    """Return the same within a transaction, which an error would end."""
    found = await call.row(sql.table_exists, name=sql.tables.quoted(sql.tables.version))
    return _number(await call.rows(sql.version), sql) if found and found[0] else None


def _number(rows: Sequence[Row], sql: Statements) -> int:
    if len(rows) != 1 or not str(rows[0][0]).isdigit():
        key = f"table {sql.tables.version.name!a}"
        raise CorruptRecordError(backend=BACKEND, key=key, reason="it does not hold one version number")
    return int(rows[0][0])


def check_encoding(call: Call, *, shown: str) -> None:
    """Refuse a database that does not keep its texts in UTF-8."""
    encoding = call.connection.get_settings().server_encoding
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database at {shown} keeps its texts in {encoding}; create it with ENCODING 'UTF8' TEMPLATE template0"
        )


def is_current(found: int | None) -> bool:
    """Tell whether tables are of our version; False: a migration would make them so.

    Raises:
        SchemaVersionError: They are of a newer one.
    """
    if found is not None and found > SCHEMA_VERSION:
        hint = "use a package version that is at least as new as the one that made the tables"
        raise SchemaVersionError(backend=BACKEND, found=found, supported=SCHEMA_VERSION, hint=hint)
    return found == SCHEMA_VERSION


def refused(found: int | None, sql: Statements, *, shown: str) -> SchemaVersionError:
    """Return the error that names the command which would help."""
    return SchemaVersionError(
        backend=BACKEND,
        found="no tables" if found is None else found,
        supported=SCHEMA_VERSION,
        hint=f"run: luminora migrate --store '{sql.tables.place.address(shown)}'",
    )


async def migrate(call: Call, sql: Statements) -> None:
    """Make the tables, or bring them up to date, in one transaction.

    Any number of processes may do so at once: they wait for each other, and one of them does the work.

    Raises:
        SchemaVersionError: The tables are of a newer version, or the names are taken by tables of others.
    """
    async with call.transaction():
        await call.rows(sql.lock_layout, lock=LAYOUT_LOCK)
        found = await _locked_version(call, sql)
        if is_current(found):  # another process was first
            return
        schema = sql.tables.place.schema
        if schema is not None and not await call.row(sql.schema_exists, name=schema):
            name = DIALECT.identifier_preparer.quote_schema(schema)
            await call.script(f"CREATE SCHEMA {name}")
        await _execute(call, migration_sql(sql.tables, found=found))


async def _execute(call: Call, script: str) -> None:
    try:
        await call.script(script)
    except PostgresError as exc:
        if getattr(exc, "sqlstate", None) != _TABLE_EXISTS:
            raise
        hint = "give the storage a table_prefix or a schema of its own"
        raise SchemaVersionError(
            backend=BACKEND, found="tables of others", supported=SCHEMA_VERSION, hint=f"{exc.args[0]}; {hint}"
        ) from exc


def migration_sql(tables: Tables, *, found: int | None) -> str:
    """Return the SQL that brings tables up to date: several statements, without a transaction of their own.

    Alembic writes the SQL and asyncpg runs it, so that no second driver and no SQLAlchemy engine is needed,
    and a pool that was passed in serves as well.

    Args:
        tables: Which.
        found: Their version; None: there are none.

    Raises:
        SchemaVersionError: There is no way from that version.
    """
    migration = import_extra("alembic.migration", needed_by="PostgreSQLStorage", extra="postgres")
    scripts = import_extra("alembic.script", needed_by="PostgreSQLStorage", extra="postgres")
    operations = import_extra("alembic.operations", needed_by="PostgreSQLStorage", extra="postgres")
    util = import_extra("alembic.util", needed_by="PostgreSQLStorage", extra="postgres")
    folder = scripts.ScriptDirectory(str(_SCRIPTS), version_locations=[str(_SCRIPTS)])
    buffer = StringIO()
    context = migration.MigrationContext.configure(
        dialect=DIALECT,
        opts={
            "as_sql": True,
            "output_buffer": buffer,
            "script": folder,
            "starting_rev": None if found is None else str(found),
            "fn": lambda revision, _: folder._upgrade_revs(str(SCHEMA_VERSION), revision),  # noqa: SLF001
            "version_table": tables.version.name,
            "version_table_schema": tables.version.schema,
        },
    )
    try:
        context.run_migrations(
            operations=operations.Operations(context),
            schema=tables.version.schema,
            prefix=tables.place.prefix,
        )
    except util.CommandError as exc:
        hint = "no migration leads from there to here"
        raise SchemaVersionError(backend=BACKEND, found=found, supported=SCHEMA_VERSION, hint=hint) from exc
    return buffer.getvalue()


def lock_number(purpose: str, sql: Statements) -> int:
    """Return the number of an advisory lock: the same in every process for one purpose and place."""
    place = sql.tables.place
    return _lock_number(place.schema or "", place.prefix, purpose)
