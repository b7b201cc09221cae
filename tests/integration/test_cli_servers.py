"""The command over real servers: doctor, migrate, and a copy through all of them and back."""

import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp_types import TextContent

from luminoracore_sdk.session import SessionManager, create_storage
from tests.support.command import Luminora, luminora_over, process_environment
from tests.support.servers import mongodb_url, postgres_url
from tests.support.servers.places import clear_mongodb, clear_postgres, clear_redis, place_name


@pytest.fixture(scope="module")
def redis_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A URL names no prefix, so that tests in other processes would see these keys."""
    valkey = pytest.importorskip("tests.support.servers.valkey", exc_type=ImportError)
    with valkey.ValkeyServer(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture
def servers(tmp_path: Path, redis_of_our_own: str) -> Iterator[dict[str, str]]:
    """URLs of an empty store on each server."""
    name = place_name(tmp_path)
    postgres, mongodb = postgres_url(), urlsplit(mongodb_url())
    yield {
        "postgres": f"{postgres}{'&' if '?' in postgres else '?'}schema={name}",
        "redis": redis_of_our_own,
        "mongodb": mongodb._replace(path=f"/{name}").geturl(),
    }
    clear_postgres(postgres, name)
    clear_redis(redis_of_our_own, "luminoracore:")
    clear_mongodb(mongodb.geturl(), name)


@pytest.fixture
def source(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/source.db"
    luminora = luminora_over(url)
    luminora("chat", "--session", "a", "--create", "--user", "u", "--remember", "k=v", stdin="1\n2\n")
    luminora("chat", "hi", "--session", "b", "--create")
    return url


def summary(luminora: Luminora, *arguments: str) -> tuple[dict[str, int], str]:
    done = luminora("copy", *arguments, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    return report["sessions"], report["digest"]


def test_a_copy_through_every_server_and_back_is_equal(servers: dict[str, str], source: str, tmp_path: Path) -> None:
    luminora = luminora_over("memory://")
    ring = [source, *servers.values(), f"file://{tmp_path}/files"]
    digests = set()
    for one, other in pairwise(ring):
        outcomes, digest = summary(luminora, one, other)
        assert outcomes == {"copied": 2}
        digests.add(digest)
    assert len(digests) == 1
    for other in ring[1:]:
        assert summary(luminora, source, other) == ({"already there": 2}, *digests)
    exports = {luminora_over(url)("sessions", "export").stdout for url in ring}
    assert len(exports) == 1


@pytest.mark.parametrize("kind", ["postgres", "redis", "mongodb"])
def test_doctor_passes_on_a_server_and_leaves_nothing(servers: dict[str, str], kind: str) -> None:
    luminora = luminora_over(servers[kind])
    luminora("migrate")
    report = json.loads(luminora("doctor", "--json").stdout)
    checks = {check["name"]: check["detail"] for check in report["checks"]}
    assert report["ok"] is True
    assert re.fullmatch(r"in \d+\.\d ms", checks["answers"])
    assert checks["writes, reads, deletes"] == "yes"
    assert checks["holds"] == "0 sessions, 0 messages"


def test_only_migrate_creates_tables_in_postgres(
    servers: dict[str, str],
) -> None:
    luminora = luminora_over(servers["postgres"])
    for looking in (("doctor",), ("sessions", "list"), ("copy", servers["postgres"], servers["mongodb"])):
        done = luminora(*looking) if looking[0] != "copy" else luminora_over("memory://")(*looking)
        assert done.exit_code == 1
        assert "no tables" in done.output
        assert "luminora migrate --store" in done.output
    assert luminora("migrate").stderr == "schema version: no tables before, 1 now\n"
    assert luminora("migrate").stderr == "schema version 1 is current; nothing was changed\n"
    assert luminora("sessions", "list").stderr == "no sessions\n"


@pytest.mark.parametrize("kind", ["redis", "mongodb"])
def test_a_server_without_tables_has_nothing_to_bring_up_to_date(servers: dict[str, str], kind: str) -> None:
    done = luminora_over(servers[kind])("migrate")
    assert (done.exit_code, done.stderr.startswith(f"a {kind} store has no tables")) == (0, True)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["postgres", "redis", "mongodb"])
async def test_mcp_serves_what_a_server_holds(servers: dict[str, str], kind: str, tmp_path: Path) -> None:
    options = ["--store", servers[kind], "--user", "ada"]
    async with create_storage(servers[kind], search="text") as storage, SessionManager(storage) as manager:
        session_id = await manager.create_session({"name": "A"}, {"name": "echo"}, {"user_id": "ada"})
        await manager.send_message(session_id, "My dog is called Rex")
    command = [sys.executable, "-m", "luminoracore_sdk.cli", "mcp", *options]
    server = StdioServerParameters(command=command[0], args=command[1:], env=process_environment(tmp_path))
    async with Client(stdio_client(server)) as client:

        async def texts(query: str) -> list[str]:
            (content,) = (await client.call_tool("recall", {"query": query})).content
            assert isinstance(content, TextContent)
            return [hit["text"] for hit in json.loads(content.text)["hits"]]

        assert set(await texts("dogs")) == {"My dog is called Rex", "You said: My dog is called Rex"}
        assert not (await client.call_tool("remember", {"key": "colour", "value": "blue"})).is_error
        assert await texts("colour") == ["blue"]
        assert not (await client.call_tool("forget", {"key": "colour"})).is_error
        assert await texts("colour") == []
