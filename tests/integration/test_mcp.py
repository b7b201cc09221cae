"""``luminora mcp``, spoken to by the client of the official package over stdin and stdout."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, TextContent

from luminoracore_sdk.session import SessionManager, create_storage
from tests.support.command import luminora_at, process_environment
from tests.support.users import canary, fill_user, records_of, session_of

COMMAND = [sys.executable, "-m", "luminoracore_sdk.cli", "mcp"]


@pytest.fixture
def store(tmp_path: Path) -> str:
    store = f"sqlite:///{tmp_path / 'store.db'}"

    async def fill() -> None:
        async with create_storage(store, search="text") as storage, SessionManager(storage) as manager:
            for user in ("ada", "bob"):
                await fill_user(manager, user)

    asyncio.run(fill())
    return store


@asynccontextmanager
async def served(store: str, tmp_path: Path, *options: str) -> AsyncIterator[Client]:
    environment = process_environment(tmp_path)
    parameters = StdioServerParameters(
        command=COMMAND[0], args=[*COMMAND[1:], "--store", store, "--user", "ada", *options], env=environment
    )
    async with Client(stdio_client(parameters)) as client:
        yield client


async def called(client: Client, name: str, **arguments: Any) -> str:
    """Return the text of a result without an error."""
    return text_of(await client.call_tool(name, arguments), is_error=False)


async def refused(client: Client, name: str, **arguments: Any) -> str:
    """Return the text of a result with an error."""
    return text_of(await client.call_tool(name, arguments), is_error=True)


def text_of(result: CallToolResult, *, is_error: bool) -> str:
    assert result.is_error is is_error
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def test_a_client_lists_and_calls_the_tools(store: str, tmp_path: Path) -> None:
    async with served(store, tmp_path) as client:
        assert client.server_info is not None
        assert client.server_info.name == "luminora"
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["recall", "read_around", "remember", "forget"]
        assert all(tool.description and tool.input_schema["type"] == "object" for tool in tools)

        hits = json.loads(await called(client, "recall", query="asks", limit=20))["hits"]
        assert {hit["session_id"] for hit in hits} == {session_of("ada")}
        place = {"session_id": hits[0]["session_id"], "position": hits[0]["position"]}
        read = json.loads(await called(client, "read_around", **place, before=20, after=20))
        assert [one["position"] for one in read["messages"]] == [1, 2, 3, 4]

        assert json.loads(await called(client, "remember", key="dog", value="Rex")) == {"remembered": "dog"}
        (hit,) = json.loads(await called(client, "recall", query="Rex"))["hits"]
        assert (hit["kind"], hit["key"], hit["text"]) == ("memory", "dog", "Rex")
        assert json.loads(await called(client, "forget", key="dog")) == {"forgotten": "dog"}
        assert await refused(client, "forget", key="dog") == (
            "Error: nothing is remembered under this key; recall returns the keys"
        )


async def test_wrong_and_hostile_arguments_are_refused(store: str, tmp_path: Path) -> None:
    async with served(store, tmp_path) as client:
        assert "limit must be a whole number from 1 to 20" in await refused(client, "recall", query="x", limit=10**9)
        assert "there is no argument 'user_id'" in await refused(client, "recall", query="x", user_id="bob")
        assert "query' is missing" in await refused(client, "recall")
        foreign = await refused(client, "read_around", session_id=session_of("bob"), position=1)
        unknown = await refused(client, "read_around", session_id="none", position=1)
        assert foreign == unknown
        assert "NUL" in await refused(client, "remember", key="a\0", value=1)
        await refused(client, "remember", key="k", value="x" * 5_000_000)
        for query in (canary("bob"), "' OR 1=1 --", "../../etc/passwd", "\x1b[2J\r\n\0", "x" * 1_000_000):
            found = await called(client, "recall", query=query)
            assert "bob" not in found
        with pytest.raises(MCPError, match="there is no tool 'erase'; there are: recall"):
            await client.call_tool("erase", {})
        assert "asks 0" in await called(client, "recall", query="asks 0")  # it still answers


async def test_read_only_offers_nothing_that_writes(store: str, tmp_path: Path) -> None:
    async with served(store, tmp_path, "--read-only") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["recall", "read_around"]
        with pytest.raises(MCPError, match="there is no tool 'forget'"):
            await client.call_tool("forget", {"key": "own 0"})


async def test_a_tenant_is_another_user(store: str, tmp_path: Path) -> None:
    async with served(store, tmp_path, "--tenant", "acme") as client:
        assert json.loads(await called(client, "recall", query="asks"))["hits"] == []
        await called(client, "remember", key="k", value="of acme")
    async with create_storage(store) as storage, SessionManager(storage) as manager:
        assert await manager.for_user("ada", "acme").get_memory("k") == "of acme"
        assert await manager.for_user("ada").get_memory("k") is None


async def test_calls_at_once_are_all_answered(store: str, tmp_path: Path) -> None:
    async with served(store, tmp_path) as client:
        await asyncio.gather(*(called(client, "remember", key=f"k{number}", value=number) for number in range(50)))
        found = await asyncio.gather(*(called(client, "recall", query=f"k{number}") for number in range(50)))
    assert [json.loads(one)["hits"][0]["key"] for one in found] == [f"k{number}" for number in range(50)]


# -- the process -------------------------------------------------------------------------------------

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


@contextmanager
def running(store: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server that has been initialized."""
    server = subprocess.Popen(
        [*COMMAND, "--store", store, "--user", "ada"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=process_environment(tmp_path),
    )
    try:
        send(server, INITIALIZE)
        assert answer(server)["result"]["serverInfo"]["name"] == "luminora"
        send(server, INITIALIZED)
        yield server
    finally:
        server.kill()
        server.communicate()


def send(server: subprocess.Popen[bytes], message: dict[str, Any]) -> None:
    assert server.stdin
    server.stdin.write(json.dumps(message).encode() + b"\n")
    server.stdin.flush()


def answer(server: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert server.stdout
    found: dict[str, Any] = json.loads(server.stdout.readline())
    return found


def call(number: int, name: str, **arguments: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }


def test_closed_stdin_ends_the_server(store: str, tmp_path: Path) -> None:
    with running(store, tmp_path) as server:
        out, err = server.communicate(timeout=10)
        assert (server.returncode, out, err) == (0, b"", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server(store: str, tmp_path: Path, number: signal.Signals) -> None:
    with running(store, tmp_path) as server:
        send(server, call(2, "remember", key="k", value="kept"))
        assert answer(server)["id"] == 2
        server.send_signal(number)
        assert server.wait(timeout=10) == 0  # stdin is still open
        out, err = server.communicate()
        assert (out, err) == (b"", b"")
    assert not Path(f"{store.removeprefix('sqlite:///')}-wal").exists()  # the store was closed


def test_a_killed_client_ends_the_server(store: str, tmp_path: Path) -> None:
    """The client dies with 500 calls under way whose answers nothing reads."""
    source = f"""
import json, subprocess, sys, time
server = subprocess.Popen({[*COMMAND, "--store", store, "--user", "ada"]!r}, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE)
for message in {[INITIALIZE, INITIALIZED, *(call(n + 2, "recall", query="asks") for n in range(500))]!r}:
    server.stdin.write(json.dumps(message).encode() + b"\\n")
server.stdin.flush()
server.stdout.readline()
print("asked", flush=True)
time.sleep(60)
"""
    client = subprocess.Popen(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=process_environment(tmp_path),
    )
    assert client.stdout
    assert client.stdout.readline() == b"asked\n"
    client.kill()
    _, err = client.communicate(timeout=20)  # returns when the server, which has the same stderr, has ended, too
    assert err == b""


def test_lines_that_are_no_requests_are_answered(store: str, tmp_path: Path) -> None:
    with running(store, tmp_path) as server:
        assert server.stdin
        for line in (b"{", b"null", b"[]", b'"\\ud800"', b"\xff\xfe", b'{"jsonrpc": "2.0"}', b"[" * 100_000):
            server.stdin.write(line + b"\n")
        send(server, call(7, "recall", query="asks"))
        while (found := answer(server)).get("id") != 7:
            assert "error" in found
        assert "asks 0" in found["result"]["content"][0]["text"]


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    done = luminora_at(tmp_path)("mcp", "--user", "ada", "--store", f"sqlite:///{tmp_path / 'none.db'}")
    assert (done.exit_code, done.stdout) == (3, "")
    assert "no store at" in done.stderr


def test_a_user_must_be_named(tmp_path: Path) -> None:
    for arguments in ((), ("--user", " ")):
        done = luminora_at(tmp_path)("mcp", *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "--user" in done.stderr


async def test_a_model_that_writes_changes_no_other_user(store: str, tmp_path: Path) -> None:
    async with create_storage(store) as storage:
        before = await records_of(storage, "bob")
    async with served(store, tmp_path) as client:
        for key in ("own 0 " + canary("bob"), "bob"):
            await called(client, "remember", key=key, value=1)
            await called(client, "forget", key=key)
    async with create_storage(store) as storage:
        assert await records_of(storage, "bob") == before
