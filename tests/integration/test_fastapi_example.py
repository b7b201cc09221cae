"""The FastAPI example, served by uvicorn, asked over real HTTP on the loopback address."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fastapi_app.py"
GUIDE = ROOT / "docs" / "how-to" / "embed-in-fastapi.md"

# Bound and listening before it says its port, so that no client comes too early.
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


@contextmanager
def serving(store: str) -> Iterator[httpx.Client]:
    """Run the example as a process of its own; afterwards it has ended in order."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LUMINORA_")},
        "LUMINORA_STORE": store,
        "PYTHONPATH": f"{EXAMPLE.parent}{os.pathsep}{ROOT}",
    }
    process = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", _SERVE],
        env=environment,
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
    assert errors == ""


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
    with client.stream("GET", f"/sessions/{session_id}/stream", params={"content": content}) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            "text/event-stream; charset=utf-8",
        )
        return [line for line in answer.iter_lines() if line]


def test_a_conversation_goes_on_after_the_server_was_restarted(store: str) -> None:
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
            client.get("/sessions/nobody/stream", params={"content": "Hello"}),
            client.get(f"/sessions/{'x' * 513}/messages"),
            client.post("/sessions", json={"user_id": ""}),
        ]
        assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [
            *[(404, "SessionNotFoundError")] * 3,
            *[(422, "InvalidIdError")] * 2,
        ]
        assert "nobody" in answers[0].json()["detail"]


def test_questions_asked_at_once_are_whole_turns(tmp_path: Path) -> None:
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
