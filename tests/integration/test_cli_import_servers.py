"""``luminora sessions import --from NAME URL``: tables of openai-agents in PostgreSQL, which are made by hand here."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from luminoracore_sdk.integrations.openai_agents import import_history
from luminoracore_sdk.session import create_storage
from luminoracore_sdk.storage import MessageRange
from tests.support.command import luminora_over
from tests.support.servers import postgres_url
from tests.support.servers.places import clear_postgres, execute_postgres, place_name

SESSIONS = "CREATE TABLE agent_sessions (session_id varchar PRIMARY KEY, created_at timestamp, updated_at timestamp)"
MESSAGES = "CREATE TABLE agent_messages (id serial, session_id varchar, message_data text, created_at timestamp)"
SAID_AT = "2026-01-02 03:04:05.000006"


def adds(session_id: str, *texts: str) -> list[str]:
    """Return the statements that add a session."""
    return [
        f"INSERT INTO agent_sessions VALUES ('{session_id}', '{SAID_AT}', '{SAID_AT}')",  # noqa: S608
        *(
            "INSERT INTO agent_messages (session_id, message_data, created_at) VALUES "  # noqa: S608
            f"""('{session_id}', '{{"role": "user", "content": "{text}"}}', '{SAID_AT}')"""
            for text in texts
        ),
    ]


def with_parameters(*parameters: str) -> str:
    url = postgres_url()
    return f"{url}{'&' if '?' in url else '?'}{'&'.join(parameters)}"


@pytest.fixture
def schema(tmp_path: Path) -> Iterator[str]:
    """Return the name of a schema with two sessions."""
    name = place_name(tmp_path)
    statements = [SESSIONS, MESSAGES, *adds("ann", "one", "two"), *adds("bob", "three")]
    execute_postgres(postgres_url(), f"CREATE SCHEMA {name}", f"SET search_path = {name}", *statements)
    yield name
    clear_postgres(postgres_url(), name)


@pytest.fixture
def store(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/s.db"


def imported(store: str, source: str, *options: str) -> Any:
    return luminora_over(store)("sessions", "import", "--from", "openai-agents", source, *options)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgresql+psycopg2"])
def test_a_url_is_read_as_secret_stores_and_frameworks_have_it(schema: str, store: str, scheme: str) -> None:
    url = with_parameters(f"schema={schema}", "connect_timeout=3", "sslmode=prefer")
    done = imported(store, f" {scheme}:{url.partition(':')[2]}\n")
    assert (done.exit_code, done.stderr) == (0, "imported 2 sessions, 3 messages, 0 memories\n")
    shown = luminora_over(store)("sessions", "show", "ann").stdout
    assert [line for line in shown.splitlines() if line in ("one", "two", "three")] == ["one", "two"]


def test_times_are_those_of_the_clients_of_the_database(schema: str, store: str) -> None:
    imported(store, with_parameters(f"schema={schema}", "TimeZone=Asia/Tokyo"))
    exported = json.loads(luminora_over(store)("sessions", "export", "ann").stdout)
    times = {exported["created_at"], *(message["timestamp"] for message in exported["messages"])}
    assert times == {"2026-01-01T18:04:05.000006+00:00"}


async def test_what_is_added_meanwhile_is_not_imported(schema: str, store: str) -> None:
    async with create_storage(store) as storage:
        found = []
        async for session_id, _ in import_history(with_parameters(f"schema={schema}"), storage):
            found.append(session_id)
            added = ["SET search_path = " + schema, *adds(f"{session_id}-later", "late"), *adds("bob", "late")[1:]]
            await asyncio.to_thread(execute_postgres, postgres_url(), *added)
        assert found == ["ann", "bob"]
        assert len(await storage.read_messages("bob", MessageRange())) == 1


def test_a_session_that_differs_is_named_without_the_password(schema: str, store: str) -> None:
    url = urlsplit(with_parameters(f"schema={schema}"))
    source = url._replace(netloc=f"{url.username}:s3cret@{url.netloc.rpartition('@')[2]}").geturl()
    imported(store, source)
    execute_postgres(postgres_url(), f"""UPDATE {schema}.agent_messages SET id = id + 10""")  # noqa: S608
    refused = imported(store, source)
    assert refused.exit_code == 1
    assert "use --replace or --skip-existing" in refused.stderr
    assert f"luminora: postgresql://{url.username}:***@" in refused.stderr
    assert "s3cret" not in refused.output


@pytest.mark.parametrize("tables", [[], [SESSIONS]])
def test_a_database_of_something_else_is_refused(tmp_path: Path, store: str, tables: list[str]) -> None:
    name = place_name(tmp_path)
    execute_postgres(postgres_url(), f"CREATE SCHEMA {name}", f"SET search_path = {name}", *tables)
    try:
        refused = imported(store, with_parameters(f"schema={name}"))
    finally:
        clear_postgres(postgres_url(), name)
    assert refused.exit_code == 1
    missing = "agent_messages.created_at" if tables else "agent_sessions.created_at"
    assert f"is not a store of SQLAlchemySession: it has no {missing}" in refused.stderr


def test_an_empty_store_has_no_sessions(schema: str, store: str) -> None:
    execute_postgres(postgres_url(), f"DELETE FROM {schema}.agent_sessions")  # noqa: S608
    done = imported(store, with_parameters(f"schema={schema}"))
    assert done.exit_code == 0
    assert done.stderr.splitlines()[-1].endswith(" contains no sessions")


UNUSABLE = {
    "postgresql://ada:s3cret@127.0.0.1:1/x": "cannot connect to postgresql://ada@127.0.0.1:1/x",
    "postgresql://ada:s3/cret@host/x": "the PostgreSQL URL is refused",
    "postgresql://ada@127.0.0.1:1/x?password=s3cret": "cannot connect to postgresql://ada@127.0.0.1:1/x",
    "mysql+aiomysql://ada:s3cret@host/x": "the PostgreSQL URL is refused: it begins with one of postgresql://",
    "sqlite:///s3cret": "the PostgreSQL URL is refused: it begins with one of postgresql://",
    "host=127.0.0.1 password=s3cret": "the PostgreSQL URL is refused",
    "ada:s3cret@host/x": "the PostgreSQL URL is refused",
    f"postgresql://ada:s3cret@host/{'x' * 5000}": "",
}


@pytest.mark.parametrize("options", [(), ("--verbose",)], ids=["", "verbose"])
@pytest.mark.parametrize(("url", "reason"), UNUSABLE.items(), ids=range(len(UNUSABLE)))
def test_a_url_that_cannot_work_ends_with_1_and_is_not_shown(
    store: str, url: str, reason: str, options: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    refused = imported(store, url, *options)
    output = refused.output + "".join(capfd.readouterr())
    assert refused.exit_code == 1
    assert reason in output
    assert "cret" not in output


def test_a_refused_login_ends_with_1(store: str) -> None:
    url = urlsplit(postgres_url())
    refused = imported(store, url._replace(netloc=f"nobody:s3cret@{url.netloc.rpartition('@')[2]}").geturl())
    assert refused.exit_code == 1
    assert "nobody" in refused.stderr
    assert "s3cret" not in refused.output


def test_a_url_without_from_is_an_error_of_usage(store: str) -> None:
    refused = luminora_over(store)("sessions", "import", "postgresql://ada:s3cret@127.0.0.1:1/x")
    assert refused.exit_code == 2
    assert "a URL is read with --from only" in refused.output
    assert "s3cret" not in refused.output


def test_a_file_that_is_not_there_is_named(store: str) -> None:
    refused = imported(store, "absent.db")
    assert (refused.exit_code, refused.stderr) == (1, "luminora: absent.db: no such file\n")
