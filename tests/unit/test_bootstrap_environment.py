"""Settings from environment variables: texts become values, and a typing error is not silent."""

from typing import Any

import pytest

from luminoracore_sdk.bootstrap.config import Settings, StorageConfig, StorageType
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    LuminoraCoreSDKError,
    UnsupportedStorageTypeError,
)
from luminoracore_sdk.domain.settings import MemoryConfig


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({"PATH": "/bin", "LUMINORA_OTHER": "x"}) == Settings()


def test_the_processs_own_environment_is_read_when_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUMINORA_STORE", "sqlite:///x.db")
    assert Settings.from_environment().storage == StorageConfig(StorageType.SQLITE, "sqlite:///x.db")


def test_every_part_can_be_set() -> None:
    settings = Settings.from_environment(
        {
            "LUMINORA_STORE": "sqlite:///x.db",
            "LUMINORA_STORAGE_TABLE_NAME": "chat",
            "LUMINORA_STORAGE_AUTO_CREATE_TABLES": "no",
            "LUMINORA_MEMORY_ENABLED": "off",
            "LUMINORA_MEMORY_MAX_ENTRIES": "7",
            "LUMINORA_MEMORY_TTL": "1.5",
            "LUMINORA_MEMORY_DECAY_FACTOR": "0.25",
            "LUMINORA_MAX_HISTORY": "9",
        }
    )
    assert settings == Settings(
        storage=StorageConfig(StorageType.SQLITE, "sqlite:///x.db", table_name="chat", auto_create_tables=False),
        memory=MemoryConfig(enabled=False, max_entries=7, ttl=1.5, decay_factor=0.25),
        max_history=9,
    )


def test_a_storage_can_be_set_without_a_url() -> None:
    settings = Settings.from_environment(
        {"LUMINORA_STORAGE_STORAGE_TYPE": "file", "LUMINORA_STORAGE_FILE_PATH": "store"}
    )
    assert settings.storage == StorageConfig(StorageType.JSON, file_path="store")
    redis = {"LUMINORA_STORAGE_STORAGE_TYPE": "redis", "LUMINORA_STORAGE_REDIS_DB": "3"}
    assert Settings.from_environment(redis).storage.redis_db == 3


def test_an_empty_url_counts_as_none() -> None:
    assert Settings.from_environment({"LUMINORA_STORE": "", "LUMINORA_MAX_HISTORY": ""}) == Settings()


@pytest.mark.parametrize("text", ["true", "1", "yes", "on", " True ", "YES"])
def test_flags_can_be_switched_on_in_several_ways(text: str) -> None:
    settings = Settings.from_environment({"LUMINORA_MEMORY_TRACK_EMOTIONS": text})
    assert settings.memory.track_emotions is True


@pytest.mark.parametrize("text", ["false", "0", "no", "OFF"])
def test_flags_can_be_switched_off_in_several_ways(text: str) -> None:
    assert Settings.from_environment({"LUMINORA_MEMORY_ENABLED": text}).memory.enabled is False


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        (
            {"LUMINORA_MEMORY_MAXENTRIES": "5"},
            "LUMINORA_MEMORY_MAXENTRIES is unknown; the known ones are: LUMINORA_MEMORY_ENABLED",
        ),
        ({"LUMINORA_STORAGE_TYPE": "json"}, "the known ones are: LUMINORA_STORAGE_STORAGE_TYPE"),
        (
            {"LUMINORA_MEMORY_ENABLED": "maybe"},
            "ENABLED must be one of true, 1, .*, not 'maybe'",
        ),
        (
            {"LUMINORA_MEMORY_MAX_ENTRIES": "many"},
            "MAX_ENTRIES must be a whole number, not 'many'",
        ),
        ({"LUMINORA_MEMORY_TTL": "soon"}, "LUMINORA_MEMORY_TTL must be a number, not 'soon'"),
        ({"LUMINORA_MAX_HISTORY": "x"}, "LUMINORA_MAX_HISTORY must be a whole number, not 'x'"),
        ({"LUMINORA_STORE": "file://"}, "has no path"),
        ({"LUMINORA_STORAGE_ENCRYPTION_REQUIRED": "yes"}, "has no meaning without encryption_enabled"),
        ({"LUMINORA_STORE": "memory://", "LUMINORA_STORAGE_TABLE_NAME": "t"}, "table_name has no meaning"),
    ],
)
def test_a_variable_that_cannot_be_honoured_is_refused_by_name(environ: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Settings.from_environment(environ)


def test_an_unknown_store_is_refused_with_the_valid_ones() -> None:
    with pytest.raises(UnsupportedStorageTypeError):
        Settings.from_environment({"LUMINORA_STORE": "oracle://x"})
    with pytest.raises(UnsupportedStorageTypeError):
        Settings.from_environment({"LUMINORA_STORAGE_STORAGE_TYPE": "oracle"})


@pytest.mark.parametrize(
    "environ",
    [{"LUMINORA_MEMORY_MAX_ENTRIES": "0"}, {"LUMINORA_MEMORY_TTL": "-1"}, {"LUMINORA_MAX_HISTORY": "0"}],
)
def test_a_value_out_of_range_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(LuminoraCoreSDKError, match="must be a"):
        Settings.from_environment(environ)
