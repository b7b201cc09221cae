"""What StorageConfig, URLs, mappings and Settings accept, and what they refuse by name."""

from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import Settings, StorageConfig, StorageType, storage_config_from_url
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    UnsupportedStorageTypeError,
    ValidationError,
)
from luminoracore_sdk.domain.settings import MemoryConfig


@pytest.mark.parametrize("given", ["json", "file", StorageType.FILE], ids=repr)
def test_a_storage_type_may_be_a_text_or_an_alias(given: Any) -> None:
    assert StorageConfig(storage_type=given, file_path="x").storage_type is StorageType.JSON


def test_postgresql_is_postgres_as_in_urls() -> None:
    config = StorageConfig(storage_type="postgresql", connection_string="postgresql://host/db")
    assert config.storage_type is StorageType.POSTGRES


@pytest.mark.parametrize("given", ["oracle", "", "MEMORY", "mongo", None, 5, ["json"]])
def test_an_unknown_storage_type_is_refused_with_the_valid_ones(given: Any) -> None:
    with pytest.raises(UnsupportedStorageTypeError, match="Storage type not supported: ") as caught:
        StorageConfig(storage_type=given)
    assert caught.value.valid == ("memory", "json", "sqlite", "redis", "postgres", "mongodb")
    assert "Valid types: memory, json, sqlite, redis, postgres, mongodb" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"encryption_required": True}, "encryption_required has no meaning without encryption_enabled"),
        (
            {"encryption_enabled": True, "encryption_required": 1},
            "encryption_required must be True or False, not 1",
        ),
        ({"encryption_enabled": 1}, "encryption_enabled must be True or False, not 1"),
        ({"compression_enabled": "yes"}, "compression_enabled must be True or False"),
        ({"storage_type": "sqlite", "file_path": "x", "auto_create_tables": None}, "auto_create_tables must"),
        ({"storage_type": "json", "file_path": "x", "file_format": "yaml"}, "use 'json'"),
        ({"storage_type": "json", "file_path": ""}, "file_path must be a non-empty string"),
        ({"storage_type": "json", "connection_string": ""}, "connection_string must be a non-empty string"),
        ({"storage_type": "redis", "redis_prefix": ""}, "redis_prefix must be a non-empty string"),
        ({"storage_type": "sqlite", "file_path": "x", "table_name": 5}, "table_name must be a non-empty string"),
    ],
)
def test_a_wrong_value_is_refused_by_name(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        StorageConfig(**fields)


@pytest.mark.parametrize("name", ["a b", "a-b", "a.b", "é", 'a"b', "t" * 32, "SQLite_x"])
def test_table_name_that_no_database_accepts_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"table_name .* is refused: use 1 to 31 letters"):
        StorageConfig(StorageType.SQLITE, "store.db", table_name=name)
    assert StorageConfig(StorageType.SQLITE, "store.db", table_name="t" * 31).table_name == "t" * 31


@pytest.mark.parametrize("fields", [{"redis_db": "0"}, {"redis_db": True}, {"redis_db": -1}, {"file_path": 5}])
def test_a_value_of_another_type_is_a_configuration_error_too(fields: dict[str, Any]) -> None:
    kind = StorageType.REDIS if "redis_db" in fields else StorageType.JSON
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        StorageConfig(storage_type=kind, **fields)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("memory", "connection_string", "sqlite:///x"),
        ("memory", "file_path", "x"),
        ("memory", "table_name", "t"),
        ("memory", "auto_create_tables", False),
        ("json", "table_name", "t"),
        ("json", "redis_db", 1),
        ("sqlite", "redis_prefix", "p:"),
        ("redis", "file_path", "x"),
        ("redis", "table_name", "t"),
        ("mongodb", "auto_create_tables", False),
    ],
)
def test_a_field_without_meaning_for_the_type_is_refused(kind: str, field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{field} has no meaning for storage type {kind}"):
        StorageConfig(storage_type=StorageType(kind), **{field: value})


def test_the_error_names_the_types_that_a_field_is_for() -> None:
    with pytest.raises(ConfigurationError, match="it is for: mongodb, postgres, sqlite"):
        StorageConfig(table_name="t")


@pytest.mark.parametrize("url", ["postgresql:/host/db", "redis:/host", "mongodb:host", "sqlite:file"])
def test_missing_slashes_are_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match=f"the URL lacks two slashes after {url.partition(':')[0]}"):
        storage_config_from_url(url)


def test_a_connection_string_is_not_shown() -> None:
    config = StorageConfig(StorageType.POSTGRES, "postgres://me:secret@host/db")
    assert "secret" not in repr(config)


@pytest.mark.parametrize(
    ("kind", "connection_string", "path"),
    [
        ("json", "folder", "folder"),
        ("json", "/var/folder", "/var/folder"),
        ("json", "file://folder", "folder"),
        ("json", "json://folder/below", "folder/below"),
        ("json", "file:///var/folder", "/var/folder"),
        ("json", "file://localhost/var/folder", "/var/folder"),
        ("json", "file:////var", "/var"),
        ("json", "file:///a%20b/%25", "/a b/%"),
        ("sqlite", "store.db", "store.db"),
        ("sqlite", "sqlite:///store.db", "store.db"),
        ("sqlite", "sqlite:////var/store.db", "/var/store.db"),
        ("sqlite", "sqlite:///a%20b.db", "a%20b.db"),
        ("sqlite", "sqlite://store.db", "store.db"),
    ],
)
def test_a_path_is_read_from_the_connection_string(kind: str, connection_string: str, path: str) -> None:
    assert StorageConfig(StorageType(kind), connection_string).path == Path(path)


@pytest.mark.parametrize("given", ["~/store", Path("~/store")])
def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, given: Any) -> None:
    monkeypatch.setenv("HOME", "/home-of-test")
    assert StorageConfig(StorageType.JSON, file_path=given).path == Path("/home-of-test/store")
    assert StorageConfig(StorageType.SQLITE, "sqlite:///~/store").path == Path("/home-of-test/store")


def test_the_connection_string_goes_before_the_file_path() -> None:
    assert StorageConfig(StorageType.JSON, "one", file_path="two").path == Path("one")
    assert StorageConfig(StorageType.JSON, file_path="two").path == Path("two")


@pytest.mark.parametrize(
    ("kind", "connection_string", "reason"),
    [
        ("json", None, "needs the folder of the store as connection_string or file_path"),
        ("sqlite", None, "needs the file of the store as connection_string or file_path"),
        ("json", "sqlite:///x", "a sqlite:// URL does not name a store of type json"),
        ("sqlite", "file:///x", "a file:// URL does not name a store of type sqlite"),
        ("json", "file://", "the URL file:// has no path"),
        ("json", "file:///", "the URL file:// has no path"),
        ("sqlite", "sqlite:///", "the URL sqlite:// has no path"),
    ],
)
def test_a_store_without_a_place_is_refused(kind: str, connection_string: str | None, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        _ = StorageConfig(StorageType(kind), connection_string).path


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory://", StorageType.MEMORY),
        ("file:///folder", StorageType.JSON),
        ("json://folder", StorageType.JSON),
        ("sqlite:///file.db", StorageType.SQLITE),
        ("redis://host:6379/0", StorageType.REDIS),
        ("rediss://host", StorageType.REDIS),
        ("redis+cluster://host", StorageType.REDIS),
        ("postgres://host/db", StorageType.POSTGRES),
        ("postgresql://host/db", StorageType.POSTGRES),
        ("mongodb://host", StorageType.MONGODB),
        ("mongodb+srv://host", StorageType.MONGODB),
    ],
)
def test_the_scheme_of_a_url_says_the_type(url: str, kind: StorageType) -> None:
    config = storage_config_from_url(url)
    assert (config.storage_type, config.connection_string) == (kind, url)


@pytest.mark.parametrize("url", ["oracle://host", "store.db", "", "://x", "oracle://me:secret@host"])
def test_unknown_scheme_is_refused_without_the_rest(url: str) -> None:
    with pytest.raises(UnsupportedStorageTypeError) as caught:
        storage_config_from_url(url)
    assert "memory://" in caught.value.valid
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("file", ["x.db", "/data/chat.sqlite3", "a folder/x.sqlite"])
def test_the_path_of_a_sqlite_file_is_refused_with_its_url(file: str) -> None:
    with pytest.raises(UnsupportedStorageTypeError, match=f"For this file write sqlite:///{file}$"):
        storage_config_from_url(file)
    assert str(storage_config_from_url(f"sqlite:///{file}").path) == file


@pytest.mark.parametrize("url", ["me:secret@host.db", "secret@host.db", "store", "oracle://x.db"])
def test_nothing_else_is_taken_for_a_file(url: str) -> None:
    with pytest.raises(UnsupportedStorageTypeError) as caught:
        storage_config_from_url(url)
    assert "For this file" not in str(caught.value)


@pytest.mark.parametrize("url", ["file://", "sqlite:///"])
def test_a_url_without_a_path_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigurationError, match="has no path"):
        storage_config_from_url(url)


def test_a_memory_url_with_something_behind_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must not be followed by anything"):
        storage_config_from_url("memory://somewhere")


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:///x.db",
        {"storage_type": "sqlite", "connection_string": "sqlite:///x.db"},
        StorageConfig(StorageType.SQLITE, "sqlite:///x.db"),
    ],
)
def test_settings_take_a_storage_as_url_mapping_or_object(storage: Any) -> None:
    settings = Settings(storage=storage, memory={"max_entries": 5})
    assert settings.storage == StorageConfig(StorageType.SQLITE, "sqlite:///x.db")
    assert settings.memory == MemoryConfig(max_entries=5)
    assert Settings.from_mapping({"storage": storage, "memory": MemoryConfig(max_entries=5)}) == settings


def test_settings_have_defaults() -> None:
    assert Settings.from_mapping({}) == Settings()
    assert (Settings().storage, Settings().memory, Settings().max_history) == (
        StorageConfig(),
        MemoryConfig(),
        100,
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"no_such": 1}, "Settings has no field 'no_such'; its fields are: storage, memory, max_history"),
        ({"storage": {"no_such": 1}}, "StorageConfig has no field 'no_such'; its fields are: storage_type"),
        ({"memory": {"max_entries": 0}}, "max_entries must be a whole number of at least 1"),
        ({"memory": {"max_entries": "5"}}, "max_entries must be a whole number of at least 1"),
        ({"memory": 5}, "MemoryConfig must be a MemoryConfig or a dict, not int"),
        ([], "Settings must be a Settings or a dict, not list"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(data: Any, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings.from_mapping(data)


@pytest.mark.parametrize("max_history", [0, "9", True, None])
def test_a_history_of_no_length_is_refused(max_history: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_history must be a whole number of at least 1"):
        Settings.from_mapping({"max_history": max_history})


@pytest.mark.parametrize("url", ["sqlite:///x.db?mode=ro", "file:///folder#part"])
def test_query_in_a_file_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="takes no query"):
        storage_config_from_url(url)


def test_sqlite_url_with_two_slashes_is_corrected() -> None:
    with pytest.raises(ConfigurationError, match=r"sqlite:///x\.db"):
        storage_config_from_url("sqlite://x.db")


def test_a_sqlite_url_with_a_login_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError, match="three or four slashes") as caught:
        storage_config_from_url("sqlite://u:s3cret@h/db")
    assert "s3cret" not in str(caught.value)


def test_url_that_is_no_string_is_refused_unseen() -> None:
    address: Any = b"postgresql://u:s3cret@h/d"  # as the URL objects of other packages show their password
    with pytest.raises(ConfigurationError, match="must be a non-empty string, not bytes"):
        StorageConfig(storage_type="postgres", connection_string=address)


def test_a_bare_path_is_answered_with_urls_that_work() -> None:
    with pytest.raises(ConfigurationError, match=r"memory://, file:///folder, sqlite:///file\.db"):
        storage_config_from_url("x.db")


@pytest.mark.parametrize("url", ["file://~nosuchuser/x", "file:///a%00b", "sqlite:///a\0b"])
def test_a_path_that_cannot_be_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        storage_config_from_url(url)
