"""The FastAPI example, served by uvicorn over HTTP on the loopback address."""

import asyncio
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from luminoracore_sdk.session import SessionManager, create_storage

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fastapi_app.py"
GUIDE = ROOT / "docs" / "how-to" / "embed-in-fastapi.md"

# Bound and listening before it prints its port, so that no client connects too early.
_SERVE = """
import socket, uvicorn
from fastapi_app import app

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
print(listener.getsockname()[1], flush=True)
uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
"""


@pytest.fixture(params=["file://", "sqlite:///"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}{tmp_path}/store"


def environment(**settings: str) -> dict[str, str]:
    """Return the environment of a server, without stores and keys of the developer."""
    others = ("LUMINORA_", "CHAT_PROVIDER", "OPENAI_")
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(others)},
        "PYTHONPATH": f"{EXAMPLE.parent}{os.pathsep}{ROOT}",
        **settings,
    }


@contextmanager
def serving(store: str, *, logged: str = "", **settings: str) -> Iterator[httpx.Client]:
    """Run the example as a process; assert that it exits cleanly with this log."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", _SERVE],
        env=environment(LUMINORA_STORE=store, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert re.fullmatch(logged, errors)


def create(client: httpx.Client, **body: object) -> str:
    answer = client.post("/sessions", json=body)
    assert answer.status_code == 201
    session_id: str = answer.json()["session_id"]
    return session_id


def said(client: httpx.Client, session_id: str, **query: int) -> list[str]:
    answer = client.get(f"/sessions/{session_id}/messages", params=query)
    assert answer.status_code == 200
    return [message["content"] for message in answer.json()]


def events(client: httpx.Client, session_id: str, content: str) -> list[str]:
    with client.stream("POST", f"/sessions/{session_id}/stream", json={"content": content}) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            "text/event-stream; charset=utf-8",
        )
        return [line for line in answer.iter_lines() if line]


def test_a_conversation_survives_a_server_restart(store: str) -> None:
    with serving(store) as client:
        session_id = create(client, user_id="u1")
        answer = client.post(f"/sessions/{session_id}/messages", json={"content": "First"})
        assert answer.json() == {"content": "You said: First", "finish_reason": "stop"}
    with serving(store) as client:
        assert said(client, session_id) == ["First", "You said: First"]
        lines = events(client, session_id, "Second one")
        deltas = [json.loads(line.removeprefix("data: "))["content"] for line in lines[:-2]]
        assert ("".join(deltas), lines[-2:]) == ("You said: Second one", ["event: end", "data: {}"])
        assert len(deltas) > 1
        assert said(client, session_id) == ["First", "You said: First", "Second one", "You said: Second one"]
        assert said(client, session_id, limit=2, offset=1) == ["You said: First", "Second one"]


def test_errors_have_their_status_and_name(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/store") as client:
        answers = [
            client.post("/sessions/nobody/messages", json={"content": "Hello"}),
            client.get("/sessions/nobody/messages"),
            client.post("/sessions/nobody/stream", json={"content": "Hello"}),
            client.get(f"/sessions/{'x' * 513}/messages"),
            client.post("/sessions", json={"user_id": ""}),
        ]
        assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [
            *[(404, "SessionNotFoundError")] * 3,
            *[(422, "InvalidIdError")] * 2,
        ]
        assert "nobody" in answers[0].json()["detail"]


def test_a_lone_surrogate_does_not_break_a_session(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/store") as client:
        session_id = create(client)
        path = f"/sessions/{session_id}/messages"
        client.headers["content-type"] = "application/json"
        body = rb'{"content": "a\ud800"}'  # httpx would not encode this string
        answer = client.post(path, content=body)
        assert (answer.status_code, answer.json()["content"]) == (200, "You said: a\ud800")
        streamed = client.post(f"/sessions/{session_id}/stream", content=body)
        assert streamed.text.endswith("event: end\ndata: {}\n\n")
        assert said(client, session_id) == ["a\ud800", "You said: a\ud800"] * 2
        wrong = client.post(path, content=rb'{"content": ["\ud800"]}')
        assert wrong.status_code == 422
        assert wrong.json()["detail"] == [{"where": ["body", "content"], "problem": "Input should be a valid string"}]


def test_internal_errors_are_logged_and_not_sent(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/store"
    hidden = r"a request failed: openai could not be reached.*\n"
    with serving(url, logged=hidden * 2, OPENAI_API_KEY="k") as client:
        session_id = create(client)
        asyncio.run(point_to_nowhere(url, session_id))
        expected = {"error": "ServiceError", "detail": "the service could not answer; its log says why"}
        answer = client.post(f"/sessions/{session_id}/messages", json={"content": "Hello"})
        assert (answer.status_code, answer.json()) == (502, expected)
        assert events(client, session_id, "Hello") == ["event: error", f"data: {json.dumps(expected)}"]
        assert said(client, session_id) == []


async def point_to_nowhere(url: str, session_id: str) -> None:
    """Use a server that does not exist: nothing listens on the port of "discard"."""
    nowhere = {
        "name": "openai",
        "api_key": "k",
        "base_url": "http://127.0.0.1:9/v1",
        "extra": {"max_retries": 0},
    }
    async with create_storage(url) as storage, SessionManager(storage) as manager:
        assert await manager.update_provider(session_id, nowhere) is True


def test_a_missing_api_key_ends_the_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SERVE],
        env=environment(CHAT_PROVIDER="openai"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 3  # uvicorn's status for a failed start
    assert "openai needs a key: set OPENAI_API_KEY" in done.stderr
    assert list(tmp_path.iterdir()) == []


async def test_without_settings_conversations_are_kept_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(os.environ) - set(environment()):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    example = runpy.run_path(str(EXAMPLE))
    async with example["lifespan"](example["app"]):
        await example["app"].state.manager.create_session({"name": "Ada"}, {"name": "echo"})
    async with create_storage("sqlite:///chat.db") as storage:
        assert len(await storage.list_sessions()) == 1


def test_concurrent_questions_are_whole_turns(tmp_path: Path) -> None:
    with serving(f"sqlite:///{tmp_path}/store") as client, ThreadPoolExecutor(8) as threads:
        ids = [create(client) for _ in range(2)]

        def ask(number: int) -> int:
            body = {"content": str(number)}
            return client.post(f"/sessions/{ids[number % 2]}/messages", json=body).status_code

        assert list(threads.map(ask, range(20))) == [200] * 20
        for parity, session_id in enumerate(ids):
            contents = said(client, session_id)
            assert contents[1::2] == [f"You said: {question}" for question in contents[::2]]
            assert sorted(map(int, contents[::2])) == list(range(parity, 20, 2))


def test_the_guide_shows_the_example_as_it_is() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert EXAMPLE.read_text() in blocks
