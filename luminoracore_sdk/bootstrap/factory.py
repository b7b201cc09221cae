"""``create_storage`` and ``shared_storage``: create a storage from a configuration or a URL."""

from importlib import import_module
from types import FunctionType
from typing import TYPE_CHECKING, Any

import attrs

from luminoracore_sdk.adapters.storage.memory import InMemoryStorage
from luminoracore_sdk.application.ports.clock import Clock
from luminoracore_sdk.application.ports.embedding import Embedder
from luminoracore_sdk.application.ports.optimizer import Optimizer
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.bootstrap.config import StorageConfig, StorageType, storage_config_from_url
from luminoracore_sdk.domain.errors import ConfigurationError

if TYPE_CHECKING:
    from luminoracore_sdk.adapters.encryption.keyring import KeySource

__all__ = ["create_storage", "shared_storage"]


def _create_backend(config: StorageConfig, clock: Clock | None) -> SessionStorage:
    """Return the backend; it is imported here, where it is needed."""
    option = "collection_prefix" if config.storage_type is StorageType.MONGODB else "table_prefix"
    prefix: Any = {option: f"{config.table_name}_"} if config.table_name else {}  # else the backend's default
    match config.storage_type:
        case StorageType.JSON:
            from luminoracore_sdk.adapters.storage.json_file import JSONFileStorage  # noqa: PLC0415

            return JSONFileStorage(config.path, clock=clock)
        case StorageType.SQLITE:
            from luminoracore_sdk.adapters.storage.sqlite import SQLiteStorage  # noqa: PLC0415

            return SQLiteStorage(config.path, clock=clock, auto_create=config.auto_create_tables, **prefix)
        case StorageType.POSTGRES:
            from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage  # noqa: PLC0415
            from luminoracore_sdk.adapters.storage.postgres.options import without_connect_timeout  # noqa: PLC0415

            url, seconds = without_connect_timeout(config.url)
            limit: Any = {} if seconds is None else {"connect_timeout": seconds}
            return PostgreSQLStorage(url, clock=clock, auto_create=config.auto_create_tables, **limit, **prefix)
        case StorageType.REDIS:
            from luminoracore_sdk.adapters.storage.redis import RedisStorage  # noqa: PLC0415

            return RedisStorage(config.url, db=config.redis_db or None, prefix=config.redis_prefix, clock=clock)
        case StorageType.MONGODB:
            from luminoracore_sdk.adapters.storage.mongodb import MongoDBStorage  # noqa: PLC0415

            return MongoDBStorage(config.url, clock=clock, **prefix)
        case _:
            return InMemoryStorage(clock=clock)


def create_storage(
    config: StorageConfig | str | None = None,
    optimizer: Optimizer | None = None,
    *,
    keys: "KeySource | None" = None,
    clock: Clock | None = None,
    search: str | None = None,
    embedder: Embedder | None = None,
) -> SessionStorage:
    """Create a storage; nothing is opened or created on disk or servers before its first use.

    Wrappers are put over the backend in this order, outermost first: search, retrying, compression,
    encryption.

    Args:
        config: A StorageConfig or a URL (``sqlite:///file``, ``postgresql://host/database`` …; see
            ``storage_config_from_url``); None: memory.
        optimizer: Compresses records; the result is then an ``OptimizedStorageWrapper``, unless it retries.
        keys: A ``Keyring``, or a callable that returns one when the storage is opened; records are then
            encrypted by an ``EncryptedStorageWrapper``. None: with ``encryption_enabled`` the keys are read
            now by ``Keyring.from_environment``; without it nothing is encrypted.
        clock: Tells the time; the system clock when None.
        search: Replaces ``StorageConfig.search``.
        embedder: Makes the vectors of semantic search; None: that of ``StorageConfig.search_embedder``.

    Raises:
        UnsupportedStorageTypeError: Storage type not supported; the error lists the valid types.
        MissingDependencyError: The backend's driver is not installed; the error says what to install.
        ConfigurationError: The configuration cannot work, or there are no keys.
    """
    config = _checked(config, search, embedder)
    return _wrapped(_create_backend(config, clock), config, optimizer, keys, embedder)


def shared_storage(
    config: StorageConfig | str | None = None,
    optimizer: Optimizer | None = None,
    *,
    keys: "KeySource | None" = None,
    clock: Clock | None = None,
    search: str | None = None,
    embedder: Embedder | None = None,
) -> SessionStorage:
    """Create a storage that any number of event loops and threads may use at once.

    Its calls run on an event loop of the package's own, on one thread for each process. A forked process opens
    the storage anew at its first call; one in memory continues there with a copy. A cancelled call is cancelled on that
    loop, and its end is awaited.

    Args:
        config: See ``create_storage``.
        optimizer: See ``create_storage``.
        keys: See ``create_storage``; a callable runs on that event loop.
        clock: See ``create_storage``.
        search: See ``create_storage``.
        embedder: See ``create_storage``; it runs on that event loop.

    Raises:
        ConfigurationError: See ``create_storage``; so do the other errors.
    """
    from luminoracore_sdk.adapters.shared_storage import share  # noqa: PLC0415

    checked = _checked(config, search, embedder)
    first = _create_backend(checked, clock)

    def make() -> SessionStorage:
        backend = first if isinstance(first, InMemoryStorage) else _create_backend(checked, clock)
        return _wrapped(backend, checked, optimizer, keys, embedder)

    return share(make)


def _checked(config: StorageConfig | str | None, search: str | None, embedder: Embedder | None) -> StorageConfig:
    if config is None:
        config = StorageConfig()
    if isinstance(config, str):
        config = storage_config_from_url(config)
    if not isinstance(config, StorageConfig):
        raise ConfigurationError(f"create_storage takes a StorageConfig or a URL, not {type(config).__name__}")
    if search is not None:
        config = attrs.evolve(config, search=search)
    if embedder is not None and config.search != "semantic":
        raise ConfigurationError('an embedder is used by search="semantic" only')
    return config


def _embedder(config: StorageConfig, given: Embedder | None) -> Embedder:
    """Return the embedder of semantic search."""
    if given is None and config.search_embedder is None:
        from luminoracore_sdk.adapters.embedders import WordLlamaEmbedder  # noqa: PLC0415

        return WordLlamaEmbedder()
    found: Embedder = _named(config.search_embedder or "") if given is None else given
    needed = ("model_id", "dimension", "embed_passages", "embed_query")
    if missing := [name for name in needed if not hasattr(found, name)]:
        kind = type(found).__name__
        raise ConfigurationError(f"an embedder of type {kind} has no {', '.join(missing)}; see search.Embedder")
    return found


def _named(name: str) -> Any:
    """Return what ``module:name`` names, or what it returns if it is a class or function."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(import_module(module), attribute)
        return found() if isinstance(found, type | FunctionType) else found
    except (ImportError, AttributeError, TypeError, ValueError) as exc:
        raise ConfigurationError(f"search_embedder {name!a:.80} cannot be imported: {exc}") from exc


def _wrapped(
    storage: SessionStorage,
    config: StorageConfig,
    optimizer: Optimizer | None,
    keys: "KeySource | None",
    embedder: Embedder | None,
) -> SessionStorage:
    if keys is not None or config.encryption_enabled:
        storage = _encrypted(storage, keys, required=config.encryption_required)
    if optimizer is not None or config.compression_enabled:
        storage = _compressed(storage, optimizer)
    if config.retry_attempts > 1:
        from luminoracore_sdk.adapters.wrappers.retrying import RetryingStorage  # noqa: PLC0415

        storage = RetryingStorage(storage, attempts=config.retry_attempts)
    if config.search is not None:
        storage = _searched(storage, config, embedder)
    return storage


def _searched(storage: SessionStorage, config: StorageConfig, embedder: Embedder | None) -> SessionStorage:
    from luminoracore_sdk.adapters.analysis import make_analyzer  # noqa: PLC0415
    from luminoracore_sdk.adapters.codec.entities import JsonEntityCodec  # noqa: PLC0415
    from luminoracore_sdk.adapters.wrappers.searching import SearchWrapper  # noqa: PLC0415
    from luminoracore_sdk.application.ports.searching import Search  # noqa: PLC0415
    from luminoracore_sdk.domain.recall.ranking import Weights  # noqa: PLC0415

    weights = Weights(recency=config.search_recency, importance=config.search_importance)
    search = Search(analyzer=make_analyzer(config.search_language), weights=weights)
    if config.search == "semantic":
        from luminoracore_sdk.adapters.vectors import numpy_cosines  # noqa: PLC0415

        search = attrs.evolve(search, embedder=_embedder(config, embedder), compare=numpy_cosines)
    return SearchWrapper(storage, search, codec=JsonEntityCodec())


def _encrypted(storage: SessionStorage, keys: "KeySource | None", *, required: bool) -> SessionStorage:
    from luminoracore_sdk.adapters.encryption.keyring import Keyring  # noqa: PLC0415
    from luminoracore_sdk.adapters.wrappers.encrypted import EncryptedStorageWrapper  # noqa: PLC0415

    return EncryptedStorageWrapper(storage, Keyring.from_environment() if keys is None else keys, required=required)


def _compressed(storage: SessionStorage, optimizer: Optimizer | None) -> SessionStorage:
    from luminoracore_sdk.adapters.optimizer import Optimizer as OwnOptimizer  # noqa: PLC0415
    from luminoracore_sdk.adapters.wrappers.optimized import OptimizedStorageWrapper  # noqa: PLC0415

    return OptimizedStorageWrapper(storage, OwnOptimizer() if optimizer is None else optimizer)
