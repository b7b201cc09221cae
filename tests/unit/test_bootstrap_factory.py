"""create_storage: which class it makes, of what, and what it refuses."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from luminoracore_sdk import session
from luminoracore_sdk.bootstrap.config import StorageConfig, StorageType
from luminoracore_sdk.bootstrap.factory import create_storage, shared_storage
from luminoracore_sdk.domain.errors import (
    ConfigurationError,
    UnsupportedStorageTypeError,
    ValidationError,
)
from luminoracore_sdk.optimization import Optimizer
from luminoracore_sdk.search import CallableEmbedder, HashingEmbedder
from luminoracore_sdk.session import (
    InMemoryStorage,
    JSONFileStorage,
    MongoDBStorage,
    OptimizedStorageWrapper,
    PostgreSQLStorage,
    RedisStorage,
    RetryingStorage,
    SessionStorage,
    SQLiteStorage,
)
from luminoracore_sdk.testing import ManualClock, session_record

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (None, InMemoryStorage),
        ("memory://", InMemoryStorage),
        (StorageConfig(), InMemoryStorage),
        ("file://store", JSONFileStorage),
        (StorageConfig(StorageType.FILE, file_path="store"), JSONFileStorage),
        ("sqlite:///store.db", SQLiteStorage),
        (StorageConfig(StorageType.SQLITE, "store.db"), SQLiteStorage),
    ],
    ids=lambda given: given.__name__ if isinstance(given, type) else repr(given)[:40],
)
def test_the_type_says_the_class_and_nothing_is_made_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Any, kind: type
) -> None:
    monkeypatch.chdir(tmp_path)
    assert type(create_storage(config)) is kind
    assert list(tmp_path.iterdir()) == []


def test_an_optimizer_wraps_every_backend_and_is_the_one_given() -> None:
    optimizer = Optimizer()
    for config in ("memory://", "file://store", "sqlite:///store.db"):
        storage = create_storage(config, optimizer)
        assert type(storage) is OptimizedStorageWrapper
        assert storage.optimizer is optimizer
        assert storage.base.backend == storage.backend


def test_compression_enabled_uses_the_own_optimizer() -> None:
    config = StorageConfig(compression_enabled=True)
    wrapped = create_storage(config)
    assert isinstance(wrapped, OptimizedStorageWrapper)
    assert type(wrapped.optimizer) is Optimizer
    own = Optimizer()
    given = create_storage(config, optimizer=own)
    assert isinstance(given, OptimizedStorageWrapper)
    assert given.optimizer is own
    assert type(given.base) is InMemoryStorage


def test_object_that_is_no_optimizer_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"compress\(data\) and expand\(data\)"):
        create_storage("memory://", optimizer=object())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("embedder", "missing"),
    [
        (object(), "of type object has no model_id, dimension, embed_passages, embed_query"),
        (CallableEmbedder, "of type type has no model_id, dimension;"),
    ],
    ids=["an object", "a class"],
)
def test_object_that_is_no_embedder_is_refused(embedder: Any, missing: str) -> None:
    for create in (create_storage, shared_storage):
        with pytest.raises(ConfigurationError, match=missing):
            create("memory://", search="semantic", embedder=embedder)


HASHING = HashingEmbedder(8)


@pytest.mark.parametrize(
    ("name", "dimension"),
    [("luminoracore_sdk.search:HashingEmbedder", 64), (f"{__name__}:HASHING", 8), ("tests.no:thing", 8)],
)
def test_an_embedder_is_imported_by_its_name(name: str, dimension: int) -> None:
    given = HASHING if dimension == 8 and name.startswith("tests.no") else None
    config = StorageConfig(search="semantic", search_embedder=name)
    search = create_storage(config, embedder=given).search  # one that is given replaces it
    assert search is not None
    assert search.embedder is not None
    assert search.embedder.dimension == dimension


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("luminoracore_sdk.nothing:HASHING", "No module named"),
        ("luminoracore_sdk.search:Nothing", "has no attribute 'Nothing'"),
        ("luminoracore_sdk.search", "'luminoracore_sdk.search' cannot be imported"),
        (":HASHING", "Empty module name"),
        ("json:dumps", "cannot be imported"),
        ("json:decoder", "of type module has no model_id"),
    ],
)
def test_a_name_of_no_embedder_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        create_storage(StorageConfig(search="semantic", search_embedder=name))


async def test_recent_and_important_hits_are_preferred_where_that_is_configured() -> None:
    config = StorageConfig(search="text", search_recency=0.5, search_importance=0.25)
    async with create_storage(config) as storage, session.SessionManager(storage) as manager:
        await manager.for_user("u").store_memory("boat", "Aurora", importance=0.8)
        [hit] = await manager.for_user("u").recall("boat", explain=True)
        assert (hit.parts["recency"], hit.parts["importance"]) == (pytest.approx(1.5, abs=1e-4), pytest.approx(1.2))
    for wrong in (-0.1, 1.1, "1", True, float("nan")):
        with pytest.raises(ConfigurationError, match="search_recency must be a number from 0 to 1"):
            StorageConfig(search="text", search_recency=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("config", [{"storage_type": "memory"}, 5, Path("store"), StorageType.MEMORY.name])
def test_anything_else_than_a_configuration_or_a_url_is_refused(config: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"create_storage takes a|Storage type not supported"):
        create_storage(config)


def test_an_unknown_url_lists_the_valid_ones() -> None:
    with pytest.raises(UnsupportedStorageTypeError, match=r"Storage type not supported: 'oracle'.*memory://"):
        create_storage("oracle://host")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("postgresql://me@host/db", PostgreSQLStorage),
        ("postgres://me@host/db", PostgreSQLStorage),
        ("redis://host:6380/2", RedisStorage),
        ("rediss://host", RedisStorage),
        ("valkey://host", RedisStorage),
        ("redis+cluster://one:7000,two:7000", RedisStorage),
        ("redis+sentinel://one:26379,two:26379/main/0", RedisStorage),
        ("mongodb://host/chat", MongoDBStorage),
    ],
)
def test_a_server_is_not_asked_before_the_first_use(url: str, kind: type[SessionStorage]) -> None:
    assert isinstance(create_storage(url), kind)


def test_retries_stand_before_the_optimizer() -> None:
    config = StorageConfig(StorageType.POSTGRES, "postgresql://host/db", compression_enabled=True, retry_attempts=3)
    storage = create_storage(config)
    assert isinstance(storage, RetryingStorage)
    assert isinstance(storage.base, OptimizedStorageWrapper)


@pytest.mark.parametrize("kind", ["redis", "postgres", "mongodb"])
def test_a_server_needs_an_address_of_its_kind(kind: str) -> None:
    with pytest.raises(ConfigurationError, match=f"storage type {kind} needs a URL as connection_string"):
        create_storage(StorageConfig(StorageType(kind)))
    with pytest.raises(ConfigurationError, match=f"storage type {kind} must begin with one of: ") as caught:
        create_storage(StorageConfig(StorageType(kind), "http://me:s3cret@host"))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("file://x", "filelock", "files"),
        ("postgresql://host/db", "asyncpg", "postgres"),
        ("redis://host", "redis", "redis"),
        ("mongodb://host/db", "pymongo", "mongodb"),
    ],
)
def test_a_missing_driver_is_named_with_what_to_install(url: str, driver: str, extra: str) -> None:
    source = f"""
import sys
sys.modules[{driver!r}] = None
from luminoracore_sdk.session import create_storage
try:
    create_storage({url!r})
except ImportError as error:
    print(type(error).__name__, error.extra, str(error).partition(": ")[2])
"""
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout == f'MissingDependencyError {extra} pip install "luminoracore-sdk[{extra}]"\n'


@pytest.mark.parametrize("scheme", ["memory://", "file://store", "sqlite:///store.db"])
async def test_the_clock_reaches_the_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.chdir(tmp_path)
    clock = ManualClock()
    async with create_storage(scheme, clock=clock) as storage:
        assert (await storage.put_session(session_record())).created_at_us == clock.now_us


async def test_table_name_and_auto_create_tables_reach_sqlite(tmp_path: Path) -> None:
    path = f"{tmp_path}/store.db"
    async with create_storage(StorageConfig(StorageType.SQLITE, path, table_name="chat")) as storage:
        await storage.save_session("s", {"k": 1})
    async with create_storage(StorageConfig(StorageType.SQLITE, path)) as storage:
        assert await storage.list_sessions() == []
    existing = StorageConfig(StorageType.SQLITE, path, table_name="chat", auto_create_tables=False)
    async with create_storage(existing) as storage:
        assert await storage.load_session("s") == {"k": 1}
    with closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    assert {"chat_sessions", "luminora_sessions"} <= set(tables)


def test_import_of_the_session_module_loads_no_driver() -> None:
    source = """
import sys
import luminoracore_sdk.session
drivers = {"asyncpg", "cattrs", "filelock", "motor", "pymongo", "redis", "sqlalchemy", "sqlite3", "zstandard"}
backends = {"json_file", "mongodb", "postgres", "redis", "sqlite"}
loaded = set(sys.modules)
print(loaded & (drivers | {f"luminoracore_sdk.adapters.storage.{name}" for name in backends}))
print(luminoracore_sdk.session.SQLiteStorage.__name__)
"""
    done = subprocess.run([sys.executable, "-c", source], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\nSQLiteStorage\n"


def test_unknown_name_in_session_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'OracleStorage'"):
        getattr(session, "OracleStorage")  # noqa: B009
