"""What can be configured, and from what: objects, mappings, URLs, the environment."""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar

import attrs

from luminoracore_sdk.bootstrap.paths import expanded, path_of
from luminoracore_sdk.domain.errors import ConfigurationError, UnsupportedStorageTypeError
from luminoracore_sdk.domain.settings import MemoryConfig

__all__ = ["Settings", "StorageConfig", "StorageType", "storage_config_from_url"]

T = TypeVar("T")


class StorageType(StrEnum):
    """Where sessions are kept. ``FILE`` ("file") is an alias of ``JSON``."""

    MEMORY = "memory"
    JSON = "json"
    SQLITE = "sqlite"
    REDIS = "redis"
    POSTGRES = "postgres"
    MONGODB = "mongodb"
    FILE = JSON

    @classmethod
    def _missing_(cls, value: object) -> "StorageType | None":
        return cls.JSON if value == "file" else None


def _to_storage_type(value: Any) -> StorageType:
    try:
        return StorageType(value)
    except ValueError as exc:
        raise UnsupportedStorageTypeError(value, [kind.value for kind in StorageType]) from exc


def _flag(_: object, attribute: Any, value: object) -> None:
    if type(value) is not bool:
        raise ConfigurationError(f"{attribute.name} must be True or False, not {value!r}")


def _whole_number(minimum: int) -> Any:
    def check(_: object, attribute: Any, value: object) -> None:
        if type(value) is not int or value < minimum:
            raise ConfigurationError(f"{attribute.name} must be a whole number of at least {minimum}, not {value!r}")

    return check


def _to_path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _text(_: object, attribute: Any, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        given = repr(value) if value == "" else type(value).__name__  # a URL object shows its password
        raise ConfigurationError(f"{attribute.name} must be a text that is not empty, not {given}")


_FILES = frozenset({StorageType.JSON, StorageType.SQLITE})
_SERVERS = frozenset({StorageType.REDIS, StorageType.POSTGRES, StorageType.MONGODB})
_SQL = frozenset({StorageType.SQLITE, StorageType.POSTGRES})
_USED_BY = {
    "connection_string": _FILES | _SERVERS,
    "table_name": _SQL | {StorageType.MONGODB},
    "auto_create_tables": _SQL,
    "redis_db": frozenset({StorageType.REDIS}),
    "redis_prefix": frozenset({StorageType.REDIS}),
    "file_path": _FILES,
    "retry_attempts": _FILES | _SERVERS,
}


@attrs.frozen
class StorageConfig:
    """Which storage, and how. A field that the chosen type has no use for is refused, not ignored.

    Attributes:
        storage_type: memory, json (or file), sqlite, redis, postgres, mongodb.
        connection_string: A URL or, for json and sqlite, a path. For json it names the folder of the
            store, for sqlite the file. The servers need it.
        table_name: Prefix of every table, or collection of MongoDB; None: no prefix.
        auto_create_tables: False: refuse a store without tables, or with old ones, instead of making them.
        encryption_enabled: Put an ``EncryptedStorageWrapper`` before the backend. The keys are never here:
            ``create_storage`` takes them, or the environment holds them.
        compression_enabled: Put the package's own optimizer before the backend.
        redis_db: Number of the Redis database, when it is not 0 and the URL does not say it.
        redis_prefix: Of every key in Redis.
        file_path: Folder (json) or file (sqlite), when there is no connection_string.
        file_format: json is the only one.
        retry_attempts: Above 1: put a ``RetryingStorage`` before everything, which asks so many times.
        encryption_required: Refuse records that are not encrypted.

    Raises:
        ConfigurationError: Or one below it, when it is made.
    """

    storage_type: StorageType = attrs.field(default=StorageType.MEMORY, converter=_to_storage_type)
    connection_string: str | None = attrs.field(default=None, validator=_text, repr=False)
    table_name: str | None = attrs.field(default=None, validator=_text)
    auto_create_tables: bool = attrs.field(default=True, validator=_flag)
    encryption_enabled: bool = attrs.field(default=False, validator=_flag)
    compression_enabled: bool = attrs.field(default=False, validator=_flag)
    redis_db: int = attrs.field(default=0, validator=_whole_number(0))
    redis_prefix: str = attrs.field(default="luminoracore:", validator=_text)
    file_path: str | None = attrs.field(default=None, converter=_to_path, validator=_text)
    file_format: str = attrs.field(default="json")
    retry_attempts: int = attrs.field(default=1, validator=_whole_number(1), kw_only=True)
    encryption_required: bool = attrs.field(default=False, validator=_flag, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse what would otherwise be ignored."""
        if self.encryption_required and not self.encryption_enabled:
            raise ConfigurationError("encryption_required has no meaning without encryption_enabled")
        if self.file_format != "json":
            raise ConfigurationError(f"file_format {self.file_format!r} is not supported; there is only 'json'")
        for field in attrs.fields(type(self)):
            types = _USED_BY.get(field.name)
            if types is not None and self.storage_type not in types:
                self._refuse_unused(field, types)

    def _refuse_unused(self, field: Any, types: frozenset[StorageType]) -> None:
        value = getattr(self, field.name)
        if field.name == "connection_string" and value == f"{self.storage_type}://":
            return
        if value != field.default:
            raise ConfigurationError(
                f"{field.name} has no meaning for storage type {self.storage_type!s}; "
                f"it is for: {', '.join(sorted(types))}"
            )

    @property
    def url(self) -> str:
        """The address of a server.

        Raises:
            ConfigurationError: There is no connection_string, or it is another kind of server's.
        """
        if self.connection_string is None:
            raise ConfigurationError(f"storage type {self.storage_type!s} needs connection_string: a URL")
        scheme, separator, _ = self.connection_string.partition("://")
        if not separator or _SCHEMES.get(scheme) is not self.storage_type:
            fitting = [f"{name}://" for name, kind in _SCHEMES.items() if kind is self.storage_type]
            raise ConfigurationError(
                f"connection_string of storage type {self.storage_type!s} begins with one of: {', '.join(fitting)}"
            )
        return self.connection_string

    @property
    def path(self) -> Path:
        """Where a json or sqlite store lies.

        Raises:
            ConfigurationError: Neither connection_string nor file_path says it.
        """
        if self.connection_string is not None:
            return expanded(path_of(self.connection_string, self.storage_type))
        if self.file_path is not None:
            return expanded(self.file_path)
        what = "folder" if self.storage_type is StorageType.JSON else "file"
        raise ConfigurationError(
            f"storage type {self.storage_type!s} needs connection_string or file_path: the {what} of the store"
        )


_SHOWN_URLS = (
    *("memory://", "file:///folder", "sqlite:///file.db"),
    *("postgresql://host/database", "redis://host/0", "redis+cluster://host:port,host:port"),
    *("redis+sentinel://host:port/name/0", "mongodb://host/database"),
)
_REDIS_SCHEMES = [
    f"{base}{kind}" for base in ("redis", "rediss", "valkey", "valkeys") for kind in ("", "+cluster", "+sentinel")
]
_SCHEMES = {
    "memory": StorageType.MEMORY,
    "file": StorageType.JSON,
    "json": StorageType.JSON,
    "sqlite": StorageType.SQLITE,
    **dict.fromkeys([*_REDIS_SCHEMES, "unix"], StorageType.REDIS),
    "postgres": StorageType.POSTGRES,
    "postgresql": StorageType.POSTGRES,
    "postgresql+asyncpg": StorageType.POSTGRES,
    "mongodb": StorageType.MONGODB,
    "mongodb+srv": StorageType.MONGODB,
}


def storage_config_from_url(url: str) -> StorageConfig:
    """Return the configuration that a URL stands for.

    ``memory://``, ``file:///absolute/folder``, ``file://relative/folder``, ``sqlite:///relative.db``,
    ``sqlite:////absolute.db`` (slashes as in SQLAlchemy), ``postgresql://…``, ``redis://…``,
    ``rediss://…``, ``redis+cluster://…``, ``redis+sentinel://…``, ``valkey://…``, ``mongodb://…``,
    ``mongodb+srv://…`` (see ``PostgreSQLStorage``, ``RedisStorage``, ``MongoDBStorage``).

    Raises:
        UnsupportedStorageTypeError: No such scheme; lists the valid ones.
        ConfigurationError: The URL names no place.
    """
    scheme, separator, place = url.partition("://")
    kind = _SCHEMES.get(scheme) if separator else None
    name = url.partition(":")[0]
    if not separator and name in _SCHEMES and name != url:
        raise ConfigurationError(f"two slashes are missing: {name}://…")
    if kind is None:
        raise UnsupportedStorageTypeError(url.partition(":")[0], _SHOWN_URLS)  # no password
    if kind is StorageType.MEMORY and place:
        raise ConfigurationError("memory:// takes nothing behind it")
    if scheme == "sqlite" and not place.startswith("/"):
        shown = "file.db" if "@" in place else place  # before an @ stands a password
        raise ConfigurationError(f"a SQLite URL has three slashes or four: sqlite:///{shown}")
    config = StorageConfig(storage_type=kind, connection_string=url)
    if kind in _FILES:
        config.path  # noqa: B018  # refuses a URL without a path now, not at first use
    return config


def _to_storage_config(value: Any) -> StorageConfig:
    if isinstance(value, StorageConfig):
        return value
    if isinstance(value, str):
        return storage_config_from_url(value)
    return _made(StorageConfig, value)


def _to_memory_config(value: Any) -> MemoryConfig:
    return value if isinstance(value, MemoryConfig) else _made(MemoryConfig, value)


def _made(kind: type[T], value: Any) -> T:
    from luminoracore_sdk.adapters.codec.converter import settings_from_mapping  # noqa: PLC0415

    return settings_from_mapping(kind, value)


@attrs.frozen(kw_only=True)
class Settings:
    """Everything the container needs.

    Attributes:
        storage: A StorageConfig, a mapping of its fields, or a URL.
        memory: A MemoryConfig, or a mapping of its fields.
        max_history: Newest messages that reads without a range return.
    """

    storage: StorageConfig = attrs.field(factory=StorageConfig, converter=_to_storage_config)
    memory: MemoryConfig = attrs.field(factory=MemoryConfig, converter=_to_memory_config)
    max_history: int = attrs.field(default=100, validator=_whole_number(1))

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """Make settings of a mapping with the keys storage, memory, max_history.

        Raises:
            ValidationError: An unknown key or a wrong value.
            ConfigurationError: A storage that cannot work.
        """
        return _made(cls, data)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Make settings of environment variables.

        ``LUMINORA_STORE`` (a URL), ``LUMINORA_STORAGE_<FIELD>``, ``LUMINORA_MEMORY_<FIELD>``,
        ``LUMINORA_MAX_HISTORY``; flags are true/false, 1/0, yes/no, on/off.

        Raises:
            ConfigurationError: A variable that no field has, or with a wrong value.
        """
        from luminoracore_sdk.bootstrap.environment import settings_fields  # noqa: PLC0415

        return cls(**settings_fields(os.environ if environ is None else environ))
