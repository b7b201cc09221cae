"""PostgreSQL URLs and namespaces: parsing, display and refusal."""

import pytest

from luminoracore_sdk.adapters.storage.postgres.options import Address, Limits, Namespace
from luminoracore_sdk.domain.errors import ConfigurationError


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_every_scheme_becomes_the_one_that_asyncpg_takes(scheme: str) -> None:
    assert Address.of(f"{scheme}://u:p@h/d").dsn == "postgresql://u:p@h/d"


def test_our_parameters_are_removed_and_the_others_kept() -> None:
    address = Address.of(
        "postgres://u:p%40ss@h1:1,h2:2/d?sslmode=require&schema=a%20b&pool_size=7&application_name=x&table_prefix=t_"
    )
    assert address.dsn == "postgresql://u:p%40ss@h1:1,h2:2/d?sslmode=require&application_name=x"
    assert (address.schema, address.table_prefix, address.pool_size) == ("a b", "t_", 7)
    assert address.prepared_statements is True


def test_a_socket_and_a_url_without_a_host_are_accepted() -> None:
    assert Address.of("postgresql:///d?host=/run/x").dsn == "postgresql:///d?host=%2Frun%2Fx"
    assert Address.of("postgresql://").dsn == "postgresql://"
    assert Address.of("postgresql://[::1]:5432/d").dsn == "postgresql://[::1]:5432/d"


def test_no_password_is_shown() -> None:
    given = ("password", "sslpassword", "Password", "passwd", "PWD", "client_secret", "pass", "authSource")
    query = "&".join(f"{name}=s3cret" for name in given)
    address = Address.of(f"postgresql://u:s3cret@h/d?{query}&sslmode=require&passfile=/x")
    assert address.shown == "postgresql://u@h/d?sslmode=require&passfile=%2Fx"
    assert "s3cret" not in repr(address)


@pytest.mark.parametrize(
    ("query", "prepared"),
    [
        ("prepared_statements=false", False),
        ("prepared_statements=ON", True),
        ("pgbouncer=true", False),
        ("pgbouncer=0", True),
        ("pgbouncer=yes&prepared_statements=no", False),
    ],
)
def test_prepared_statements_have_two_names(query: str, prepared: bool) -> None:
    assert Address.of(f"postgresql://h/d?{query}").prepared_statements is prepared


@pytest.mark.parametrize(
    "url",
    [
        "mysql://u:s3cret@h/d",
        "u:s3cret@h",
        "postgresql://u:s3cret#@h/d",
        "postgresql://u:s3cret/@h/d",
        "postgresql://u:s3cret?@h/d",
        "postgresql://u:s3cret@x@h/d",
        "postgresql://u:s3cret",
        "postgresql://u:[s3cret@h/d",
        "postgresql://h:s3cret/d",
        "postgresql://h/d?s3cret",
        "postgresql://h/d?s3cret!=1",
        "postgresql://u:1?s3cret=2@h/d",
        "postgresql://u:s3cret@h:65536/d",
        "postgresql://u:s3cret@h:0/d",
        "postgresql://h/d?pool_size=s3cret",
        "postgresql://h/d?pool_size=0",
        "postgresql://h/d?prepared_statements=s3cret",
        "postgresql://h/d?prepared_statements=true&pgbouncer=true",
    ],
)
def test_a_refused_url_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Address.of(url)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("schema", ["", "pg_temp", "a\0b", "a\nb", "x" * 64, "ü" * 32])
def test_an_impossible_schema_is_refused(schema: str) -> None:
    with pytest.raises(ConfigurationError, match="schema"):
        Namespace(schema)


@pytest.mark.parametrize("prefix", ["a-b", 'a"b', "ü", "x" * 33])
def test_a_prefix_that_is_not_a_plain_name_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="table_prefix"):
        Namespace(None, prefix)


def test_names_that_postgresql_takes_are_kept() -> None:
    namespace = Namespace('Ten"ant-1', "x" * 32)
    assert (namespace.schema, namespace.prefix) == ('Ten"ant-1', "x" * 32)


@pytest.mark.parametrize(
    ("url", "argument", "prefix"),
    [
        ("postgresql://h/d", "luminora_", "luminora_"),
        ("postgresql://h/d?table_prefix=a_", "luminora_", "a_"),
        ("postgresql://h/d?table_prefix=", "luminora_", ""),
        ("postgresql://h/d", "", ""),
        ("postgresql://h/d", "b_", "b_"),
    ],
)
def test_the_table_prefix_comes_from_the_url_or_the_argument(url: str, argument: str, prefix: str) -> None:
    assert Namespace.of(Address.of(url), None, argument) == Namespace(None, prefix)


def test_an_address_names_the_namespace_unless_it_is_the_default() -> None:
    assert Namespace().address("postgresql://h/d") == "postgresql://h/d"
    other = "postgresql://h/d?x=1&schema=a%26b&table_prefix=t_"
    assert Namespace("a&b", "t_").address("postgresql://h/d?x=1") == other
    assert Namespace(None, "").address("postgresql://h/d") == "postgresql://h/d?table_prefix="


def test_limits_that_cannot_work_are_refused() -> None:
    Limits(pool_size=1, connect_seconds=1, call_seconds=1)
    with pytest.raises(ConfigurationError, match="pool_size"):
        Limits(pool_size=0, connect_seconds=1, call_seconds=1)
