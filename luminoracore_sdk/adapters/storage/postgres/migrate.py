"""Creation, migration and version check of the PostgreSQL tables."""

import hashlib
from functools import lru_cache
from io import StringIO
from pathlib import Path

from asyncpg import DuplicateObjectError, DuplicateTableError, UndefinedColumnError, UndefinedTableError
from sqlalchemy.dialects.postgresql.base import PGDialect

from luminoracore_sdk.adapters.optional import import_extra
from luminoracore_sdk.adapters.storage.postgres.errors import BACKEND, SCHEMA_VERSION
from luminoracore_sdk.adapters.storage.postgres.options import Namespace
from luminoracore_sdk.adapters.storage.postgres.pool import Call, Record
from luminoracore_sdk.adapters.storage.sql import load_statements
from luminoracore_sdk.adapters.storage.tables import define_tables
from luminoracore_sdk.domain.errors import ConfigurationError, CorruptRecordError, SchemaVersionError

__all__ = ["MIGRATION_LOCK", "Migrator", "migrator"]

_SCRIPTS = Path(__file__).parent / "migrations"


def _lock_number(*names: str) -> int:
    digest = hashlib.sha256("\0".join(("luminoracore", *names)).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)


MIGRATION_LOCK = _lock_number("layout")
"""Number of the advisory lock on migrations, one for the database: two namespaces may need the same new schema,
and one namespace has two names, by ``schema`` and by ``search_path``."""


class Migrator:
    """Create and migrate the tables of one namespace.

    Args:
        namespace: Schema and name prefix of the tables.

    Attributes:
        tables: The tables, as SQLAlchemy constructs.
        sql: The statements on them.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        # asyncpg's style of parameters: with others, SQLAlchemy doubles a % in names
        self._dialect = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
        self.tables = define_tables(self._dialect, prefix=namespace.prefix, schema=namespace.schema)
        names = self.tables.names()
        self._version_table = names["version"]
        self.sql = load_statements(__package__ or "", tables=names, numbered=True)

    def lock_number(self, purpose: str) -> int:
        """Return the number of an advisory lock: the same in every process for one purpose and namespace."""
        return _lock_number(self._namespace.schema or "", self._namespace.prefix, purpose)

    async def is_current(self, call: Call, *, shown: str, auto_create: bool) -> bool:
        """Return whether the tables have the version of this package; if not, they may be migrated.

        Args:
            call: Not in a transaction.
            shown: The address without password, for errors.
            auto_create: Whether missing or older tables are not an error.

        Raises:
            SchemaVersionError: The tables are newer, or may not be created or migrated.
            ConfigurationError: The database is not encoded in UTF-8.
        """
        _check_encoding(call, shown=shown)
        found = await self.stored_version(call)
        if _is_current(found) or auto_create:
            return found == SCHEMA_VERSION
        raise SchemaVersionError(
            backend=BACKEND,
            found="no tables" if found is None else found,
            supported=SCHEMA_VERSION,
            hint=f"run: luminora migrate --store '{self._namespace.address(shown)}'",
        )

    async def stored_version(self, call: Call) -> int | None:
        """Return the version of the tables; None: there are none. Not for use in a transaction."""
        try:
            return self._number(await call.rows(self.sql.stored_version))
        except UndefinedTableError:  # an error costs nothing where the tables exist, which is nearly always
            return None
        except UndefinedColumnError as exc:
            raise self._in_the_way(f"table {self._version_table} has other columns") from exc

    def _number(self, rows: list[Record]) -> int:
        if len(rows) != 1 or not str(rows[0][0]).isdigit():
            key = f"table {self._version_table}"
            raise CorruptRecordError(backend=BACKEND, key=key, reason="it does not hold one version number")
        return int(rows[0][0])

    async def migrate(self, call: Call, *, shown: str) -> int:
        """Create the tables or bring them up to date, in one transaction; return their version.

        Any number of processes may do so at once: they wait for each other, and one of them does the work.

        Raises:
            SchemaVersionError: The tables are newer, or a foreign table has one of their names.
            ConfigurationError: The database is not encoded in UTF-8.
        """
        _check_encoding(call, shown=shown)
        async with call.transaction():
            await call.rows(self.sql.lock_migrations, lock=MIGRATION_LOCK)
            exists = await call.value(self.sql.table_exists, name=self._version_table)
            # an error would end the transaction
            found = await self.stored_version(call) if exists else None
            if _is_current(found):  # another process was first
                return SCHEMA_VERSION
            schema = self._namespace.schema
            if schema is not None and not await call.value(self.sql.schema_exists, name=schema):
                await call.script(f"CREATE SCHEMA {self._dialect.identifier_preparer.quote_schema(schema)}")
            try:
                await call.script(self.migration_sql(found))
            except (DuplicateTableError, DuplicateObjectError) as exc:
                raise self._in_the_way(str(exc.args[0])) from exc
            await call.rows(self.sql.store_version, version=str(SCHEMA_VERSION))
        return SCHEMA_VERSION

    def _in_the_way(self, what: str) -> SchemaVersionError:
        hint = f"{what}; use another table_name or another schema"
        return SchemaVersionError(
            backend=BACKEND, found="tables of another program", supported=SCHEMA_VERSION, hint=hint
        )

    def migration_sql(self, found: int | None) -> str:
        """Return the SQL that brings tables up to date: several statements, without a transaction of their own.

        alembic writes the SQL and asyncpg runs it, so neither a second driver nor a SQLAlchemy engine is needed,
        and a pool that was passed in serves as well.

        Args:
            found: Version of the tables; None: there are none.

        Raises:
            SchemaVersionError: No migration leads from that version to the present one.
        """
        migration = import_extra("alembic.migration", needed_by="PostgreSQLStorage", extra="postgres")
        scripts = import_extra("alembic.script", needed_by="PostgreSQLStorage", extra="postgres")
        operations = import_extra("alembic.operations", needed_by="PostgreSQLStorage", extra="postgres")
        folder = scripts.ScriptDirectory(str(_SCRIPTS), version_locations=[str(_SCRIPTS)])
        versions = sorted((int(script.revision), script.module) for script in folder.walk_revisions())
        if found is not None and found not in dict(versions):
            hint = "no migration leads from there to here"
            raise SchemaVersionError(backend=BACKEND, found=found, supported=SCHEMA_VERSION, hint=hint)
        buffer = StringIO()
        context = migration.MigrationContext.configure(
            dialect=self._dialect, opts={"as_sql": True, "output_buffer": buffer}
        )
        for version, module in versions:
            if found is None or version > found:
                module.upgrade(operations.Operations(context), self.tables)
        return buffer.getvalue()


@lru_cache(maxsize=8)
def migrator(namespace: Namespace) -> Migrator:
    """Return the migrator of a namespace, which holds the statements on its tables."""
    return Migrator(namespace)


def _check_encoding(call: Call, *, shown: str) -> None:
    """Refuse a database that is not encoded in UTF-8."""
    encoding = call.server_encoding
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database at {shown} is encoded in {encoding}; create it with ENCODING 'UTF8' TEMPLATE template0"
        )


def _is_current(found: int | None) -> bool:
    """Return whether tables have the version of this package; False: a migration would give it to them.

    Raises:
        SchemaVersionError: They are newer.
    """
    if found is not None and found > SCHEMA_VERSION:
        hint = "use a package version that is at least as new as the one that created the tables"
        raise SchemaVersionError(backend=BACKEND, found=found, supported=SCHEMA_VERSION, hint=hint)
    return found == SCHEMA_VERSION
