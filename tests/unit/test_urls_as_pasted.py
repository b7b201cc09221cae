"""URLs and variables as people and secret stores hand them over; no password is shown."""

import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from luminoracore_sdk.adapters.storage.postgres.options import Address, without_connect_timeout
from luminoracore_sdk.adapters.storage.redis.options import parse_address
from luminoracore_sdk.application.ports.storage import SessionStorage
from luminoracore_sdk.bootstrap.config import Settings, StorageConfig, StorageType, storage_config_from_url
from luminoracore_sdk.domain.errors import ConfigurationError
from luminoracore_sdk.session import create_storage
from tests.support.command import luminora_over

SECRET = "s3cRet"
PASSWORDS = [
    SECRET,
    f"p@{SECRET}",
    f"{SECRET}@x",
    f"p:{SECRET}",
    f"p/{SECRET}",
    f"{SECRET}/x",
    f"p?{SECRET}",
    f"p?x={SECRET}",
    f"p?{SECRET}=x",
    f"p#{SECRET}",
    f"p@ss:w/{SECRET}",
    f"1/{SECRET}",
    f"p%40{SECRET}",
    f"p {SECRET}",
    f"{SECRET}\n",
    f"[{SECRET}",
    f"p%{SECRET}",
    f"1?{SECRET}@a=b",
]
SCHEMES = ["postgresql", "postgres", "postgresql+asyncpg", "redis", "rediss", "redis+cluster", "mongodb", "mysql"]
FORMS = [
    "{scheme}://user:{password}@h:1/d",
    "{scheme}://:{password}@h:1/0",
    "{scheme}://h:1/d?password={password}",
    "{scheme}://h:1/0?sslpassword={password}&ssl_password={password}",
    "{scheme}:user:{password}@h/d",
    " {scheme}://user:{password}@h:1/d\n",
    "user:{password}@h/d",
    "{password}@h:5432/d",
    "{password}:1",
    "{scheme} ://u:{password}@h",
    "{password}://u@h",
    "host=h dbname=d user=u password={password}",
    "memory://{password}",
    "sqlite://user:{password}",
]


def shown_by(action: Callable[[], object]) -> str:
    """Return everything that an error of an action shows, its traceback and repr included."""
    try:
        return repr(action())
    except Exception as exc:  # noqa: BLE001  # whatever it is, it is shown
        return "".join(traceback.format_exception(exc)) + repr(exc)


def opened(kind: str, url: str) -> SessionStorage:
    return create_storage(StorageConfig(kind, url))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_error_shows_a_password(form: str, scheme: str) -> None:
    for password in PASSWORDS:
        url = form.format(scheme=scheme, password=password)
        if url.strip().startswith(f"{password}://"):
            continue  # a scheme that is none: the text before :// is shown
        assert SECRET not in shown_by(partial(create_storage, url)), url
        assert SECRET not in shown_by(partial(Settings.from_environment, {"LUMINORA_STORE": url})), url
        for kind in ("postgres", "redis", "mongodb"):
            config = shown_by(partial(opened, kind, url))
            assert SECRET not in config, url


@pytest.mark.parametrize("form", FORMS)
def test_no_error_of_a_variable_shows_a_url(form: str) -> None:
    url = form.format(scheme="postgresql", password=SECRET)
    for name in ("STORAGE_TYPE", "TABLE_NAME", "REDIS_DB", "RETRY_ATTEMPTS", "COMPRESSION_ENABLED"):
        given = shown_by(partial(Settings.from_environment, {f"LUMINORA_STORAGE_{name}": url}))
        assert SECRET not in given, name


@pytest.mark.parametrize("form", FORMS)
def test_the_command_shows_no_password(form: str, tmp_path: Path) -> None:
    for scheme in ("postgresql", "redis", "mongodb", "mysql"):
        url = form.format(scheme=scheme, password=f"p@ss:w/{SECRET}")
        if url.startswith("p@ss") and "://" in url:
            continue
        done = luminora_over(url)("sessions", "list", "--verbose")
        assert done.exit_code != 0
        assert SECRET not in done.output, url


def test_libpqs_list_of_values_is_refused_with_what_to_write() -> None:
    with pytest.raises(ConfigurationError, match="write postgresql://user:password@host:port/dbname"):
        storage_config_from_url("host=h dbname=d user=u password=x")


@pytest.mark.parametrize("blank", ["\n", "\r\n", " ", "\t"])
def test_blanks_around_a_url_are_removed(blank: str) -> None:
    assert storage_config_from_url(f"sqlite:///a.db{blank}").path == Path("a.db")
    assert storage_config_from_url(f"{blank}redis://h/0{blank}").url == "redis://h/0"
    assert StorageConfig(StorageType.SQLITE, f"sqlite:///a.db{blank}").path == Path("a.db")
    assert Address.of(f"{blank}postgresql://h/d{blank}").dsn == "postgresql://h/d"
    assert parse_address(f"redis://h{blank}") == parse_address("redis://h")
    assert Settings.from_environment({"LUMINORA_STORE": f"sqlite:///a.db{blank}"}).storage.path == Path("a.db")


@pytest.mark.parametrize("url", ["redis://h /0", "redis://h/\n0", "postgresql://h /d", "mongodb://h/ d"])
def test_a_blank_within_a_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="no blank and no control character"):
        storage_config_from_url(url)


@pytest.mark.parametrize(("parse", "url"), [(Address.of, "postgresql://h/a b"), (parse_address, "redis://h/a\nb")])
def test_a_blank_within_is_refused_by_the_backend_too(parse: Callable[[str], object], url: str) -> None:
    with pytest.raises(ConfigurationError, match="a blank"):
        parse(url)


def test_an_empty_variable_counts_as_unset() -> None:
    names = ["STORE", "STORAGE_STORAGE_TYPE", "STORAGE_REDIS_DB", "STORAGE_TABLE_NAME", "STORAGE_NO_SUCH_FIELD"]
    names += ["MEMORY_MAX_ENTRIES", "MAX_HISTORY"]
    for blank in ("", " ", "\n"):
        assert Settings.from_environment({f"LUMINORA_{name}": blank for name in names}) == Settings()


def test_a_variable_with_a_newline_is_read() -> None:
    environ = {"LUMINORA_STORAGE_STORAGE_TYPE": "sqlite\n", "LUMINORA_STORAGE_FILE_PATH": "a.db\n"}
    assert Settings.from_environment(environ).storage.path == Path("a.db")
    environ = {"LUMINORA_STORE": "redis://h\n", "LUMINORA_STORAGE_REDIS_DB": "3\n", "LUMINORA_MAX_HISTORY": "7\n"}
    settings = Settings.from_environment(environ)
    assert (settings.storage.redis_db, settings.max_history) == (3, 7)


# -- parameters of other drivers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("ssl=require", "sslmode=require"),
        ("ssl=disable&sslmode=disable", "sslmode=disable"),
        ("ssl=verify-full&application_name=a", "sslmode=verify-full&application_name=a"),
        ("sslmode=prefer", "sslmode=prefer"),
        ("sslmode=require&channel_binding=prefer", "sslmode=require"),
        ("channel_binding=disable&options=-c%20statement_timeout%3D5s", "options=-c+statement_timeout%3D5s"),
    ],
)
def test_parameters_of_other_drivers_are_translated(query: str, kept: str) -> None:
    assert Address.of(f"postgresql+asyncpg://h/d?{query}").dsn == f"postgresql://h/d?{kept}"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("ssl=true", "write sslmode=verify-full"),
        ("ssl=require&sslmode=disable", "contradict each other"),
        ("channel_binding=require", "leave it out, and write sslmode=verify-full"),
        ("connect_timeout=5", "pass connect_timeout"),
        ("prepared_statement_cache_size=0", "write prepared_statements=false"),
        ("statement_cache_size=0", "write prepared_statements=false"),
        ("command_timeout=5", "pass timeout"),
        ("keepalives=1", "leave it out"),
        ("max_overflow=5", "write pool_size alone"),
    ],
)
def test_parameters_that_do_not_work_say_what_to_write(query: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Address.of(f"postgresql://h/d?{query}")


@pytest.mark.parametrize(
    ("url", "rest", "seconds"),
    [
        ("postgresql://h/d?connect_timeout=7", "postgresql://h/d", 7.0),
        ("postgresql://h/d?a=b&connect_timeout=7&c=d", "postgresql://h/d?a=b&c=d", 7.0),
        ("postgresql://h/d?connect_timeout=0", "postgresql://h/d", None),
        ("postgresql://h/d?a=b", "postgresql://h/d?a=b", None),
        ("postgresql://h/d", "postgresql://h/d", None),
    ],
)
def test_the_connect_timeout_of_a_url_is_read(url: str, rest: str, seconds: float | None) -> None:
    assert without_connect_timeout(url) == (rest, seconds)


def test_a_connect_timeout_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="a whole number of seconds"):
        create_storage("postgresql://h/d?connect_timeout=soon")
    assert create_storage("postgresql://h/d?connect_timeout=7").backend == "postgres"
