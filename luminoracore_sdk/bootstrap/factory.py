"""``create_storage``: from a configuration or a URL to a storage."""

from collections.abc import Callable

from luminoracore_sdk.adapters.encryption.keyring import Keyring, KeySource
from luminoracore_sdk.adapters.optimizer.optimizer import Optimizer as OwnOptimizer
from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.adapters.storage.sql import DEFAULT_PREFIX
from luminoracore_sdk.adapters.wrappers.encrypted import EncryptedStorageWrapper
from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper
from luminoracore_sdk.adapters.wrappers.retrying import RetryingStorage
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.bootstrap.config import StorageConfig, StorageType, storage_config_from_url
from luminoracore_sdk.domain.errors import ConfigurationError

__all__ = ["create_storage"]

Builder = Callable[[StorageConfig, Clock | None], SessionStorage]


def _memory(_: StorageConfig, clock: Clock | None) -> SessionStorage:
    return InMemoryStorage(clock=clock)


def _json(config: StorageConfig, clock: Clock | None) -> SessionStorage:
    from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage  # noqa: PLC0415  # optional driver

    return JSONFileStorage(config.path, clock=clock)


def _sqlite(config: StorageConfig, clock: Clock | None) -> SessionStorage:
    from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage  # noqa: PLC0415  # optional driver

    return SQLiteStorage(
        config.path,
        clock=clock,
        table_prefix=f"{config.table_name}_" if config.table_name else DEFAULT_PREFIX,
        auto_create=config.auto_create_tables,
    )


def _postgres(config: StorageConfig, clock: Clock | None) -> SessionStorage:
    from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage  # noqa: PLC0415  # optional driver

    return PostgreSQLStorage(
        config.url,
        clock=clock,
        table_prefix=f"{config.table_name}_" if config.table_name else "",
        auto_create=config.auto_create_tables,
    )


def _redis(config: StorageConfig, clock: Clock | None) -> SessionStorage:
    from luminoracore_sdk.adapters.storage.redis import RedisStorage  # noqa: PLC0415  # optional driver

    return RedisStorage(config.url, db=config.redis_db or None, prefix=config.redis_prefix, clock=clock)


def _mongodb(config: StorageConfig, clock: Clock | None) -> SessionStorage:
    from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage  # noqa: PLC0415  # optional driver

    prefix = f"{config.table_name}_" if config.table_name else ""
    return MongoDBStorage(config.url, collection_prefix=prefix, clock=clock)


_BUILDERS: dict[StorageType, Builder] = {
    StorageType.MEMORY: _memory,
    StorageType.JSON: _json,
    StorageType.SQLITE: _sqlite,
    StorageType.POSTGRES: _postgres,
    StorageType.REDIS: _redis,
    StorageType.MONGODB: _mongodb,
}


def create_storage(
    config: StorageConfig | str | None = None,
    optimizer: Optimizer | None = None,
    *,
    keys: KeySource | None = None,
    clock: Clock | None = None,
) -> SessionStorage:
    """Make a storage. Nothing is opened or created before its first use.

    What stands over the backend, outermost first: retry, optimize, encrypt.

    Args:
        config: A StorageConfig or a URL (``sqlite:///file``, ``postgresql://host/database`` …; see
            ``storage_config_from_url``); None: memory.
        optimizer: With one, an ``OptimizedStorageWrapper`` stands over the backend.
        keys: A ``Keyring``, or a callable that returns one when the storage is opened. With keys an
            ``EncryptedStorageWrapper`` stands over the backend. None: with ``encryption_enabled`` they are
            those of ``Keyring.from_environment``, read now; without it nothing is encrypted.
        clock: Tells the time; the computer's own when None.

    Raises:
        UnsupportedStorageTypeError: Storage type not supported; lists the valid ones.
        MissingDependencyError: The backend's driver is not installed; says what to install.
        ConfigurationError: The configuration cannot work, or there are no keys.
    """
    if config is None:
        config = StorageConfig()
    elif isinstance(config, str):
        config = storage_config_from_url(config)
    elif not isinstance(config, StorageConfig):
        raise ConfigurationError(f"create_storage takes a StorageConfig or a URL, not {type(config).__name__}")
    storage = _BUILDERS[config.storage_type](config, clock)
    if keys is None and config.encryption_enabled:
        keys = Keyring.from_environment()
    if keys is not None:
        storage = EncryptedStorageWrapper(storage, keys, required=config.encryption_required)
    if optimizer is None and config.compression_enabled:
        optimizer = OwnOptimizer()
    if optimizer is not None:
        storage = OptimizedStorageWrapper(storage, optimizer)
    if config.retry_attempts > 1:
        storage = RetryingStorage(storage, attempts=config.retry_attempts)
    return storage
