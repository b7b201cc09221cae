"""Configuration of the package: from objects, mappings, URLs and environment variables."""

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import unquote

import attrs

from luminoracore_sdk.adapters.codec.converter import settings_from_mapping
from luminoracore_sdk.domain.errors import ConfigurationError, UnsupportedStorageTypeError
from luminoracore_sdk.domain.settings import MemoryConfig

__all__ = ["Settings", "StorageConfig", "StorageType", "storage_config_from_url"]

T = TypeVar("T")


class StorageType(StrEnum):
    """The backends. ``FILE`` ("file") is an alias of ``JSON``, and "postgresql", as in URLs, of ``POSTGRES``."""

    MEMORY = "memory"
    JSON = "json"
    SQLITE = "sqlite"
    REDIS = "redis"
    POSTGRES = "postgres"
    MONGODB = "mongodb"
    FILE = JSON

    @classmethod
    def _missing_(cls, value: object) -> "StorageType | None":
        aliases = {"file": cls.JSON, "postgresql": cls.POSTGRES}
        return aliases.get(value) if isinstance(value, str) else None


def _to_storage_type(value: Any) -> StorageType:
    try:
        return StorageType(value)
    except ValueError:  # its text may be a URL with a password
        given = "a URL or another text" if isinstance(value, str) and not value.isidentifier() else value
        raise UnsupportedStorageTypeError(given, [kind.value for kind in StorageType]) from None


def _flag(_: object, attribute: Any, value: object) -> None:
    if type(value) is not bool:
        raise ConfigurationError(f"{attribute.name} must be True or False, not {value!r}")


def _whole_number(minimum: int) -> Any:
    def check(_: object, attribute: Any, value: object) -> None:
        if type(value) is not int or value < minimum:
            raise ConfigurationError(f"{attribute.name} must be a whole number of at least {minimum}, not {value!r}")

    return check


def _without_blanks(value: Any) -> Any:
    """Return a URL without the blanks around it: secret stores add a newline. A path may end with one."""
    return value.strip() if isinstance(value, str) and "://" in value else value


def _to_path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _text(_: object, attribute: Any, value: object) -> None:
    if value is not None and (not isinstance(value, str) or not value):
        given = repr(value) if value == "" else type(value).__name__  # the repr of a URL object shows its password
        raise ConfigurationError(f"{attribute.name} must be a non-empty string, not {given}")


def _table_name(instance: object, attribute: Any, value: Any) -> None:
    _text(instance, attribute, value)
    if value is not None and (not re.fullmatch("[A-Za-z0-9_]{1,31}", value) or value.lower().startswith("sqlite")):
        shown = "" if set("@:/=") & set(value) else f" {value!a:.80}"  # a URL may hold a password
        raise ConfigurationError(
            f"table_name{shown} is refused: use 1 to 31 letters (A-Z, a-z), digits and _; it must not begin with sqlite"
        )


def _search(_: object, attribute: Any, value: object) -> None:
    if value not in (None, "text", "semantic"):
        raise ConfigurationError(f"{attribute.name} is 'text', 'semantic' or None, not {value!a:.40}")


def _share(_: object, attribute: Any, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ConfigurationError(f"{attribute.name} must be a number from 0 to 1, not {value!a:.40}")


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
    """Which storage to create, and how. A field that the storage type does not use is refused, not ignored.

    Attributes:
        storage_type: memory, json (or file), sqlite, redis, postgres (or postgresql), mongodb.
        connection_string: A URL or, for json and sqlite, a path: the folder of a json store, the file of a
            sqlite store. Required for servers.
        table_name: The names of all tables (in MongoDB, collections) begin with this and a ``_``: 1 to 31
            letters, digits and ``_``; None: ``luminora``.
        auto_create_tables: False: refuse a store whose tables are missing or old instead of creating them.
        encryption_enabled: Encrypt with an ``EncryptedStorageWrapper``. Keys are not configuration: they are
            passed to ``create_storage`` or set in the environment.
        compression_enabled: Compress with the package's own optimizer.
        redis_db: Number of the Redis database, unless the URL names one.
        redis_prefix: Prefix of every key in Redis.
        file_path: Folder (json) or file (sqlite), when there is no connection_string.
        file_format: Only ``json`` is supported.
        retry_attempts: Above 1: repeat failed calls with a ``RetryingStorage``, up to this number of attempts.
        encryption_required: Refuse records that are not encrypted.
        search: ``"text"``: what is stored is found by its words (``SessionManager.recall``); ``"semantic"``: and by its
            meaning, which needs an embedder; None: search is off. A store that has messages already is searched at
            once; ``luminora reindex`` makes that fast.
        search_language: The language whose endings and stop words are known; see ``luminoracore_sdk.search.LANGUAGES``.
        search_embedder: The embedder of semantic search, as ``module:name``: an object, or a class or function that
            returns one; None: a ``WordLlamaEmbedder``.
        search_recency: How much more a hit of now counts than a very old one, 0 to 1: 0.2 is a fifth more; half of that
            is left after 30 days.
        search_importance: How much more a memory of importance 1 counts than one of 0, 0 to 1.

    Raises:
        ConfigurationError: A value cannot work; subclasses say more.
    """

    storage_type: StorageType = attrs.field(default=StorageType.MEMORY, converter=_to_storage_type)
    connection_string: str | None = attrs.field(default=None, converter=_without_blanks, validator=_text, repr=False)
    table_name: str | None = attrs.field(default=None, validator=_table_name)
    auto_create_tables: bool = attrs.field(default=True, validator=_flag)
    encryption_enabled: bool = attrs.field(default=False, validator=_flag)
    compression_enabled: bool = attrs.field(default=False, validator=_flag)
    redis_db: int = attrs.field(default=0, validator=_whole_number(0))
    redis_prefix: str = attrs.field(default="luminoracore:", validator=_text)
    file_path: str | None = attrs.field(default=None, converter=_to_path, validator=_text)
    file_format: str = attrs.field(default="json")
    retry_attempts: int = attrs.field(default=1, validator=_whole_number(1), kw_only=True)
    encryption_required: bool = attrs.field(default=False, validator=_flag, kw_only=True)
    search: str | None = attrs.field(default=None, validator=_search, kw_only=True)
    search_language: str = attrs.field(default="english", validator=_text, kw_only=True)
    search_embedder: str | None = attrs.field(default=None, validator=_text, kw_only=True)
    search_recency: float = attrs.field(default=0.0, validator=_share, kw_only=True)
    search_importance: float = attrs.field(default=0.0, validator=_share, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse fields that would otherwise be ignored."""
        if self.encryption_required and not self.encryption_enabled:
            raise ConfigurationError("encryption_required has no meaning without encryption_enabled")
        if self.file_format != "json":
            raise ConfigurationError(f"file_format {self.file_format!r} is not supported; use 'json'")
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
        """The URL of a server.

        Raises:
            ConfigurationError: There is no connection_string, or its scheme belongs to another storage type.
        """
        if self.connection_string is None:
            raise ConfigurationError(f"storage type {self.storage_type!s} needs a URL as connection_string")
        scheme, separator, _ = self.connection_string.partition("://")
        if not separator or _SCHEMES.get(scheme) is not self.storage_type:
            fitting = [f"{name}://" for name, kind in _SCHEMES.items() if kind is self.storage_type]
            raise ConfigurationError(
                f"connection_string of storage type {self.storage_type!s} must begin with one of: {', '.join(fitting)}"
            )
        return self.connection_string

    @property
    def path(self) -> Path:
        """The path of a json or sqlite store.

        Raises:
            ConfigurationError: Neither connection_string nor file_path is set.
        """
        if self.connection_string is not None:
            return _expand_home(_path_of(self.connection_string, self.storage_type))
        if self.file_path is not None:
            return _expand_home(self.file_path)
        what = "folder" if self.storage_type is StorageType.JSON else "file"
        raise ConfigurationError(
            f"storage type {self.storage_type!s} needs the {what} of the store as connection_string or file_path"
        )


def _expand_home(path: str) -> Path:
    """Return a path with ``~`` replaced by the home folder.

    Raises:
        ConfigurationError: The string cannot be a path.
    """
    if "\0" in path:
        raise ConfigurationError("a path must not hold a NUL character")
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:  # ~name, and no user has that name
        raise ConfigurationError(f"{path!a}: {exc}") from exc


def _path_of(connection_string: str, kind: str) -> str:
    """Return the path in a connection string, which is a URL or a path.

    Args:
        connection_string: Of a json or sqlite store.
        kind: json or sqlite.

    Raises:
        ConfigurationError: The URL belongs to another storage type, or has no path.
    """
    scheme, separator, rest = connection_string.partition("://")
    if not separator:
        return connection_string
    if "?" in rest or "#" in rest:
        raise ConfigurationError(f"a {scheme}:// URL takes no query; pass a path that contains '?' or '#' as file_path")
    if scheme == "sqlite" and kind == "sqlite":
        path = rest.removeprefix("/")  # as in SQLAlchemy: three slashes relative, four absolute
    elif scheme in ("file", "json") and kind == "json":
        path = unquote(rest.removeprefix("localhost") if rest.startswith("localhost/") else rest)
    else:
        raise ConfigurationError(f"a {scheme}:// URL does not name a store of type {kind!s}")
    if not path.strip("/"):
        raise ConfigurationError(f"the URL {scheme}:// has no path")
    return "/" + path.lstrip("/") if path.startswith("/") else path


_SHOWN_URLS = (
    *("memory://", "file:///folder", "sqlite:///file.db"),
    *("postgresql://host/database", "redis://host/0", "redis+cluster://host:port,host:port"),
    *("redis+sentinel://host:port/name/0", "mongodb://host/database"),
)
_KEY_VALUES = re.compile(r"(?:^|\s)(?:host|hostaddr|dbname|user|password|port|service)\s*=")
_SQLITE_SUFFIXES = (".db", ".sqlite", ".sqlite3")
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
    """Return the configuration that a URL describes.

    ``memory://``, ``file:///absolute/folder``, ``file://relative/folder``, ``sqlite:///relative.db``,
    ``sqlite:////absolute.db`` (slashes as in SQLAlchemy), ``postgresql://…``, ``redis://…``,
    ``rediss://…``, ``redis+cluster://…``, ``redis+sentinel://…``, ``valkey://…``, ``mongodb://…``,
    ``mongodb+srv://…`` (see ``PostgreSQLStorage``, ``RedisStorage``, ``MongoDBStorage``).

    Raises:
        UnsupportedStorageTypeError: The scheme is unknown; the error lists the valid ones.
        ConfigurationError: The URL is incomplete or has parts that its scheme does not take.
    """
    url = url.strip()
    scheme, separator, rest = url.partition("://")
    kind = _SCHEMES.get(scheme) if separator else None
    name = url.partition(":")[0]
    if not separator and name in _SCHEMES and name != url:
        raise ConfigurationError(f"the URL lacks two slashes after {name}: write {name}://…")
    if _KEY_VALUES.search(url) and not separator:
        raise ConfigurationError(
            "a list of key=value, as libpq takes it, is not read: write postgresql://user:password@host:port/dbname"
        )
    if kind is None:  # only a scheme or a file is shown: the rest may hold a password, also if the scheme was left out
        is_file = re.fullmatch(r"[\w./~ -]+", url) is not None and url.endswith(_SQLITE_SUFFIXES)
        is_scheme = separator and re.fullmatch("[A-Za-z][A-Za-z0-9+.-]{0,30}", name)
        shown = name if is_file or is_scheme else "a text without a scheme"
        raise UnsupportedStorageTypeError(shown, _SHOWN_URLS, meant=f"sqlite:///{url}" if is_file else None)
    if kind in _SERVERS and (not url.isprintable() or " " in url):
        raise ConfigurationError(f"a {scheme}:// URL holds no blank and no control character; write %20 for a blank")
    if kind is StorageType.MEMORY and rest:
        raise ConfigurationError("memory:// must not be followed by anything")
    if scheme == "sqlite" and not rest.startswith("/"):
        shown = rest if re.fullmatch(r"[\w./~-]+", rest) else "file.db"  # it may hold a password
        raise ConfigurationError(f"a SQLite URL has three or four slashes: sqlite:///{shown}")
    config = StorageConfig(storage_type=kind, connection_string=url)
    if kind in _FILES:
        config.path  # noqa: B018  # refuses a URL without a path now, not at first use
    return config


def _to_storage_config(value: Any) -> StorageConfig:
    return storage_config_from_url(value) if isinstance(value, str) else _to(StorageConfig, value)


def _to_memory_config(value: Any) -> MemoryConfig:
    return _to(MemoryConfig, value)


def _to(kind: type[T], value: Any) -> T:
    return value if isinstance(value, kind) else settings_from_mapping(kind, value)


@attrs.frozen(kw_only=True)
class Settings:
    """The settings of a container.

    Attributes:
        storage: A StorageConfig, a mapping of its fields, or a URL.
        memory: A MemoryConfig, or a mapping of its fields.
        max_history: Number of newest messages that reads without a range return.
    """

    storage: StorageConfig = attrs.field(factory=StorageConfig, converter=_to_storage_config)
    memory: MemoryConfig = attrs.field(factory=MemoryConfig, converter=_to_memory_config)
    max_history: int = attrs.field(default=100, validator=_whole_number(1))

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """Return settings from a mapping with the keys storage, memory and max_history.

        Raises:
            ValidationError: A key is unknown or a value is wrong.
            ConfigurationError: The storage cannot work as configured.
        """
        return settings_from_mapping(cls, data)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Return settings from environment variables.

        ``LUMINORA_STORE`` (a URL), ``LUMINORA_STORAGE_<FIELD>``, ``LUMINORA_MEMORY_<FIELD>``,
        ``LUMINORA_MAX_HISTORY``. Flags are true/false, 1/0, yes/no or on/off. A variable that is empty or blank counts
        as unset.

        Args:
            environ: The variables; None: those of this process.

        Raises:
            ConfigurationError: A variable matches no field, or its value is wrong.
        """
        from luminoracore_sdk.bootstrap.environment import environment_fields, environment_value  # noqa: PLC0415

        environ = os.environ if environ is None else environ
        fields: dict[str, Any] = {}
        storage = environment_fields("LUMINORA_STORAGE_", StorageConfig, environ)
        if url := environ.get("LUMINORA_STORE", "").strip():
            fields["storage"] = attrs.evolve(storage_config_from_url(url), **storage)
        elif storage:
            fields["storage"] = StorageConfig(**storage)
        if memory := environment_fields("LUMINORA_MEMORY_", MemoryConfig, environ):
            fields["memory"] = MemoryConfig(**memory)
        if text := environ.get("LUMINORA_MAX_HISTORY", "").strip():
            fields["max_history"] = environment_value("LUMINORA_MAX_HISTORY", text, int)
        return cls(**fields)
