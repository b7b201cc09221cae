"""``luminora migrate``: create the tables of a store, or migrate old ones."""

from typing import Protocol, runtime_checkable

import attrs

from luminoracore_sdk.bootstrap.config import StorageConfig, StorageType
from luminoracore_sdk.bootstrap.factory import create_storage
from luminoracore_sdk.cli.context import CommandContext
from luminoracore_sdk.cli.stores import NoStoreError, missing_path, untouched, without_wrappers
from luminoracore_sdk.domain.errors import SchemaVersionError

__all__ = ["migrate"]

_SQL = (StorageType.SQLITE, StorageType.POSTGRES)


@runtime_checkable
class MigratingStorage(Protocol):
    """A storage with tables that can be migrated."""

    async def migrate(self) -> int:
        """Create or migrate the tables; return the version of the layout."""
        ...


def migrate(context: CommandContext) -> None:
    """Create the tables of a store, or migrate old ones."""
    # without wrappers, which do not support migration
    storage = without_wrappers(context.container.settings().storage)
    path = missing_path(storage)
    if path is not None and storage.storage_type not in _SQL:
        raise NoStoreError(path)
    before = "no tables" if path is not None else context.run(_found(untouched(storage)))
    after = context.run(_migrated(storage))
    if context.options.as_json:
        context.write_json({"store": context.store_name, "before": before, "after": after})
    elif storage.storage_type not in _SQL:
        context.say(f"a {storage.storage_type!s} store has no tables to migrate; its layout is at version {after}")
    elif before == after:
        context.say(f"schema version {after} is current; nothing was changed")
    else:
        context.say(f"schema version: {before} before, {after} now")


async def _found(config: StorageConfig) -> object:
    """Return the version of a store's tables, or a description if it has none."""
    try:
        async with create_storage(config) as storage:
            return await storage.schema_version()
    except SchemaVersionError as exc:
        return exc.found


async def _migrated(config: StorageConfig) -> int:
    if config.storage_type in _SQL:
        config = attrs.evolve(config, auto_create_tables=True)
    storage = create_storage(config)
    if isinstance(storage, MigratingStorage):
        try:
            return await storage.migrate()
        finally:
            await storage.close()
    async with storage:
        return await storage.schema_version()
