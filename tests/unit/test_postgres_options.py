"""Options that PostgreSQLStorage accepts and refuses, without a server."""

import subprocess
import sys
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.postgres.migrate import MIGRATION_LOCK, migrator
from luminoracore_sdk.adapters.storage.postgres.options import Namespace
from luminoracore_sdk.domain.errors import ConfigurationError, StorageTimeoutError, StorageUnavailableError
from tests.support.servers.proxy import unanswering_port

URL = "postgresql://127.0.0.1:1/d"


def test_a_url_or_a_pool_is_needed_and_not_both() -> None:
    pool: Any = object()
    both: list[dict[str, Any]] = [{}, {"url": URL, "pool": pool}]
    for arguments in both:
        with pytest.raises(ConfigurationError, match="one of the two"):
            PostgreSQLStorage(**arguments)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", 0),
        ("timeout", float("nan")),
        ("connect_timeout", -1),
        ("pool_size", 0),
        ("pool_size", 10**6),
        ("schema", ""),
        ("table_prefix", "a;b"),
    ],
)
def test_an_impossible_option_is_named(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        PostgreSQLStorage(URL, **{option: value})


def test_the_url_and_the_arguments_may_agree_but_not_differ() -> None:
    PostgreSQLStorage(f"{URL}?schema=a&table_prefix=b", schema="a", table_prefix="b")
    for option in ("schema", "table_prefix"):
        other: dict[str, Any] = {option: "b"}
        with pytest.raises(ConfigurationError, match=option):
            PostgreSQLStorage(f"{URL}?{option}=a", **other)


def test_importing_the_package_imports_no_driver() -> None:
    code = (
        "import sys\n"
        "from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage\n"
        "print({'asyncpg', 'sqlalchemy', 'alembic'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


async def test_a_stopped_server_is_unavailable_and_not_in_doubt() -> None:
    with pytest.raises(StorageUnavailableError) as caught:
        await PostgreSQLStorage(URL).open()
    assert caught.value.reason.startswith("cannot connect to postgresql://127.0.0.1:1/d: ")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.in_doubt is False


@pytest.mark.parametrize("driver", ["asyncpg", "sqlalchemy"])
def test_a_missing_driver_is_named_with_the_command(driver: str) -> None:
    code = (
        f"import sys; sys.modules[{driver!r}] = None\n"
        "from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage\n"
        "try:\n"
        f"    PostgreSQLStorage({URL!r})\n"
        "except ImportError as exc:\n"
        "    print(type(exc).__name__, exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingDependencyError PostgreSQLStorage needs the 'postgres' extra")


def test_a_namespace_quotes_its_schema_in_the_migration() -> None:
    sql = migrator(Namespace("a b", "t_")).migration_sql(None)
    assert 'CREATE TABLE "a b".t_version' in sql
    assert "BEGIN" not in sql
    assert "COMMIT" not in sql


def test_each_user_of_each_namespace_has_its_own_lock() -> None:
    namespaces = [Namespace(), Namespace("a"), Namespace("b"), Namespace(None, "a"), Namespace("a", "b")]
    numbers = {migrator(namespace).lock_number(purpose) for namespace in namespaces for purpose in ("user u", "user v")}
    assert len(numbers | {MIGRATION_LOCK}) == 2 * len(namespaces) + 1
    assert all(-(2**63) <= number < 2**63 for number in numbers)


async def test_a_port_that_only_asyncpg_reads_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="asyncpg cannot read the PostgreSQL URL"):
        await PostgreSQLStorage("postgresql:///d?host=127.0.0.1&port=99999").open()


async def test_a_timeout_while_connecting_does_not_blame_the_pool() -> None:
    with unanswering_port() as port, pytest.raises(StorageTimeoutError, match="did not answer in time"):
        await PostgreSQLStorage(f"postgresql://u@127.0.0.1:{port}/d", pool_size=2, timeout=0.3).open()
