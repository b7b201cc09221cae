"""What PostgreSQLStorage accepts and refuses without a server."""

import subprocess
import sys
from typing import Any

import pytest

from luminoracore_sdk.adapters.storage.postgres import PostgreSQLStorage
from luminoracore_sdk.adapters.storage.postgres.errors import SCHEMA_VERSION
from luminoracore_sdk.adapters.storage.postgres.layout import LAYOUT_LOCK, lock_number, migration_sql
from luminoracore_sdk.adapters.storage.postgres.schema import Tables
from luminoracore_sdk.adapters.storage.postgres.statements import statements
from luminoracore_sdk.adapters.storage.postgres.options import Place
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
def test_an_option_that_cannot_work_is_refused_by_its_name(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        PostgreSQLStorage(URL, **{option: value})


def test_the_url_and_the_arguments_may_say_the_same_but_not_two_things() -> None:
    PostgreSQLStorage(f"{URL}?schema=a&table_prefix=b", schema="a", table_prefix="b")
    for option in ("schema", "table_prefix"):
        other: dict[str, Any] = {option: "b"}
        with pytest.raises(ConfigurationError, match=option):
            PostgreSQLStorage(f"{URL}?{option}=a", **other)


def test_the_pool_size_of_the_url_comes_first() -> None:
    assert PostgreSQLStorage(f"{URL}?pool_size=3", pool_size=20)._limits.pool_size == 3
    assert PostgreSQLStorage(URL, pool_size=20)._limits.pool_size == 20


async def test_a_server_that_does_not_run_is_unavailable_and_nothing_is_in_doubt() -> None:
    with pytest.raises(StorageUnavailableError) as caught:
        await PostgreSQLStorage(URL).open()
    assert caught.value.reason.startswith("cannot connect to postgresql://127.0.0.1:1/d: ")
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    assert caught.value.in_doubt is False


@pytest.mark.parametrize("driver", ["asyncpg", "sqlalchemy"])
def test_a_missing_driver_is_named_with_the_command_that_helps(driver: str) -> None:
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


def test_the_migrations_end_at_the_version_that_the_package_works_with() -> None:
    sql = migration_sql(Tables.at(Place("a b", "t_")), found=None)
    assert f"(version_num) VALUES ('{SCHEMA_VERSION}')" in sql
    assert '"a b".t_luminora_version' in sql
    assert "BEGIN" not in sql
    assert "COMMIT" not in sql


def test_each_user_of_each_place_has_a_lock_of_their_own() -> None:
    places = [Place(), Place("a"), Place("b"), Place(None, "a"), Place("a", "b")]
    numbers = {lock_number(purpose, statements(place)) for place in places for purpose in ("user u", "user v")}
    assert len(numbers | {LAYOUT_LOCK}) == 2 * len(places) + 1
    assert all(-(2**63) <= number < 2**63 for number in numbers)


async def test_a_port_that_only_the_driver_reads_is_refused_in_our_words() -> None:
    with pytest.raises(ConfigurationError, match="asyncpg cannot read the PostgreSQL URL"):
        await PostgreSQLStorage("postgresql:///d?host=127.0.0.1&port=99999").open()


async def test_a_call_that_ends_while_connecting_is_not_blamed_on_the_pool() -> None:
    with unanswering_port() as port, pytest.raises(StorageTimeoutError, match="did not answer in time"):
        await PostgreSQLStorage(f"postgresql://u@127.0.0.1:{port}/d", pool_size=2, timeout=0.3).open()
